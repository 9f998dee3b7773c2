// Package hive reads and edits registry hive files (regf 1.3 to 1.5): [Open] reads a hive of any size where it lies,
// [Load] takes one into memory for editing, [Hive.Key] walks to a key, [Hive.Bytes] gives the edited file.
//
// A hive that was not closed cleanly, as after every crash, is brought up to date with its transaction logs in memory;
// no file is ever written here.
//
// The format's description is "Windows registry file format specification" by M. Suhanov
// (github.com/msuhanov/regf); names of structures and fields follow it.
package hive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

var (
	// ErrNotFound says that a key or value does not exist.
	ErrNotFound = errors.New("not found in the registry hive")
	// ErrDirty says that a hive was not closed cleanly and that its logs do not bring it up to date.
	ErrDirty = errors.New("the registry hive was not closed cleanly and its log files do not complete it: start Windows once or use its own repair")
)

const (
	baseSize   = 4096 // base block
	logBase    = 512  // as much of it as a log file begins with
	binHeader  = 32
	binAlign   = 4096
	sector     = 512
	nowhere    = math.MaxUint32 // an offset that points to nothing
	maxSize    = 2 << 30        // hive bins data; Windows itself stops there
	maxEdit    = 512 << 20      // the same for a hive that is edited in memory
	maxCell    = 2 << 20
	maxData    = 64 << 20 // one value
	firstRead  = 512      // most cells are smaller
	minNode    = 80       // a key node's cell
	segment    = 16344    // most that a data cell holds where big data exists
	bigDataMin = 4        // minor version from which it does
)

// Fields of the base block.
const (
	basePrimary   = 4 // sequence numbers
	baseSecondary = 8
	baseTime      = 12
	baseMajor     = 20
	baseMinor     = 24
	baseType      = 28
	baseRoot      = 36
	baseBins      = 40
	baseFlags     = 144
	baseChecksum  = 508

	typePrimary = 0
	flagKTM     = 1 // transactions were pending
)

var le = binary.LittleEndian

// Hive is a registry hive. It must not be used by several goroutines at once.
type Hive struct {
	// Now is what changed keys and the file are dated with; the zero time leaves the dates as they are.
	Now time.Time

	base  []byte // base block
	size  uint32 // of the hive bins data
	r     io.ReaderAt
	pages map[uint32][]byte // sectors that the logs hold a newer version of
	// newest is the highest sequence number found in any log, so that an edited hive can be made newer than all.
	newest uint32
	dirty  bool // what the logs could not complete

	edit *editing // nil for a hive opened to be read
}

// Open reads a hive of size bytes from r, and logs, its transaction logs in the order LOG1, LOG2, LOG, as far as there
// are any. A hive that they do not complete is opened as it is ([Hive.Dirty]).
func Open(r io.ReaderAt, size int64, logs ...[]byte) (*Hive, error) {
	h := &Hive{r: io.NewSectionReader(r, baseSize, max(size-baseSize, 0)), base: make([]byte, baseSize)}
	if n, err := r.ReadAt(h.base, 0); n < len(h.base) {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("not a registry hive: %d bytes, expected at least %d", n, baseSize)
		}
		return nil, fmt.Errorf("read the registry hive's first block: %w", err)
	}
	if string(h.base[:4]) != "regf" {
		return nil, errors.New("not a registry hive: no regf signature at offset 0")
	}
	if err := h.recover(size-baseSize, logs); err != nil {
		return nil, err
	}
	major, minor := le.Uint32(h.base[baseMajor:]), h.minor()
	if major != 1 || minor < 3 || minor > 6 {
		return nil, fmt.Errorf("registry hive version %d.%d is not supported: expected 1.3 to 1.6", major, minor)
	}
	if kind := le.Uint32(h.base[baseType:]); kind != typePrimary {
		return nil, fmt.Errorf("not a registry hive's primary file: file type %d at offset %d, expected %d", kind, baseType, typePrimary)
	}
	if h.size < binAlign || h.size%binAlign != 0 || h.size > maxSize {
		return nil, fmt.Errorf("damaged registry hive: hive bins of %d bytes at offset %d, expected a multiple of %d", h.size, baseBins, binAlign)
	}
	return h, nil
}

func (h *Hive) minor() uint32 { return le.Uint32(h.base[baseMinor:]) }

