package bitlocker

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// entry is one metadata entry (BDE, "FVE metadata entry").
type entry struct {
	fve.EntryHeader
	off  int    // of the header, in the block or file
	data []byte // behind the header
}

// String tells of an entry that is skipped.
func (e entry) String() string {
	return fmt.Sprintf("entry type 0x%04x, value 0x%04x, %d bytes at offset 0x%x", e.Type, e.Value, e.Size, e.off)
}

// parseEntries splits b, which starts at offset off of its block, into
// entries. It ends at a zero size, as Windows pads; a size that cannot be is
// an error, and the entries before it are still good.
func parseEntries(b []byte, off int) ([]entry, error) {
	var list []entry
	for len(b) >= fve.EntryHeaderSize {
		e := entry{off: off}
		if _, err := binary.Decode(b, binary.LittleEndian, &e.EntryHeader); err != nil {
			return list, err
		}
		size := int(e.Size)
		if size == 0 {
			break
		}
		if size < fve.EntryHeaderSize || size > len(b) {
			return list, fmt.Errorf("metadata entry at offset 0x%x has size %d, want %d to %d", off, size, fve.EntryHeaderSize, len(b))
		}
		e.data = b[fve.EntryHeaderSize:size:size]
		list = append(list, e)
		b, off = b[size:], off+size
	}
	return list, nil
}

// nested gives the entries inside e, behind its fixed part.
func (e entry) nested(fixed int) ([]entry, error) {
	if len(e.data) < fixed {
		return nil, fmt.Errorf("%s is shorter than its fixed part of %d bytes", e, fixed+fve.EntryHeaderSize)
	}
	return parseEntries(e.data[fixed:], e.off+fve.EntryHeaderSize+fixed)
}

// text decodes a string value: UTF-16, little-endian, ended by a zero.
func (e entry) text() string {
	u := make([]uint16, 0, len(e.data)/2)
	for b := e.data; len(b) >= 2; b = b[2:] {
		c := binary.LittleEndian.Uint16(b)
		if c == 0 {
			break
		}
		u = append(u, c)
	}
	// What a volume says of itself is shown on terminals: no control codes.
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, string(utf16.Decode(u)))
}

// sealed is a key under AES-CCM (BDE, "FVE AES-CCM encrypted key").
type sealed struct {
	nonce []byte // 0
	tag   []byte // 12
	data  []byte // 28
}

// sealed gives the encrypted key of e.
func (e entry) sealed() (*sealed, error) {
	if len(e.data) <= fve.SealedHeaderSize {
		return nil, fmt.Errorf("%s is too short for an encrypted key", e)
	}
	return &sealed{
		nonce: e.data[:fve.NonceSize],
		tag:   e.data[fve.NonceSize:fve.SealedHeaderSize],
		data:  e.data[fve.SealedHeaderSize:],
	}, nil
}

// open decrypts the key entry in s. It returns the key's kind, and its bytes,
// which the caller wipes. fve.ErrTag: the key does not fit.
func (s *sealed) open(key []byte) (kind uint16, secret []byte, err error) {
	plain, err := fve.Open(key, s.nonce, s.tag, s.data)
	if err != nil {
		return 0, nil, err
	}
	list, err := parseEntries(plain, 0)
	if err != nil || len(list) == 0 || list[0].Value != fve.ValueKey {
		clear(plain)
		return 0, nil, fmt.Errorf("decrypted key has no key entry: %w", ErrUnsupported)
	}
	return list[0].key()
}

// key gives kind and bytes of a key value (BDE, "FVE key").
func (e entry) key() (kind uint16, secret []byte, err error) {
	if len(e.data) <= fve.KeyHeaderSize {
		return 0, nil, fmt.Errorf("%s is too short for a key", e)
	}
	return binary.LittleEndian.Uint16(e.data), e.data[fve.KeyHeaderSize:], nil
}
