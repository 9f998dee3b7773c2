package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/cmd/mend/screen"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/attach"
	"github.com/bootmend/bootmend/remediate/disk"
)

// outcome is how the work on one volume ended.
type outcome int

const (
	notWindows   outcome = iota
	clean                // Windows, nothing to heal
	healedBefore         // the same, because it was healed by an earlier run
	healed
	planned // dry run: something would be done
	locked  // no key
	refused // must not be written to
	failed
	spared // left as it was, because the server wants it so
)

// verdict is an outcome with what a person should know.
type verdict struct {
	outcome
	volume *volume
	// text is the reason and the next step for locked, refused and failed.
	text string
	// hibernated says that it was refused because Windows is, which a person may decide otherwise.
	hibernated bool
}

// isWindows reports whether a Windows installation was found, whatever became of it.
func (v verdict) isWindows() bool {
	return v.outcome == clean || v.outcome == healedBefore || v.outcome == healed || v.outcome == planned || v.outcome == refused
}

func (v verdict) needsPerson() bool {
	return v.outcome == locked || v.outcome == refused || v.outcome == failed || v.outcome == spared
}

// heal does section 4 to 6 of the design to one unlocked volume: look, plan, change only what the plan needs,
// read back from the device.
func (a *agent) heal(ctx context.Context, v *volume) verdict {
	tree, err := v.open(true)
	if err != nil {
		if v.meta != nil && !a.holdsNTFS(v) {
			return verdict{outcome: notWindows, volume: v}
		}
		return a.fail(v, "opening the volume", err)
	}
	found := a.look(ctx, v)
	if err := tree.close(true); err != nil && found.outcome != failed {
		found.verdict = a.fail(v, "closing the volume", err)
	}
	if found.plan.Empty() || found.outcome != healed {
		return found.verdict
	}
	return a.quarantine(ctx, v, found)
}

// finding is what a look at a volume gave. A verdict of healed means: there is a plan to carry out.
type finding struct {
	verdict
	windows *remediate.Windows
	plan    *remediate.Plan
}

func (a *agent) look(ctx context.Context, v *volume) finding {
	root := os.DirFS(volumeDir)
	windows, err := remediate.FindWindows(root)
	if errors.Is(err, remediate.ErrNoWindows) {
		return finding{verdict: verdict{outcome: notWindows, volume: v}}
	}
	if err != nil {
		return finding{verdict: a.fail(v, "looking for Windows", err)}
	}
	name := windows.ComputerName
	if name == "" {
		name = "unnamed computer"
	}
	a.con.line("  %s on %s", windows.Version, name)
	a.log.Add(windows)

	plan, err := remediate.Evaluate(ctx, root, a.packs, a.policy())
	if err != nil {
		return finding{verdict: a.fail(v, "evaluating the rules", err)}
	}
	plan.Measure(a.packs, a.taken)
	// The plan is logged with the answer that it may need.
	defer func() { a.log.Add(remediate.PlanEvent{Device: v.Device, Plan: plan}) }()
	f := finding{verdict: verdict{outcome: clean, volume: v}, windows: windows, plan: plan}
	a.showPlan(plan)
	if plan.Empty() {
		if len(plan.Problems) > 0 {
			f.verdict = a.fail(v, "looking for faulty files", errors.New(plan.Problems[0].Path+": "+plan.Problems[0].Why))
			return f
		}
		if a.sayEarlier(root) {
			f.outcome = healedBefore
		}
		return f
	}
	switch {
	case a.dryRun():
		a.con.line("  Dry run: nothing is changed.")
		f.outcome = planned
	case windows.Hibernated && !a.mayDiscard(v):
		f.verdict = a.refuse(v, "Windows on this volume is hibernated or was shut down with Fast Startup ("+windows.Hibernation+
			"). Writing to it could damage it. Start Windows once more and let it resume, or shut it down fully; then boot this medium again. "+
			"Or choose H in the menu: this gives up the session, and what was not saved in it is lost.")
		f.hibernated = true
	case len(plan.Beyond) > 0 && !a.approve(ctx, v, plan):
		f.verdict = a.refuse(v, fmt.Sprintf("%s, and nobody agreed to that. Nothing was changed. Try again and type YES, or correct the rule pack.", plan.Beyond[0]))
	default:
		f.outcome = healed
	}
	if f.outcome == healed || f.outcome == planned {
		for pack, n := range plan.Taken() {
			a.taken[pack] += n
		}
	}
	return f
}

func (a *agent) showPlan(plan *remediate.Plan) {
	// Near misses by name only: the log has the whole path.
	for _, kept := range plan.Kept {
		a.con.line("  stays: %s", path.Base(kept.Path))
		a.con.line("    %s", kept.Why)
	}
	for _, action := range plan.Actions {
		a.con.line("  %s: %s", action.Kind.Intent(), action.Target())
		a.con.line("    %s", action.Reason)
	}
	for _, b := range plan.Beyond {
		a.con.note(red, "  beyond the blast radius: %s", b)
	}
	for _, problem := range plan.Problems {
		a.con.note(red, "  not looked at: %s (%s)", problem.Path, problem.Why)
	}
	if plan.Empty() && len(plan.Problems) == 0 {
		a.con.line("  Nothing to heal on this volume.")
	}
}

