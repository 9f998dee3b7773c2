package device

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/windows"
)

// open locks the volumes of the disk and takes them away: Windows keeps programs from writing to a disk where
// volumes are mounted. They come back when the locks are given back.
func open(d Device, unmount bool) (_ *Disk, err error) {
	number, err := strconv.ParseUint(strings.TrimPrefix(d.Path, `\\.\PhysicalDrive`), 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is no disk", d.Path)
	}
	if len(d.Mounts) > 0 && !unmount {
		return nil, ErrInUse
	}
	volumes, err := listVolumes()
	if err != nil {
		return nil, err
	}
	var locks []windows.Handle
	release := func() {
		for _, h := range locks {
			_ = windows.CloseHandle(h)
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	for _, v := range volumes {
		if !slices.Contains(v.disks, uint32(number)) {
			continue
		}
		h, err := lock(v.path)
		if err != nil {
			return nil, fmt.Errorf("lock volume %s: %w", strings.Join(append(v.mounts, v.path)[:1], ""), err)
		}
		locks = append(locks, h)
	}
	h, err := openHandle(d.Path, windows.GENERIC_READ|windows.GENERIC_WRITE)
	if err != nil {
		return nil, err
	}
	disk := &Disk{File: os.NewFile(uintptr(h), d.Path), device: d, release: release}
	// The geometry, which needs no rights, may be rounded down; this is exact.
	answer, err := control(h, ioctlDiskGetLengthInfo, nil, 8)
	if err == nil {
		disk.device.Size, err = parseLength(answer)
	}
	if err != nil {
		disk.File.Close()
		return nil, err
	}
	return disk, nil
}

// lock takes a volume away from all other programs.
func lock(path string) (windows.Handle, error) {
	h, err := openHandle(path, windows.GENERIC_READ|windows.GENERIC_WRITE)
	if err != nil {
		return 0, err
	}
	for range 10 {
		if _, err = control(h, fsctlLockVolume, nil, 0); err == nil {
			break
		}
		time.Sleep(200 * time.Millisecond) // virus scanners and the indexer look at new sticks
	}
	if err == nil {
		_, err = control(h, fsctlDismountVolume, nil, 0)
	}
	if err != nil {
		_ = windows.CloseHandle(h)
		if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
			err = ErrInUse
		}
		return 0, err
	}
	return h, nil
}

// Drop makes the next reads come from the device itself, as FILE_FLAG_NO_BUFFERING does anyway.
func (d *Disk) Drop() error { return nil }

// Reread makes the system read the new partition table.
func (d *Disk) Reread() error {
	c, err := d.SyscallConn()
	if err != nil {
		return err
	}
	var ioErr error
	if err := c.Control(func(fd uintptr) {
		_, ioErr = control(windows.Handle(fd), ioctlDiskUpdateProperties, nil, 0)
	}); err != nil {
		return err
	}
	return ioErr
}
