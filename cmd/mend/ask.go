//go:build linux || windows

package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
	"github.com/bootmend/bootmend/cmd/mend/screen"
	"github.com/bootmend/bootmend/remediate"
)

var (
	// errSkip means that there is no key for a volume: none was found, or the person passes.
	errSkip = errors.New("no key was given")
	// errAgain means that something has changed while a person was asked: look again before asking on.
	errAgain = errors.New("something has turned up")
	// errPassword means that the person would rather type the volume's password than a recovery key.
	errPassword = errors.New("a password is typed instead")
)

// askKey asks the person until the volume is open, or the person passes: for the passphrase of a vault if there is
// one, then for what opens the volume itself. A stick that is plugged in meanwhile is used.
func (a *common) askKey(ctx context.Context, v *volume) error {
	for {
		err := a.askOnce(ctx, v)
		if !errors.Is(err, errAgain) {
			return err
		}
		if err := a.site.tryKeys(ctx, v); err == nil || ctx.Err() != nil {
			return err
		}
	}
}

func (a *common) askOnce(ctx context.Context, v *volume) error {
	recovery, password, startup := v.recoveryIDs(), v.protectorIDs(bitlocker.ProtectorPassword), v.protectorIDs(bitlocker.ProtectorExternalKey)
	if !opensByPassword {
		password = nil
	}
	if len(recovery)+len(password)+len(startup) == 0 {
		return errSkip
	}
	if vaults := a.keys.withPassphrase(); len(vaults) > 0 && !a.keys.passed {
		return a.askPassphrase(ctx, vaults)
	}
	a.con.line("")
	switch {
	case len(recovery) > 0:
		return a.askRecovery(ctx, v, len(password) > 0)
	case len(password) > 0:
		return a.askPassword(ctx, v)
	}
	a.con.note(bold, "%s needs the startup key %s.BEK", v.title(), strings.Join(startup, ".BEK or "))
	a.con.line("Plug in the stick that it is on. S skips this volume.")
	a.con.beep()
	if err := a.con.ask(ctx, &screen.Choice{Letters: "s"}, a.looking(ctx)); err != nil {
		return err
	}
	return errSkip
}

// freeTries is how many wrong passphrases cost nothing but time to type them. There is no limit: a machine that has
// locked a technician out is worse than one that can be guessed at, slowly, by who holds the stick.
const freeTries = 3

