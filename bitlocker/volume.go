package bitlocker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// Volume gives the clear content of a volume. Several goroutines may use it
// at once. Where BitLocker keeps its own data, it reads zeros, as Windows
// does, and refuses writes with [ErrReserved].
type Volume struct {
	disk       io.ReaderAt
	cipher     fve.Cipher // nil on a decrypted volume
	segments   []segment
	size       int64
	sectorSize int64
	vista      *vista
	readOnly   error

	// Part of a sector is written by reading, changing and writing it all, so
	// two writers must not be at work in the same sector.
	writing sync.Mutex
}

// OpenVolume gives the clear content of the volume on r, which ReadMetadata
// has read m from. It can be written to if r is an [io.WriterAt]. A volume
// that is fully decrypted needs no key: k may be nil.
func OpenVolume(r io.ReaderAt, m *Metadata, k *VolumeKey) (*Volume, error) {
	if m.untrusted != nil {
		return nil, m.untrusted
	}
	v := &Volume{disk: r, sectorSize: int64(m.SectorSize), vista: m.vista, readOnly: m.readOnly}
	v.segments = m.segments(m.VolumeSize)
	for _, s := range v.segments {
		v.size += s.n
	}
	if m.State != StateDecrypted {
		c, err := k.cipher(m.SectorSize)
		if err != nil {
			return nil, err
		}
		v.cipher = c
	}
	return v, nil
}

// Size is the size of the clear volume in bytes.
func (v *Volume) Size() int64 { return v.size }

// SectorSize is the size of a sector in bytes.
func (v *Volume) SectorSize() int { return int(v.sectorSize) }

