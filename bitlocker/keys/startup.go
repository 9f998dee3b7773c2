package keys

import (
	"bytes"
	"fmt"

	"github.com/bootmend/bootmend/bitlocker"
)

// StartupKey is a .BEK file: the external key of one protector.
type StartupKey struct {
	ID   bitlocker.GUID // of the protector that it opens
	Data StartupKeyData
	// File and Line are as in [Entry].
	File string
	Line int
}

// StartupKeyData is the content of a .BEK file. It shows nothing of itself in
// text, logs or JSON; [StartupKeyData.Reveal] does.
type StartupKeyData struct {
	// A pointer, so that fmt prints an address where it cannot call methods.
	file *[]byte
}

// ParseStartupKey reads a .BEK file. The result holds a copy of it.
func ParseStartupKey(bek []byte) (StartupKey, error) {
	id, err := bitlocker.StartupKeyID(bek)
	if err != nil {
		return StartupKey{}, err
	}
	data := bytes.Clone(bek)
	return StartupKey{ID: id, Data: StartupKeyData{&data}, Line: 1}, nil
}

// Reveal gives the file's content, which stays the owner's.
func (d StartupKeyData) Reveal() []byte {
	if d.file == nil {
		return nil
	}
	return *d.file
}

// Wipe overwrites the key, for every copy of d.
func (d StartupKeyData) Wipe() { clear(d.Reveal()) }

const redacted = "[redacted]"

// String hides the key.
func (StartupKeyData) String() string { return redacted }

// GoString hides the key.
func (StartupKeyData) GoString() string { return redacted }

// Format hides the key from every verb.
func (StartupKeyData) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText hides the key.
func (StartupKeyData) MarshalText() ([]byte, error) { return []byte(redacted), nil }
