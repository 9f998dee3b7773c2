package flash

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// GPT header fields (UEFI 2.10, section 5.3.2), offsets in bytes, numbers little-endian.
const (
	sector           = 512
	gptSignature     = "EFI PART"
	gptHeaderSize    = 12 // uint32
	gptHeaderCRC     = 16 // uint32
	gptMyLBA         = 24 // uint64
	gptAlternateLBA  = 32 // uint64
	gptLastUsableLBA = 48 // uint64
	gptEntriesLBA    = 72 // uint64
	gptEntryCount    = 80 // uint32
	gptEntrySize     = 84 // uint32
	gptEntriesCRC    = 88 // uint32
	gptEntriesLimit  = 1 << 20
)

// Fit puts the backup of an image's GPT where it belongs on a device of another size, at the very end, and tells
// the primary header and the protective MBR. Without that, partitioning tools call the stick damaged. An image
// without a sound GPT, or one that fits already, is returned as it is.
func Fit(s Source, deviceSize int64) (Source, error) {
	last := deviceSize/sector - 1
	if deviceSize%sector != 0 || s.Size() >= deviceSize || s.Size() < 3*sector {
		return s, nil
	}
	head := make([]byte, 2*sector)
	if _, err := s.ReadAt(head, 0); err != nil {
		return nil, err
	}
	header := head[sector:]
	entries, err := gptEntries(s, header)
	if err != nil || entries == nil {
		return s, err
	}
	entrySectors := (int64(len(entries)) + sector - 1) / sector
	lastUsable := last - entrySectors - 1
	if used := lastUsed(entries, header); used > uint64(lastUsable) || (last-entrySectors)*sector < s.Size() {
		return s, nil // no room for both behind the image
	}
	// The protective MBR's entry covers the disk (section 5.2.3).
	for e := 446; e < 510; e += 16 {
		if head[e+4] == 0xee && binary.LittleEndian.Uint32(head[e+8:]) == 1 {
			binary.LittleEndian.PutUint32(head[e+12:], uint32(min(last, 1<<32-1)))
		}
	}
	backup := make([]byte, (entrySectors+1)*sector)
	copy(backup, entries)
	binary.LittleEndian.PutUint64(header[gptAlternateLBA:], uint64(last))
	binary.LittleEndian.PutUint64(header[gptLastUsableLBA:], uint64(lastUsable))
	second := backup[entrySectors*sector:]
	copy(second, header)
	binary.LittleEndian.PutUint64(second[gptMyLBA:], uint64(last))
	binary.LittleEndian.PutUint64(second[gptAlternateLBA:], 1)
	binary.LittleEndian.PutUint64(second[gptEntriesLBA:], uint64(last-entrySectors))
	signGPT(header)
	signGPT(second)
	return &fitted{base: s, size: deviceSize, head: head, tail: backup}, nil
}

// gptEntries checks a primary header and returns the partition entries; nil if either is not sound.
func gptEntries(r io.ReaderAt, header []byte) ([]byte, error) {
	size := binary.LittleEndian.Uint32(header[gptHeaderSize:])
	if string(header[:8]) != gptSignature || size < 92 || size > sector || binary.LittleEndian.Uint64(header[gptMyLBA:]) != 1 {
		return nil, nil
	}
	sum := binary.LittleEndian.Uint32(header[gptHeaderCRC:])
	copied := append([]byte(nil), header...)
	signGPT(copied)
	if binary.LittleEndian.Uint32(copied[gptHeaderCRC:]) != sum {
		return nil, nil
	}
	n := uint64(binary.LittleEndian.Uint32(header[gptEntryCount:])) * uint64(binary.LittleEndian.Uint32(header[gptEntrySize:]))
	first := binary.LittleEndian.Uint64(header[gptEntriesLBA:])
	entrySize := binary.LittleEndian.Uint32(header[gptEntrySize:])
	if n == 0 || n > gptEntriesLimit || entrySize < 128 || first < 2 || first > 1<<40 {
		return nil, nil
	}
	entries := make([]byte, n)
	if k, err := r.ReadAt(entries, int64(first)*sector); k < len(entries) {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	if crc32.ChecksumIEEE(entries) != binary.LittleEndian.Uint32(header[gptEntriesCRC:]) {
		return nil, nil
	}
	return entries, nil
}

// lastUsed is the last block that a partition covers.
func lastUsed(entries, header []byte) (last uint64) {
	size := int(binary.LittleEndian.Uint32(header[gptEntrySize:]))
	for ; len(entries) >= size; entries = entries[size:] {
		if [16]byte(entries[:16]) != ([16]byte{}) {
			last = max(last, binary.LittleEndian.Uint64(entries[40:])) // EndingLBA
		}
	}
	return last
}

func signGPT(header []byte) {
	size := binary.LittleEndian.Uint32(header[gptHeaderSize:])
	clear(header[gptHeaderCRC : gptHeaderCRC+4])
	binary.LittleEndian.PutUint32(header[gptHeaderCRC:], crc32.ChecksumIEEE(header[:size]))
}

// fitted is an image with another head, zeros behind it, and a tail at the end of the device.
type fitted struct {
	base Source
	size int64
	head []byte
	tail []byte
}

func (f *fitted) Size() int64 { return f.size }

func (f *fitted) Extents() []Extent {
	list := append([]Extent(nil), f.base.Extents()...)
	if n := len(list) - 1; n >= 0 {
		list[n].Len = (list[n].Len + alignment - 1) &^ (alignment - 1)
	}
	start := (f.size - int64(len(f.tail))) &^ (alignment - 1)
	if n := len(list) - 1; n >= 0 && list[n].Off+list[n].Len > start {
		list[n].Len = f.size - list[n].Off
		return list
	}
	return append(list, Extent{start, f.size - start})
}

func (f *fitted) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	var short error
	if int64(len(p)) > f.size-off {
		p, short = p[:f.size-off], io.EOF
	}
	clear(p)
	if rest := f.base.Size() - off; rest > 0 {
		want := p[:min(int64(len(p)), rest)]
		if n, err := f.base.ReadAt(want, off); n < len(want) {
			return n, err
		}
	}
	lay(p, off, f.head, 0)
	lay(p, off, f.tail, f.size-int64(len(f.tail)))
	return len(p), short
}

// lay copies the part of data, which lies at position at, that falls into p, which lies at off.
func lay(p []byte, off int64, data []byte, at int64) {
	from, to := max(off, at), min(off+int64(len(p)), at+int64(len(data)))
	if from < to {
		copy(p[from-off:to-off], data[from-at:])
	}
}
