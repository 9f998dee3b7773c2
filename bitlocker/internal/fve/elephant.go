package fve

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
)

// elephant is AES-CBC under the Elephant diffuser (BDE, "AES-CBC with
// Elephant Diffuser"; Niels Ferguson, "AES-CBC + Elephant diffuser", 2006).
type elephant struct {
	cbc
	tweak cipher.Block
}

func (e *elephant) Encrypt(dst, src []byte, off int64) {
	e.diffuse(dst, src, off)
	e.cbc.Encrypt(dst, dst, off)
}

// diffuse is the part of encryption before AES-CBC.
func (e *elephant) diffuse(dst, src []byte, off int64) {
	key, words := make([]byte, 32), make([]uint32, e.size/4)
	for ; len(src) > 0; off += int64(e.size) {
		d, s := dst[:e.size], src[:e.size]
		e.sectorKey(key, off)
		for i := 0; i < e.size; i += 32 {
			subtle.XORBytes(d[i:i+32], s[i:i+32], key)
		}
		load(words, d)
		encryptA(words)
		encryptB(words)
		store(d, words)
		dst, src = dst[e.size:], src[e.size:]
	}
}

func (e *elephant) Decrypt(dst, src []byte, off int64) {
	e.cbc.Decrypt(dst, src, off)
	key, words := make([]byte, 32), make([]uint32, e.size/4)
	for ; len(dst) > 0; off += int64(e.size) {
		d := dst[:e.size]
		load(words, d)
		decryptB(words)
		decryptA(words)
		store(d, words)
		e.sectorKey(key, off)
		for i := 0; i < e.size; i += 32 {
			subtle.XORBytes(d[i:i+32], d[i:i+32], key)
		}
		dst = dst[e.size:]
	}
}

// sectorKey is the sector's offset, encrypted with the tweak key, once as it
// is and once with its uppermost bit set.
func (e *elephant) sectorKey(key []byte, off int64) {
	clear(key)
	binary.LittleEndian.PutUint64(key, uint64(off))
	binary.LittleEndian.PutUint64(key[16:], uint64(off))
	key[31] = 0x80
	e.tweak.Encrypt(key[:16], key[:16])
	e.tweak.Encrypt(key[16:], key[16:])
}

func load(w []uint32, b []byte) {
	for i := range w {
		w[i] = binary.LittleEndian.Uint32(b[i*4:])
	}
}

func store(b []byte, w []uint32) {
	for i, v := range w {
		binary.LittleEndian.PutUint32(b[i*4:], v)
	}
}

// The diffusers add to each word two others, the second rotated by an amount
// that repeats every four words; decryption goes up, encryption down. The
// number of words is a power of two, so indexes wrap by mask.

const (
	cyclesA = 5
	cyclesB = 3
)

// decryptA keeps the five words before the present ones at hand.
func decryptA(d []uint32) {
	n := len(d)
	p1, p2, p3, p4, p5 := d[n-1], d[n-2], d[n-3], d[n-4], d[n-5]
	for range cyclesA {
		for w := d; len(w) >= 4; w = w[4:] {
			w0 := w[0] + (p2 ^ bits.RotateLeft32(p5, 9))
			w1 := w[1] + (p1 ^ p4)
			w2 := w[2] + (w0 ^ bits.RotateLeft32(p3, 13))
			w3 := w[3] + (w1 ^ p2)
			w[0], w[1], w[2], w[3] = w0, w1, w2, w3
			p1, p2, p3, p4, p5 = w3, w2, w1, w0, p1
		}
	}
}

func encryptA(d []uint32) {
	m := len(d) - 1
	for range cyclesA {
		for i := len(d) - 4; i >= 0; i -= 4 {
			d[i+3] -= d[i+1] ^ d[(i-2)&m]
			d[i+2] -= d[i] ^ bits.RotateLeft32(d[(i-3)&m], 13)
			d[i+1] -= d[(i-1)&m] ^ d[(i-4)&m]
			d[i] -= d[(i-2)&m] ^ bits.RotateLeft32(d[(i-5)&m], 9)
		}
	}
}

func decryptB(d []uint32) {
	m := len(d) - 1
	for range cyclesB {
		w := d
		for ; len(w) > 8; w = w[4:] {
			w[0] += w[2] ^ w[5]
			w[1] += w[3] ^ bits.RotateLeft32(w[6], 10)
			w[2] += w[4] ^ w[7]
			w[3] += w[5] ^ bits.RotateLeft32(w[8], 25)
		}
		for i := len(d) - len(w); i < len(d); i += 4 { // the last ones wrap
			d[i] += d[i+2] ^ d[(i+5)&m]
			d[i+1] += d[i+3] ^ bits.RotateLeft32(d[(i+6)&m], 10)
			d[i+2] += d[(i+4)&m] ^ d[(i+7)&m]
			d[i+3] += d[(i+5)&m] ^ bits.RotateLeft32(d[(i+8)&m], 25)
		}
	}
}

func encryptB(d []uint32) {
	m := len(d) - 1
	for range cyclesB {
		for i := len(d) - 4; i >= 0; i -= 4 {
			d[i+3] -= d[(i+5)&m] ^ bits.RotateLeft32(d[(i+8)&m], 25)
			d[i+2] -= d[(i+4)&m] ^ d[(i+7)&m]
			d[i+1] -= d[i+3] ^ bits.RotateLeft32(d[(i+6)&m], 10)
			d[i] -= d[i+2] ^ d[(i+5)&m]
		}
	}
}
