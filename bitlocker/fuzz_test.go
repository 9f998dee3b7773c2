package bitlocker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// fuzzBlock is a small metadata block with one protector, as a seed.
func fuzzBlock() []byte {
	le := binary.LittleEndian
	add := func(b []byte, v any) []byte {
		b, _ = binary.Append(b, le, v)
		return b
	}
	key := add(nil, fve.EntryHeader{Size: 8 + 4 + 32, Value: fve.ValueKey, Version: 1})
	key = append(key, make([]byte, 36)...)
	vmk := add(nil, fve.EntryHeader{Size: uint16(8 + fve.VMKHeaderSize + len(key)), Type: fve.TypeVMK, Value: fve.ValueVMK, Version: 3})
	vmk = append(add(vmk, fve.VMKHeader{ID: [16]byte{1}}), key...)
	size := uint32(fve.DatasetHeaderSize + len(vmk))
	b := add(nil, fve.BlockHeader{Signature: [8]byte([]byte(fve.Signature)), Size16: 16, Version: 2, State: 4, NextState: 4,
		EncryptedSize: 1 << 20, HeaderSectors: 16, Metadata: [3]uint64{1 << 18, 2 << 18, 3 << 18}, HeaderOffset: 1 << 17})
	b = add(b, fve.DatasetHeader{Size: size, Version: 1, HeaderSize: 48, SizeCopy: size, Method: fve.MethodXTS128})
	b = append(b, vmk...)
	b = append(b, make([]byte, 256-len(b))...)
	return add(b, fve.ValidationHeader{Size: 8, Version: 2, CRC32: crc32.ChecksumIEEE(b)})
}

func FuzzBootSector(f *testing.F) {
	b := make([]byte, 512)
	copy(b, "\xeb\x58\x90-FVE-FS-\x00\x02")
	copy(b[fve.GUIDOffset:], fve.GUIDNormal[:])
	f.Add(bytes.Clone(b))
	copy(b[fve.GUIDOffset:], fve.GUIDEncryptOnWrite[:])
	f.Add(bytes.Clone(b))
	copy(b[3:], fve.SignatureToGo)
	copy(b[fve.GUIDOffsetToGo:], fve.GUIDNormal[:])
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseBootSector(b)
		if err != nil {
			if !errors.Is(err, ErrNotBitLocker) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		if s.sectorSize < 512 || s.sectorSize > 4096 {
			t.Errorf("sectors of %d bytes", s.sectorSize)
		}
		// Whatever the offsets are, reading the metadata ends.
		if _, err := ReadMetadata(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Error("metadata without metadata")
		}
	})
}

// FuzzBlock corrects the checksum, so that what is behind it is reached.
func FuzzBlock(f *testing.F) {
	f.Add(fuzzBlock(), uint16(512))
	f.Add(fuzzBlock()[:256], uint16(4096))
	if b, err := os.ReadFile(filepath.Join("..", "..", "shared", "testdata", "bitlocker", "tpm_recovery.bin")); err == nil {
		at := bytes.Index(b, []byte(fve.Signature))
		f.Add(b[at:at+4096], uint16(512))
	}
	f.Fuzz(func(t *testing.T, b []byte, sectorSize uint16) {
		if sectorSize != 4096 {
			sectorSize = 512
		}
		if len(b) < fve.BlockHeaderSize {
			return
		}
		if size := int(binary.LittleEndian.Uint16(b[8:])) * 16; len(b) >= size+8 {
			binary.LittleEndian.PutUint32(b[size+4:], crc32.ChecksumIEEE(b[:size]))
		}
		off, boot := int64(binary.LittleEndian.Uint64(b[32:])), &bootSector{sectorSize: int(sectorSize)}
		k, err := checkBlock(b, 0, off, boot)
		if err != nil {
			return
		}
		m := &Metadata{SectorSize: int(sectorSize), block: k, copySize: fve.MetadataSize}
		m.parseHeaders(1 << 30)
		m.parseEntries()
		if err := m.findPlaces(bytes.NewReader(nil), &bootSector{}); err != nil {
			return
		}
		var end int64
		for _, s := range m.segments(1 << 24) {
			if s.off != end || s.n <= 0 || s.phys < 0 {
				t.Fatalf("segment %+v after offset %d", s, end)
			}
			end = s.end()
		}
		if end != 1<<24 {
			t.Fatalf("segments end at %d", end)
		}
		for i := range m.Protectors {
			p := &m.Protectors[i]
			_, _ = m.unlock(p, p.seal.clear)
		}
		if _, _, err := m.UnlockClearKey(); err == nil && m.State != StateDecrypted {
			t.Error("made-up metadata unlocks")
		}
	})
}