// Dirty reports whether the hive was not closed cleanly and its logs did not complete it: what is read may be out of
// date or torn.
func (h *Hive) Dirty() bool { return h.dirty }

// Root is the top key.
func (h *Hive) Root() (Key, error) {
	k := Key{h, le.Uint32(h.base[baseRoot:])}
	_, err := h.node(k.offset)
	return k, err
}

// Key walks from the top along names, in any case. It returns ErrNotFound where one does not exist.
func (h *Hive) Key(names ...string) (Key, error) {
	k, err := h.Root()
	for _, name := range names {
		if err != nil {
			break
		}
		k, err = k.Subkey(name)
	}
	return k, err
}

// read fills b from the hive bins data, log pages included.
func (h *Hive) read(b []byte, offset uint32) error {
	if uint64(offset)+uint64(len(b)) > uint64(h.size) {
		return damaged(offset, "the end of the hive")
	}
	if h.edit != nil {
		copy(b, h.edit.data[offset:])
		return nil
	}
	n, err := h.r.ReadAt(b, int64(offset))
	if n < len(b) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the registry hive at offset %d: %w", baseSize+int64(offset), err)
	}
	missing := offset + uint32(n) // the file ends here; a log may have made the hive longer
	clear(b[n:])
	if len(h.pages) == 0 {
		if n < len(b) {
			return damaged(missing, "the end of the file")
		}
		return nil
	}
	for at := offset &^ (sector - 1); at < offset+uint32(len(b)); at += sector {
		page, ok := h.pages[at]
		switch {
		case ok && at >= offset:
			copy(b[at-offset:], page)
		case ok:
			copy(b, page[offset-at:])
		case at+sector > missing && n < len(b):
			return damaged(max(at, missing), "the end of the file")
		}
	}
	return nil
}

// cell returns the data of an allocated cell. In a hive that is edited, it is the hive's own memory, valid until the
// next allocation.
func (h *Hive) cell(offset uint32) ([]byte, error) {
	if offset < binHeader || offset%8 != 0 || offset > h.size-8 {
		return nil, damaged(offset, "a cell")
	}
	if h.edit != nil {
		return h.edit.cell(offset)
	}
	var buf [firstRead]byte
	head := buf[:min(firstRead, h.size-offset)]
	if err := h.read(head, offset); err != nil {
		// The last cells of a torn file may be shorter than what was asked for.
		head = buf[:8]
		if err := h.read(head, offset); err != nil {
			return nil, err
		}
	}
	size, err := h.cellSize(offset, le.Uint32(head))
	if err != nil {
		return nil, err
	}
	data := make([]byte, size-4)
	if n := copy(data, head[4:]); n < len(data) {
		err = h.read(data[n:], offset+4+uint32(n))
	}
	return data, err
}

// cellSize checks the size field of an allocated cell.
func (h *Hive) cellSize(offset, field uint32) (uint32, error) {
	size := -int64(int32(field))
	if size < 8 || size > maxCell || size > int64(h.size-offset) {
		return 0, damaged(offset, "an allocated cell")
	}
	return uint32(size), nil
}

// record returns a cell with a two-letter signature and at least n bytes.
func (h *Hive) record(offset uint32, signature string, n int) ([]byte, error) {
	c, err := h.cell(offset)
	if err != nil {
		return nil, err
	}
	if len(c) < n || string(c[:2]) != signature {
		return nil, damaged(offset, "a record "+signature)
	}
	return c, nil
}

// damaged says what was expected at an offset of the hive bins data; the offset named is that in the file.
func damaged(offset uint32, expected string) error {
	return fmt.Errorf("damaged registry hive: offset %d: expected %s", baseSize+int64(offset), expected)
}

// checksum of a base block: XOR-32 of its first 508 bytes.
func checksum(base []byte) uint32 {
	var c uint32
	for i := 0; i < baseChecksum; i += 4 {
		c ^= le.Uint32(base[i:])
	}
	switch c {
	case 0:
		return 1
	case math.MaxUint32:
		return math.MaxUint32 - 1
	}
	return c
}

// filetime is a time in units of 100 ns since 1601.
func filetime(t time.Time) uint64 {
	const epoch = 11644473600 // seconds from 1601 to 1970
	return uint64(t.Unix()+epoch)*1e7 + uint64(t.Nanosecond()/100)
}
