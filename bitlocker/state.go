package bitlocker

import (
	"fmt"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// State is how far the conversion of a volume has come.
type State int

// The states, from the block header's present and next state (BDE, "FVE
// metadata block header version 2").
const (
	StateUnknown State = iota
	StateDecrypted
	StateEncrypted
	StateEncrypting
	StateDecrypting
	StateEncryptionPaused
	StateDecryptionPaused
)

// String uses the words of Windows' manage-bde.
func (s State) String() string {
	switch s {
	case StateDecrypted:
		return "Fully Decrypted"
	case StateEncrypted:
		return "Fully Encrypted"
	case StateEncrypting:
		return "Encryption in Progress"
	case StateDecrypting:
		return "Decryption in Progress"
	case StateEncryptionPaused:
		return "Encryption Paused"
	case StateDecryptionPaused:
		return "Decryption Paused"
	case StateUnknown:
		return "Unknown"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// MarshalText implements [encoding.TextMarshaler].
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// stateOf joins the two fields of the block header.
func stateOf(present, next uint16) State {
	switch present {
	case fve.StateDecrypted:
		return StateDecrypted
	case fve.StateEncrypted:
		return StateEncrypted
	case fve.StateSwitching, fve.StateSwitched:
		if next == fve.StateDecrypted {
			return StateDecrypting
		}
		return StateEncrypting
	case fve.StatePaused:
		if next == fve.StateDecrypted {
			return StateDecryptionPaused
		}
		return StateEncryptionPaused
	}
	return StateUnknown
}
