package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/remediate/attach"
	"github.com/bootmend/bootmend/remediate/disk"
)

// volume is a partition (or bare disk) that may hold Windows.
type volume struct {
	attach.Block
	kind disk.Kind
	// meta and its problems are set for BitLocker volumes.
	meta *bitlocker.Metadata
	// key opens the volume; method and keyID tell what opened it, for the log and the screen.
	key    *bitlocker.VolumeKey
	method string
	keyID  string
	// tried is how many of the keyring's sources have been tried or are being tried; searched, whether any search began.
	tried    int
	searched bool
	// unlocking delivers the outcome of the search for a key that began when the volume was found.
	unlocking chan unlocked
}

// unlocked is a key, what opened it, or why none did.
type unlocked struct {
	key    *bitlocker.VolumeKey
	method string
	keyID  string
	err    error
}

// take makes the outcome of a search the volume's own.
func (v *volume) take(u unlocked) error {
	v.key, v.method, v.keyID = u.key, u.method, u.keyID
	return u.err
}

// undecided reports whether there are keys for the volume that have not been tried to the end.
func (v *volume) undecided(sources []keySource) bool {
	return v.unlocking != nil || v.tried < len(sources)
}

// title is what a person knows the volume by.
func (v *volume) title() string {
	if v.meta != nil && v.meta.Description != "" {
		return fmt.Sprintf("%s (%s)", v.meta.Description, v.Name)
	}
	return v.Name
}

// identify reads the beginning of a block device; nil is a device that cannot hold Windows.
func identify(b attach.Block) (*volume, disk.Kind, error) {
	f, err := os.Open(b.Device)
	if err != nil {
		return nil, disk.Unknown, err
	}
	defer f.Close()
	kind, err := disk.Identify(f)
	if err != nil {
		return nil, kind, err
	}
	v := &volume{Block: b, kind: kind}
	switch kind {
	case disk.NTFS:
		return v, kind, nil
	case disk.BitLocker:
		v.meta, err = bitlocker.ReadMetadata(f, b.Size)
		return v, kind, err
	}
	return nil, kind, nil
}

// foreign looks for what other programs keep on a device.
func foreign(b attach.Block) *disk.Foreign {
	f, err := os.Open(b.Device)
	if err != nil {
		return nil
	}
	defer f.Close()
	return disk.FindForeign(f, b.Size)
}

// findKey looks for a key where no person is needed: a clear key on the volume, then the sources in their order. It
// runs beside everything else and changes nothing of the volume.
func (v *volume) findKey(ctx context.Context, sources []keySource) unlocked {
	key, protector, err := v.meta.UnlockClearKey()
	if err == nil {
		u := unlocked{key: key, method: "clear key (protection is suspended)"}
		if protector != nil {
			u.keyID = protector.ID.String()
		}
		return u
	}
	failure := errSkip
	if !errors.Is(err, bitlocker.ErrNoProtector) {
		failure = fmt.Errorf("the clear key on the volume: %w", err)
	}
	for _, source := range sources {
		key, protector, err := source.Unlock(ctx, v.meta)
		if err == nil {
			return unlocked{key: key, method: source.name, keyID: protector.ID.String()}
		}
		if !errors.Is(err, bitlocker.ErrNoProtector) { // otherwise its keys are other machines'
			failure = fmt.Errorf("%s: %w", source.name, err)
		}
	}
	return unlocked{err: failure}
}

// tryRecovery derives the volume's key from the recovery password that a person typed.
func (v *volume) tryRecovery(ctx context.Context, password bitlocker.RecoveryPassword) unlocked {
	return fromPerson(v.meta.UnlockRecovery(ctx, password, nil))
}

// tryPassword derives it from the password that a user of a data volume has chosen.
func (v *volume) tryPassword(ctx context.Context, password string) unlocked {
	u := fromPerson(v.meta.UnlockPassword(ctx, password))
	u.method = "typed password"
	return u
}

func fromPerson(key *bitlocker.VolumeKey, protector *bitlocker.Protector, err error) unlocked {
	if err != nil {
		return unlocked{err: err}
	}
	return unlocked{key: key, method: "typed key", keyID: protector.ID.String()}
}

// opensByPassword: the password of a data volume opens it, too.
const opensByPassword = true

// locked reports whether a key is wanted.
func (v *volume) locked() bool { return v.meta != nil && v.key == nil }

// device is what the log knows the volume by.
func (v *volume) device() string { return v.Device }

const volumeDir = "/run/volume"

// opened is a volume mounted at volumeDir.
type opened struct {
	*attach.Tree
	v        *volume
	readonly bool
}

// open mounts the volume. Only with readonly unset does the kernel get leave to write to the disk.
func (v *volume) open(readonly bool) (*opened, error) {
	table, err := v.table()
	if err != nil {
		return nil, err
	}
	if !readonly {
		if err := v.guard(false); err != nil {
			return nil, err
		}
	}
	var tree *attach.Tree
	if v.kind == disk.FAT {
		tree, err = attach.OpenFAT(v.Device, volumeDir, readonly)
	} else {
		tree, err = attach.OpenTree(v.Device, volumeDir, table, readonly)
	}
	if err != nil {
		_ = v.guard(true)
		return nil, err
	}
	return &opened{tree, v, readonly}, nil
}

// table is what device-mapper needs for a BitLocker volume.
func (v *volume) table() ([]bitlocker.Target, error) {
	if v.meta == nil {
		return nil, nil
	}
	return v.meta.Table(v.key, v.Device)
}

// close unmounts, makes sure that all has reached the device, and guards the disk again. Where not all went well,
// Windows is to check the volume.
func (o *opened) close(well bool) error {
	err := o.Close(well)
	if !o.readonly {
		err = errors.Join(err, o.v.guard(true))
	}
	return err
}

// guard makes the kernel refuse writes to the volume's whole disk, or allows them.
func (v *volume) guard(on bool) error {
	if v.HardwareReadOnly {
		if on {
			return nil
		}
		return fmt.Errorf("disk %s (%s) refuses writes: look for a write-protection switch or setting", v.Disk, v.Model)
	}
	return attach.SetReadOnly("/dev/"+v.Disk, on)
}

// insideKind is what lies in an unlocked volume: not every BitLocker volume is a Windows one.
func (v *volume) insideKind() (disk.Kind, error) {
	if v.meta == nil {
		return v.kind, nil
	}
	f, err := os.Open(v.Device)
	if err != nil {
		return disk.Unknown, err
	}
	defer f.Close()
	clearVolume, err := bitlocker.OpenVolume(f, v.meta, v.key)
	if err != nil {
		return disk.Unknown, err
	}
	return disk.Identify(clearVolume)
}
