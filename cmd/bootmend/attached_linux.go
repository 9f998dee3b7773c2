package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/remediate/attach"
	"github.com/bootmend/bootmend/remediate/disk"
)

// drivePath is for Windows' drive letters.
func drivePath(path string) string { return path }

// blockVolume is a volume on a block device.
type blockVolume struct {
	name   string
	device string
	meta   *bitlocker.Metadata // nil without BitLocker
	key    *bitlocker.VolumeKey
}

func (v *blockVolume) where() string { return v.name }

func (v *blockVolume) open(readonly bool) (_ string, _ func(bool) error, err error) {
	var table []bitlocker.Target
	if v.meta != nil {
		if table, err = v.meta.Table(v.key, v.device); err != nil {
			return "", nil, fmt.Errorf("%s: %w", v.name, err)
		}
	}
	dir, err := os.MkdirTemp("", "bootmend-volume")
	if err != nil {
		return "", nil, err
	}
	tree, err := attach.OpenTree(v.device, dir, table, readonly)
	if err != nil {
		return "", nil, errors.Join(explainAttach(fmt.Errorf("%s: %w", v.name, err)), os.Remove(dir))
	}
	return dir, func(well bool) error { return errors.Join(tree.Close(well), os.Remove(dir)) }, nil
}

// explainAttach says what to do where this computer's kernel lacks something.
func explainAttach(err error) error {
	switch {
	case errors.Is(err, attach.ErrNoDriver):
		return withHint(err, "load it with \"modprobe ntfs3\" if the kernel has it as a module; or mount the volume with ntfs-3g and name the folder")
	case errors.Is(err, attach.ErrNoMapper):
		return withHint(err, "load them with \"modprobe -a dm-mod dm-crypt dm-zero\" if the kernel has them as modules; or open the volume with dislocker, mount it with ntfs-3g and name the folder")
	}
	return err
}

// attachedDisk opens the volumes of a disk or partition that may hold Windows.
func attachedDisk(ctx context.Context, messages io.Writer, path string, info fs.FileInfo, opts attachOptions) ([]attachedVolume, func(), error) {
	if info.Mode().IsRegular() {
		return nil, nil, withHint(fmt.Errorf("%s is a file, not a disk", path),
			"attach an image with \"losetup --find --show --partscan %s\" and name the device that it prints; \"rules test\" looks at images as they are", path)
	}
	src, err := openSource(path)
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	if err := checkWhole(path); err != nil {
		return nil, nil, err
	}
	var volumes []attachedVolume
	var opened []*bitlocker.VolumeKey
	release := func() {
		for _, key := range opened {
			key.Wipe()
		}
	}
	secret, err := readSecret(opts.keyFile)
	for _, v := range src.volumes {
		if err != nil {
			break
		}
		if opts.partition != 0 && v.Number != opts.partition || v.Kind != disk.NTFS && v.Kind != disk.BitLocker {
			continue
		}
		block := &blockVolume{name: src.where(v), device: path}
		if v.Number != 0 {
			block.device, err = attach.PartitionAt(path, v.Offset)
			if err == nil {
				err = checkWhole(block.device)
			}
		}
		if err == nil {
			err = attach.CheckFree(block.device)
		}
		if errors.Is(err, attach.ErrInUse) {
			err = withHint(err, "unmount it; or name the folder at which the Windows volume is mounted")
		}
		if err == nil && v.Kind == disk.BitLocker {
			if err = block.unlock(ctx, messages, src, v, secret); err == nil {
				opened = append(opened, block.key)
			}
		}
		volumes = append(volumes, block)
	}
	if err == nil && len(volumes) == 0 {
		err = errNoWindowsThere(path)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return volumes, release, nil
}

// checkWhole refuses a device that is part of a set, and a partition of one: what looks like a volume there is not one.
func checkWhole(device string) error {
	devices := []string{device}
	blocks, err := attach.List()
	if err != nil {
		return err
	}
	for _, b := range blocks {
		if b.Device == device && b.Partition > 0 {
			devices = append(devices, "/dev/"+b.Disk)
		}
	}
	for _, name := range devices {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		size, err := f.Seek(0, io.SeekEnd)
		found := disk.FindForeign(f, size)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if found != nil && found.HandsOff {
			return withHint(fmt.Errorf("%s is %s: nothing is written to it", name, found.What), "%s", found.Next)
		}
	}
	return nil
}

func (v *blockVolume) unlock(ctx context.Context, messages io.Writer, src *source, part disk.Volume, s secret) (err error) {
	if v.meta, err = bitlocker.ReadMetadata(src.section(part), part.Size); err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	var protector *bitlocker.Protector
	if v.key, protector, err = unlock(ctx, messages, v.meta, s); err != nil {
		return explainLocked(fmt.Errorf("%s: %w", v.name, err), v.meta)
	}
	if protector != nil {
		fmt.Fprintf(messages, "bootmend: %s: unlocked by %s %s\n", v.name, protector.Kind, protector.ID)
	}
	return nil
}
