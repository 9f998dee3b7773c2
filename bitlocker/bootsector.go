package bitlocker

import (
	"encoding/binary"
	"fmt"
	"io"

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
	vista      *vista // nil on volumes of Windows 7 and later
}

// vista is what only a volume of Windows Vista has. Its first sectors are not
// encrypted; the first one, and its copy in the last sector, have the file
// system's name and one number replaced.
type vista struct {
	lcn        uint64 // the first metadata copy's cluster, instead of that number
	mirror     uint64 // that number: the first cluster of NTFS' $MFTMirr
	copySize   int64  // bytes for each metadata copy
	lastSector int64  // offset of the copy of the first sector
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
	case b[0] == 0xeb && b[1] == 0x52: // NTFS' own, which Windows 7 replaces
		s.vista = &vista{}
	default:
		return nil, fmt.Errorf("identifier %s at offset 0x%x of the first sector is unknown: %w", GUID(guid), at, ErrUnsupported)
	}
	s.sectorSize = int(binary.LittleEndian.Uint16(b[11:]))
	if s.sectorSize == 0 { // seen on exFAT volumes; cryptsetup and dislocker take 512 too
		s.sectorSize = 512
	}
	if !isSectorSize(uint64(s.sectorSize)) {
		return nil, fmt.Errorf("sectors of %d bytes: %w", s.sectorSize, ErrUnsupported)
	}
	if s.vista != nil {
		return s, s.parseVista(b)
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

// parseVista reads the place of the first metadata copy, which tells that of
// the others.
func (s *bootSector) parseVista(b []byte) error {
	v, le := s.vista, binary.LittleEndian
	cluster := int64(s.sectorSize) * int64(b[13])
	v.lcn = le.Uint64(b[fve.VistaLCN:])
	total := le.Uint64(b[fve.VistaTotalSectors:])
	const limit = 1 << 40 // clusters or sectors: far beyond any disk, and products cannot overflow
	if cluster == 0 || cluster&(cluster-1) != 0 || v.lcn > limit || total > limit {
		return fmt.Errorf("volume of Windows Vista with clusters of %d bytes, metadata at cluster %d, %d sectors: %w", cluster, v.lcn, total, ErrUnsupported)
	}
	s.metadata = [fve.Copies]int64{int64(v.lcn) * cluster}
	v.copySize = (fve.VistaMetadataSize + cluster - 1) &^ (cluster - 1)
	v.lastSector = int64(total) * int64(s.sectorSize)
	return nil
}

// otherCopies takes the places of the second and third metadata copy from the
// first one. Whether they are right, each copy tells itself.
func (s *bootSector) otherCopies(r io.ReaderAt) {
	b := make([]byte, fve.BlockHeaderSize)
	if n, _ := r.ReadAt(b, s.metadata[0]); n < len(b) || string(b[:8]) != fve.Signature {
		return
	}
	for i := 1; i < fve.Copies; i++ {
		s.metadata[i] = int64(binary.LittleEndian.Uint64(b[32+8*i:]))
	}
}

// copySize is how much of the volume each metadata copy takes.
func (s *bootSector) copySize() int64 {
	if s.vista != nil {
		return s.vista.copySize
	}
	return fve.MetadataSize
}

func isSectorSize(n uint64) bool { return n == 512 || n == 1024 || n == 2048 || n == 4096 }
