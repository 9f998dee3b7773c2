package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/flash"
	"github.com/bootmend/bootmend/image/flash/device"
	"github.com/bootmend/bootmend/image/usb"
	"github.com/bootmend/bootmend/image/verify"
)

// flashImage is a finished image: a stick of ours, which is fitted to each device, or any other.
type flashImage struct {
	file  *os.File
	plain flash.Source
	stick *usb.Stick // nil for any other
	size  byteSize   // of the partition; 0 is the whole device
	bySize
}

// openFlashImage opens an image and refuses what would not start a machine, and media of ours that are not as they
// were made.
func openFlashImage(ctx context.Context, messages io.Writer, path string, size byteSize) (_ *flashImage, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	length, err := checkImage(f)
	if err != nil {
		var own *hinted
		if errors.As(err, &own) {
			return nil, withHint(fmt.Errorf("%s: %w", path, own.error), "%s", own.hint)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	progress, finish := newProgress(messages, "checking "+path)
	err = checkMedia(ctx, f, length, progress)
	finish()
	if errors.Is(err, verify.ErrNoMedia) {
		fmt.Fprintf(messages, "bootmend: %s is not made by bootmend: it cannot be checked before it is written\n", path)
	} else if err != nil {
		return nil, withHint(fmt.Errorf("%s fails its own check: %w", path, err), "\"bootmend verify\" shows more; build it again")
	}
	m := &flashImage{file: f, plain: flash.Plain(f, length), size: size}
	m.stick, err = usb.Open(f, length)
	switch {
	case errors.Is(err, usb.ErrNoStick) && size != 0:
		return nil, usagef("flash: --size is for sticks of \"bootmend build usb\", and %s is none", path)
	case err != nil && !errors.Is(err, usb.ErrNoStick):
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// checkMedia compares media of ours with their manifest.
func checkMedia(ctx context.Context, f *os.File, length int64, progress func(done, total int64)) error {
	report, err := verify.Media(ctx, f, length, progress)
	if err != nil || report.OK {
		return err
	}
	for _, finding := range report.Findings {
		if finding.Problem != "" {
			return fmt.Errorf("%s is %s: %s", finding.Path, finding.State, finding.Problem)
		}
	}
	for _, s := range report.Signatures {
		if s.Problem != "" {
			return fmt.Errorf("signature of %s: %s", s.Path, s.Problem)
		}
	}
	return errors.New("it is not as it was made")
}

func (m *flashImage) Close() { m.file.Close() }

// source fits the image to the device.
func (m *flashImage) source(d device.Device) (flash.Source, error) {
	return m.get(d, func() (flash.Source, error) {
		if m.stick != nil {
			return m.stick.Fit(stickDevice(d, m.size))
		}
		if need := m.plain.Size(); d.Size < need {
			return nil, fmt.Errorf("too small: %s, the image needs %s", device.Bytes(d.Size), device.Bytes(need))
		}
		if d.SectorSize != 512 {
			return nil, fmt.Errorf("has sectors of %d bytes, and the image is made for 512", d.SectorSize)
		}
		return flash.Fit(m.plain, d.Size)
	})
}

func stickDevice(d device.Device, size byteSize) usb.Device {
	return usb.Device{Size: d.Size, SectorSize: d.SectorSize, VolumeSize: size.sectors()}
}

// flashTree is a stick that is in no file: it is laid out for each device.
type flashTree struct {
	tree *image.Tree
	size byteSize
	bySize
}

func (m *flashTree) source(d device.Device) (flash.Source, error) {
	return m.get(d, func() (flash.Source, error) { return usb.Plan(m.tree, stickDevice(d, m.size)) })
}

// bySize keeps the sources that were made, one for each size of device.
type bySize struct {
	mu   sync.Mutex
	made map[[2]int64]flash.Source
}

func (b *bySize) get(d device.Device, plan func() (flash.Source, error)) (flash.Source, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := [2]int64{d.Size, int64(d.SectorSize)}
	if s, ok := b.made[key]; ok {
		return s, nil
	}
	s, err := plan()
	if err != nil {
		return nil, err
	}
	if b.made == nil {
		b.made = map[[2]int64]flash.Source{}
	}
	b.made[key] = s
	return s, nil
}

// containers are files that hold an image and are none.
var containers = []struct{ magic, name, hint string }{
	{"\x1f\x8b", "a gzip file", "unpack it first: gunzip"},
	{"\xfd7zXZ\x00", "an xz file", "unpack it first: unxz"},
	{"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it first: unzstd"},
	{"BZh", "a bzip2 file", "unpack it first: bunzip2"},
	{"PK\x03\x04", "a zip file", "unpack it first"},
	{"7z\xbc\xaf\x27\x1c", "a 7-Zip file", "unpack it first"},
	{"QFI\xfb", "a disk of a virtual machine (qcow2)", "make it raw: qemu-img convert -O raw"},
	{"vhdxfile", "a disk of a virtual machine (VHDX)", "make it raw: qemu-img convert -O raw"},
	{"KDMV", "a disk of a virtual machine (VMDK)", "make it raw: qemu-img convert -O raw"},
	{"MSWIM\x00\x00\x00", "a WIM archive", "it goes into media, and is none"},
}

// checkImage looks at the beginning of an image: a stick that firmware starts from has a boot sector.
func checkImage(f *os.File) (size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if info.IsDir() {
		return 0, withHint(errors.New("is a folder"), "name an image")
	}
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	head := make([]byte, 512)
	if n, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	} else if n == 0 {
		return 0, withHint(errors.New("is empty"), "build it again")
	}
	for _, c := range containers {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			return 0, withHint(errors.New("is "+c.name+", no image"), "%s", c.hint)
		}
	}
	if head[510] != 0x55 || head[511] != 0xaa {
		return 0, withHint(errors.New("has no boot sector: a stick with it would start no machine"),
			`name an image of a stick, or an ISO that is made for sticks too, such as those of "bootmend build"`)
	}
	return size, nil
}
