package usb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"

	media "github.com/bootmend/bootmend/image"
)

// addTable makes the MBR and both copies of the GPT.
func (l *Layout) addTable(s *stick, d Device) error {
	sector := int64(d.SectorSize)
	if s.windowsPE {
		l.addMBR(s, sector)
		return nil
	}
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

// typeFAT32 is the type of a partition with FAT32 that is found by the numbers of its sectors.
const typeFAT32 = 0x0c

// addMBR makes the only table of a stick for Microsoft's boot managers: the one for a BIOS looks for its partition in
// an MBR, and such a stick is what Microsoft's own tools make for both kinds of firmware. What other tables the device
// has had ends with it: both of their places are written.
func (l *Layout) addMBR(s *stick, sector int64) {
	l.head, l.tail = make([]byte, tables), make([]byte, tables)
	if sector == sectorSize && !s.uefiOnly {
		copy(l.head, s.mbr)
	}
	copy(l.head[mbrCode:], media.GUIDBytes(s.id, "mbr")[:4])
	entry := l.head[mbrCode+6:]
	// Active; the first sector as cylinder, head and sector of the usual 255 heads and 63 sectors, the last one beyond
	// what these can tell.
	copy(entry, []byte{0x80, 0x20, 0x21, 0, typeFAT32, 0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(entry[8:], uint32(partitionOffset/sector))
	binary.LittleEndian.PutUint32(entry[12:], uint32(l.volume.Size()/sector))
	copy(l.head[510:], []byte{0x55, 0xaa})
}

// readMBR reads the table of such a stick, with the label of the volume as the partition's name; of other devices it
// returns an empty one.
func readMBR(r io.ReaderAt) *gpt.Table {
	b := make([]byte, sectorSize)
	table := &gpt.Table{}
	if _, err := r.ReadAt(b, 0); err != nil || b[510] != 0x55 || b[511] != 0xaa {
		return table
	}
	entry := b[mbrCode+6:]
	start, length := uint64(binary.LittleEndian.Uint32(entry[8:])), uint64(binary.LittleEndian.Uint32(entry[12:]))
	label := make([]byte, 11) // BS_VolLab
	if _, err := r.ReadAt(label, partitionOffset+71); err != nil || entry[4] != typeFAT32 || length == 0 {
		return table
	}
	table.Partitions = []*gpt.Partition{{Start: start, End: start + length - 1, Type: gpt.MicrosoftBasicData, Name: strings.TrimRight(string(label), " ")}}
	return table
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
