package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/bootmend/bootmend/remediate"
)

// repair is a run that can be undone.
type repair struct {
	volume *volume
	record remediate.Record
}

// undo lets a person take a repair back: it lists those on all volumes that are open, and asks.
func (a *agent) undo(ctx context.Context) {
	repairs := a.repairs()
	if len(repairs) == 0 {
		a.con.line("No repair that could be undone is found on the disks of this machine. (Volumes without a key are not looked at.)")
		return
	}
	repairs = repairs[max(0, len(repairs)-9):]
	a.con.line("")
	for i, r := range repairs {
		what := count(r.record.Moved(), "file")
		if r.record.Disabled > 0 {
			what += " and " + count(r.record.Disabled, "service")
		}
		a.con.line("  %d  repair of %s on %s: %s", i+1, r.record.Manifest.Time.UTC().Format(time.DateTime+" MST"), r.volume.title(), what)
	}
	choice, err := a.con.choose(ctx, "Which one is to be undone? (Q: none) ", "123456789"[:len(repairs)]+"q")
	if err != nil || choice == 'q' {
		return
	}
	chosen := repairs[choice-'1']
	if err := a.undoOne(ctx, chosen); err != nil {
		a.con.note(red, "NOT UNDONE: %s: %s", chosen.volume.title(), oneLine(err))
		a.log.Add(remediate.ErrorEvent{Step: "undoing a repair", Device: chosen.volume.Device, Message: oneLine(err)})
	}
}

// repairs lists the runs on all open volumes that hold something, the oldest first.
func (a *agent) repairs() []repair {
	var found []repair
	for _, v := range a.volumes {
		if v.meta != nil && v.key == nil {
			continue
		}
		tree, err := v.open(true)
		if err != nil {
			continue // not a file system of Windows
		}
		records, err := remediate.Healed(os.DirFS(volumeDir))
		if err == nil {
			for _, r := range records {
				found = append(found, repair{v, r})
			}
		}
		if err := errors.Join(err, tree.close(true)); err != nil {
			a.con.line("%s: %s", v.title(), oneLine(err))
		}
	}
	slices.SortStableFunc(found, func(a, b repair) int { return a.record.Manifest.Time.Compare(b.record.Manifest.Time) })
	return found
}

func (a *agent) undoOne(ctx context.Context, r repair) error {
	plan, err := a.planUndo(ctx, r)
	if err != nil {
		return err
	}
	for _, p := range plan.Restored {
		a.con.line("  goes back: %s", p)
	}
	for _, s := range plan.Services {
		a.con.line("  starts again: service %s", s)
	}
	for _, f := range plan.Failed {
		a.con.note(red, "  stays in the quarantine: %s: %s", f.Path, f.Reason)
	}
	if len(plan.Restored)+len(plan.Services) == 0 {
		return errors.New("nothing of this repair can be undone, for the reasons above")
	}
	if a.dryRun() {
		a.con.line("  Dry run: nothing is changed.")
		return nil
	}
	if !a.confirm(ctx, "What kept this machine from starting comes back with it. Type YES to undo the repair: ") {
		a.con.line("Nothing was changed.")
		return nil
	}
	return a.carryOutUndo(ctx, r, plan)
}

// planUndo works out what can be undone. Nothing is written.
func (a *agent) planUndo(ctx context.Context, r repair) (_ *remediate.RestoreResult, err error) {
	tree, err := r.volume.open(true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tree.close(true)) }()
	windows, err := remediate.FindWindows(os.DirFS(volumeDir))
	if err != nil {
		return nil, err
	}
	if windows.Hibernated {
		return nil, fmt.Errorf("this Windows is hibernated (%s): start it once more and shut it down fully", windows.Hibernation)
	}
	plan, err := remediate.PlanRestore(ctx, volumeDir, r.record.Dir, remediate.RestoreOptions{Packs: a.packs})
	if plan != nil {
		err = nil // the files that can't go back are in the plan
	}
	return plan, err
}

func (a *agent) carryOutUndo(ctx context.Context, r repair, plan *remediate.RestoreResult) error {
	tree, err := r.volume.open(false)
	if err != nil {
		return err
	}
	result, restoreErr := remediate.Restore(ctx, volumeDir, r.record.Dir, remediate.RestoreOptions{Packs: a.packs})
	if err := tree.close(restoreErr == nil); err != nil {
		return err
	}
	if result == nil {
		return restoreErr
	}
	a.log.Add(remediate.RestoreEvent{Device: r.volume.Device, Result: result})
	if tree, err = r.volume.open(true); err != nil {
		return err
	}
	verifyErr := remediate.VerifyRestore(ctx, volumeDir, result, remediate.RestoreOptions{Packs: a.packs})
	if err := errors.Join(verifyErr, tree.close(true)); err != nil {
		return err
	}
	if len(result.Failed) > len(plan.Failed) { // the others were told before
		return restoreErr
	}
	done := count(len(result.Restored), "file")
	if len(result.Services) > 0 {
		done += " and " + count(len(result.Services), "service")
	}
	a.con.note(green, "UNDONE: %s as before the repair; read back from the disk and verified.", done)
	a.saveLogs([]verdict{{outcome: healed, volume: r.volume}})
	return nil
}
