package bitlocker

import (
	"errors"
	"fmt"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// VolumeKey is the key that a volume's sectors are encrypted with. Whoever
// unlocked the volume owns it and calls Wipe when it is no longer needed; a
// [Volume] or table made from it before goes on to work.
type VolumeKey struct {
	method Method
	key    []byte // as fve.KeySize has it
}

// Method is how the key is used.
func (k *VolumeKey) Method() Method { return k.method }

// Wipe overwrites the key. It is of no use afterwards.
func (k *VolumeKey) Wipe() {
	clear(k.key)
	k.key = nil
}

// cipher makes the volume's cipher.
func (k *VolumeKey) cipher(sectorSize int) (fve.Cipher, error) {
	if k == nil || k.key == nil {
		return nil, errors.New("volume key is missing or was wiped")
	}
	return fve.NewCipher(uint16(k.method), k.key, sectorSize)
}

// String hides the key.
func (k *VolumeKey) String() string { return redacted }

// GoString hides the key.
func (k *VolumeKey) GoString() string { return redacted }

// Format hides the key from every verb, by value too.
func (k VolumeKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText hides the key.
func (k VolumeKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }
