// Package bitlocker reads BitLocker volumes: it lists what a technician wants
// to know of a locked volume, unlocks it, and gives its clear content.
//
// [ReadMetadata] takes the volume as an [io.ReaderAt] and needs no key. One of
// the Unlock methods of [Metadata] turns a secret into a [VolumeKey], and
// [OpenVolume] makes a [Volume] of the two, which is an [io.ReaderAt] and
// [io.WriterAt] over the clear bytes:
//
//	m, err := bitlocker.ReadMetadata(disk, size)
//	password, err := bitlocker.ParseRecoveryPassword("042647-302313-…")
//	key, protector, err := m.UnlockRecovery(ctx, password, nil)
//	v, err := bitlocker.OpenVolume(disk, m, key)
//	_, err = v.ReadAt(buf, 0)
//
// On Linux, [Metadata.Table] gives the same mapping as a device-mapper table,
// for the kernel to decrypt.
//
// Volumes of Windows Vista to 11 are read: normal ones, BitLocker To Go, and
// those in the middle of a conversion. docs/bitlocker.md has the format in
// tables.
//
// The format is that of libbde's "BitLocker Drive Encryption (BDE) format
// specification", cited below as BDE with the section's title, and of
// cryptsetup's lib/bitlk.
package bitlocker
