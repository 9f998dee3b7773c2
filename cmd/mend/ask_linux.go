package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/remediate"
)

// errSkip means that there is no key for a volume: none was found, or the person passes.
var errSkip = errors.New("no key was given")

// askKey asks the person for the volume's recovery key until one opens it, or the person passes.
func (a *agent) askKey(ctx context.Context, v *volume) error {
	if len(v.recoveryIDs()) == 0 {
		return errSkip
	}
	for {
		a.con.line("")
		a.con.note(bold, "Recovery key for %s", v.title())
		for _, id := range v.recoveryIDs() {
			a.con.line("  key ID %s", id)
		}
		a.con.line("Type its 48 digits; dashes are not needed. S skips this volume.")
		a.con.beep()
		password, err := a.readKey(ctx)
		if err != nil {
			return err
		}
		a.con.print("Unlocking ...")
		err = a.tryTyped(ctx, v, password)
		a.con.line("")
		if err == nil {
			return nil
		}
		if !errors.Is(err, bitlocker.ErrWrongKey) {
			return err
		}
		a.con.note(red, "This key is well formed but does not open this volume. Compare the key ID, then type the key that belongs to it.")
		a.log.Add(remediate.UnlockEvent{Device: v.Device, Source: "typed key", Reason: "the key does not open this volume"})
	}
}

// tryTyped derives the key with a sign of life: the derivation takes a second on a PC and longer on old ones.
func (a *agent) tryTyped(ctx context.Context, v *volume, password bitlocker.RecoveryPassword) error {
	done := make(chan unlocked, 1)
	go func() { done <- v.tryPassword(ctx, password) }()
	for {
		select {
		case u := <-done:
			return v.take(u)
		case <-time.After(2 * time.Second):
			a.con.print(".")
		}
	}
}

func (a *agent) readKey(ctx context.Context) (bitlocker.RecoveryPassword, error) {
	var entry keyEntry
	a.con.forget()
	a.con.print("  key: ")
	for !entry.done() {
		b, err := a.con.key(ctx)
		if err != nil {
			return bitlocker.RecoveryPassword{}, err
		}
		if b|0x20 == 's' {
			a.con.line("")
			return bitlocker.RecoveryPassword{}, errSkip
		}
		echo, bell := entry.feed(b)
		a.con.print(echo)
		if bell {
			a.con.beep()
		}
	}
	return entry.password()
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// sizeText is a disk's size as printed on its label.
func sizeText(n int64) string {
	switch {
	case n >= 1e12:
		return fmt.Sprintf("%.1f TB", float64(n)/1e12)
	case n >= 1e9:
		return fmt.Sprintf("%.0f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.0f MB", float64(n)/1e6)
}
