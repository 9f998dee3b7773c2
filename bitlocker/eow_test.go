package bitlocker

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// eowImage is a disk of an encrypt-on-write volume: two copies of the
// information, and two regions of three and two chunks of 1 MiB.
func eowImage() []byte {
	le := binary.LittleEndian
	b := make([]byte, 1<<20)
	put := func(off int, v any) int {
		n, _ := binary.Encode(b[off:], le, v)
		return n
	}
	sum := func(off, size, at int) {
		le.PutUint32(b[off+at:], 0)
		le.PutUint32(b[off+at:], crc32.ChecksumIEEE(b[off:off+size]))
	}
	info := fve.EOWInfo{Signature: [8]byte([]byte(fve.EOWSignature)), HeaderSize: fve.EOWInfoSize, Size: fve.EOWInfoSize + 16,
		SectorSize: 512, ChunkSize: 1 << 20, ConvLogSize: 2048, Regions: 2, Offsets: [2]uint64{4096, 8192}}
	for _, off := range []int{4096, 8192} {
		n := put(off, info)
		put(off+n, []uint64{16384, 32768})
		sum(off, int(info.Size), 36)
	}
	for i, r := range []struct {
		off, size uint64
		old, bits byte
	}{{8192, 3<<20 - 8192, 0b000, 0b010}, {3 << 20, 2 << 20, 0b11, 0b10}} {
		off := 16384 * (i + 1)
		put(off, fve.EOWBitmap{Signature: [10]byte([]byte(fve.EOWBitmapSignature)), HeaderSize: fve.EOWBitmapSize, Size: 0x600, Index: uint32(i),
			RegionOffset: r.off, RegionSize: r.size, ConvLogOffset: uint64(off + 4096), RecordOffset: [2]uint32{0x200, 0x400}, RecordSize: 0x200})
		sum(off, 0x200, 56)
		for j, bits := range []byte{r.bits, r.old} {
			rec := off + 0x200*(j+1)
			n := put(rec, fve.EOWRecord{Signature: [10]byte([]byte(fve.EOWRecordSignature)), HeaderSize: fve.EOWRecordSize, Size: 0x200, Bits: 3, Sequence: uint64(7 - j)})
			b[rec+n] = bits
			sum(rec, 0x200, 32)
		}
	}
	return b
}

func readTestEOW(b []byte) (*Metadata, error) {
	m := &Metadata{SectorSize: 512, State: StateEncrypted, block: &block{}, headerOff: 65536, headerSize: 8192}
	return m, m.readEOW(bytes.NewReader(b), [2]int64{4096, 8192})
}

func TestEOW(t *testing.T) {
	m, err := readTestEOW(eowImage())
	if err != nil {
		t.Fatal(err)
	}
	// Chunks count from the start of their region; a set bit is encrypted.
	want := []extent{{8192, 1 << 20}, {8192 + 2<<20, 1<<20 - 8192}, {3 << 20, 1 << 20}}
	if !slices.Equal(m.plain, want) {
		t.Errorf("clear parts %v, want %v", m.plain, want)
	}
	if m.State != StateEncrypting || m.readOnly != nil {
		t.Errorf("state %s, read only %v", m.State, m.readOnly)
	}
	wantReserved := []extent{{4096, 512}, {8192, 512}, {16384, 1536}, {16384 + 4096, 2048}, {32768, 1536}, {32768 + 4096, 2048}}
	if !slices.Equal(m.reserved, wantReserved) {
		t.Errorf("reserved %v, want %v", m.reserved, wantReserved)
	}
}

// TestEOWDamaged breaks one copy or record, which the other makes up for, and
// what cannot be made up for.
func TestEOWDamaged(t *testing.T) {
	good, err := readTestEOW(eowImage())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		do   func(b []byte)
		says string // of the error; empty: none
	}{
		{"first copy", func(b []byte) { b[4096+20] ^= 1 }, ""},
		{"first copy empty", func(b []byte) { clear(b[4096:8192]) }, ""},
		{"older record", func(b []byte) { b[16384+0x400+40] ^= 1 }, ""},
		{"both copies", func(b []byte) { b[4096+20] ^= 1; b[8192+36] ^= 1 }, "checksum"},
		{"one copy and the other empty", func(b []byte) { b[4096] ^= 1; clear(b[8192:16384]) }, "signature"},
		{"bitmap", func(b []byte) { b[16384+20] ^= 1 }, "bitmap at offset 16384"},
		{"bitmap's size", func(b []byte) { b[16384+15] = 0xff }, "bitmap at offset 16384: size"},
		{"both records", func(b []byte) { b[32768+0x200+36] ^= 1; b[32768+0x400+36] ^= 1 }, "no valid record"},
	} {
		b := eowImage()
		tt.do(b)
		m, err := readTestEOW(b)
		if tt.says != "" {
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
			}
		} else if err != nil || !slices.Equal(m.plain, good.plain) {
			t.Errorf("%s: clear parts %v, %v", tt.name, m.plain, err)
		}
	}
	// The newer record of the first region is damaged: the older one counts.
	b := eowImage()
	b[16384+0x200+36] ^= 1
	m, err := readTestEOW(b)
	if err != nil || m.plain[0] != (extent{8192, 3<<20 - 8192}) {
		t.Errorf("newer record damaged: clear parts %v, %v", m.plain, err)
	}
}

// TestEOWEmpty has nothing to tell what is encrypted but the header.
func TestEOWEmpty(t *testing.T) {
	for _, clearHeader := range []bool{false, true} {
		b := eowImage()
		clear(b[4096:12288])
		if clearHeader {
			copy(b[65536+3:], "NTFS    ")
			b[65536+510], b[65536+511] = 0x55, 0xaa
		}
		m, err := readTestEOW(b)
		if err != nil || m.readOnly == nil || len(m.Problems) != 1 {
			t.Errorf("read only %v, problems %q, error %v", m.readOnly, m.Problems, err)
		}
		if plain, _ := m.plainAt(1 << 20); plain != clearHeader {
			t.Errorf("clear header %t: volume taken as clear %t", clearHeader, plain)
		}
	}
}
