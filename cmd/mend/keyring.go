//go:build linux || windows

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
)

// keyring is all that has turned up and may open volumes, now or once somebody opens it. The agent's main goroutine
// owns it; what it hands to others is only read.
type keyring struct {
	sources    []keySource // in the order in which they turned up; only ever appended to
	sealed     []sealedVault
	identities []age.Identity
	// opened and refused remember vaults for as long as the machine is up, so that nobody types a passphrase twice.
	opened  map[[sha256.Size]byte]*vault.Vault
	refused map[[sha256.Size]byte]bool
	wrong   int  // passphrases in a row
	passed  bool // the person would rather type keys
	changes int  // grows when something turns up
}

func newKeyring() keyring {
	return keyring{opened: map[[sha256.Size]byte]*vault.Vault{}, refused: map[[sha256.Size]byte]bool{}}
}

// forget drops what lies on media, for these are looked at anew.
func (r *keyring) forget() {
	r.sources, r.sealed, r.identities, r.passed = nil, nil, nil, false
}

// wipe overwrites what it can reach; see package vault for what that leaves.
func (r *keyring) wipe() {
	for _, v := range r.opened {
		v.Wipe()
	}
	for _, s := range r.sources {
		if l, ok := s.unlocker.(*keys.List); ok {
			for _, k := range l.StartupKeys {
				k.Data.Wipe()
			}
		}
	}
}

// withPassphrase lists the vaults that a passphrase may open.
func (r *keyring) withPassphrase() []sealedVault {
	var list []sealedVault
	for _, s := range r.sealed {
		if s.WantsPassphrase() {
			list = append(list, s)
		}
	}
	return list
}

// wantsIdentity reports whether a vault waits for the stick that opens it, which may take a moment to appear.
func (r *keyring) wantsIdentity() bool { return len(r.sealed) > len(r.withPassphrase()) }

// takeKeys puts what a medium or a stick holds on the keyring, and lets it be tried on the volumes that are still
// locked.
func (a *common) takeKeys(ctx context.Context, found keyFiles) {
	for _, note := range found.notes {
		a.con.note(red, "%s", note)
		a.log.Errorf("reading keys", "%s", note)
	}
	before := len(a.keys.sources)
	a.keys.sources = append(a.keys.sources, found.lists...)
	a.keys.identities = append(a.keys.identities, found.identities...)
	for _, s := range found.vaults {
		known := slices.ContainsFunc(a.keys.sealed, func(k sealedVault) bool { return k.sum == s.sum })
		switch v := a.keys.opened[s.sum]; {
		case v != nil:
			a.acceptVault(s, v)
		case !known && !a.keys.refused[s.sum]:
			a.keys.sealed = append(a.keys.sealed, s)
			a.keys.passed = a.keys.passed && !s.WantsPassphrase()
		}
	}
	a.openByIdentity()
	if found.any() {
		a.keys.changes++
	}
	if len(a.keys.sources) > before {
		a.site.search(ctx)
	}
}

// openByIdentity tries the identities that have turned up on the vaults that wait for one.
func (a *common) openByIdentity() {
	if len(a.keys.identities) == 0 {
		return
	}
	for _, s := range slices.Clone(a.keys.sealed) {
		if s.WantsPassphrase() {
			continue
		}
		v, err := s.Identity(a.keys.identities...)
		if errors.Is(err, vault.ErrIdentity) {
			continue // another stick may hold it
		}
		a.settle(s, v, err)
	}
}

// settle ends the waiting of a vault that was opened, or that will never be.
func (a *common) settle(s sealedVault, v *vault.Vault, err error) {
	a.keys.sealed = slices.DeleteFunc(a.keys.sealed, func(other sealedVault) bool { return other.sum == s.sum })
	if err != nil {
		a.refuseVault(s, err)
		return
	}
	a.keys.opened[s.sum] = v
	debug.FreeOSMemory() // deriving the key took a good part of a small machine's
	a.acceptVault(s, v)
}

func (a *common) refuseVault(s sealedVault, err error) {
	a.con.note(red, "The %s is refused: %s", s.name, oneLine(err))
	a.log.Errorf("opening the "+s.name, "%s", oneLine(err))
	a.keys.refused[s.sum] = true
}

// acceptVault puts an opened vault's keys to use, if their time is not over.
func (a *common) acceptVault(s sealedVault, v *vault.Vault) {
	now := time.Now()
	if err := v.CheckExpiry(now); err != nil {
		v.Wipe()
		delete(a.keys.opened, s.sum)
		a.refuseVault(s, err)
		return
	}
	if v.ClockTooEarly(now) {
		a.con.note(red, "The clock of this machine says %s, which is before the vault was made: whether it has expired cannot be told.", now.UTC().Format("2006-01-02"))
		a.log.Errorf("opening the "+s.name, "the machine's clock is wrong, the vault's date was not checked")
	}
	for _, p := range v.Problems {
		a.log.Errorf("opening the "+s.name, "line %d: %s", p.Line, p.Reason)
	}
	a.con.line("Opened the %s: %s", s.name, count(v.Len(), "recovery key"))
	a.keys.sources = append(a.keys.sources, keySource{s.name, v})
}

// attempt is what came of a passphrase on a vault.
type attempt struct {
	sealedVault
	opened *vault.Vault
	err    error
}

// tryPassphrase tries a passphrase on each vault. It takes about a second for each, and changes nothing.
func tryPassphrase(vaults []sealedVault, passphrase string) []attempt {
	var attempts []attempt
	for _, s := range vaults {
		t := attempt{sealedVault: s}
		if t.err = enoughMemory(s); t.err == nil {
			t.opened, t.err = s.Passphrase(passphrase)
		}
		attempts = append(attempts, t)
	}
	return attempts
}

// enoughMemory is asked before a vault that would bring the machine down.
func enoughMemory(s sealedVault) error {
	need, free := s.Memory()+2*int64(len(s.Bytes())), availableMemory()
	if free > 0 && need > free {
		return fmt.Errorf("opening it takes %s of memory, and this machine has %s left", sizeText(need), sizeText(free))
	}
	return nil
}