// sayEarlier tells of repairs that were made before: a machine booted again from the media says why it goes on.
func (a *agent) sayEarlier(root fs.FS) bool {
	earlier, err := remediate.Healed(root)
	if err != nil || len(earlier) == 0 {
		return false
	}
	last := earlier[len(earlier)-1].Manifest
	a.con.line("  This machine was healed on %s; nothing is left to heal.", last.Time.UTC().Format(time.DateTime+" MST"))
	return true
}

// quarantine carries the plan out. Whatever fails, each file is either at its old or at its new place.
func (a *agent) quarantine(ctx context.Context, v *volume, f finding) verdict {
	a.con.stepTo(screen.Heal)
	tree, err := v.open(false)
	if err != nil {
		return a.fail(v, "opening the volume for writing", err)
	}
	if tree.Dirty {
		a.con.line("  Windows had marked this volume for a check; it will check it at its next start.")
	}
	if f.windows.Hibernated {
		if err := remediate.DiscardHibernation(volumeDir); err != nil {
			return a.fail(v, "discarding the hibernated session", errors.Join(err, tree.close(false)))
		}
		a.con.line("  The hibernated session is given up, as was decided: this Windows starts afresh, and checks the volume.")
	}
	result, err := remediate.Quarantine(ctx, volumeDir, f.plan, a.run(f.windows))
	// Windows' memory held a view of the volume that went with the session: it is to check the volume.
	closeErr := tree.close(err == nil && !f.windows.Hibernated)
	if result != nil && f.windows.Hibernated {
		result.SessionDiscarded = f.windows.Hibernation
	}
	if result == nil {
		return a.fail(v, "quarantining", errors.Join(err, closeErr))
	}
	a.log.Add(remediate.QuarantineEvent{Device: v.Device, Result: result})
	// What was moved is checked even if something else went wrong.
	verifyErr := a.verify(ctx, v, result)
	check := remediate.VerifyEvent{Device: v.Device, OK: verifyErr == nil}
	if verifyErr != nil {
		check.Reason = verifyErr.Error()
	}
	a.log.Add(check)
	if verifyErr != nil {
		return a.fail(v, "reading the repair back from the disk", errors.Join(verifyErr, err, closeErr))
	}
	if result.Unguarded != "" {
		a.con.line("  note: %s", result.Unguarded)
	}
	for _, moved := range result.Moved {
		a.con.line("  quarantined: %s", moved.Path)
	}
	for _, file := range result.PutBack {
		a.con.line("  put back: %s", file)
	}
	for _, service := range result.Disabled {
		a.con.line("  disabled: service %s", service.Name)
	}
	if len(result.Moved)+len(result.PutBack)+len(result.Disabled) > 0 {
		a.con.line("  Read back from the disk and verified.")
	}
	if err := errors.Join(err, closeErr); err != nil {
		return a.fail(v, "quarantining", err)
	}
	return verdict{outcome: healed, volume: v}
}

// mayDiscard reports whether a person has decided that the hibernated session of a volume may be lost: at the machine,
// or when the media were built.
func (a *agent) mayDiscard(v *volume) bool {
	return a.discard[v.Name] || a.media != nil && a.media.config.DiscardHibernation
}

func (a *agent) verify(ctx context.Context, v *volume, result *remediate.Result) (err error) {
	tree, err := v.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tree.close(true)) }()
	return remediate.Verify(ctx, os.DirFS(volumeDir), result)
}

// holdsNTFS tells an encrypted data stick, with FAT or exFAT inside, from a Windows volume that does not mount.
func (a *agent) holdsNTFS(v *volume) bool {
	kind, err := v.insideKind()
	return err != nil || kind == disk.NTFS
}

func (a *agent) fail(v *volume, step string, err error) verdict {
	text := fmt.Sprintf("%s: %s: %v", v.title(), step, oneLine(err))
	if next := nextStep(err); next != "" {
		text += ". " + next
	}
	a.log.Add(remediate.ErrorEvent{Step: step, Device: v.Device, Message: oneLine(err)})
	return verdict{outcome: failed, volume: v, text: text}
}

// nextStep is what a person can do about a failure, where that is known.
func nextStep(err error) string {
	switch {
	case errors.Is(err, remediate.ErrFull):
		return "Make some room on it, a few megabytes are enough: the command prompt of Windows' own recovery environment can delete files, such as those in Windows\\Temp. " +
			"Then boot this medium again."
	case errors.Is(err, attach.ErrJournal):
		return "Start Windows' own recovery environment, open its command prompt and list the drive with dir: this has Windows put the journal in order. " +
			"Then boot this medium again."
	case errors.Is(err, unix.EIO):
		return "The disk is failing: copy what is needed from it before anything else. No file is lost by the repair, and booting this medium again goes on with it."
	}
	return ""
}

func (a *agent) refuse(v *volume, reason string) verdict {
	text := v.title() + ": " + reason
	a.log.Add(remediate.ErrorEvent{Step: "plan", Device: v.Device, Message: reason})
	return verdict{outcome: refused, volume: v, text: text}
}
