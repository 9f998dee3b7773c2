package flashtest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Attach makes a loop device of a file and returns its path. detach takes it away again. It needs root.
func Attach(path string) (dev string, detach func() error, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = control.Close() }()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", nil, fmt.Errorf("find a free loop device: %w", err)
		}
		dev = fmt.Sprintf("/dev/loop%d", n)
		detach, err := AttachTo(path, dev)
		if errors.Is(err, unix.EBUSY) {
			continue // another program was faster
		}
		return dev, detach, err
	}
	return "", nil, errors.New("no loop device is free for long enough")
}

// AttachTo is Attach for a certain loop device, which must be free.
func AttachTo(path, dev string) (detach func() error, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the loop device holds it open
	loop, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = loop.Close() }()
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd()), Size: 512}); err != nil {
		return nil, fmt.Errorf("attach %s to %s: %w", path, dev, err)
	}
	return func() error { return clearLoop(dev) }, nil
}

func clearLoop(dev string) error {
	loop, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = loop.Close() }()
	for range 50 {
		if err = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if errors.Is(err, unix.ENXIO) {
		return nil // it is already
	}
	return err
}
