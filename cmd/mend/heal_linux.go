package main

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/cmd/mend/screen"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/attach"
	"github.com/bootmend/bootmend/remediate/disk"
)

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
	found := a.look(ctx, v, volumeDir)
	if err := tree.close(true); err != nil && found.outcome != failed {
		found.verdict = a.fail(v, "closing the volume", err)
	}
	if found.plan.Empty() || found.outcome != healed {
		return found.verdict
	}
	return a.quarantine(ctx, v, found)
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
	return a.conclude(v, f.plan, result, errors.Join(err, closeErr), a.verify(ctx, v, result))
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

// discardAdvice is what a person can do here about a hibernated Windows.
const discardAdvice = " Or choose H in the menu: this gives up the session, and what was not saved in it is lost."

// mayDiscard implements site: it reports whether a person has decided that the hibernated session of a volume may be lost: at the machine,
// or when the media were built.
func (a *agent) mayDiscard(v *volume) bool {
	return a.discard[v.Name] || a.media != nil && a.media.config.DiscardHibernation
}

// systemNextStep is nextStep for what only happens here.
func systemNextStep(err error) string {
	switch {
	case errors.Is(err, attach.ErrJournal):
		return "Start Windows' own recovery environment, open its command prompt and list the drive with dir: this has Windows put the journal in order. " +
			"Then boot this medium again."
	case errors.Is(err, unix.EIO):
		return "The disk is failing: copy what is needed from it before anything else. No file is lost by the repair, and booting this medium again goes on with it."
	}
	return ""
}
