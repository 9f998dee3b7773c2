package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/bitlocker/keys/vault"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate"
)

// run does everything but the restart, and returns the exit status.
func (a *agent) run(ctx context.Context) int {
	if inPE() {
		a.loadDrivers(ctx, a.mediaDir)
		a.useStick(ctx)
	}
	counts := map[remediate.Outcome]int{}
	windows := 0
	for _, drive := range drives() {
		v, err := look(drive)
		if v == nil && err == nil {
			continue
		}
		found := remediate.VolumeEvent{Device: drive, Kind: "volume"}
		if v != nil && v.meta != nil {
			found.Kind, found.ID, found.Description = "bitlocker", v.meta.VolumeID.String(), v.meta.Description
		}
		a.log.Add(found)
		if err == nil && v.meta != nil {
			err = a.unlock(ctx, v)
		}
		outcome := remediate.Outcome("")
		if err == nil {
			outcome, err = a.heal(ctx, v)
		}
		if err != nil {
			name := drive
			if v != nil {
				name = v.title()
			}
			a.say("NOT HEALED: %s: %s", name, oneLine(err))
			a.log.Add(remediate.ErrorEvent{Step: "healing", Device: drive, Message: oneLine(err)})
			outcome = remediate.OutcomeNeedsPerson
		}
		if outcome != "" {
			windows++
			counts[outcome]++
		}
	}
	if a.badRules > 0 {
		a.say("NOT COMPLETE: %s on the media had to be left out, for the reason above.", count(a.badRules, "rule pack"))
	}
	result := remediate.ResultEvent{Outcome: remediate.OutcomeNothingToHeal}
	status := exitNothing
	switch {
	case ctx.Err() != nil:
		result.Outcome, result.Message, status = remediate.OutcomeFailed, "stopped by a person", exitFailed
	case counts[remediate.OutcomeNeedsPerson] > 0 || a.badRules > 0 || windows == 0:
		result.Outcome, status = remediate.OutcomeNeedsPerson, exitFailed
		if windows == 0 {
			result.Message = "no Windows found"
			a.say("No Windows was found on the drives of this machine. Where its disk is missing, a storage driver may be: build the media with --drivers.")
		}
	case counts[remediate.OutcomeDryRun] > 0:
		result.Outcome, status = remediate.OutcomeDryRun, exitDone
		a.say("DRY RUN: %s would be healed. Nothing was changed.", count(counts[remediate.OutcomeDryRun], "Windows installation"))
	case counts[remediate.OutcomeHealed] > 0:
		result.Outcome, status = remediate.OutcomeHealed, exitDone
		a.say("HEALED: %s", count(counts[remediate.OutcomeHealed], "Windows installation"))
	default:
		a.say("OK: nothing to heal on this machine")
	}
	a.log.Add(result)
	if status != exitFailed && !a.dryRun {
		a.endSafeMode(ctx)
	}
	a.saveLog()
	return status
}

// useStick takes keys and drivers from a stick BOOTMEND, where the media are inside of Windows PE, and leaves the log
// there. What the agent does, and by which rules, only the media say.
func (a *agent) useStick(ctx context.Context) {
	for _, root := range sticks() {
		if strings.EqualFold(filepath.Clean(root), filepath.Clean(a.mediaDir)) {
			continue
		}
		if info, err := os.Stat(filepath.Join(root, "bootmend")); err != nil || !info.IsDir() {
			continue
		}
		a.stick = root
		a.say("Stick %s", root)
		more := readKeyFiles(root, "the stick")
		for _, note := range more.notes {
			a.say("%s", note)
			a.log.Errorf("reading the stick", "%s", note)
		}
		if more.any() {
			a.say("With %s", &more)
		}
		a.keys.add(more)
		a.loadDrivers(ctx, root)
		return
	}
}

// add takes in what another medium holds.
func (k *keyFiles) add(more keyFiles) {
	k.lists = append(k.lists, more.lists...)
	k.count += more.count
	k.vaults = append(k.vaults, more.vaults...)
	k.identities = append(k.identities, more.identities...)
	k.files += more.files
	k.notes = append(k.notes, more.notes...)
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
			a.say("Driver %s is not loaded: %s", e.Name(), oneLine(err))
			a.log.Errorf("loading a driver", "%s: %s", e.Name(), oneLine(err))
			return nil
		}
		a.say("Driver %s is loaded", e.Name())
		a.log.Add(remediate.DriverEvent{Name: e.Name()})
		return nil
	})
}

// unlock opens a locked volume with a key of the media, or with one that a person types.
func (a *agent) unlock(ctx context.Context, v *volume) error {
	a.say("Unlocking %s ...", v.title())
	err := a.unlockByMedia(ctx, v)
	for errors.Is(err, bitlocker.ErrNoProtector) || errors.Is(err, bitlocker.ErrWrongKey) {
		if !errors.Is(err, bitlocker.ErrNoProtector) {
			a.say("  %s", oneLine(err))
		}
		if err = a.askKey(ctx, v); err == nil {
			break
		}
	}
	return err
}

