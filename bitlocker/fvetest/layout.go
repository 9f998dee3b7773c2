package fvetest

import (
	"fmt"
	"io"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// Region is a part of the volume, in bytes.
type Region struct{ Off, Len int64 }

func (r Region) end() int64 { return r.Off + r.Len }

const (
	// clearSize is what a volume's start holds instead of the moved header, and
	// what Windows Vista leaves clear.
	clearSize = 8 << 10
	// MinSize is the smallest volume that Format takes.
	MinSize = 4 << 20
)

// Layout tells which parts of the clear volume Format keeps for BitLocker:
// the three metadata copies, and behind the first of them the relocated
// volume header, which is empty on a volume of Windows Vista. They must not be used by the clear file system, and Format
// refuses a volume where they are not all zero.
//
// By default they lie at 88, 92 and 96 percent of the volume. mkntfs puts its
// own files at the start and in the middle, and Linux fills an NTFS volume
// from an eighth of its size upwards, so that a new file system with files of
// a third of its size stays clear of them. Windows marks these parts as used
// by hidden files; do the same where a mounted volume is to be written to.
func Layout(size int64, opts Options) ([]Region, error) {
	opts = opts.withDefaults()
	if size < MinSize || size%int64(opts.SectorSize) != 0 {
		return nil, fmt.Errorf("volume of %d bytes: want at least %d and whole sectors of %d", size, MinSize, opts.SectorSize)
	}
	places := opts.Metadata
	if places == [fve.Copies]int64{} {
		for i := range places {
			places[i] = size / 100 * int64(88+4*i) / fve.MetadataSize * fve.MetadataSize
		}
	}
	room := int64(fve.MetadataSize)
	if opts.Vista {
		room = fve.VistaMetadataSize
	}
	regions := []Region{
		{places[0], room},
		{places[1], room},
		{places[2], room},
		{places[0] + room, opts.HeaderSize}, // empty on Vista
	}
	for i, a := range regions {
		if a.Off < max(opts.HeaderSize, clearSize) || a.end() > size || a.Off%int64(opts.SectorSize) != 0 {
			return nil, fmt.Errorf("%d bytes for BitLocker at offset %d do not fit a volume of %d bytes", a.Len, a.Off, size)
		}
		for _, b := range regions[:i] {
			if a.Off < b.end() && b.Off < a.end() {
				return nil, fmt.Errorf("parts for BitLocker at offsets %d and %d overlap", b.Off, a.Off)
			}
		}
	}
	return regions, nil
}

// checkUnused makes sure that the clear volume has nothing where BitLocker's
// own data goes.
func checkUnused(clear io.ReaderAt, regions []Region) error {
	for _, r := range regions {
		b := make([]byte, r.Len)
		if _, err := clear.ReadAt(b, r.Off); err != nil && err != io.EOF {
			return fmt.Errorf("read the clear volume at offset %d: %w", r.Off, err)
		}
		if i := firstNonZero(b); i >= 0 {
			return fmt.Errorf("clear volume is in use at offset %d, where BitLocker's own data goes; see Layout", r.Off+int64(i))
		}
	}
	return nil
}

func firstNonZero(b []byte) int {
	for i, c := range b {
		if c != 0 {
			return i
		}
	}
	return -1
}