// askPassphrase asks once for the passphrase of the vaults that lie on the media.
func (a *common) askPassphrase(ctx context.Context, vaults []sealedVault) error {
	a.con.line("")
	a.con.note(bold, "The %s is sealed", vaults[0].name)
	a.con.line("Type its passphrase and press Enter, or plug in a stick with keys. Enter alone: type the 48 digits of the recovery key instead.")
	a.con.line("The keyboard counts as an American one: Tab shows on the screen what is typed.")
	a.con.beep()
	passphrase, err := a.readSecret(ctx, "  passphrase: ")
	if err != nil {
		return err
	}
	if passphrase == "" {
		a.keys.passed = true
		return errAgain
	}
	attempts := working(a.con, "Opening ...", func() []attempt { return tryPassphrase(vaults, passphrase) })
	wrong := true
	for _, t := range attempts {
		if errors.Is(t.err, vault.ErrPassphrase) {
			continue
		}
		wrong = false
		a.settle(t.sealedVault, t.opened, t.err)
	}
	if !wrong {
		a.keys.wrong = 0
		return errAgain
	}
	a.keys.wrong++
	a.con.note(red, "This passphrase is wrong.")
	a.log.Errorf("opening the "+vaults[0].name, "wrong passphrase")
	if pause := delay(a.keys.wrong); pause > 0 {
		a.con.line("The next try is in %s.", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errAgain
}

// delay is how long the next passphrase has to wait after so many wrong ones.
func delay(wrong int) time.Duration {
	if wrong < freeTries {
		return 0
	}
	return min(5*time.Second<<min(wrong-freeTries, 10), time.Minute)
}

// askRecovery asks for the volume's recovery key.
func (a *common) askRecovery(ctx context.Context, v *volume, hasPassword bool) error {
	a.con.stepTo(screen.Unlock)
	a.con.show(func(width, room int) []string {
		return screen.Question(screen.Key{Computer: harmless(v.computer()), ID: v.recoveryIDs()[0]}, width, room)
	}, screen.Plain)
	defer func() { a.con.show(nil, screen.Plain) }()
	a.con.note(bold, "Recovery key for %s", v.title())
	for _, id := range v.recoveryIDs() {
		a.con.line("  key ID %s", id)
	}
	for _, s := range a.keys.sealed {
		if !s.WantsPassphrase() {
			a.con.line("The %s opens as soon as the stick with its identity is plugged in. Or:", s.name)
		}
	}
	if a.server != nil && a.server.answered() {
		a.con.line("The server %s is asked, too: this goes on as soon as somebody approves this machine or types the key there. Or:", a.server.config)
	}
	also := ""
	if hasPassword {
		also = " P types the volume's password instead."
	}
	a.con.line("Type its 48 digits; dashes are not needed. S skips this volume.%s A stick with the key may be plugged in, too.", also)
	a.con.beep()
	password, err := a.readKey(ctx, hasPassword)
	if errors.Is(err, errPassword) {
		return a.askPassword(ctx, v)
	}
	if err != nil {
		return err
	}
	return a.tryTyped(v, "This key is well formed but does not open this volume. Compare the key ID, then type the key that belongs to it.",
		func() error { return a.site.tryRecovery(ctx, v, password) })
}

// askPassword asks for the password that a user has chosen for a data volume.
func (a *common) askPassword(ctx context.Context, v *volume) error {
	a.con.note(bold, "Password of %s", v.title())
	a.con.line("Type it and press Enter; Enter alone goes back. The keyboard counts as an American one: Tab shows on the screen what is typed.")
	password, err := a.readSecret(ctx, "  password: ")
	if err != nil {
		return err
	}
	if password == "" {
		if len(v.recoveryIDs()) == 0 {
			return errSkip
		}
		return errAgain
	}
	return a.tryTyped(v, "This password does not open the volume.", func() error { return a.site.tryPassword(ctx, v, password) })
}

// tryTyped opens the volume with what was typed; wrong is said where it does not fit.
func (a *common) tryTyped(v *volume, wrong string, try func() error) error {
	err := working(a.con, "Unlocking ...", try)
	if !errors.Is(err, bitlocker.ErrWrongKey) {
		return err
	}
	a.con.note(red, "%s", wrong)
	a.log.Add(remediate.UnlockEvent{Device: v.device(), Source: "typed key", Reason: "what was typed does not open this volume"})
	return errAgain
}

// lookPeriod is how often devices are looked at while a question is on the screen, beside when the kernel tells.
const lookPeriod = time.Second

// looking is what goes on while a person is asked: devices that appear are looked at, and the question is over with
// errAgain if they bring keys.
func (a *common) looking(ctx context.Context) *watch {
	before := a.keys.changes
	return &watch{wake: a.wake, every: lookPeriod, look: func() error {
		a.askLate(ctx)
		a.site.scan(ctx)
		if a.keys.changes > before {
			return errAgain
		}
		return nil
	}}
}

// readSecret reads a line that does not show.
func (a *common) readSecret(ctx context.Context, prompt string) (string, error) {
	entry := &screen.Secret{Ask: prompt}
	err := a.con.ask(ctx, entry, a.looking(ctx))
	if err != nil {
		return "", err
	}
	return entry.Take(), nil
}

func (a *common) readKey(ctx context.Context, hasPassword bool) (bitlocker.RecoveryPassword, error) {
	entry := &screen.Recovery{Letters: "s"}
	if hasPassword {
		entry.Letters = "sp"
	}
	if err := a.con.ask(ctx, entry, a.looking(ctx)); err != nil {
		return bitlocker.RecoveryPassword{}, err
	}
	switch entry.Letter {
	case 's':
		return bitlocker.RecoveryPassword{}, errSkip
	case 'p':
		return bitlocker.RecoveryPassword{}, errPassword
	}
	return entry.Password()
}
