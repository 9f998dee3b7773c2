// Package disk finds the volumes of a disk, image file or bare volume: [Volumes] reads the partition table,
// [Identify] tells by signature what lies in a volume. It only ever reads.
package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

// Kind is what a volume's first bytes say it holds.
type Kind int

// The kinds that matter to a recovery.
const (
	Unknown Kind = iota
	BitLocker
	NTFS
	FAT
	ExFAT
	ISO9660
)

var kindNames = [...]string{"unknown", "BitLocker", "NTFS", "FAT", "exFAT", "ISO 9660"}

// String is the name people know.
func (k Kind) String() string { return kindNames[k] }

// Offsets and values of the signatures. BitLocker: libbde, "BitLocker Drive Encryption (BDE) format", section
// "Volume header"; To Go volumes look like FAT but for the identifier at 0x1A8. FAT: Microsoft fatgen103.
// ISO 9660: ECMA-119, section 8.
var (
	sigFVE    = []byte("-FVE-FS-")
	sigNTFS   = []byte("NTFS    ")
	sigExFAT  = []byte("EXFAT   ")
	sigISO    = []byte("CD001")
	guidFVE   = []byte{0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01}
	sigOffset = int64(3)
	toGoGUID  = int64(0x1a8)
	isoMagic  = int64(16*2048 + 1)
)

// Identify reads the signatures at the beginning of a volume. A volume too short for one has none.
func Identify(r io.ReaderAt) (Kind, error) {
	sector := make([]byte, 512)
	if n, err := r.ReadAt(sector, 0); n < len(sector) {
		if errors.Is(err, io.EOF) {
			return Unknown, nil
		}
		return Unknown, fmt.Errorf("reading the first sector: %w", err)
	}
	oem := sector[sigOffset : sigOffset+8]
	switch {
	case bytes.Equal(oem, sigFVE), bytes.Equal(sector[toGoGUID:toGoGUID+16], guidFVE):
		return BitLocker, nil
	case bytes.Equal(oem, sigNTFS):
		return NTFS, nil
	case bytes.Equal(oem, sigExFAT):
		return ExFAT, nil
	}
	magic := make([]byte, len(sigISO))
	if n, _ := r.ReadAt(magic, isoMagic); n == len(magic) && bytes.Equal(magic, sigISO) {
		return ISO9660, nil
	}
	if isFAT(sector) {
		return FAT, nil
	}
	return Unknown, nil
}

// isFAT checks the fields of the BIOS parameter block that every FAT volume must have right.
func isFAT(s []byte) bool {
	if s[510] != 0x55 || s[511] != 0xaa || (s[0] != 0xeb && s[0] != 0xe9) {
		return false
	}
	bytesPerSector := int(s[11]) | int(s[12])<<8
	perCluster, fats := s[13], s[16]
	switch bytesPerSector {
	case 512, 1024, 2048, 4096:
	default:
		return false
	}
	return perCluster != 0 && perCluster&(perCluster-1) == 0 && fats >= 1 && fats <= 2
}

// Volume is one partition of a disk, or the whole of a bare volume.
type Volume struct {
	// Number counts from 1 as in the partition table; 0 is the whole medium.
	Number int
	// Offset and Size are in bytes.
	Offset, Size int64
	Kind         Kind
	// ESP is true for an EFI system partition.
	ESP bool
	// GUID is the unique partition GUID of a GPT entry, upper case, else empty.
	GUID string
	// Name is the GPT partition name.
	Name string
}

// ErrNoPartitions means that the medium holds neither a volume nor a partition table.
var ErrNoPartitions = errors.New("neither a volume nor a partition table found")

// Volumes lists the volumes on r, which is size bytes long: the partitions of its GPT or MBR, or r itself
// if it is a bare volume. Extended MBR partitions are not followed.
func Volumes(r io.ReaderAt, size int64) ([]Volume, error) {
	kind, err := Identify(r)
	if err != nil {
		return nil, err
	}
	if kind == BitLocker || kind == NTFS || kind == ExFAT {
		return []Volume{{Size: size, Kind: kind}}, nil
	}
	vols := tableVolumes(r, size)
	if len(vols) == 0 {
		if kind != Unknown {
			return []Volume{{Size: size, Kind: kind}}, nil
		}
		return nil, ErrNoPartitions
	}
	for i := range vols {
		v := &vols[i]
		if v.Kind, err = Identify(io.NewSectionReader(r, v.Offset, v.Size)); err != nil {
			return nil, fmt.Errorf("partition %d at byte %d: %w", v.Number, v.Offset, err)
		}
	}
	return vols, nil
}

// tableVolumes tries a GPT with either sector size, then an MBR; entries that do not fit the medium are left out.
func tableVolumes(r io.ReaderAt, size int64) []Volume {
	f := &file{io.NewSectionReader(r, 0, size), size}
	var vols []Volume
	add := func(v Volume) {
		if v.Size > 0 && v.Offset > 0 && v.Offset <= size-v.Size {
			vols = append(vols, v)
		}
	}
	for _, sector := range []int{512, 4096} {
		table, err := gpt.Read(f, sector, sector)
		if err != nil {
			continue
		}
		for _, p := range table.Partitions {
			if p.Type == gpt.Unused {
				continue
			}
			add(Volume{
				Number: p.Index, Offset: p.GetStart(), Size: p.GetSize(), Name: p.Name,
				GUID: strings.ToUpper(p.GUID), ESP: p.Type == gpt.EFISystemPartition,
			})
		}
		return vols
	}
	table, err := mbr.Read(f, 512, 512)
	if err != nil {
		return nil
	}
	for _, p := range table.Partitions {
		if p.Type == mbr.Empty || p.Type == 0xee {
			continue
		}
		add(Volume{Number: p.Index, Offset: p.GetStart(), Size: p.GetSize(), ESP: p.Type == mbr.EFISystem})
	}
	return vols
}

// file makes a reader of known size the backend.File that go-diskfs asks for.
type file struct {
	*io.SectionReader
	size int64
}

func (f *file) Stat() (fs.FileInfo, error) { return info{f.size}, nil }
func (f *file) Close() error               { return nil }

type info struct{ size int64 }

func (i info) Name() string       { return "disk" }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return 0o400 }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }
