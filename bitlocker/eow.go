package bitlocker

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// Bounds of what an encrypt-on-write volume may ask to be read.
const (
	maxEOWInfo   = 64 << 10
	maxEOWBitmap = 4 << 20
)

// errEOWEmpty says that the structures are not there, as on an image that
// holds only the metadata of a volume.
var errEOWEmpty = errors.New("empty")

// readEOW finds out which chunks of an encrypt-on-write volume are still clear.
func (m *Metadata) readEOW(r io.ReaderAt, offsets [2]int64) error {
	var errs errorList
	for _, off := range offsets {
		err := m.readEOWInfo(r, off)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("encrypt-on-write information at offset %d: %w", off, err))
	}
	if errors.Is(errs[0], errEOWEmpty) && errors.Is(errs[1], errEOWEmpty) {
		return m.guessEOW(r)
	}
	return fmt.Errorf("which parts of the volume are encrypted cannot be told, start Windows to finish the conversion: %w", errs)
}

// guessEOW decides by the volume header, which alone is known to be there,
// whether the volume is encrypted. The answer may be wrong elsewhere, so the
// volume is not to be written to.
func (m *Metadata) guessEOW(r io.ReaderAt) error {
	b := make([]byte, fve.BootSectorSize)
	if n, err := r.ReadAt(b, m.headerOff); n < len(b) {
		return fmt.Errorf("read the volume header at offset %d: %w", m.headerOff+int64(n), err)
	}
	taken := "encrypted"
	if isFileSystem(b) {
		taken, m.plain = "not encrypted", []extent{{0, math.MaxInt64}}
	}
	m.readOnly = fmt.Errorf("the record of which parts of the volume are encrypted is empty; judged by its header all are taken as %s, for reading only", taken)
	m.Problems = append(m.Problems, m.readOnly.Error())
	return nil
}

// isFileSystem recognises the first sector of a file system that Windows
// encrypts.
func isFileSystem(b []byte) bool {
	if b[510] != 0x55 || b[511] != 0xaa {
		return false
	}
	switch string(b[3:11]) {
	case "NTFS    ", "EXFAT   ", "MSDOS5.0":
		return true
	}
	return false
}

// readChecked reads a structure of at least head bytes whose whole size the
// function sizeOf finds in them.
func readChecked(r io.ReaderAt, off int64, head int, sizeOf func([]byte) int64, limit int64) ([]byte, error) {
	if off <= 0 || off > 1<<60 {
		return nil, fmt.Errorf("offset %d cannot be", off)
	}
	b := make([]byte, head)
	if n, err := r.ReadAt(b, off); n < head {
		return nil, fmt.Errorf("read at offset %d: %w", off+int64(n), err)
	}
	size := sizeOf(b)
	if size < int64(head) || size > limit {
		return nil, fmt.Errorf("size %d, want %d to %d", size, head, limit)
	}
	b = make([]byte, size)
	if n, err := r.ReadAt(b, off); n < len(b) {
		return nil, fmt.Errorf("read at offset %d: %w", off+int64(n), err)
	}
	return b, nil
}

// checkCRC compares the CRC-32 at offset at of b, which is taken as zero
// while summing.
func checkCRC(b []byte, at int) error {
	want := binary.LittleEndian.Uint32(b[at:])
	sum := crc32.ChecksumIEEE(b[:at])
	sum = crc32.Update(sum, crc32.IEEETable, make([]byte, 4))
	sum = crc32.Update(sum, crc32.IEEETable, b[at+4:])
	if sum != want {
		return fmt.Errorf("checksum is %08x instead of %08x", sum, want)
	}
	return nil
}

