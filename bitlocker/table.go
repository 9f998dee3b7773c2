package bitlocker

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// sectorDM is the unit of device-mapper tables, whatever the disk's sectors.
const sectorDM = 512

// Target is one line of a device-mapper table. Params of a crypt target hold
// the volume key: String and Format hide it.
type Target struct {
	Start, Length uint64 // in sectors of 512 bytes
	Type          string // "crypt", "linear" or "zero"
	Params        string
}

// String is the target as dmsetup takes it, but for the key.
func (t Target) String() string {
	params := t.Params
	if fields := strings.Fields(params); t.Type == "crypt" && len(fields) > 1 {
		fields[1] = redacted
		params = strings.Join(fields, " ")
	}
	return strings.TrimSpace(fmt.Sprintf("%d %d %s %s", t.Start, t.Length, t.Type, params))
}

// GoString hides the key.
func (t Target) GoString() string { return t.String() }

// Format hides the key from every verb.
func (t Target) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// MarshalText hides the key.
func (t Target) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// maxTargets bounds a table; only a volume in the middle of a conversion has
// more than a dozen.
const maxTargets = 8192

// Table gives the mapping of [Volume] as a device-mapper table over the block
// device dev, as cryptsetup makes it: crypt targets, whose initialisation
// vectors count from the real place on the disk also for the relocated volume
// header, and zero targets where BitLocker keeps its own data. Parts that a
// conversion has left clear become linear targets.
//
// m.VolumeSize must be that of dev: give ReadMetadata its size.
func (m *Metadata) Table(k *VolumeKey, dev string) ([]Target, error) {
	if m.untrusted != nil {
		return nil, m.untrusted
	}
	if m.readOnly != nil {
		return nil, m.readOnly
	}
	if m.Vista {
		return nil, fmt.Errorf("volume of Windows Vista: device-mapper cannot change single bytes of its first sector: %w", ErrUnsupported)
	}
	if dev == "" || strings.ContainsAny(dev, " \t\n\\") {
		return nil, fmt.Errorf("device name %q cannot stand in a device-mapper table", dev)
	}
	if h := &m.block.head; h.State == fve.StateSwitching && h.ConvertSize > 0 {
		return nil, fmt.Errorf("conversion of %d bytes at offset %d was cut short: %w; start Windows to finish it", h.ConvertSize, m.EncryptedSize, ErrUnsupported)
	}
	segments := m.segments(m.VolumeSize)
	if len(segments) > maxTargets {
		return nil, fmt.Errorf("a conversion has left the volume in %d pieces: %w; start Windows to finish it", len(segments), ErrUnsupported)
	}
	list := make([]Target, 0, len(segments))
	for _, s := range segments {
		t := Target{Start: uint64(s.off / sectorDM), Length: uint64(s.n / sectorDM)}
		switch at := s.phys / sectorDM; s.kind {
		case segmentZero:
			t.Type = "zero"
		case segmentPlain:
			t.Type, t.Params = "linear", fmt.Sprintf("%s %d", dev, at)
		case segmentEncrypted:
			if k == nil || k.key == nil {
				return nil, errors.New("volume key is missing or was wiped")
			}
			t.Type = "crypt"
			t.Params = fmt.Sprintf("%s %s %d %s %d", methods[k.method].dm, hex.EncodeToString(k.key), at, dev, at)
			if m.SectorSize != sectorDM {
				t.Params += fmt.Sprintf(" 2 sector_size:%d iv_large_sectors", m.SectorSize)
			}
		}
		list = append(list, t)
	}
	return list, nil
}
