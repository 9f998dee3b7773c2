package device

import (
	"errors"
	"fmt"
	"os"
)

// Disk is a device that was opened for writing. Nobody else can mount it meanwhile, where the system allows that.
// Offsets, lengths and buffers of ReadAt and WriteAt are multiples of 4096 bytes, or at least of the sector size
// at the end of the device: the data bypass the system's cache.
type Disk struct {
	*os.File
	device  Device
	release func()
}

// Device is what was opened.
func (d *Disk) Device() Device { return d.device }

// Size is the device's capacity in bytes, as the device says.
func (d *Disk) Size() int64 { return d.device.Size }

// Close gives the device back to the system.
func (d *Disk) Close() error {
	err := d.File.Close()
	if d.release != nil {
		d.release()
	}
	return err
}

// ErrInUse is a device that cannot be had alone.
var ErrInUse = errors.New("in use by another program")

// ErrExchanged is a device that is another one than was listed.
var ErrExchanged = errors.New("another device than was listed is plugged in there now")

// Open opens a device that List gave, for itself alone. It does not ask for the reasons of Refusals again, but
// with unmount it takes what is mounted away first, and it makes sure that the device is still the one that
// was listed.
func Open(d Device, unmount bool) (*Disk, error) {
	disk, err := open(d, unmount)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", d.Path, err)
	}
	now, err := List(d.loop()...)
	if err != nil {
		_ = disk.Close() // nothing was written
		return nil, err
	}
	for _, o := range now {
		if d.same(o) {
			return disk, nil
		}
	}
	_ = disk.Close() // nothing was written
	return nil, fmt.Errorf("open %s: %w", d.Path, ErrExchanged)
}

// loop is the device's own path if it is a loop device, which List leaves out unless named.
func (d Device) loop() []string {
	if d.Bus == "loop" {
		return []string{d.Path}
	}
	return nil
}
