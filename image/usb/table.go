package usb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"

	media "github.com/bootmend/bootmend/image"
)

// addTable makes the MBR and both copies of the GPT.
func (l *Layout) addTable(s *stick, d Device) error {
	sector := int64(d.SectorSize)
	table := &gpt.Table{
		LogicalSectorSize: d.SectorSize, PhysicalSectorSize: d.SectorSize, ProtectiveMBR: true, GUID: media.GUID(s.id, "stick"),
		Partitions: []*gpt.Partition{{
			Index: 1, Start: uint64(partitionOffset / sector), Size: uint64(l.volume.Size()),
			End:  uint64((partitionOffset+l.volume.Size())/sector - 1),
			Type: gpt.MicrosoftBasicData, Name: s.label, GUID: media.GUID(s.id, "partition"),
		}},
	}
	// Only the ends of the device exist; go-diskfs writes nowhere else.
	l.head, l.tail = make([]byte, tables), make([]byte, tables)
	if err := table.Write(&ends{l: l}, l.size); err != nil {
		return fmt.Errorf("GPT: %w", err)
	}
	mbr := l.head[:sectorSize]
	if d.SectorSize == sectorSize && !s.uefiOnly {
		copy(mbr, s.mbr)
		// UEFI 2.10 section 5.2.3: the protective entry must not be active, yet many BIOSes start a stick only if some
		// entry is. As mkisofs --mbr-force-bootable does: an active entry of type 0, which is none to all others.
		copy(mbr[446+16:], []byte{0x80, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0})
	}
	copy(mbr[mbrCode:], media.GUIDBytes(s.id, "mbr")[:4])
	return nil
}

// ends is the head and the tail of a layout as a disk of go-diskfs.
type ends struct{ l *Layout }

var _ backend.WritableFile = (*ends)(nil)

// WriteAt implements io.WriterAt.
func (e *ends) WriteAt(p []byte, off int64) (int, error) {
	last := e.l.size - int64(len(e.l.tail))
	switch n := int64(len(p)); {
	case off >= 0 && off+n <= int64(len(e.l.head)):
		return copy(e.l.head[off:], p), nil
	case off >= last && off+n <= e.l.size:
		return copy(e.l.tail[off-last:], p), nil
	}
	return 0, fmt.Errorf("write of %d bytes at %d, outside the partition table's places", len(p), off)
}

// ReadAt implements io.ReaderAt.
func (e *ends) ReadAt(p []byte, off int64) (int, error) { return e.l.ReadAt(p, off) }

func (e *ends) Stat() (fs.FileInfo, error)     { return size(e.l.size), nil }
func (e *ends) Close() error                   { return nil }
func (e *ends) Read([]byte) (int, error)       { return 0, errors.ErrUnsupported }
func (e *ends) Seek(int64, int) (int64, error) { return 0, errors.ErrUnsupported }

// readTable reads the GPT of a device, or the second where the first is damaged. It returns nil where there is none.
func readTable(r io.ReaderAt, n, sector int64) *gpt.Table {
	// go-diskfs allocates what a header asks for.
	found := false
	for _, at := range []int64{sector, n - sector} {
		b := make([]byte, 92)
		if _, err := r.ReadAt(b, at); err != nil || string(b[:8]) != "EFI PART" {
			continue
		}
		// UEFI 2.10 section 5.3.2: NumberOfPartitionEntries, SizeOfPartitionEntry
		if count, each := binary.LittleEndian.Uint32(b[80:]), binary.LittleEndian.Uint32(b[84:]); count > 1024 || each != 128 {
			return nil
		}
		found = true
	}
	if !found {
		return nil
	}
	table, err := gpt.Read(device{io.NewSectionReader(r, 0, n), n}, int(sector), int(sector))
	if err != nil {
		return nil
	}
	return table
}

// device is a finished image or stick as a disk of go-diskfs.
type device struct {
	*io.SectionReader
	n int64
}

var _ backend.File = device{}

func (d device) Stat() (fs.FileInfo, error) { return size(d.n), nil }
func (device) Close() error                 { return nil }

// size is the fs.FileInfo of a device of so many bytes.
type size int64

func (size) Name() string       { return "stick" }
func (s size) Size() int64      { return int64(s) }
func (size) Mode() fs.FileMode  { return 0o600 }
func (size) ModTime() time.Time { return time.Time{} }
func (size) IsDir() bool        { return false }
func (size) Sys() any           { return nil }
