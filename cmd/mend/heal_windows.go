package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
	"github.com/bootmend/bootmend/cmd/mend/screen"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
)

// prepare takes in the media and, in Windows PE, a stick with more, and loads the drivers that they bring.
func (a *agent) prepare(ctx context.Context) {
	a.volumes, a.broken, a.seen, a.read = nil, nil, map[string]bool{}, map[string]bool{}
	a.keys.forget()
	a.readMedia(ctx)
	if inPE() {
		a.loadDrivers(ctx, a.mediaDir)
		a.useStick(ctx)
	}
	a.keys.passed, a.passed = a.passed, false
}

// scan implements site. Windows that runs has no other drives a moment later; Windows PE may.
func (a *agent) scan(ctx context.Context) {
	a.takeServerKeys(ctx)
	if len(a.seen) > 0 && !inPE() {
		return
	}
	for _, drive := range drives() {
		if !a.seen[drive] {
			a.seen[drive] = true
			a.inspect(drive)
		}
	}
	if inPE() {
		a.readSticks(ctx)
	}
}

func (a *agent) inspect(drive string) {
	v, err := look(drive)
	if v == nil && err == nil {
		return
	}
	found := remediate.VolumeEvent{Device: drive, Kind: "volume"}
	if v != nil && v.meta != nil {
		found.Kind, found.ID, found.Description = "bitlocker", v.meta.VolumeID.String(), v.meta.Description
	}
	a.log.Add(found)
	if err != nil {
		text := strings.TrimSuffix(drive, ":") + ": " + oneLine(err)
		a.log.Add(remediate.ErrorEvent{Step: "looking at the drive", Device: drive, Message: oneLine(err)})
		a.broken = append(a.broken, verdict{outcome: failed, volume: &volume{drive: drive}, text: text})
		return
	}
	if v.meta != nil {
		a.con.line("BitLocker volume %s: %s, %s", v.title(), v.meta.Method, v.meta.State)
	}
	a.volumes = append(a.volumes, v)
}

