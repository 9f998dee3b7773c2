package bitlocker

import (
	"encoding/binary"
	"fmt"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// bootSector is what the first 512 bytes of a volume tell (BDE, "Volume
// header").
type bootSector struct {
	sectorSize int
	eow        bool // conversion is tracked by bitmaps
	toGo       bool
	metadata   [fve.Copies]int64
	eowInfo    [2]int64
}

// parseBootSector recognises a BitLocker volume by its signature and the
// identifier behind it; no other field is used before both are right.
func parseBootSector(b []byte) (*bootSector, error) {
	if len(b) < fve.BootSectorSize {
		return nil, fmt.Errorf("first sector has %d of %d bytes: %w", len(b), fve.BootSectorSize, ErrNotBitLocker)
	}
	s := &bootSector{}
	at := fve.GUIDOffset
	switch string(b[3:11]) {
	case fve.Signature:
	case fve.SignatureToGo:
		s.toGo, at = true, fve.GUIDOffsetToGo
	default:
		return nil, ErrNotBitLocker
	}
	switch guid := [16]byte(b[at:]); {
	case guid == fve.GUIDNormal:
	case guid == fve.GUIDEncryptOnWrite && !s.toGo:
		s.eow = true
	case s.toGo:
		return nil, ErrNotBitLocker // an ordinary FAT volume of Windows 95
	case b[0] == 0xeb && b[1] == 0x52:
		return nil, fmt.Errorf("volume of Windows Vista: %w", ErrUnsupported)
	default:
		return nil, fmt.Errorf("identifier %s at offset 0x%x of the first sector is unknown: %w", GUID(guid), at, ErrUnsupported)
	}
	s.sectorSize = int(binary.LittleEndian.Uint16(b[11:]))
	switch s.sectorSize {
	case 0: // seen on exFAT volumes; cryptsetup and dislocker take 512 too
		s.sectorSize = 512
	case 512, 1024, 2048, 4096:
	default:
		return nil, fmt.Errorf("sectors of %d bytes: %w", s.sectorSize, ErrUnsupported)
	}
	for i := range s.metadata {
		s.metadata[i] = int64(binary.LittleEndian.Uint64(b[at+16+8*i:]))
	}
	if s.eow {
		for i := range s.eowInfo {
			s.eowInfo[i] = int64(binary.LittleEndian.Uint64(b[at+fve.RecognitionSize+8*i:]))
		}
	}
	return s, nil
}