func (a *agent) unlockByMedia(ctx context.Context, v *volume) error {
	if err := a.openVaults(); err != nil {
		return err
	}
	failure := fmt.Errorf("there is no key for it on the media: %w", bitlocker.ErrNoProtector)
	for _, source := range a.keys.lists {
		list, ok := source.unlocker.(*keys.List)
		if !ok {
			continue
		}
		key, match, err := list.Match(ctx, v.meta)
		if err != nil {
			if !errors.Is(err, bitlocker.ErrNoProtector) {
				failure = err
			}
			continue
		}
		key.Wipe()
		return a.open(ctx, v, source.name, match, list)
	}
	return failure
}

// openVaults opens the vaults of the media once: by an identity that lies there too, or by a passphrase.
func (a *agent) openVaults() error {
	for _, s := range a.keys.vaults {
		v, err := s.Identity(a.keys.identities...)
		for tries := 0; err != nil && s.WantsPassphrase() && tries < freeTries; tries++ {
			var passphrase string
			if passphrase, err = readHidden("Passphrase of the " + s.name + " (Enter alone: type the recovery key instead): "); err != nil || passphrase == "" {
				break
			}
			if v, err = s.Passphrase(passphrase); errors.Is(err, vault.ErrPassphrase) {
				a.say("This passphrase is wrong.")
			}
		}
		if v == nil {
			continue
		}
		if err := v.CheckExpiry(a.started.Time); err != nil {
			v.Wipe()
			a.say("The %s is refused: %s", s.name, oneLine(err))
			a.log.Errorf("opening the "+s.name, "%s", oneLine(err))
			continue
		}
		a.keys.lists = append(a.keys.lists, keySource{s.name, v.List()})
	}
	a.keys.vaults = nil
	return nil
}

// open has Windows open a volume with what was found to fit.
func (a *agent) open(ctx context.Context, v *volume, source string, match keys.Match, list *keys.List) error {
	event := remediate.UnlockEvent{Device: v.drive, Source: source, KeyID: match.Protector.ID.String()}
	var err error
	if !match.Password.IsZero() {
		err = a.tools.unlock(ctx, v.drive, match.Password)
	} else {
		err = a.unlockByStartupKey(ctx, v, match, list)
	}
	if event.OK = err == nil; err != nil {
		event.Reason = oneLine(err)
	}
	a.log.Add(event)
	if err != nil {
		return fmt.Errorf("the key of %s fits, but Windows did not open the volume: %w", source, err)
	}
	a.say("Unlocked %s by %s, key ID %s", v.title(), source, event.KeyID)
	return nil
}

// unlockByStartupKey writes the key to a file for manage-bde, as long as that runs.
func (a *agent) unlockByStartupKey(ctx context.Context, v *volume, match keys.Match, list *keys.List) (err error) {
	for _, k := range list.StartupKeys {
		if k.ID != match.Protector.ID {
			continue
		}
		dir, err := os.MkdirTemp("", "bootmend")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		file := filepath.Join(dir, match.Protector.ID.String()+".BEK")
		if err := os.WriteFile(file, k.Data.Reveal(), 0o600); err != nil {
			return err
		}
		return a.tools.unlockFile(ctx, v.drive, file)
	}
	return fmt.Errorf("startup key %s: %w", match.Protector.ID, bitlocker.ErrNoProtector)
}

// askKey asks the person for the recovery key. An error that is neither ErrNoProtector nor ErrWrongKey ends the asking.
func (a *agent) askKey(ctx context.Context, v *volume) error {
	var ids []string
	for _, p := range v.meta.Protectors {
		if p.Kind == bitlocker.ProtectorRecoveryPassword {
			ids = append(ids, p.ID.String())
		}
	}
	if len(ids) == 0 {
		return errors.New("it is locked and has no recovery password")
	}
	a.say("Recovery key for %s", v.title())
	for _, id := range ids {
		a.say("  key ID %s", id)
	}
	text, err := readHidden("Type its 48 digits; dashes are not needed. Enter alone skips this volume: ")
	if err != nil || text == "" {
		return fmt.Errorf("it is locked and no key was given. Wanted: key ID %s", strings.Join(ids, " or "))
	}
	password, err := bitlocker.ParseRecoveryPassword(text)
	if err != nil {
		return fmt.Errorf("%w: %w", bitlocker.ErrWrongKey, err)
	}
	key, protector, err := v.meta.UnlockRecovery(ctx, password, nil)
	if err != nil {
		return err
	}
	key.Wipe()
	return a.open(ctx, v, "typed key", keys.Match{Protector: protector, Password: password}, nil)
}

// freeTries is how many passphrases may be wrong.
const freeTries = 3

var stdin = bufio.NewReader(os.Stdin)

