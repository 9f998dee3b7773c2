package device

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// syncCache is DKIOCSYNCHRONIZECACHE of <sys/disk.h>, _IO('d', 22).
const syncCache = 0x20006416

func open(d Device, unmount bool) (*Disk, error) {
	if len(d.Mounts) > 0 {
		if !unmount {
			return nil, ErrInUse
		}
		if out, err := ask("diskutil", "unmountDisk", d.Path); err != nil {
			return nil, fmt.Errorf("unmount: %w: %s", err, clean(string(out)))
		}
	}
	// The raw device goes past the buffer cache.
	f, err := os.OpenFile(strings.Replace(d.Path, "/dev/disk", "/dev/rdisk", 1), os.O_RDWR, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, ErrInUse
	}
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_NOCACHE, 1); err != nil {
		f.Close()
		return nil, err
	}
	return &Disk{File: f, device: d}, nil
}

// Sync has the device write down what it holds in its cache.
func (d *Disk) Sync() error {
	err := unix.IoctlSetInt(int(d.Fd()), syncCache, 0)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.ENOTSUP) {
		return nil // a stick without a cache
	}
	return err
}

// Drop makes the next reads come from the device itself, as the raw device does anyway.
func (d *Disk) Drop() error { return nil }

// Reread has nothing to do: macOS looks at a disk again when it is closed after writing.
func (d *Disk) Reread() error { return nil }
