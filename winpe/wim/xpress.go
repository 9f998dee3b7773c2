package wim

import "encoding/binary"

// xpress decompresses a chunk of XPRESS with Huffman codes ([MS-XCA] 2.2) into out, whose length is the chunk's.
func xpress(out, in []byte) error {
	const symbols = 512
	if len(in) < symbols/2 {
		return errCorrupt
	}
	var lengths [symbols]byte
	for i, b := range in[:symbols/2] {
		lengths[2*i], lengths[2*i+1] = b&15, b>>4
	}
	var code huffman
	if err := code.build(lengths[:]); err != nil {
		return err
	}
	b := &bitReader{in: in[symbols/2:]}
	for at := 0; at < len(out); {
		symbol, ok := code.decode(b)
		if !ok {
			return errCorrupt
		}
		if symbol < 256 {
			out[at] = byte(symbol)
			at++
			continue
		}
		length, log := symbol&15, symbol>>4&15
		b.ensure(16)
		offset := 1<<log | int(b.bits(log))
		if length == 15 {
			extra, ok := b.bytes(1)
			if !ok {
				return errCorrupt
			}
			length += int(extra[0])
			if extra[0] == 255 {
				if extra, ok = b.bytes(2); !ok {
					return errCorrupt
				}
				length = int(binary.LittleEndian.Uint16(extra))
			}
		}
		length += 3
		if !copyMatch(out, at, offset, length) {
			return errCorrupt
		}
		at += length
	}
	return nil
}
