package main

import (
	"strings"
	"unicode/utf8"
)

// secretEntry takes a passphrase or a user's password one keystroke at a time. Stars stand for it, until the person
// asks to see it on the screen: its keyboard counts as an American one, which not everybody's is. What a serial line
// shows is often recorded, so there the stars stay.
type secretEntry struct {
	text   []byte
	state  entryState
	ended  bool
	reveal bool
}

type entryState int

const (
	entryText   entryState = iota
	entryEscape            // after ESC
	entryCursor            // in a sequence that a cursor or function key sends (ECMA-48)
)

// next is the state after a byte that is an escape, or comes after one.
func (s entryState) next(b byte) entryState {
	switch {
	case b == 0x1b:
		return entryEscape
	case s == entryEscape && b == '[' || s == entryCursor && (b < 0x40 || b > 0x7e || b == '['): // "[" comes twice for the console's function keys
		return entryCursor
	case s == entryEscape && b == 'O': // keys in application mode
		return entryCursor
	}
	return entryText
}

// maxSecret bounds what is typed.
const maxSecret = 1024

// feed takes one byte and returns what the screen and the serial lines show for it.
func (e *secretEntry) feed(b byte) (screen, serial string) {
	switch e.state {
	case entryEscape:
		e.state = entryText
		if b == '[' {
			e.state = entryCursor
			return "", ""
		}
	case entryCursor:
		if b >= 0x40 && b <= 0x7e && b != '[' { // "[" comes twice for the console's function keys
			e.state = entryText
		}
		return "", ""
	}
	switch b {
	case '\r', '\n':
		e.ended = true
		return "\r\n", "\r\n"
	case 0x1b:
		e.state = entryEscape
		return e.erase(-1)
	case 0x15: // Ctrl-U
		return e.erase(-1)
	case 0x08, 0x7f:
		return e.erase(1)
	case '\t':
		return e.toggle(), ""
	}
	if b < ' ' || len(e.text) >= maxSecret {
		return "", ""
	}
	e.text = append(e.text, b)
	if !utf8.RuneStart(b) {
		return e.shown([]byte{b}), "" // the rest of a character that has its star
	}
	if e.reveal {
		return string([]byte{b}), "*" // not yet a whole character, maybe
	}
	return "*", "*"
}

func (e *secretEntry) shown(s []byte) string {
	if e.reveal {
		return string(s)
	}
	return ""
}

const left = "\b \b"

// erase takes n characters back; all of them if n is negative.
func (e *secretEntry) erase(n int) (screen, serial string) {
	erased := 0
	for ; len(e.text) > 0 && erased != n; erased++ {
		_, size := utf8.DecodeLastRune(e.text)
		clear(e.text[len(e.text)-size:])
		e.text = e.text[:len(e.text)-size]
	}
	s := strings.Repeat(left, erased)
	return s, s
}

// stars stand for what was typed so far, and hide it again.
func (e *secretEntry) stars() string {
	e.reveal = false
	return strings.Repeat("*", utf8.RuneCount(e.text))
}

// toggle shows what was typed, or hides it again.
func (e *secretEntry) toggle() string {
	back := strings.Repeat("\b", utf8.RuneCount(e.text))
	if e.reveal {
		return back + e.stars()
	}
	e.reveal = true
	return back + string(e.text)
}

// take is what was typed, and forgets it. The string itself cannot be wiped.
func (e *secretEntry) take() string {
	s := string(e.text)
	clear(e.text[:cap(e.text)])
	*e = secretEntry{}
	return s
}
