package usb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/fat"
	"github.com/bootmend/bootmend/image/flash"
)

const (
	// partitionOffset is where the partition begins on every stick, in bytes: aligned for all flash memory.
	partitionOffset = 1 << 20
	// tail is what is written at the end of a device, in bytes: the second GPT, and zeros over what other systems
	// may have left there.
	tail = 1 << 20
	// tables is more than either GPT takes with sectors of any size.
	tables = 64 << 10
	// alignment is that of extents.
	alignment = 4096
)

// ErrTooSmall says that a device cannot hold the files.
var ErrTooSmall = fat.ErrTooSmall

// Device is what a stick is laid out for.
type Device struct {
	Size       int64 // bytes
	SectorSize int   // bytes of a logical sector: 512 (also 0) or 4096
	// VolumeSize limits the partition, in bytes; 0 is the whole device.
	VolumeSize int64
}

// Layout is a stick as it will be, and a [flash.Source].
type Layout struct {
	size   int64
	volume *fat.Volume
	head   []byte // the beginning of the device, and behind it zeros up to the partition
	tail   []byte // the end of the device, and before it zeros from the partition on
}

var _ flash.Source = (*Layout)(nil)

// stick is what is the same on a stick of any size.
type stick struct {
	id       string
	label    string
	volumeID uint32
	time     time.Time
	entries  []fat.Entry
	mbr      []byte // boot code
	core     []byte // GRUB's code in the reserved sectors
	uefiOnly bool   // there is neither

	windowsPE bool
}

// Plan lays a tree of [media.Spec.StickTree] out for a device.
func Plan(tree *media.Tree, d Device) (*Layout, error) {
	s, err := fromTree(tree)
	if err != nil {
		return nil, err
	}
	return s.layout(d)
}

func fromTree(tree *media.Tree) (*stick, error) {
	volumeID, err := tree.VolumeID()
	if err != nil {
		return nil, err
	}
	s := &stick{id: tree.ID, label: tree.Label, volumeID: volumeID, time: tree.Time, windowsPE: tree.WindowsPE}
	if s.uefiOnly = tree.UEFIOnly; !s.uefiOnly {
		if s.mbr, s.core, err = bootCode(tree.BootHybrid, tree.Core); err != nil {
			return nil, err
		}
		if err := tree.SetBoot(
			media.NewBootCode("boot code in the MBR", 0, s.mbr),
			media.NewBootCode("GRUB for BIOS", coreOffset, s.core)); err != nil {
			return nil, err
		}
	}
	s.entries = media.FATEntries(tree.Files)
	for _, dir := range tree.Dirs {
		s.entries = append(s.entries, fat.Entry{Path: dir, Dir: true})
	}
	return s, nil
}

// layout lays the stick out for a device.
func (s *stick) layout(d Device) (*Layout, error) {
	if d.SectorSize == 0 {
		d.SectorSize = 512
	}
	if d.SectorSize != 512 && d.SectorSize != 4096 {
		return nil, fmt.Errorf("device with sectors of %d bytes: 512 and 4096 are known: use another stick", d.SectorSize)
	}
	if d.Size < MinSize {
		return nil, fmt.Errorf("%w: %d MB, the smallest is 256 MB: use a larger stick or size", ErrTooSmall, d.Size/1e6)
	}
	if d.Size%int64(d.SectorSize) != 0 {
		return nil, fmt.Errorf("size of %d bytes: not whole sectors of %d: round it down", d.Size, d.SectorSize)
	}
	l := &Layout{size: d.Size}
	room := (d.Size-tail)/alignment*alignment - partitionOffset
	if d.VolumeSize > 0 {
		room = min(room, d.VolumeSize/alignment*alignment)
	}
	room = min(room, maxVolume)
	opts := fat.Options{
		Kind: fat.FAT32, Size: room, SectorSize: d.SectorSize, Label: s.label, VolumeID: s.volumeID, Time: s.time,
		HiddenSectors: uint32(partitionOffset / d.SectorSize),
	}
	if d.SectorSize == 512 && !s.uefiOnly {
		opts.BootData = s.core // no BIOS starts from a device with larger sectors
	}
	if d.SectorSize == 512 && room <= 260<<20 {
		// Microsoft's own choice up to 260 MB is clusters of one sector, which makes the FATs long and files slow.
		opts.ClusterSize = 2048
	}
	if opts.BootData == nil && d.SectorSize == 512 && !s.uefiOnly {
		return nil, errors.New("stick made for sectors of 4096 bytes: lacks what a BIOS starts on others: build it anew")
	}
	var err error
	if l.volume, err = fat.Plan(opts, s.entries); err != nil {
		if errors.Is(err, fat.ErrTooSmall) {
			return nil, fmt.Errorf("stick of %d MB: %w", d.Size/1e6, err)
		}
		return nil, err
	}
	return l, l.addTable(s, d)
}

// maxVolume: FAT32 ends at 2^32 sectors of 512 bytes.
const maxVolume = 2<<40 - 1<<20

// Size implements flash.Source.
func (l *Layout) Size() int64 { return l.size }

// FreeBytes is the room that is left for logs, keys and rule packs.
func (l *Layout) FreeBytes() int64 { return l.volume.FreeBytes() }

// Extents implements flash.Source: everything up to the end of the last file, and the end of the device.
func (l *Layout) Extents() []flash.Extent {
	end := partitionOffset + (l.volume.End()+alignment-1)/alignment*alignment
	last := (l.size - tail) / alignment * alignment
	if end >= last {
		return []flash.Extent{{Off: 0, Len: l.size}}
	}
	return []flash.Extent{{Off: 0, Len: end}, {Off: last, Len: l.size - last}}
}

// ReadAt implements io.ReaderAt.
func (l *Layout) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		if off < 0 || off >= l.size {
			return done, io.EOF
		}
		end, r := l.area(off)
		part := p[done:min(int64(len(p)), int64(done)+end-off)]
		n, err := r.ReadAt(part, off)
		done += n
		off += int64(n)
		if n < len(part) {
			return done, err
		}
	}
	return done, nil
}

// area returns what lies at an offset of the device, to be read with offsets of the device, and where it ends.
func (l *Layout) area(off int64) (end int64, r io.ReaderAt) {
	volumeEnd := partitionOffset + l.volume.Size()
	last := l.size - int64(len(l.tail))
	switch {
	case off < int64(len(l.head)):
		return int64(len(l.head)), bytes.NewReader(l.head)
	case off < partitionOffset:
		return partitionOffset, zeros{}
	case off < volumeEnd:
		return volumeEnd, shifted{l.volume, partitionOffset}
	case off < last:
		return last, zeros{}
	}
	return l.size, shifted{bytes.NewReader(l.tail), last}
}

// shifted begins at an offset.
type shifted struct {
	io.ReaderAt
	start int64
}

func (s shifted) ReadAt(p []byte, off int64) (int, error) { return s.ReaderAt.ReadAt(p, off-s.start) }

// zeros is an empty stretch of a device.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

var zeroPage [4096]byte

func isZero(b []byte) bool { return bytes.Equal(b, zeroPage[:len(b)]) }
