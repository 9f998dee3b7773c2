package wim

import "encoding/binary"

// LZX as WIM uses it ([MS-PATCH] LZX, with what wimlib's documentation says of its use in WIM): every chunk stands
// for itself, and calls in x86 code are translated as if every file were 12,000,000 bytes long.
const (
	lzxMinMatch    = 2
	lzxPrimary     = 7 // lengths in the main symbol
	lzxLengths     = 249
	lzxPrecode     = 20
	lzxAligned     = 8
	lzxBlock       = 32768
	lzxCallSize    = 12_000_000
	lzxMaxSlots    = 50
	lzxVerbatim    = 1
	lzxAlignedType = 2
	lzxStored      = 3
)

var lzxBase, lzxExtra = func() (base [lzxMaxSlots + 1]int, extra [lzxMaxSlots]int) {
	for slot := range extra {
		if slot >= 4 {
			extra[slot] = min(slot/2-1, 17)
		}
		base[slot+1] = base[slot] + 1<<extra[slot]
	}
	return base, extra
}()

// lzxSlots is how many offset slots a window of that many bytes needs.
func lzxSlots(window int) int {
	slots := 0
	for lzxBase[slots] < window && slots < lzxMaxSlots {
		slots++
	}
	return slots
}

type lzxDecoder struct {
	b       bitReader
	main    [256 + 8*lzxMaxSlots]byte
	lengths [lzxLengths]byte

	mainCode, lengthCode, alignedCode, precode huffman
}

// lzx decompresses a chunk into out, whose length is the chunk's; window is the WIM's size of chunks.
func lzx(out, in []byte, window int) error {
	d := &lzxDecoder{b: bitReader{in: in}}
	recent := [3]int{1, 1, 1}
	symbols := 256 + 8*lzxSlots(window)
	for at := 0; at < len(out); {
		kind := d.b.bits(3)
		size := lzxBlock
		if d.b.bits(1) == 0 {
			size = int(d.b.bits(8))<<8 | int(d.b.bits(8))
			if window >= 1<<16 {
				size = size<<8 | int(d.b.bits(8))
			}
		}
		if size < 1 || size > len(out)-at {
			return errCorrupt
		}
		block := out[:at+size]
		var err error
		switch kind {
		case lzxAlignedType, lzxVerbatim:
			if err = d.codes(symbols, kind == lzxAlignedType); err == nil {
				err = d.block(block, at, &recent, kind == lzxAlignedType)
			}
		case lzxStored:
			err = d.stored(block[at:], &recent)
		default:
			err = errCorrupt
		}
		if err != nil {
			return err
		}
		at += size
	}
	lzxCalls(out)
	return nil
}

// codes reads the codes of a block; lengths are differences to those of the block before.
func (d *lzxDecoder) codes(symbols int, aligned bool) error {
	if aligned {
		var lengths [lzxAligned]byte
		for i := range lengths {
			lengths[i] = byte(d.b.bits(3))
		}
		if err := d.alignedCode.build(lengths[:]); err != nil {
			return err
		}
	}
	for _, part := range [][]byte{d.main[:256], d.main[256:symbols], d.lengths[:]} {
		if err := d.codeLengths(part); err != nil {
			return err
		}
	}
	if err := d.mainCode.build(d.main[:symbols]); err != nil {
		return err
	}
	return d.lengthCode.build(d.lengths[:])
}

func (d *lzxDecoder) codeLengths(lengths []byte) error {
	var pre [lzxPrecode]byte
	for i := range pre {
		pre[i] = byte(d.b.bits(4))
	}
	if err := d.precode.build(pre[:]); err != nil {
		return err
	}
	for i := 0; i < len(lengths); {
		symbol, ok := d.precode.decode(&d.b)
		if !ok {
			return errCorrupt
		}
		run, length := 1, byte(0)
		switch symbol {
		case 17:
			run = 4 + int(d.b.bits(4))
		case 18:
			run = 20 + int(d.b.bits(5))
		case 19:
			run = 4 + int(d.b.bits(1))
			if symbol, ok = d.precode.decode(&d.b); !ok || symbol > 16 {
				return errCorrupt
			}
			length = byte((int(lengths[i]) - symbol + 17) % 17)
		default:
			length = byte((int(lengths[i]) - symbol + 17) % 17)
		}
		// A run may reach past the end, where there is nothing to fill.
		for ; run > 0 && i < len(lengths); run-- {
			lengths[i] = length
			i++
		}
	}
	return nil
}

func (d *lzxDecoder) block(out []byte, at int, recent *[3]int, aligned bool) error {
	for at < len(out) {
		symbol, ok := d.mainCode.decode(&d.b)
		if !ok {
			return errCorrupt
		}
		if symbol < 256 {
			out[at] = byte(symbol)
			at++
			continue
		}
		symbol -= 256
		length, slot := symbol&7, symbol>>3
		if length == lzxPrimary {
			more, ok := d.lengthCode.decode(&d.b)
			if !ok {
				return errCorrupt
			}
			length += more
		}
		length += lzxMinMatch
		var offset int
		if slot < 3 {
			offset = recent[slot]
			recent[slot] = recent[0]
		} else {
			extra := lzxExtra[slot]
			offset = lzxBase[slot]
			if aligned && extra >= 3 {
				offset += d.long(extra-3) << 3
				low, ok := d.alignedCode.decode(&d.b)
				if !ok {
					return errCorrupt
				}
				offset += low
			} else {
				offset += d.long(extra)
			}
			offset -= lzxMinMatch
			recent[2], recent[1] = recent[1], recent[0]
		}
		recent[0] = offset
		if !copyMatch(out, at, offset, length) {
			return errCorrupt
		}
		at += length
	}
	return nil
}

// long takes up to 17 bits.
func (d *lzxDecoder) long(n int) int {
	if n > 16 {
		high := int(d.b.bits(n - 16))
		return high<<16 | int(d.b.bits(16))
	}
	return int(d.b.bits(n))
}

// stored copies a block that is not compressed. It begins at a whole word; a stream that stands at one already skips
// the next.
func (d *lzxDecoder) stored(out []byte, recent *[3]int) error {
	d.b.ensure(1)
	d.b.align()
	head, ok := d.b.bytes(12)
	if !ok {
		return errCorrupt
	}
	for i := range recent {
		recent[i] = int(binary.LittleEndian.Uint32(head[4*i:]))
	}
	data, ok := d.b.bytes(len(out))
	if !ok {
		return errCorrupt
	}
	copy(out, data)
	if len(out)%2 == 1 {
		_, _ = d.b.bytes(1) // absent at the end of a chunk
	}
	return nil
}

// lzxCalls turns the targets of x86 calls back from absolute to relative ones.
func lzxCalls(out []byte) {
	for i := 0; i < len(out)-10; i++ {
		if out[i] != 0xe8 {
			continue
		}
		target := int32(binary.LittleEndian.Uint32(out[i+1:]))
		switch {
		case target >= 0 && target < lzxCallSize:
			binary.LittleEndian.PutUint32(out[i+1:], uint32(target-int32(i)))
		case target < 0 && target >= -int32(i):
			binary.LittleEndian.PutUint32(out[i+1:], uint32(target+lzxCallSize))
		}
		i += 4
	}
}