// ReadAt implements [io.ReaderAt]. The error of a disk or image that ends too
// early names the offset there and wraps [io.ErrUnexpectedEOF].
func (v *Volume) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at offset %d of the volume", off)
	}
	done := 0
	for _, s := range v.segments[v.find(off):] {
		if done == len(p) {
			return done, nil
		}
		part := p[done:min(int64(len(p)), int64(done)+s.end()-off)]
		n, err := v.readSegment(part, s, off)
		done += n
		off += int64(n)
		if err != nil {
			return done, err
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// find gives the index of the segment that holds off.
func (v *Volume) find(off int64) int {
	i, _ := slices.BinarySearchFunc(v.segments, off, func(s segment, off int64) int {
		if s.end() <= off {
			return -1
		}
		return 1
	})
	return i
}

// readSegment reads p, which lies in s, from off.
func (v *Volume) readSegment(p []byte, s segment, off int64) (int, error) {
	phys := s.phys + off - s.off
	switch s.kind {
	case segmentZero:
		clear(p)
		return len(p), nil
	case segmentPlain:
		return v.readDisk(p, phys)
	case segmentBoot:
		b, _, err := v.readBoot(s)
		if err != nil {
			return 0, err
		}
		return copy(p, b[off-s.off:]), nil
	}
	done := 0
	for done < len(p) {
		head, rest := phys%v.sectorSize, p[done:]
		if whole := int64(len(rest)) - int64(len(rest))%v.sectorSize; head == 0 && whole > 0 {
			n, err := v.readDisk(rest[:whole], phys)
			n -= n % int(v.sectorSize)
			v.cipher.Decrypt(rest[:n], rest[:n], phys)
			done += n
			phys += int64(n)
			if err != nil {
				return done, err
			}
			continue
		}
		sector, err := v.readSector(phys - head)
		if err != nil {
			return done, err
		}
		n := copy(rest, sector[head:])
		done += n
		phys += int64(n)
	}
	return done, nil
}

// readBoot gives NTFS' first sector, or the copy of it, as NTFS wrote it, and
// whether BitLocker had changed it.
func (v *Volume) readBoot(s segment) (b []byte, changed bool, err error) {
	b = make([]byte, s.n)
	if _, err := v.readDisk(b, s.phys); err != nil {
		return nil, false, err
	}
	changed = string(b[fve.OEMOffset:][:8]) == fve.Signature
	if changed {
		copy(b[fve.OEMOffset:], fve.SignatureNTFS)
		binary.LittleEndian.PutUint64(b[fve.VistaLCN:], v.vista.mirror)
	}
	return b, changed, nil
}

// writeBoot writes to such a sector, what BitLocker replaces excepted.
func (v *Volume) writeBoot(disk io.WriterAt, p []byte, s segment, off int64) (int, error) {
	b, changed, err := v.readBoot(s)
	if err != nil {
		return 0, err
	}
	oem, number := bytes.Clone(b[fve.OEMOffset:][:8]), bytes.Clone(b[fve.VistaLCN:][:8])
	n := copy(b[off-s.off:], p)
	if !bytes.Equal(oem, b[fve.OEMOffset:][:8]) || !bytes.Equal(number, b[fve.VistaLCN:][:8]) {
		return 0, fmt.Errorf("write of %d bytes at offset %d: the file system's name and the place of its second file table are %w", len(p), off, ErrReserved)
	}
	if changed {
		copy(b[fve.OEMOffset:], fve.Signature)
		binary.LittleEndian.PutUint64(b[fve.VistaLCN:], v.vista.lcn)
	}
	if _, err := writeDisk(disk, b, s.phys); err != nil {
		return 0, err
	}
	return n, nil
}

// readSector gives one decrypted sector.
func (v *Volume) readSector(phys int64) ([]byte, error) {
	b := make([]byte, v.sectorSize)
	if _, err := v.readDisk(b, phys); err != nil {
		return nil, err
	}
	v.cipher.Decrypt(b, b, phys)
	return b, nil
}

// readDisk fills p from the encrypted disk.
func (v *Volume) readDisk(p []byte, phys int64) (int, error) {
	n, err := v.disk.ReadAt(p, phys)
	switch {
	case n == len(p):
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		return n, fmt.Errorf("image of the volume ends at offset %d, want %d bytes at offset %d: %w", phys+int64(n), len(p), phys, io.ErrUnexpectedEOF)
	}
	return n, fmt.Errorf("read the volume at offset %d: %w", phys+int64(n), err)
}

// WriteAt implements [io.WriterAt]. Nothing is written if any of p would lie
// where BitLocker keeps its own data or past the end of the volume.
func (v *Volume) WriteAt(p []byte, off int64) (int, error) {
	disk, ok := v.disk.(io.WriterAt)
	if !ok {
		return 0, errors.New("volume is open for reading only")
	}
	if v.readOnly != nil {
		return 0, fmt.Errorf("write to the volume: %w", v.readOnly)
	}
	if off < 0 || off > v.size || int64(len(p)) > v.size-off {
		return 0, fmt.Errorf("write of %d bytes at offset %d of a volume of %d bytes", len(p), off, v.size)
	}
	if len(p) == 0 {
		return 0, nil
	}
	touched := v.segments[v.find(off) : v.find(off+int64(len(p))-1)+1]
	for _, s := range touched {
		if s.kind == segmentZero {
			return 0, fmt.Errorf("write of %d bytes at offset %d: %d bytes at offset %d are %w", len(p), off, s.n, s.off, ErrReserved)
		}
	}
	v.writing.Lock()
	defer v.writing.Unlock()
	done := 0
	for _, s := range touched {
		part := p[done:min(int64(len(p)), int64(done)+s.end()-off)]
		n, err := v.writeSegment(disk, part, s, off)
		done += n
		off += int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// writeBuffer is how much is encrypted at a time: p must not be changed.
const writeBuffer = 256 << 10

// writeSegment writes p, which lies in s, to off.
func (v *Volume) writeSegment(disk io.WriterAt, p []byte, s segment, off int64) (int, error) {
	phys := s.phys + off - s.off
	switch s.kind {
	case segmentPlain:
		return writeDisk(disk, p, phys)
	case segmentBoot:
		return v.writeBoot(disk, p, s, off)
	}
	buf := make([]byte, min(writeBuffer, (int64(len(p))/v.sectorSize+1)*v.sectorSize))
	done := 0
	for done < len(p) {
		head, rest := phys%v.sectorSize, p[done:]
		whole := min(int64(len(buf)), int64(len(rest))-int64(len(rest))%v.sectorSize)
		var b []byte
		n := int(whole)
		if head == 0 && whole > 0 {
			b = buf[:whole]
			v.cipher.Encrypt(b, rest[:whole], phys)
		} else {
			sector, err := v.readSector(phys - head)
			if err != nil {
				return done, err
			}
			n = copy(sector[head:], rest)
			v.cipher.Encrypt(sector, sector, phys-head)
			b = sector
		}
		if _, err := writeDisk(disk, b, phys-head); err != nil {
			return done, err
		}
		done += n
		phys += int64(n)
	}
	return done, nil
}

func writeDisk(disk io.WriterAt, p []byte, phys int64) (int, error) {
	n, err := disk.WriteAt(p, phys)
	if err != nil {
		return n, fmt.Errorf("write the volume at offset %d: %w", phys, err)
	}
	return n, nil
}
