package fve

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
)

// NonceSize and TagSize are those of AES-CCM as BitLocker uses it (BDE,
// "AES-CCM"): a FILETIME and a counter, and a tag of a whole block.
const (
	NonceSize = 12
	TagSize   = 16
)

// ErrTag says that a key does not open what it was tried on.
var ErrTag = errors.New("authentication tag does not match")

// Open decrypts data with AES-CCM (RFC 3610, no associated data) and checks
// its tag. The nonce has 7 to 13 bytes.
func Open(key, nonce, tag, data []byte) ([]byte, error) {
	c, err := newCCM(key, nonce, len(tag), len(data))
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(data))
	c.ctr(plain, data)
	if subtle.ConstantTimeCompare(c.tag(plain, len(tag)), tag) != 1 {
		clear(plain)
		return nil, ErrTag
	}
	return plain, nil
}

// Seal is the inverse of Open.
func Seal(key, nonce, plain []byte, tagSize int) (tag, data []byte, err error) {
	c, err := newCCM(key, nonce, tagSize, len(plain))
	if err != nil {
		return nil, nil, err
	}
	data = make([]byte, len(plain))
	c.ctr(data, plain)
	return c.tag(plain, tagSize), data, nil
}

type ccm struct {
	block cipher.Block
	nonce []byte
	aad   []byte // associated data: BitLocker has none, RFC 3610's vectors do
}

func newCCM(key, nonce []byte, tagSize, dataSize int) (*ccm, error) {
	if len(nonce) < 7 || len(nonce) > 13 || tagSize < 4 || tagSize > 16 || tagSize%2 != 0 {
		return nil, errors.New("nonce or tag of a size that AES-CCM does not have")
	}
	if field := 15 - len(nonce); field < 4 && dataSize >= 1<<(8*field) {
		return nil, errors.New("too much data for the nonce's size")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &ccm{block: block, nonce: nonce}, nil
}

// counter is the block A_i of RFC 3610, section 2.3.
func (c *ccm) counter(i int) []byte {
	a := make([]byte, 16)
	a[0] = byte(14 - len(c.nonce))
	copy(a[1:], c.nonce)
	putTail(a[1+len(c.nonce):], i)
	return a
}

// ctr encrypts with the counters from 1 on; 0 is kept for the tag.
func (c *ccm) ctr(dst, src []byte) {
	cipher.NewCTR(c.block, c.counter(1)).XORKeyStream(dst, src)
}

// tag is the CBC-MAC over the block B_0 of RFC 3610, section 2.2, the
// associated data and the plain text, encrypted with counter 0.
func (c *ccm) tag(plain []byte, size int) []byte {
	mac := make([]byte, 16)
	mac[0] = byte(14-len(c.nonce)) | byte((size-2)/2)<<3
	copy(mac[1:], c.nonce)
	putTail(mac[1+len(c.nonce):], len(plain))
	if n := len(c.aad); n > 0 {
		mac[0] |= 0x40
		c.block.Encrypt(mac, mac)
		c.mac(mac, append([]byte{byte(n >> 8), byte(n)}, c.aad...))
	} else {
		c.block.Encrypt(mac, mac)
	}
	c.mac(mac, plain)
	first := c.counter(0)
	c.block.Encrypt(first, first)
	subtle.XORBytes(mac, mac, first)
	return mac[:size]
}

// mac goes on with the CBC-MAC over data, padded with zeros.
func (c *ccm) mac(mac, data []byte) {
	for len(data) > 0 {
		n := subtle.XORBytes(mac, mac, data[:min(16, len(data))])
		c.block.Encrypt(mac, mac)
		data = data[n:]
	}
}

// putTail writes v, most significant byte first, over the whole of b.
func putTail(b []byte, v int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte(v)
		v >>= 8
	}
}
