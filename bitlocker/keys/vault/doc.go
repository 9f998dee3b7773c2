// Package vault seals recovery keys for the way to the machines that need them. [Seal] writes a vault, [Read] takes
// one in, and [Sealed.Passphrase] or [Sealed.Identity] opens it; [Vault.Unlock] then opens a volume.
//
// A vault is a file of the age format (age-encryption.org/v1), for one passphrase or for any number of recipients:
// X25519, hybrid post-quantum, and SSH keys of the kinds Ed25519 and RSA. "age -d" opens it without this program, and
// what it finds is a key list that [keys.Read] reads:
//
//	# bootmend vault 1
//	# created 2026-11-22T09:00:00Z
//	# expires 2026-12-01T00:00:00Z
//	KeyID,RecoveryKey,StartupKey,ComputerName
//	<key ID>,,<a .BEK file in base64>,
//	<key ID>,<recovery password>,,<computer>
//
// The other way round, what "age" makes of any key list is a vault as well, without dates.
//
// # What the expiry date protects against
//
// The date is sealed in with the keys, so nobody can change it. It is this program that obeys it: a forgotten stick
// is refused by the machines that boot from it. It does not stop a person who knows the passphrase and opens the
// vault with other means, or who sets the machine's clock back.
//
// # What stays in memory
//
// [Vault.Wipe] overwrites the opened vault. What it cannot reach is what Go's libraries copied on the way: the
// passphrase as a string and what was derived from it, the last piece of the file that was decrypted, and the digits
// of the few keys that were looked up. They are gone when the memory is used again or the machine is switched off.
package vault
