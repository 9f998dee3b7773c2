package keys

import (
	"bytes"
	"errors"
)

// ErrSealed says that what should be a key list is a vault, which package vault opens.
var ErrSealed = errors.New("the keys are sealed in a vault")

// IsSealed reports whether data begins as an age file does (age-encryption.org/v1), binary or armored.
func IsSealed(data []byte) bool {
	return bytes.HasPrefix(data, []byte("age-encryption.org/")) ||
		bytes.HasPrefix(bytes.TrimSpace(data[:min(len(data), 256)]), []byte("-----BEGIN AGE ENCRYPTED FILE-----"))
}
