package main

import (
	"fmt"
	"strings"

	"github.com/bootmend/bootmend/bitlocker"
)

// keyEntry takes a recovery password one keystroke at a time: digits with or without dashes, typed by a person
// or by a barcode scanner, each group of six checked the moment it is complete. A mistyped group is the only
// thing that has to be typed again.
//
// Keyboards send digits in more than one way: the screen's counts as an American one, on which who is used to a French
// one holds Shift; and a French one at the other end of a serial line sends the letters that stand where the digits are.
type keyEntry struct {
	groups []string
	digits string
	state  entryState
	french bool // a key came that only a French keyboard has there
	lead   bool // the first byte of one of its letters came
}

// shiftedDigits are what Shift makes of an American keyboard's digits, frenchDigits what a French keyboard has in their
// place, in ISO 8859-1, whose letters are the second bytes of the same in UTF-8 with 0x40 added.
var (
	shiftedDigits = map[byte]byte{'!': '1', '@': '2', '#': '3', '$': '4', '%': '5', '^': '6', '&': '7', '*': '8', '(': '9', ')': '0'}
	frenchDigits  = map[byte]byte{'&': '1', 0xe9: '2', '"': '3', '\'': '4', '(': '5', '-': '6', 0xe8: '7', '_': '8', 0xe7: '9', 0xe0: '0'}
)

// digit is what b stands for where it is no digit itself.
func (k *keyEntry) digit(b byte) byte {
	lead := k.lead
	k.lead = b == 0xc3
	if lead && b >= 0x80 && b < 0xc0 {
		b += 0x40
	}
	d, french := frenchDigits[b]
	s, shifted := shiftedDigits[b]
	switch {
	case french && (k.french || !shifted && b != '-'): // elsewhere a dash stands between groups
		k.french = true
		return d
	case shifted:
		return s
	}
	return b
}

const (
	keyGroups   = 8
	groupDigits = 6
)

// feed takes one byte and returns what the terminals show for it. bell is true where the person must look.
func (k *keyEntry) feed(b byte) (echo string, bell bool) {
	// Delete and cursor keys send digits, too, after an escape.
	if k.state != entryText || b == 0x1b {
		k.state = k.state.next(b)
		return "", false
	}
	b = k.digit(b)
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
