package fve

import (
	"crypto/aes"
	"fmt"
)

// Methods of encrypting sectors (BDE, "Encryption methods").
const (
	MethodNone        = 0x0000
	MethodElephant128 = 0x8000
	MethodElephant256 = 0x8001
	MethodCBC128      = 0x8002
	MethodCBC256      = 0x8003
	MethodXTS128      = 0x8004
	MethodXTS256      = 0x8005
)

// Cipher encrypts and decrypts whole sectors. off is the place on the disk,
// in bytes from the start of the volume, of the first sector. dst and src
// have the same size, a multiple of the sector size, and may be the same
// memory. A Cipher may be used by several goroutines at once.
type Cipher interface {
	Encrypt(dst, src []byte, off int64)
	Decrypt(dst, src []byte, off int64)
}

// KeySize is the number of key bytes of a method, as device-mapper takes
// them; 0 for an unknown method.
func KeySize(method uint16) int {
	switch method {
	case MethodCBC128:
		return 16
	case MethodCBC256, MethodXTS128, MethodElephant128:
		return 32
	case MethodXTS256, MethodElephant256:
		return 64
	}
	return 0
}

// StoredKeySize is the number of key bytes of a method in the metadata.
// With the diffuser they are always 64: the key in the first half, the tweak
// key in the second, each padded (BDE, "TWEAK key").
func StoredKeySize(method uint16) int {
	if method == MethodElephant128 {
		return 64
	}
	return KeySize(method)
}

// PackKey turns a key as stored in the metadata into KeySize bytes; it
// returns a copy.
func PackKey(method uint16, stored []byte) []byte {
	if method == MethodElephant128 {
		return append(append(make([]byte, 0, 32), stored[:16]...), stored[32:48]...)
	}
	return append([]byte(nil), stored...)
}

// NewCipher makes the cipher of a method from KeySize bytes: the fastest that
// this processor runs.
func NewCipher(method uint16, key []byte, sectorSize int) (Cipher, error) {
	c, err := newPlain(method, key, sectorSize)
	if err != nil {
		return nil, err
	}
	return newNative(c, key), nil
}

// newPlain makes the cipher that runs everywhere.
func newPlain(method uint16, key []byte, sectorSize int) (Cipher, error) {
	if n := KeySize(method); n == 0 || n != len(key) {
		return nil, fmt.Errorf("encryption method 0x%04x with %d bytes of key is unknown", method, len(key))
	}
	// The diffuser's indexes wrap by mask, and a sector has whole AES blocks.
	if sectorSize < 512 || sectorSize > 4096 || sectorSize&(sectorSize-1) != 0 {
		return nil, fmt.Errorf("sectors of %d bytes are not supported", sectorSize)
	}
	half := len(key)
	if method != MethodCBC128 && method != MethodCBC256 {
		half /= 2
	}
	first, err := aes.NewCipher(key[:half])
	if err != nil {
		return nil, err
	}
	if half == len(key) {
		return &cbc{first, sectorSize}, nil
	}
	second, err := aes.NewCipher(key[half:])
	if err != nil {
		return nil, err
	}
	if method == MethodXTS128 || method == MethodXTS256 {
		return &xts{first, second, sectorSize}, nil
	}
	return &elephant{cbc{first, sectorSize}, second}, nil
}
