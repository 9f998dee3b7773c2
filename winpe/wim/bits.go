package wim

import (
	"encoding/binary"
	"errors"
)

// errCorrupt is what a decoder meets in damaged data; the caller adds where.
var errCorrupt = errors.New("compressed data is damaged")

// bitReader reads the bits of XPRESS and LZX: little-endian words of 16 bits, the highest bit first.
type bitReader struct {
	in  []byte
	buf uint32 // the next bits, at the top
	n   int    // how many
}

// ensure makes n bits available, at most 16.
func (b *bitReader) ensure(n int) {
	for b.n < n {
		var word uint32
		if len(b.in) >= 2 {
			word = uint32(binary.LittleEndian.Uint16(b.in))
			b.in = b.in[2:]
		} else {
			b.in = nil // zeros follow, until the output is full or a code does not exist
		}
		b.buf |= word << (16 - b.n)
		b.n += 16
	}
}

func (b *bitReader) peek(n int) uint32 { return b.buf >> 16 >> (16 - n) }

func (b *bitReader) drop(n int) {
	b.buf <<= n
	b.n -= n
}

// bits takes n bits, at most 16.
func (b *bitReader) bits(n int) uint32 {
	if n == 0 {
		return 0
	}
	b.ensure(n)
	v := b.peek(n)
	b.drop(n)
	return v
}

// align drops what is left of the current word.
func (b *bitReader) align() { b.buf, b.n = 0, 0 }

// bytes takes whole bytes from behind the words read so far.
func (b *bitReader) bytes(n int) ([]byte, bool) {
	if len(b.in) < n {
		return nil, false
	}
	v := b.in[:n]
	b.in = b.in[n:]
	return v, true
}

// huffman decodes canonical prefix codes of up to 16 bits: short ones by a table, the rest by counting.
type huffman struct {
	max    int
	count  [17]uint16
	sorted []uint16
	fast   [1 << fastBits]uint16 // symbol<<5 | length, 0 for codes that are longer
}

const fastBits = 10

// build makes the code from the lengths of its symbols; 0 is a symbol that does not occur. Codes that claim more than
// there is are refused; ones that leave something unused fail when that is met.
func (h *huffman) build(lengths []byte) error {
	h.count, h.max = [17]uint16{}, 0
	for _, l := range lengths {
		if l > 16 {
			return errCorrupt
		}
		h.count[l]++
		h.max = max(h.max, int(l))
	}
	h.count[0] = 0
	left := 1
	var next [18]uint16
	for l := 1; l <= 16; l++ {
		left = left<<1 - int(h.count[l])
		if left < 0 {
			return errCorrupt
		}
		next[l+1] = next[l] + h.count[l]
	}
	if cap(h.sorted) < len(lengths) {
		h.sorted = make([]uint16, len(lengths))
	}
	h.sorted = h.sorted[:next[17]]
	for symbol, l := range lengths {
		if l > 0 {
			h.sorted[next[l]] = uint16(symbol)
			next[l]++
		}
	}
	clear(h.fast[:])
	code, at := 0, 0
	for l := 1; l <= min(fastBits, h.max); l++ {
		for range h.count[l] {
			entry := h.sorted[at]<<5 | uint16(l)
			first := code << (fastBits - l)
			for i := range 1 << (fastBits - l) {
				h.fast[first+i] = entry
			}
			code++
			at++
		}
		code <<= 1
	}
	return nil
}

// decode takes a symbol; ok is false for a code that does not exist.
func (h *huffman) decode(b *bitReader) (symbol int, ok bool) {
	b.ensure(16)
	if entry := h.fast[b.peek(fastBits)]; entry != 0 {
		b.drop(int(entry & 31))
		return int(entry >> 5), true
	}
	code, first, index := 0, 0, 0
	bits := b.peek(16)
	for l := 1; l <= h.max; l++ {
		code = code<<1 | int(bits>>(16-l)&1)
		count := int(h.count[l])
		if code-first < count {
			b.drop(l)
			return int(h.sorted[index+code-first]), true
		}
		index += count
		first = (first + count) << 1
	}
	return 0, false
}

// copyMatch repeats what stands offset bytes before out[at].
func copyMatch(out []byte, at, offset, length int) bool {
	if offset > at || offset < 1 || length > len(out)-at {
		return false
	}
	if offset >= length {
		copy(out[at:at+length], out[at-offset:])
		return true
	}
	for i := range length {
		out[at+i] = out[at-offset+i]
	}
	return true
}
