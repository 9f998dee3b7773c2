package bitlocker

import (
	"errors"
	"strings"
)

// What a caller decides on.
var (
	// ErrNotBitLocker says that a volume carries no BitLocker signature.
	ErrNotBitLocker = errors.New("not a BitLocker volume")
	// ErrUnsupported says that a volume is BitLocker's, but of a kind that
	// this package does not read.
	ErrUnsupported = errors.New("kind of BitLocker volume not supported")
	// ErrNoValidMetadata says that none of the three copies of a volume's
	// metadata can be trusted.
	ErrNoValidMetadata = errors.New("no valid copy of the BitLocker metadata")
	// ErrWrongKey says that a secret opens none of the protectors that it was
	// tried on: try the next one.
	ErrWrongKey = errors.New("wrong key")
	// ErrNoProtector says that the volume has no protector of that kind or
	// with that identifier.
	ErrNoProtector = errors.New("no such key protector on the volume")
	// ErrReserved says that a write touches a part of the volume where
	// BitLocker keeps its own data.
	ErrReserved = errors.New("reserved by BitLocker")
)

// errorList joins errors on one line, which errors.Join does not.
type errorList []error

func (l errorList) Error() string {
	text := make([]string, len(l))
	for i, err := range l {
		text[i] = err.Error()
	}
	return strings.Join(text, "; ")
}

func (l errorList) Unwrap() []error { return l }
