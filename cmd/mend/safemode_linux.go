package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/attach"
	"github.com/bootmend/bootmend/remediate/bcd"
	"github.com/bootmend/bootmend/remediate/disk"
)

// bootStore is a partition that the machine starts from: it holds the boot configuration store, and BitLocker leaves it
// in the clear.
type bootStore struct {
	*volume
	entry bcd.Entry
	// set is true where the default Windows starts in Safe Mode; marker is there if it was set by this program.
	set    bool
	marker *bcd.Marker
	// hibernated says why the partition must not be written to.
	hibernated string
}

// bootStores looks for the stores of this machine, that on the disk named near first. What can't be read is left out,
// and told in the error.
func (a *agent) bootStores(near string) ([]bootStore, error) {
	blocks, err := attach.List()
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(blocks, func(x, y attach.Block) int {
		far := func(b attach.Block) int {
			if b.Disk == near {
				return 0
			}
			return 1
		}
		return cmp.Compare(far(x), far(y))
	})
	var found []bootStore
	var errs []error
	for _, b := range blocks {
		if b.Partition == 0 || a.handsOff[b.Disk] || a.handsOff[b.Name] || a.media != nil && b.Disk == a.media.block.Disk {
			continue
		}
		b.HardwareReadOnly = b.HardwareReadOnly && !a.guarded[b.Disk]
		s, err := lookForStore(b, a.firmware != nil)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", b.Name, err))
		case s != nil:
			found = append(found, *s)
		}
	}
	return found, errors.Join(errs...)
}

// lookForStore reads the store on a partition, if there is one. Only a BIOS starts from NTFS. Nothing is written.
func lookForStore(b attach.Block, uefi bool) (_ *bootStore, err error) {
	v, kind, err := identify(b)
	if err != nil || kind != disk.FAT && (kind != disk.NTFS || uefi) {
		return nil, nil //nolint:nilerr // no partition to start from; others tell what ails it
	}
	if v == nil {
		v = &volume{Block: b, kind: kind}
	}
	tree, err := v.open(true)
	if err != nil {
		return nil, nil //nolint:nilerr // the same
	}
	defer func() { err = errors.Join(err, tree.close(true)) }()
	fsys := os.DirFS(volumeDir)
	if _, err := bcd.Find(fsys); errors.Is(err, bcd.ErrNoStore) {
		return nil, nil
	}
	s := &bootStore{volume: v, hibernated: remediate.Hibernation(fsys)}
	if s.entry, s.set, err = bcd.Look(fsys); err != nil {
		return nil, err
	}
	if s.marker, err = bcd.ReadMarker(fsys); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return s, err
}

// safeMode is the way out for a machine whose key nobody has: Windows opens its own volume, starts in Safe Mode without
// the faulty driver, and an administrator of that machine takes the file away. Booted again, this medium takes Safe
// Mode back; so does a person here.
func (a *agent) safeMode(ctx context.Context, verdicts []verdict) {
	stores, err := a.bootStores(nearest(verdicts))
	if err != nil {
		a.con.line("%s", oneLine(err))
	}
	if len(stores) == 0 {
		a.con.line("No partition of this machine holds the boot configuration of a Windows (BCD), so Safe Mode cannot be set.")
		return
	}
	s := stores[0]
	if s.marker != nil {
		a.con.line("%s on %s was set to start in Safe Mode on %s.", name(s.entry), s.Name, s.marker.Time.UTC().Format(time.DateTime+" MST"))
		if a.mayChange() && a.confirm(ctx, "Type YES to take that back: ") {
			a.takeBack(s)
		}
		return
	}
	if s.set {
		a.con.line("%s on %s is set to start in Safe Mode already, by somebody else. That is left as it is.", name(s.entry), s.Name)
		return
	}
	a.con.line("")
	a.con.note(bold, "Safe Mode without a recovery key")
	a.con.line("%s (on %s) will start in Safe Mode, where the faulty driver is not loaded. It opens BitLocker by itself, so no key is needed, but you must "+
		"be able to sign in as an administrator of that machine. In Safe Mode, delete the faulty file, or run mend.exe from the media if it is there. Then boot "+
		"this medium again, or choose S here: it takes Safe Mode back.", name(s.entry), s.Name)
	choice, err := a.con.choose(ctx, "N: with network   M: minimal   Q: change nothing  ", "nmq")
	if err != nil || choice == 'q' || !a.mayChange() {
		return
	}
	mode := bcd.Minimal
	if choice == 'n' {
		mode = bcd.Network
	}
	change, err := a.setSafeMode(s, mode)
	a.logSafeMode(s, change, true, err)
	if err != nil {
		a.con.note(red, "NOT SET: %s: %s. Windows starts as before.", s.Name, oneLine(err))
		return
	}
	a.con.note(green, "SAFE MODE SET: %s starts in Safe Mode from now on (%s). Choose W to go there.", name(s.entry), mode)
	a.con.line("The boot configuration as it was is kept as %s.", change.Kept)
	a.saveLogs(nil)
}

