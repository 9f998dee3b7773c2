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
		e.cbc.Encrypt(d, d, off)
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

func decryptA(d []uint32) {
	m := len(d) - 1
	for range cyclesA {
		for i := 0; i < len(d)-3; i += 4 {
			d[i] += d[(i-2)&m] ^ bits.RotateLeft32(d[(i-5)&m], 9)
			d[i+1] += d[(i-1)&m] ^ d[(i-4)&m]
			d[i+2] += d[i] ^ bits.RotateLeft32(d[(i-3)&m], 13)
			d[i+3] += d[i+1] ^ d[(i-2)&m]
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
		for i := 0; i < len(d)-3; i += 4 {
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