func (m *Metadata) readEOWInfo(r io.ReaderAt, off int64) error {
	le := binary.LittleEndian
	b, err := readChecked(r, off, fve.EOWInfoSize, func(b []byte) int64 {
		if bytes.HasPrefix(b, []byte(fve.EOWSignature)) {
			return int64(le.Uint16(b[10:]))
		}
		return fve.EOWInfoSize
	}, maxEOWInfo)
	if err != nil {
		return err
	}
	var h fve.EOWInfo
	if _, err := binary.Decode(b, le, &h); err != nil {
		return err
	}
	if string(h.Signature[:]) != fve.EOWSignature {
		if len(bytes.Trim(b, "\x00")) == 0 {
			return errEOWEmpty
		}
		return errors.New("signature FVE-EOW is missing")
	}
	if err := checkCRC(b, 36); err != nil {
		return err
	}
	ss := int64(m.SectorSize)
	if h.HeaderSize < fve.EOWInfoSize || int(h.HeaderSize) > len(b) || h.ChunkSize == 0 || int64(h.ChunkSize)%ss != 0 || int64(h.ConvLogSize)%ss != 0 {
		return fmt.Errorf("header size %d, chunk size %d, log size %d", h.HeaderSize, h.ChunkSize, h.ConvLogSize)
	}
	var reserved, plain []extent
	for _, at := range h.Offsets {
		if at > 1<<60 {
			return fmt.Errorf("copy at offset %d", at)
		}
		reserved = append(reserved, extent{int64(at), (int64(h.Size) + ss - 1) / ss * ss})
	}
	for list := b[h.HeaderSize:]; len(list) >= 8; list = list[8:] {
		at := int64(le.Uint64(list))
		bm, clear, err := readEOWBitmap(r, at, int64(h.ChunkSize), ss)
		if err != nil {
			return fmt.Errorf("bitmap at offset %d: %w", at, err)
		}
		reserved = append(reserved, extent{at, (int64(bm.Size) + ss - 1) / ss * ss}, extent{int64(bm.ConvLogOffset), int64(h.ConvLogSize)})
		plain = append(plain, clear...)
	}
	slices.SortFunc(plain, func(a, b extent) int { return cmp.Compare(a.off, b.off) })
	for i := 1; i < len(plain); i++ {
		if plain[i-1].end() > plain[i].off {
			return fmt.Errorf("bitmaps overlap at offset %d", plain[i].off)
		}
	}
	m.reserved = append(m.reserved, slices.DeleteFunc(reserved, func(e extent) bool { return e.n == 0 })...)
	if m.State == StateEncrypted && len(plain) > 0 {
		m.plain = plain
		m.State = StateEncrypting
		if m.block.head.NextState == fve.StateDecrypted {
			m.State = StateDecrypting
		}
	}
	return nil
}

// readEOWBitmap gives the parts of one region whose bit is not set, which are
// those that Windows has not encrypted.
func readEOWBitmap(r io.ReaderAt, off, chunk, ss int64) (h fve.EOWBitmap, plain []extent, err error) {
	le := binary.LittleEndian
	b, err := readChecked(r, off, fve.EOWBitmapSize, func(b []byte) int64 { return int64(le.Uint32(b[12:])) }, maxEOWBitmap)
	if err != nil {
		return h, nil, err
	}
	if _, err := binary.Decode(b, le, &h); err != nil {
		return h, nil, err
	}
	if string(h.Signature[:]) != fve.EOWBitmapSignature {
		return h, nil, errors.New("signature FVE-EOWBM is missing")
	}
	first := int64(h.RecordOffset[0])
	if first < fve.EOWBitmapSize || first > int64(len(b)) {
		return h, nil, fmt.Errorf("first record at %d of %d bytes", first, len(b))
	}
	if err := checkCRC(b[:first], 56); err != nil {
		return h, nil, err
	}
	if h.RegionOffset > 1<<60 || h.RegionSize > 1<<60 || h.ConvLogOffset > 1<<60 || int64(h.RegionOffset|h.RegionSize|h.ConvLogOffset)%ss != 0 {
		return h, nil, fmt.Errorf("region at offset %d with %d bytes, log at offset %d", h.RegionOffset, h.RegionSize, h.ConvLogOffset)
	}
	bits, err := latestRecord(b, h.RecordOffset)
	if err != nil {
		return h, nil, err
	}
	end := int64(h.RegionOffset + h.RegionSize)
	if int64(len(bits))*8 < (int64(h.RegionSize)+chunk-1)/chunk {
		return h, nil, fmt.Errorf("%d bytes of bits for %d bytes in chunks of %d", len(bits), h.RegionSize, chunk)
	}
	for i, at := 0, int64(h.RegionOffset); at < end; i, at = i+1, at+chunk {
		if bits[i/8]>>(i%8)&1 == 1 {
			continue
		}
		n := min(chunk, end-at)
		if l := len(plain); l > 0 && plain[l-1].end() == at {
			plain[l-1].n += n
		} else {
			plain = append(plain, extent{at, n})
		}
	}
	return h, plain, nil
}

// latestRecord gives the bits of the newer valid one of a bitmap's two records.
func latestRecord(b []byte, offsets [2]uint32) (bits []byte, err error) {
	le := binary.LittleEndian
	err = errors.New("no valid record")
	var sequence uint64
	for _, off := range offsets {
		if int64(off)+fve.EOWRecordSize > int64(len(b)) {
			continue
		}
		var h fve.EOWRecord
		rec := b[off:]
		if _, e := binary.Decode(rec, le, &h); e != nil {
			return nil, e
		}
		if string(h.Signature[:]) != fve.EOWRecordSignature || h.HeaderSize < fve.EOWRecordSize ||
			int64(h.Size) > int64(len(rec)) || uint32(h.HeaderSize) > h.Size || checkCRC(rec[:h.Size], 32) != nil {
			continue
		}
		if data := rec[h.HeaderSize:h.Size]; int64(h.Bits) <= int64(len(data))*8 && (bits == nil || h.Sequence > sequence) {
			bits, sequence, err = data[:(h.Bits+7)/8], h.Sequence, nil
		}
	}
	return bits, err
}
