package fve

import (
	"crypto/cipher"
	"encoding/binary"
)

// cbc is AES-CBC; the initialisation vector of a sector is its byte offset,
// encrypted with the same key (BDE, "AES-CBC"; device-mapper's "eboiv").
type cbc struct {
	data cipher.Block
	size int // of a sector
}

// iv puts the initialisation vector of the sector at off into b.
func (c *cbc) iv(b []byte, off int64) (lo, hi uint64) {
	le := binary.LittleEndian
	le.PutUint64(b, uint64(off))
	le.PutUint64(b[8:], 0)
	c.data.Encrypt(b, b)
	return le.Uint64(b), le.Uint64(b[8:])
}

func (c *cbc) Encrypt(dst, src []byte, off int64) {
	le := binary.LittleEndian
	iv := make([]byte, 16)
	for ; len(src) > 0; off += int64(c.size) {
		lo, hi := c.iv(iv, off)
		for end := c.size; end > 0; end -= 16 {
			d, s := dst[:16:16], src[:16:16]
			le.PutUint64(d, le.Uint64(s)^lo)
			le.PutUint64(d[8:], le.Uint64(s[8:])^hi)
			c.data.Encrypt(d, d)
			lo, hi = le.Uint64(d), le.Uint64(d[8:])
			dst, src = dst[16:], src[16:]
		}
	}
}

func (c *cbc) Decrypt(dst, src []byte, off int64) {
	le := binary.LittleEndian
	iv := make([]byte, 16)
	for ; len(src) > 0; off += int64(c.size) {
		lo, hi := c.iv(iv, off)
		for end := c.size; end > 0; end -= 16 {
			d, s := dst[:16:16], src[:16:16]
			nextLo, nextHi := le.Uint64(s), le.Uint64(s[8:])
			c.data.Decrypt(d, s)
			le.PutUint64(d, le.Uint64(d)^lo)
			le.PutUint64(d[8:], le.Uint64(d[8:])^hi)
			lo, hi = nextLo, nextHi
			dst, src = dst[16:], src[16:]
		}
	}
}
