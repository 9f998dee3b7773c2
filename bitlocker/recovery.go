package bitlocker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
	"unique"
)

const (
	recoveryGroups = 8
	groupDigits    = 6
	// groupLimit bounds a group: 11 times a 16-bit number.
	groupLimit = 11 << 16
)

// RecoveryPassword is the numerical password of 48 digits that opens a volume.
// It never shows its digits in text, logs or JSON; [RecoveryPassword.Reveal]
// does. Two values compare equal if they are the same password.
type RecoveryPassword struct {
	// The handle keeps the digits out of a careless %+v of a structure that
	// holds a password in a field that fmt cannot call methods on.
	key unique.Handle[[16]byte]
}

// GroupError says which of the eight groups of a recovery password is wrong,
// without repeating its digits.
type GroupError struct {
	Group  int // 1 to 8; 0 where a group was checked alone
	Reason string
}

// Error implements error.
func (e *GroupError) Error() string {
	if e.Group == 0 {
		return "group of the recovery password: " + e.Reason
	}
	return fmt.Sprintf("group %d of the recovery password: %s", e.Group, e.Reason)
}

// CheckRecoveryGroup checks one group of six digits as soon as it is typed.
// Each is 11 times a 16-bit number, which catches every single wrong digit
// (BDE, "Recovery key"). The error is a [*GroupError].
func CheckRecoveryGroup(group string) error {
	if _, reason := parseGroup(group); reason != "" {
		return &GroupError{Reason: reason}
	}
	return nil
}

// parseGroup gives a group's 16-bit number, or why it has none.
func parseGroup(group string) (uint16, string) {
	n := 0
	for _, r := range group {
		if r < '0' || r > '9' {
			return 0, "something other than a digit"
		}
		n = min(n*10+int(r-'0'), groupLimit) // never overflows, however long
	}
	switch {
	case len(group) != groupDigits:
		return 0, fmt.Sprintf("%d digits instead of %d", len(group), groupDigits)
	case n >= groupLimit:
		return 0, "mistyped, the number is too large"
	case n%11 != 0:
		return 0, "mistyped, it is not a multiple of 11"
	}
	return uint16(n / 11), ""
}

// ParseRecoveryPassword reads a recovery password: 48 digits in groups of six
// that dashes (of any kind), blanks, or nothing separates. Where one group is
// wrong, the error is a [*GroupError].
func ParseRecoveryPassword(s string) (RecoveryPassword, error) {
	var key [16]byte
	defer clear(key[:])
	groups := 0
	for s = strings.TrimLeftFunc(s, isSeparator); s != ""; s = strings.TrimLeftFunc(s, isSeparator) {
		field := s
		if end := strings.IndexFunc(s, isSeparator); end >= 0 {
			field = s[:end]
		}
		s = s[len(field):]
		for len(field) > 0 {
			group := field[:min(groupDigits, len(field))]
			if len(group) == len(field) || len(field)%groupDigits != 0 {
				group = field // so that a wrong length is named
			}
			field = field[len(group):]
			n, reason := parseGroup(group)
			if groups == recoveryGroups {
				return RecoveryPassword{}, fmt.Errorf("recovery password has more than %d groups of %d digits", recoveryGroups, groupDigits)
			}
			if reason != "" {
				return RecoveryPassword{}, &GroupError{Group: groups + 1, Reason: reason}
			}
			binary.LittleEndian.PutUint16(key[groups*2:], n)
			groups++
		}
	}
	if groups == 0 {
		return RecoveryPassword{}, errors.New("recovery password is empty")
	}
	if groups < recoveryGroups {
		return RecoveryPassword{}, fmt.Errorf("recovery password has %d of %d groups of %d digits", groups, recoveryGroups, groupDigits)
	}
	return RecoveryPassword{unique.Make(key)}, nil
}

// isSeparator accepts what mail programs and word processors make of a dash
// or a blank.
func isSeparator(r rune) bool {
	if r < utf8.RuneSelf { // nearly always, and lists are long
		return r == '-' || r == ' ' || r >= '\t' && r <= '\r'
	}
	return r == '-' || unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) || r == '\u2212' ||
		r == '\ufeff' || r >= '\u200b' && r <= '\u200f'
}

// IsZero reports whether p holds no password.
func (p RecoveryPassword) IsZero() bool { return p == RecoveryPassword{} }

// Reveal gives the digits, for key files and tests.
func (p RecoveryPassword) Reveal() string {
	if p.IsZero() {
		return ""
	}
	key := p.key.Value()
	var b strings.Builder
	for i := range recoveryGroups {
		if i > 0 {
			b.WriteByte('-')
		}
		fmt.Fprintf(&b, "%06d", 11*uint32(binary.LittleEndian.Uint16(key[i*2:])))
	}
	return b.String()
}

const redacted = "[redacted]"

// String hides the password.
func (p RecoveryPassword) String() string { return redacted }

// GoString hides the password.
func (p RecoveryPassword) GoString() string { return redacted }

// Format hides the password from every verb.
func (p RecoveryPassword) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText hides the password.
func (p RecoveryPassword) MarshalText() ([]byte, error) { return []byte(redacted), nil }
