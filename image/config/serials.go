package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// SerialsPath is where the list of the machines lies on media that are for some machines only.
const SerialsPath = "bootmend/serials.txt"

// maxSerials bounds a list: some tens of thousands of machines.
const maxSerials = 1 << 20

// Serials are the serial numbers of the machines that media are for, as their firmware has them (SMBIOS 3.7, section
// 7.2, offset 07h), in the order in which they were given.
type Serials []string

// ParseSerials reads a list: a number a line, with remarks after "#". A list without any is an error, since nobody can
// tell whether it means all machines or none.
func ParseSerials(data []byte) (Serials, error) {
	if len(data) > maxSerials {
		return nil, fmt.Errorf("the list of machines is %d bytes, more than the %d allowed", len(data), maxSerials)
	}
	var s Serials
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // editors of Windows begin with it
	for i, line := range strings.Split(string(data), "\n") {
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := CheckSerial(text); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		s = append(s, text)
	}
	if len(s) == 0 {
		return nil, errors.New("the list of machines has no serial number")
	}
	return s, nil
}

// keyLike is the shape of a recovery password, however its groups are parted.
var keyLike = regexp.MustCompile(`\d{6}(\D*\d{6}){7}`)

// CheckSerial says why a text is no serial number. The error does not have the text: it may be a recovery password, in a
// list of keys that was taken for one of machines.
func CheckSerial(text string) error {
	odd := func(r rune) bool {
		return !unicode.IsPrint(r) || r == unicode.ReplacementChar || strings.ContainsRune("#,;\"", r)
	}
	switch {
	case keyLike.MatchString(text):
		return errors.New("that is a recovery password, not a serial number")
	case text == "" || text != strings.TrimSpace(text) || len(text) > 64 || strings.ContainsFunc(text, odd):
		return errors.New("that is no serial number: use up to 64 characters as on the machine's label, and no comma, semicolon, quote or #")
	}
	return nil
}

// Has reports whether a machine is in the list. Case does not count: labels are copied by people.
func (s Serials) Has(serial string) bool {
	for _, one := range s {
		if strings.EqualFold(one, strings.TrimSpace(serial)) {
			return true
		}
	}
	return false
}

// Marshal writes the list with a word for the administrator who edits it on the stick.
func (s Serials) Marshal() []byte {
	return []byte("# Only the computers with these serial numbers are healed. Delete this file to heal all.\n" + strings.Join(s, "\n") + "\n")
}
