package bitlocker

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// maxRawKey bounds a file with a raw key: hexadecimal digits with something
// between each two of them.
const maxRawKey = 1 << 10

// decodeRaw takes a raw key as bytes or as hexadecimal digits, in one line or
// several, with colons, blanks or "0x". The caller wipes the result.
func decodeRaw(data []byte) ([]byte, error) {
	if len(data) > maxRawKey {
		return nil, fmt.Errorf("has %d bytes, want at most %d", len(data), maxRawKey)
	}
	digits := bytes.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n:,-\ufeff", r) {
			return -1
		}
		return r
	}, data)
	defer clear(digits)
	digits = bytes.TrimPrefix(digits, []byte("0x"))
	key := make([]byte, hex.DecodedLen(len(digits)))
	// 32 bytes that happen to be digits are no key that anything made.
	if _, err := hex.Decode(key, digits); err == nil && len(key) > 0 {
		return key, nil
	}
	clear(key)
	return bytes.Clone(data), nil
}

// UnlockVMK opens the volume with its volume master key: 32 bytes, or their
// hexadecimal digits. The error wraps [ErrWrongKey] if it is another volume's.
func (m *Metadata) UnlockVMK(data []byte) (*VolumeKey, error) {
	if m.untrusted != nil {
		return nil, m.untrusted
	}
	vmk, err := decodeRaw(data)
	if err != nil {
		return nil, fmt.Errorf("volume master key: %w", err)
	}
	defer clear(vmk)
	if len(vmk) != 32 {
		return nil, fmt.Errorf("volume master key has %d bytes instead of 32", len(vmk))
	}
	key, err := m.unlockVMK(vmk)
	if errors.Is(err, fve.ErrTag) {
		err = fmt.Errorf("volume master key: %w", ErrWrongKey)
	}
	return key, err
}

// UnlockFVEK opens the volume with the key that its sectors are encrypted
// with. data is one of
//
//   - the key, as many bytes as the volume's method has: 16 for AES-CBC 128,
//     32 for AES-CBC 256 and AES-XTS 128, 64 for AES-XTS 256; with the
//     diffuser the key and behind it the tweak key, either bare or each filled
//     up to 32 bytes as the metadata keep them;
//   - such a key behind two bytes with the method, least significant first,
//     as dislocker takes it;
//   - the hexadecimal digits of either.
//
// Nothing of the key can be checked by itself, so the start of the volume is
// decrypted, from r as in [OpenVolume]: where that is no file system, the
// error wraps [ErrWrongKey].
func (m *Metadata) UnlockFVEK(r io.ReaderAt, data []byte) (*VolumeKey, error) {
	if m.untrusted != nil {
		return nil, m.untrusted
	}
	raw, err := decodeRaw(data)
	if err != nil {
		return nil, fmt.Errorf("volume key: %w", err)
	}
	defer clear(raw)
	method := uint16(m.Method)
	short, stored := fve.KeySize(method), fve.StoredKeySize(method)
	if short == 0 {
		return nil, fmt.Errorf("volume's method %s: %w", m.Method, ErrUnsupported)
	}
	bare := raw
	if n := len(raw) - 2; n == 64 || n == short || n == stored {
		if got := binary.LittleEndian.Uint16(raw); got != method {
			return nil, fmt.Errorf("volume key is for %s, the volume has %s: %w", Method(got), m.Method, ErrWrongKey)
		}
		bare = raw[2:]
		if len(bare) == 64 && stored < 64 { // dislocker once took no other size
			bare = bare[:stored]
		}
	}
	k := &VolumeKey{method: m.Method}
	switch len(bare) {
	case stored:
		k.key = fve.PackKey(method, bare)
	case short:
		k.key = bytes.Clone(bare)
	default:
		return nil, fmt.Errorf("volume key has %d bytes, %s has %d", len(bare), m.Method, short)
	}
	if err := m.checkKey(r, k); err != nil {
		k.Wipe()
		return nil, err
	}
	return k, nil
}

// checkKey looks for a file system at the start of the clear volume.
func (m *Metadata) checkKey(r io.ReaderAt, k *VolumeKey) error {
	v, err := OpenVolume(r, m, k)
	if err != nil {
		return err
	}
	if m.Vista { // its first sectors are clear
		return m.checkVistaKey(v)
	}
	b := make([]byte, fve.BootSectorSize)
	if _, err := v.ReadAt(b, 0); err != nil {
		return fmt.Errorf("check the volume key: %w", err)
	}
	if !isFileSystem(b) {
		return fmt.Errorf("volume key: the volume decrypts to no file system: %w", ErrWrongKey)
	}
	return nil
}

// checkVistaKey looks for the first record of NTFS' master file table.
func (m *Metadata) checkVistaKey(v *Volume) error {
	boot := make([]byte, fve.BootSectorSize)
	if _, err := v.ReadAt(boot, 0); err != nil {
		return fmt.Errorf("check the volume key: %w", err)
	}
	cluster := uint64(m.SectorSize) * uint64(boot[13])
	mft := binary.LittleEndian.Uint64(boot[0x30:])
	if mft > 1<<40 {
		return fmt.Errorf("check the volume key: master file table at cluster %d", mft)
	}
	b := make([]byte, 4)
	if _, err := v.ReadAt(b, int64(mft*cluster)); err != nil {
		return fmt.Errorf("check the volume key: %w", err)
	}
	if string(b) != "FILE" {
		return fmt.Errorf("volume key: the volume decrypts to no file system: %w", ErrWrongKey)
	}
	return nil
}

// Wanted says in one sentence which protectors open the volume and what each
// needs, for a person whose key did not fit. Those that no key opens, such as
// a TPM's, are named as well.
func (m *Metadata) Wanted() string {
	var keys, others []string
	seen := map[string]bool{}
	for _, p := range m.Protectors {
		switch p.Kind {
		case ProtectorRecoveryPassword:
			keys = append(keys, fmt.Sprintf("the recovery password with key ID %s", p.ID))
		case ProtectorExternalKey:
			keys = append(keys, fmt.Sprintf("the startup key file %s.BEK", p.ID))
		case ProtectorPassword:
			keys = append(keys, "a user's password")
		default:
			if name := p.Kind.String(); !seen[name] {
				seen[name] = true
				others = append(others, name)
			}
		}
	}
	text := "nothing opens this volume but its raw key"
	if len(keys) > 0 {
		text = "the volume is opened by " + strings.Join(keys, " or ")
	}
	if len(others) > 0 {
		text += "; it also has protectors that only its own machine or a certificate opens: " + strings.Join(others, ", ")
	}
	return text
}