// readSticks looks for keys on sticks that are plugged in while the machine is up, as the agent for Linux does.
func (a *agent) readSticks(ctx context.Context) {
	now := map[string]bool{}
	for _, root := range removable() {
		now[root] = true
		if a.read[root] || isDir(root, a.mediaDir) || isDir(root, a.stick) {
			continue
		}
		found := readKeyFiles(root, "stick "+strings.TrimRight(root, `\`))
		if found.any() {
			a.con.line("Stick %s with %s", root, &found)
		}
		a.takeKeys(ctx, found)
	}
	a.read = now
}

func isDir(root, dir string) bool {
	return dir != "" && strings.EqualFold(filepath.Clean(root), filepath.Clean(dir))
}

// useStick takes keys and drivers from a stick BOOTMEND, where the media are inside of Windows PE, and leaves the log
// there. What the agent does, and by which rules, only the media say.
func (a *agent) useStick(ctx context.Context) {
	for _, root := range sticks() {
		if isDir(root, a.mediaDir) {
			continue
		}
		if info, err := os.Stat(filepath.Join(root, "bootmend")); err != nil || !info.IsDir() {
			continue
		}
		a.stick = root
		found := readKeyFiles(root, "the stick")
		if found.any() {
			a.con.line("Stick %s with %s", root, &found)
		}
		a.takeKeys(ctx, found)
		a.loadDrivers(ctx, root)
		return
	}
}

// loadDrivers loads the storage drivers that lie below root, before disks are looked for.
func (a *agent) loadDrivers(ctx context.Context, root string) {
	if root == "" {
		return
	}
	// What cannot be read holds no driver.
	_ = filepath.WalkDir(filepath.Join(root, "bootmend", "drivers"), func(file string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.EqualFold(filepath.Ext(file), ".inf") {
			return nil //nolint:nilerr // the next may be readable
		}
		if err := a.tools.loadDriver(ctx, file); err != nil {
			a.con.line("Driver %s is not loaded: %s", e.Name(), oneLine(err))
			a.log.Errorf("loading a driver", "%s: %s", e.Name(), oneLine(err))
			return nil
		}
		a.con.line("Driver %s is loaded", e.Name())
		a.log.Add(remediate.DriverEvent{Name: e.Name()})
		return nil
	})
}

// search implements site: here keys are tried when a volume's turn comes.
func (a *agent) search(context.Context) {}

// tryKeys implements site.
func (a *agent) tryKeys(ctx context.Context, v *volume) error {
	for v.tried < len(a.keys.sources) && ctx.Err() == nil {
		source := a.keys.sources[v.tried]
		v.tried++
		var list *keys.List
		switch u := source.unlocker.(type) {
		case *keys.List:
			list = u
		case *vault.Vault:
			list = u.List()
		}
		key, match, err := list.Match(ctx, v.meta)
		if errors.Is(err, bitlocker.ErrNoProtector) {
			continue // its keys are other machines'
		}
		if err == nil {
			key.Wipe()
			err = a.open(ctx, v, source.name, match, list)
		}
		if err == nil {
			return nil
		}
		a.con.note(red, "  %s: %s", source.name, oneLine(err))
		a.log.Add(remediate.UnlockEvent{Device: v.device(), Source: source.name, Reason: oneLine(err)})
	}
	return errSkip
}

// tryRecovery implements site.
func (a *agent) tryRecovery(ctx context.Context, v *volume, password bitlocker.RecoveryPassword) error {
	key, protector, err := v.meta.UnlockRecovery(ctx, password, nil)
	if err != nil {
		return err
	}
	key.Wipe()
	return a.open(ctx, v, "typed key", keys.Match{Protector: protector, Password: password}, nil)
}

// tryPassword implements site. manage-bde takes a password from its own prompt only, so nobody is asked for one here.
func (a *agent) tryPassword(context.Context, *volume, string) error { return bitlocker.ErrNoProtector }

// open has Windows open a volume with what was found to fit.
func (a *agent) open(ctx context.Context, v *volume, source string, match keys.Match, list *keys.List) error {
	var err error
	if !match.Password.IsZero() {
		err = a.tools.unlock(ctx, v.drive, match.Password)
	} else {
		err = a.unlockByStartupKey(ctx, v, match, list)
	}
	if err != nil {
		return fmt.Errorf("the key of %s fits, but Windows did not open the volume: %w", source, err)
	}
	v.opened, v.method, v.keyID = true, source, match.Protector.ID.String()
	return nil
}

// unlockByStartupKey writes the key to a file for manage-bde, as long as that runs.
func (a *agent) unlockByStartupKey(ctx context.Context, v *volume, match keys.Match, list *keys.List) (err error) {
	for _, k := range list.StartupKeys {
		if k.ID != match.Protector.ID {
			continue
		}
		var dir string
		if dir, err = os.MkdirTemp("", "bootmend"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }() // the result: a key that stays must be told
		file := filepath.Join(dir, match.Protector.ID.String()+".BEK")
		if err := os.WriteFile(file, k.Data.Reveal(), 0o600); err != nil {
			return err
		}
		return a.tools.unlockFile(ctx, v.drive, file)
	}
	return fmt.Errorf("startup key %s: %w", match.Protector.ID, bitlocker.ErrNoProtector)
}

// heal implements site.
func (a *agent) heal(ctx context.Context, v *volume) verdict {
	found := a.look(ctx, v, v.root())
	if found.plan.Empty() || found.outcome != healed {
		return found.verdict
	}
	a.con.stepTo(screen.Heal)
	result, err := remediate.Quarantine(ctx, v.root(), found.plan, a.run(found.windows))
	if result == nil {
		return a.fail(v, "quarantining", err)
	}
	return a.conclude(v, found.plan, result, err, errors.Join(flush(v.drive), remediate.Verify(ctx, os.DirFS(v.root()), result)))
}

// mayDiscard implements site: the Windows that runs is not asleep, whatever its file says.
func (a *agent) mayDiscard(v *volume) bool { return strings.EqualFold(v.drive, a.live) }

// discardAdvice: nothing can be done here about a hibernated Windows.
const discardAdvice = ""

// noWindows implements site.
func (a *agent) noWindows() string {
	a.con.note(red, "No Windows was found on the drives of this machine. Where its disk is missing, a storage driver may be: build the media with --drivers.")
	return "no Windows found"
}

// settings implements site.
func (a *agent) settings() config.Config { return a.config }

// dryRun implements site.
func (a *agent) dryRun() bool { return a.forceDry || a.serverDry || a.config.DryRun }

// systemNextStep is nextStep for what only happens here.
func systemNextStep(error) string { return "" }

// endSafeMode takes Safe Mode back where this machine is in it, or where Windows PE cannot tell. It reports whether
// there was something to take back, and whether the machine may be restarted.
func (a *agent) endSafeMode(ctx context.Context) (taken, restart bool) {
	entry := "{current}"
	switch {
	case inPE():
		entry = "{default}"
	case !inSafeMode():
		return false, true
	}
	err := a.tools.endSafeMode(ctx, entry)
	if err != nil && inPE() {
		return false, true // it was not set
	}
	e := remediate.SafeModeEvent{Device: "boot configuration", OK: err == nil, Entry: entry}
	if err == nil {
		a.con.note(green, "SAFE MODE TAKEN BACK: Windows starts as ever.")
	} else {
		e.Reason = oneLine(err)
		a.con.note(red, "Safe Mode could not be taken back (%s): run \"bcdedit /deletevalue {current} safeboot\" as an administrator.", oneLine(err))
	}
	a.log.Add(e)
	return err == nil, err == nil
}