func FuzzEOW(f *testing.F) {
	f.Add(eowImage()[4096 : 4096+72])
	f.Add(eowImage()[16384 : 16384+0x600])
	f.Fuzz(func(t *testing.T, b []byte) {
		img := eowImage()
		at := 16384 // a bitmap, or the information
		if bytes.HasPrefix(b, []byte(fve.EOWSignature)) {
			at = 4096
			if len(b) >= 72 {
				n := min(max(int(binary.LittleEndian.Uint16(b[10:])), 40), len(b))
				binary.LittleEndian.PutUint32(b[36:], 0)
				binary.LittleEndian.PutUint32(b[36:], crc32.ChecksumIEEE(b[:n]))
			}
		} else if len(b) > 0x200 {
			binary.LittleEndian.PutUint32(b[56:], 0)
			binary.LittleEndian.PutUint32(b[56:], crc32.ChecksumIEEE(b[:0x200]))
		}
		copy(img[at:], b)
		m, err := readTestEOW(img)
		if err != nil {
			return
		}
		for i := 1; i < len(m.plain); i++ {
			if m.plain[i-1].end() > m.plain[i].off {
				t.Errorf("clear parts %v overlap", m.plain)
			}
		}
	})
}

func FuzzRecoveryPassword(f *testing.F) {
	f.Add(specPassword)
	f.Add("4712072784984221251771775619025374054680066934510")
	f.Add("471207 - 278498\u2013422125")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseRecoveryPassword(s)
		if err != nil {
			if !p.IsZero() {
				t.Error("password and error")
			}
			return
		}
		if q, err := ParseRecoveryPassword(p.Reveal()); err != nil || q != p {
			t.Errorf("does not read back: %v", err)
		}
	})
}

func FuzzBEK(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "shared", "testdata", "bitlocker", "cryptsetup", "*.BEK"))
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b)
		}
	}
	f.Add(fuzzBEK())
	f.Fuzz(func(t *testing.T, b []byte) {
		id, key, err := parseBEK(b)
		if err == nil && len(key) != 32 {
			t.Errorf("key of %d bytes for %s", len(key), id)
		}
	})
}

// fuzzBEK is a startup key file.
func fuzzBEK() []byte {
	var b bytes.Buffer
	for _, v := range []any{
		fve.DatasetHeader{Size: 124, Version: 1, HeaderSize: 48, SizeCopy: 124, ID: [16]byte{1}},
		fve.EntryHeader{Size: 76, Type: fve.TypeStartupKey, Value: fve.ValueExternalKey, Version: 1},
		[16]byte{1}, uint64(0),
		fve.EntryHeader{Size: 44, Value: fve.ValueKey, Version: 1},
		uint32(fve.KeyExternal), [32]byte{2},
	} {
		_ = binary.Write(io.Writer(&b), binary.LittleEndian, v)
	}
	return b.Bytes()
}

func TestFuzzSeeds(t *testing.T) {
	if _, key, err := parseBEK(fuzzBEK()); err != nil || len(key) != 32 {
		t.Errorf("startup key file: %v", err)
	}
	if _, err := checkBlock(fuzzBlock(), 0, 1<<18, &bootSector{sectorSize: 512}); err != nil {
		t.Errorf("block: %v", err)
	}
}