// mayChange is false on a dry run, and says so.
func (a *agent) mayChange() bool {
	if a.dryRun() {
		a.con.line("  Dry run: nothing is changed.")
	}
	return !a.dryRun()
}

// name is what Windows calls itself in the boot menu.
func name(e bcd.Entry) string {
	if e.Description == "" {
		return "Windows"
	}
	return e.Description
}

// nearest is the disk whose Windows needs a person, else any on which something was found.
func nearest(verdicts []verdict) string {
	at := ""
	for _, v := range verdicts {
		if v.needsPerson() {
			return v.volume.Disk
		}
		at = v.volume.Disk
	}
	return at
}

// setSafeMode changes the store and reads it back from the disk.
func (a *agent) setSafeMode(s bootStore, mode bcd.Mode) (*bcd.Change, error) {
	change, err := s.change(func() (*bcd.Change, error) { return bcd.SetSafeMode(volumeDir, mode, a.started) })
	if err != nil {
		return change, err
	}
	return change, s.verify(true)
}

// change opens the partition for writing as long as do runs.
func (s bootStore) change(do func() (*bcd.Change, error)) (*bcd.Change, error) {
	if s.hibernated != "" {
		return nil, fmt.Errorf("the Windows on this partition is hibernated (%s): start it once more and shut it down fully", s.hibernated)
	}
	tree, err := s.open(false)
	if err != nil {
		return nil, err
	}
	change, err := do()
	return change, errors.Join(err, tree.close(err == nil))
}

// verify reads the store from the disk, not from memory.
func (s bootStore) verify(set bool) error {
	now, err := lookForStore(s.Block, s.kind == disk.FAT)
	switch {
	case err != nil:
		return fmt.Errorf("reading the boot configuration back: %w", err)
	case now == nil || now.set != set:
		return errors.New("read back from the disk, the boot configuration is not what was written")
	}
	return nil
}

// takeBack takes away the Safe Mode that this program has set, and nothing else.
func (a *agent) takeBack(s bootStore) bool {
	change, err := s.change(func() (*bcd.Change, error) { return bcd.UndoSafeMode(volumeDir, a.started) })
	if err == nil {
		err = s.verify(false)
	}
	a.logSafeMode(s, change, false, err)
	if err != nil {
		a.con.note(red, "SAFE MODE IS STILL SET: %s: %s", s.Name, oneLine(err))
		return false
	}
	a.con.note(green, "SAFE MODE TAKEN BACK: %s starts as ever.", name(s.entry))
	return true
}

// endSafeMode takes Safe Mode back on a machine that does not need it any more, and tells of it on one that may.
func (a *agent) endSafeMode(verdicts []verdict, success bool) {
	stores, _ := a.bootStores(nearest(verdicts)) // where nothing can be read, nothing was set
	for _, s := range stores {
		switch {
		case s.marker == nil:
		case success && !a.dryRun():
			a.takeBack(s)
		default:
			a.con.line("%s on %s is set to start in Safe Mode since %s. Choose S in the menu to take that back.", name(s.entry), s.Name,
				s.marker.Time.UTC().Format(time.DateTime+" MST"))
		}
	}
}

func (a *agent) logSafeMode(s bootStore, change *bcd.Change, set bool, err error) {
	e := remediate.SafeModeEvent{Device: s.Device, Set: set, OK: err == nil, Entry: s.entry.ID}
	if change != nil {
		e.Mode, e.Store, e.Kept = string(change.Mode), change.Store, change.Kept
	}
	if err != nil {
		e.Reason = oneLine(err)
	}
	a.log.Add(e)
}
