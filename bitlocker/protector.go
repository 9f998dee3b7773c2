package bitlocker

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// ProtectorKind is what opens a protector.
type ProtectorKind int

// The kinds of protector.
const (
	ProtectorUnknown ProtectorKind = iota
	ProtectorClearKey
	ProtectorTPM
	ProtectorExternalKey
	ProtectorTPMPIN
	ProtectorTPMStartupKey
	ProtectorTPMPINStartupKey
	ProtectorRecoveryPassword
	ProtectorPassword
	ProtectorPublicKey
	ProtectorSID
)

// kinds has Windows' words (manage-bde -protectors -get); a clear key, which
// Windows does not list, is called what its documentation calls it.
var kinds = [...]string{
	ProtectorUnknown:          "Unknown",
	ProtectorClearKey:         "Clear Key",
	ProtectorTPM:              "TPM",
	ProtectorExternalKey:      "External Key",
	ProtectorTPMPIN:           "TPM And PIN",
	ProtectorTPMStartupKey:    "TPM And Startup Key",
	ProtectorTPMPINStartupKey: "TPM And PIN And Startup Key",
	ProtectorRecoveryPassword: "Numerical Password",
	ProtectorPassword:         "Password",
	ProtectorPublicKey:        "Certificate Based",
	ProtectorSID:              "Identity (SID Based)",
}

// String uses Windows' words, such as "Numerical Password".
func (k ProtectorKind) String() string {
	if k < 0 || int(k) >= len(kinds) {
		return fmt.Sprintf("ProtectorKind(%d)", int(k))
	}
	return kinds[k]
}

// MarshalText implements [encoding.TextMarshaler].
func (k ProtectorKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// kindOf reads the protection field (BDE, "Key protection types").
func kindOf(protection uint16) ProtectorKind {
	switch protection & fve.ProtectionKindSet {
	case fve.ProtectClear:
		return ProtectorClearKey
	case fve.ProtectTPM:
		return ProtectorTPM
	case fve.ProtectExternal:
		return ProtectorExternalKey
	case fve.ProtectPIN, fve.ProtectTPM | fve.ProtectPIN:
		return ProtectorTPMPIN
	case fve.ProtectTPM | fve.ProtectExternal:
		return ProtectorTPMStartupKey
	case fve.ProtectTPM | fve.ProtectPIN | fve.ProtectExternal:
		return ProtectorTPMPINStartupKey
	case fve.ProtectRecovery:
		return ProtectorRecoveryPassword
	case fve.ProtectPassword:
		return ProtectorPassword
	case fve.ProtectPublicKey:
		return ProtectorPublicKey
	case fve.ProtectSID:
		return ProtectorSID
	}
	return ProtectorUnknown
}

// Protector is one of the ways to open a volume. Its ID is what Windows shows
// as the key ID when it asks for a recovery password.
type Protector struct {
	ID       GUID          `json:"id"`
	Kind     ProtectorKind `json:"kind"`
	Type     uint16        `json:"type"` // as on the disk
	Modified time.Time     `json:"modified"`
	Name     string        `json:"name,omitempty"`

	// A pointer, so that printing a Protector never prints a clear key.
	seal *protectorSeal
}

// protectorSeal is how a protector holds the volume master key.
type protectorSeal struct {
	salt  [16]byte
	hasKD bool    // salt is there
	clear []byte  // the clear key
	vmk   *sealed // the volume master key
}

// parseProtector reads a volume master key entry (BDE, "FVE Volume Master
// Key"). Entries inside that it does not know are described in skipped; what
// is wrong with one is too, for a protector that cannot be used does not
// spoil the others.
func parseProtector(e entry) (p Protector, skipped []string, err error) {
	var h fve.VMKHeader
	if len(e.data) < fve.VMKHeaderSize {
		return p, nil, fmt.Errorf("%s is too short for a key protector", e)
	}
	if _, err := binary.Decode(e.data, binary.LittleEndian, &h); err != nil {
		return p, nil, err
	}
	p = Protector{ID: h.ID, Kind: kindOf(h.Protection), Type: h.Protection, Modified: fve.Time(h.Modified), seal: &protectorSeal{}}
	list, err := e.nested(fve.VMKHeaderSize)
	if err != nil {
		skipped = append(skipped, err.Error())
	}
	for _, n := range list {
		known, err := p.property(n)
		if err != nil {
			skipped = append(skipped, err.Error())
		} else if !known {
			skipped = append(skipped, n.String())
		}
	}
	return p, skipped, nil
}

// property takes one entry inside a protector.
func (p *Protector) property(e entry) (known bool, err error) {
	if e.Type != fve.TypeProperty {
		return false, nil
	}
	switch e.Value {
	case fve.ValueString:
		if p.Name == "" {
			p.Name = e.text()
		}
	case fve.ValueStretchKey: // BDE, "FVE Stretch encrypted key"
		if len(e.data) < fve.StretchHeaderSize {
			return true, fmt.Errorf("%s is too short for a stretch key", e)
		}
		copy(p.seal.salt[:], e.data[fve.KeyHeaderSize:])
		p.seal.hasKD = true
	case fve.ValueKey:
		_, p.seal.clear, err = e.key()
	case fve.ValueEncryptedKey:
		if p.seal.vmk == nil {
			p.seal.vmk, err = e.sealed()
		}
	case fve.ValueUseKey, fve.ValueTPMKey, fve.ValueRecoveryTime, fve.ValueHint:
		// Known by name; not needed to open a volume.
	default:
		return false, nil
	}
	return true, err
}
