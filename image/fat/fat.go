// Package fat makes FAT12, FAT16 and FAT32 volumes in one pass, from Microsoft's "FAT32 File System
// Specification" (fatgen103, version 1.03).
//
// [Plan] lays a list of entries out and returns a [Volume], which can be read at any offset as if it were written
// already; [Volume.Write] streams it front to back. Nothing but the tree itself and its chains is held in memory,
// so a volume of many gigabytes costs no more than a small one. [Read] gives the entries of a finished volume, which
// other systems may have written to since, in the form that Plan takes.
//
// Why not a library's writer: files are known in advance here, so each is one contiguous run and each FAT is
// written once, front to back. Writers that allocate cluster by cluster rewrite both FATs for every file, and
// the one at hand makes volumes that fsck.fat refuses (wrong FAT length, wrong ".." entries, no free count).
package fat

import (
	"fmt"
	"io"
	"time"
)

// Kind is the width of a FAT entry in bits. A volume's kind follows from its count of clusters alone
// (fatgen103, "FAT Type Determination").
type Kind int

// The three kinds; Auto lets Plan choose by the volume's size.
const (
	Auto  Kind = 0
	FAT12 Kind = 12
	FAT16 Kind = 16
	FAT32 Kind = 32
)

func (k Kind) String() string {
	if k == Auto {
		return "FAT"
	}
	return fmt.Sprintf("FAT%d", int(k))
}

// SectorSize is the sector size of a volume unless its Options say otherwise.
const SectorSize = 512

// BootDataSector is the sector at which Options.BootData lies: behind the boot sectors and their backups, where
// the reserved sectors of a FAT32 volume usually end.
const BootDataSector = 32

// MaxFileSize is the largest file that a FAT directory entry can describe.
const MaxFileSize = 1<<32 - 1

// Attributes of a directory entry (fatgen103, DIR_Attr).
const (
	AttrReadOnly = 0x01
	AttrHidden   = 0x02
	AttrSystem   = 0x04
	attrVolumeID = 0x08
	attrDir      = 0x10
	attrArchive  = 0x20
	attrLongName = 0x0f
)

// Options describe the volume as a whole.
type Options struct {
	Size int64 // bytes of the volume; 0: as small as Files and Free allow
	Free int64 // bytes of clusters that must stay free

	Kind        Kind // Auto chooses
	SectorSize  int  // bytes: 512 (also 0) or 4096, as the device has it
	ClusterSize int  // bytes, a power of two of at least one sector; 0 chooses

	// BootData lies in the reserved sectors of a FAT32 volume, from BootDataSector on. No driver writes there
	// and no file can be laid over it (fatgen103, BPB_RsvdSecCnt).
	BootData []byte

	Label         string    // up to 11 characters of the short-name alphabet
	VolumeID      uint32    // serial number; the caller derives it, so that equal inputs give equal volumes
	Time          time.Time // date of entries that carry none, and of the label
	HiddenSectors uint32    // sectors before the volume on its disk (BPB_HiddSec)
}

// Entry is a file or directory of the volume. Parents that are not listed are made.
type Entry struct {
	Path    string // separated by '/', a leading one is ignored
	Dir     bool
	Size    int64
	Open    func() (io.ReadCloser, error) // content, exactly Size bytes; nil for an empty file
	ModTime time.Time                     // zero: Options.Time
	Attr    byte                          // AttrReadOnly, AttrHidden, AttrSystem
}

// Volume is a planned volume, ready to be written any number of times.
type Volume struct {
	opts  Options
	size  int64
	geo   geometry
	root  *node
	order []*node // everything that owns clusters, in the order of the clusters
	used  uint32  // clusters in use

	regions []region // what is not zero, by offset
	end     int64    // of the last cluster in use
}

// Size returns the bytes of the volume.
func (v *Volume) Size() int64 { return v.size }

// End returns where the last cluster in use ends. What lies before must be written, its zeros too; whatever lies
// behind is free.
func (v *Volume) End() int64 { return v.end }

// Kind returns which FAT the volume has.
func (v *Volume) Kind() Kind { return v.geo.kind }

// ClusterSize returns the allocation unit in bytes.
func (v *Volume) ClusterSize() int { return int(v.geo.spc * v.geo.sector) }

// Clusters returns the count of data clusters.
func (v *Volume) Clusters() uint32 { return v.geo.clusters }

// FreeBytes returns the bytes of the clusters that no file uses.
func (v *Volume) FreeBytes() int64 {
	return int64(v.geo.clusters-v.used) * int64(v.ClusterSize())
}

// Extent returns where the content of a file lies in the volume; every file is one run.
func (v *Volume) Extent(path string) (offset, size int64, ok bool) {
	n := v.root.find(path)
	if n == nil || n.dir || n.first == 0 {
		return 0, 0, false
	}
	return v.clusterOffset(n.first), n.size, true
}

func (v *Volume) clusterOffset(c uint32) int64 {
	return (int64(v.geo.dataStart) + int64(c-2)*int64(v.geo.spc)) * int64(v.geo.sector)
}
