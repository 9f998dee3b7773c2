package main

import (
	"fmt"
	"strings"

	"github.com/bootmend/bootmend/bitlocker"
)

// keyEntry takes a recovery password one keystroke at a time: digits with or without dashes, typed by a person
// or by a barcode scanner, each group of six checked the moment it is complete. A mistyped group is the only
// thing that has to be typed again.
type keyEntry struct {
	groups []string
	digits string
}

const (
	keyGroups   = 8
	groupDigits = 6
)

// feed takes one byte and returns what the terminals show for it. bell is true where the person must look.
func (k *keyEntry) feed(b byte) (echo string, bell bool) {
	switch {
	case b >= '0' && b <= '9' && !k.done():
		k.digits += string(b)
		if len(k.digits) < groupDigits {
			return string(b), false
		}
		return k.closeGroup(b)
	case b == 0x08 || b == 0x7f:
		return k.erase(), false
	case b == '\r' || b == '\n':
		if k.digits != "" {
			return fmt.Sprintf("\r\n  group %d has %d of 6 digits so far, go on.\r\n  key: %s", len(k.groups)+1, len(k.digits), k.shown()), true
		}
	}
	return "", false // dashes and spaces between groups, and whatever else a scanner sends
}

func (k *keyEntry) closeGroup(last byte) (string, bool) {
	if err := bitlocker.CheckRecoveryGroup(k.digits); err != nil {
		k.digits = ""
		return fmt.Sprintf("%c\r\n  group %d is not valid: one of its digits is wrong. Type group %d again.\r\n  key: %s",
			last, len(k.groups)+1, len(k.groups)+1, k.shown()), true
	}
	k.groups = append(k.groups, k.digits)
	k.digits = ""
	if k.done() {
		return string(last) + "\r\n", false
	}
	return string(last) + "-", false
}

// erase takes the last digit back, across the border of a group too.
func (k *keyEntry) erase() string {
	const left = "\b \b"
	if k.digits != "" {
		k.digits = k.digits[:len(k.digits)-1]
		return left
	}
	if len(k.groups) == 0 {
		return ""
	}
	last := k.groups[len(k.groups)-1]
	k.groups = k.groups[:len(k.groups)-1]
	k.digits = last[:groupDigits-1]
	return left + left
}

func (k *keyEntry) shown() string {
	s := strings.Join(k.groups, "-")
	if s != "" {
		s += "-"
	}
	return s + k.digits
}

func (k *keyEntry) done() bool { return len(k.groups) == keyGroups }

// password is the complete key.
func (k *keyEntry) password() (bitlocker.RecoveryPassword, error) {
	return bitlocker.ParseRecoveryPassword(strings.Join(k.groups, "-"))
}
