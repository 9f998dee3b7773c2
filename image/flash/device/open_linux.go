package device

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func open(d Device, unmount bool) (*Disk, error) {
	if unmount {
		for i := len(d.Mounts) - 1; i >= 0; i-- { // the last may lie within the first
			if err := unix.Unmount(d.Mounts[i], 0); err != nil && !errors.Is(err, unix.EINVAL) {
				return nil, fmt.Errorf("unmount %s: %w", d.Mounts[i], err)
			}
		}
	}
	// O_EXCL on a block device keeps everyone else from mounting it, and fails where someone has.
	const flags = unix.O_RDWR | unix.O_EXCL | unix.O_CLOEXEC
	var f *os.File
	var err error
	for range 10 {
		f, err = os.OpenFile(d.Path, flags|unix.O_DIRECT, 0)
		if errors.Is(err, unix.EINVAL) {
			f, err = os.OpenFile(d.Path, flags, 0)
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(100 * time.Millisecond) // udev looks at new devices
	}
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, ErrInUse
	case err != nil:
		return nil, reason(err)
	}
	return &Disk{File: f, device: d}, nil
}

// reason is an error without the path, which the caller names.
func reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Drop makes the next reads come from the device itself. O_DIRECT does so already, where it is to be had.
func (d *Disk) Drop() error {
	if _, err := ioctl(d.File, unix.BLKFLSBUF); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return unix.Fadvise(int(d.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// Reread makes the system read the new partition table.
func (d *Disk) Reread() error {
	var err error
	for range 10 {
		_, err = ioctl(d.File, unix.BLKRRPART)
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if errors.Is(err, unix.EINVAL) {
		return nil // a device that has no partitions, such as a loop device made without
	}
	return err
}

func ioctl(f *os.File, request uint) (int, error) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var ioErr error
	if err := c.Control(func(fd uintptr) { n, ioErr = unix.IoctlRetInt(int(fd), request) }); err != nil {
		return 0, err
	}
	return n, ioErr
}
