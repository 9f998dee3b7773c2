package bitlocker

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// extent is a run of bytes of the volume.
type extent struct{ off, n int64 }

func (e extent) end() int64 { return e.off + e.n }

// findPlaces works out which parts of the volume are BitLocker's own and
// which hold clear bytes.
func (m *Metadata) findPlaces(r io.ReaderAt, boot *bootSector) error {
	h := &m.block.head
	for _, off := range h.Metadata {
		m.reserved = append(m.reserved, extent{int64(off), m.copySize})
	}
	if m.Vista {
		m.boots = []extent{{0, int64(m.SectorSize)}}
		if m.vista.lastSector >= fve.VistaClear {
			m.boots = append(m.boots, extent{m.vista.lastSector, int64(m.SectorSize)})
		}
	} else {
		m.reserved = append(m.reserved, extent{m.headerOff, m.headerSize})
	}
	switch {
	case m.State == StateDecrypted:
		m.plain = []extent{{0, math.MaxInt64}}
	case m.State != StateEncrypted:
		m.plain = []extent{{m.EncryptedSize, math.MaxInt64 - m.EncryptedSize}}
		if m.EncryptedSize%int64(m.SectorSize) != 0 || h.ConvertSize%uint32(m.SectorSize) != 0 {
			return fmt.Errorf("conversion has reached offset %d, which is not the start of a sector: %w", m.EncryptedSize, ErrUnsupported)
		}
		if h.State == fve.StateSwitching && h.ConvertSize > 0 {
			// Windows itself shows what was in flux as zeros.
			e := extent{m.EncryptedSize, int64(h.ConvertSize)}
			m.reserved = append(m.reserved, e)
			m.Problems = append(m.Problems, fmt.Sprintf("Windows stopped while it converted %d bytes at offset %d; they read as zeros until it goes on", e.n, e.off))
		}
	}
	if boot.eow {
		if err := m.readEOW(r, boot.eowInfo); err != nil {
			return err
		}
	}
	slices.SortFunc(m.reserved, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
	for i := 1; i < len(m.reserved); i++ {
		if a, b := m.reserved[i-1], m.reserved[i]; a.end() > b.off {
			return fmt.Errorf("BitLocker's areas at offsets %d and %d overlap: %w", a.off, b.off, ErrUnsupported)
		}
	}
	if m.Vista {
		m.plain = append([]extent{{0, fve.VistaClear}}, m.plain...)
		if m.State != StateEncrypted && m.EncryptedSize < fve.VistaClear {
			m.plain = []extent{{0, math.MaxInt64}}
		}
	}
	if m.reserved[0].off < m.headerSize {
		return fmt.Errorf("BitLocker's area at offset %d overlaps the volume header: %w", m.reserved[0].off, ErrUnsupported)
	}
	return nil
}

// segmentKind is how a part of the volume is stored.
type segmentKind int

const (
	segmentZero      segmentKind = iota // BitLocker's own, reads as zeros
	segmentPlain                        // clear bytes
	segmentEncrypted                    // encrypted, with physical offsets as tweak
	segmentBoot                         // clear, but for what Vista changes in NTFS' first sector
)

// segment maps a part of the clear volume to the disk. Its bounds are those
// of sectors.
type segment struct {
	extent // of the clear volume
	kind   segmentKind
	phys   int64 // where it lies on the disk
}

// segments maps the first size bytes of the clear volume, in order and
// without a gap. Volume and Table both follow it.
func (m *Metadata) segments(size int64) []segment {
	var list []segment
	reserved, size := m.reserved, size-size%int64(m.SectorSize)
	for pos := int64(0); pos < size; {
		for len(reserved) > 0 && reserved[0].end() <= pos {
			reserved = reserved[1:]
		}
		s := segment{extent: extent{off: pos}, kind: segmentEncrypted, phys: pos}
		end := size
		switch {
		case pos < m.headerSize:
			s.phys = m.headerOff + pos
			end = min(end, m.headerSize)
		case len(reserved) > 0 && reserved[0].off <= pos:
			s.kind = segmentZero
			end = min(end, reserved[0].end())
		case len(reserved) > 0:
			end = min(end, reserved[0].off)
		}
		if s.kind != segmentZero {
			for _, b := range m.boots {
				if b.off == pos {
					s.kind, end = segmentBoot, min(end, b.end())
				} else if pos < b.off {
					end = min(end, b.off)
				}
			}
		}
		if s.kind == segmentEncrypted {
			plain, until := m.plainAt(s.phys)
			if plain {
				s.kind = segmentPlain
			}
			if until < s.phys+end-pos {
				end = until - s.phys + pos
			}
		}
		s.n = end - pos
		if n := len(list); n > 0 && list[n-1].kind == s.kind && s.kind != segmentBoot && (s.kind == segmentZero || list[n-1].phys+list[n-1].n == s.phys) {
			list[n-1].n += s.n
		} else {
			list = append(list, s)
		}
		pos = end
	}
	return list
}

// plainAt tells whether the disk holds clear bytes at phys, and up to where
// that answer holds.
func (m *Metadata) plainAt(phys int64) (plain bool, until int64) {
	i, _ := slices.BinarySearchFunc(m.plain, phys, func(e extent, off int64) int {
		if e.end() <= off {
			return -1
		}
		return 1
	})
	if i == len(m.plain) {
		return false, math.MaxInt64
	}
	if e := m.plain[i]; e.off <= phys {
		return true, e.end()
	}
	return false, m.plain[i].off
}