// readHidden reads a line, which does not show where it is typed.
func readHidden(prompt string) (string, error) {
	fmt.Print(prompt)
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		data, err := term.ReadPassword(fd)
		fmt.Println()
		return strings.TrimSpace(string(data)), err
	}
	line, err := stdin.ReadString('\n')
	fmt.Println()
	if line != "" {
		err = nil
	}
	return strings.TrimSpace(line), err
}

// heal does section 4 to 6 of the design to one volume; no outcome is a volume without Windows.
func (a *agent) heal(ctx context.Context, v *volume) (remediate.Outcome, error) {
	root := v.root()
	tree := os.DirFS(root)
	w, err := remediate.FindWindows(tree)
	if errors.Is(err, remediate.ErrNoWindows) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	computer := w.ComputerName
	if computer == "" {
		computer = "unnamed computer"
	}
	a.say("  %s on %s, in %s", w.Version, computer, v.drive)
	a.log.Add(w)
	policy := remediate.FaultyOnly
	if a.config.AllMatching {
		policy = remediate.AllMatching
	}
	plan, err := remediate.Evaluate(ctx, tree, a.packs, policy)
	if err != nil {
		return "", err
	}
	plan.Measure(a.packs, a.taken)
	defer func() { a.log.Add(remediate.PlanEvent{Device: v.drive, Plan: plan}) }()
	for _, kept := range plan.Kept {
		a.say("  stays: %s: %s", path.Base(kept.Path), kept.Why)
	}
	for _, action := range plan.Actions {
		a.say("  %s: %s: %s", action.Kind.Intent(), action.Target(), action.Reason)
	}
	switch {
	case len(plan.Problems) > 0 && plan.Empty():
		return "", fmt.Errorf("not looked at: %s: %s", plan.Problems[0].Path, plan.Problems[0].Why)
	case plan.Empty():
		return remediate.OutcomeNothingToHeal, nil
	case a.dryRun:
		return remediate.OutcomeDryRun, nil
	case w.Hibernated && !strings.EqualFold(v.drive, a.live): // the Windows that runs is not asleep
		return "", fmt.Errorf("this Windows is hibernated (%s): start it once more and shut it down fully", w.Hibernation)
	case len(plan.Beyond) > 0:
		return "", fmt.Errorf("%s: correct the rule pack, or use \"bootmend repair --beyond-blast-radius\"", plan.Beyond[0])
	}
	for pack, n := range plan.Taken() {
		a.taken[pack] += n
	}
	run := a.started
	run.Machine.ComputerName = w.ComputerName
	result, err := remediate.Quarantine(ctx, root, plan, run)
	if result == nil {
		return "", err
	}
	a.log.Add(remediate.QuarantineEvent{Device: v.drive, Result: result})
	verifyErr := errors.Join(flush(v.drive), remediate.Verify(ctx, tree, result))
	check := remediate.VerifyEvent{Device: v.drive, OK: verifyErr == nil}
	if verifyErr != nil {
		check.Reason = oneLine(verifyErr)
	}
	a.log.Add(check)
	if err := errors.Join(err, verifyErr); err != nil {
		return "", err
	}
	for _, moved := range result.Moved {
		a.say("  quarantined: %s", moved.Path)
	}
	for _, service := range result.Disabled {
		a.say("  disabled: service %s", service.Name)
	}
	if _, err := remediate.WriteLogFile(root, remediate.WindowsLogDir, a.started, a.log.Bytes()); err != nil {
		a.say("The log could not be written to %s: %s", v.drive, oneLine(err))
	}
	return remediate.OutcomeHealed, nil
}

// endSafeMode takes Safe Mode back where this machine is in it, or where Windows PE cannot tell.
func (a *agent) endSafeMode(ctx context.Context) {
	entry := "{current}"
	switch {
	case inPE():
		entry = "{default}"
	case !inSafeMode():
		return
	}
	err := a.tools.endSafeMode(ctx, entry)
	e := remediate.SafeModeEvent{Device: "boot configuration", OK: err == nil, Entry: entry}
	switch {
	case err == nil:
		a.say("Safe Mode is taken back: Windows starts as ever.")
	case inPE():
		return // it was not set
	default:
		e.Reason = oneLine(err)
		a.say("Safe Mode could not be taken back (%s): run \"bcdedit /deletevalue {current} safeboot\" as an administrator.", oneLine(err))
		a.config.OnSuccess = config.Wait // a restart would come back here
	}
	a.log.Add(e)
}

// saveLog writes the log to the stick, where there is a folder for it.
func (a *agent) saveLog() {
	for _, root := range []string{a.mediaDir, a.stick} {
		if root == "" {
			continue
		}
		if info, err := os.Stat(filepath.Join(root, filepath.FromSlash(remediate.MediaLogDir))); err != nil || !info.IsDir() {
			continue
		}
		where, err := remediate.WriteLogFile(root, remediate.MediaLogDir, a.started, a.log.Bytes())
		if err != nil {
			a.say("The log could not be written to the media: %s", oneLine(err))
			continue
		}
		a.say("Log on the media: %s", where)
	}
}
