package screen

import (
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"
)

// Decoder makes keys of the bytes that a terminal sends: UTF-8, or ISO 8859-1 where they are none. What cursor and
// function keys send (ECMA-48) is no key of ours, and may come in pieces on a slow line.
type Decoder struct {
	state   decodeState
	pending []byte // the beginning of a character
}

type decodeState int

const (
	decodeText   decodeState = iota
	decodeEscape             // after ESC
	decodeCursor             // in a sequence that a cursor or function key sends
)

// Feed takes one byte.
func (d *Decoder) Feed(b byte) []tea.KeyMsg {
	switch {
	case b == 0x1b:
		keys := d.Flush()
		d.state = decodeEscape
		return keys
	case d.state == decodeEscape && (b == '[' || b == 'O'):
		d.state = decodeCursor
		return nil
	case d.state == decodeCursor:
		if b >= 0x40 && b <= 0x7e && b != '[' { // "[" comes twice for the console's function keys
			d.state = decodeText
		}
		return nil
	}
	var keys []tea.KeyMsg
	if d.state == decodeEscape {
		keys = d.Flush()
	}
	if len(d.pending) > 0 || b >= 0x80 {
		return append(keys, d.character(b)...)
	}
	return append(keys, plainKey(b)...)
}

// character adds a byte to one that is not complete.
func (d *Decoder) character(b byte) []tea.KeyMsg {
	if len(d.pending) > 0 && (b < 0x80 || b >= 0xc0) { // it never will be
		return append(d.Flush(), d.Feed(b)...)
	}
	d.pending = append(d.pending, b)
	if !utf8.FullRune(d.pending) {
		return nil
	}
	r, size := utf8.DecodeRune(d.pending)
	if r == utf8.RuneError && size <= 1 {
		return d.Flush()
	}
	d.forget()
	return []tea.KeyMsg{{Type: tea.KeyRunes, Runes: []rune{r}}}
}

func (d *Decoder) forget() {
	clear(d.pending[:cap(d.pending)])
	d.pending = d.pending[:0]
}

// Flush is what is complete because nothing comes after it: the Escape key, or a character of ISO 8859-1.
func (d *Decoder) Flush() (keys []tea.KeyMsg) {
	if d.state == decodeEscape {
		keys = append(keys, tea.KeyMsg{Type: tea.KeyEsc})
		d.state = decodeText
	}
	for _, b := range d.pending {
		keys = append(keys, tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{rune(b)}})
	}
	d.forget()
	return keys
}

// Open reports whether Flush has something to say.
func (d *Decoder) Open() bool { return d.state == decodeEscape || len(d.pending) > 0 }

func plainKey(b byte) []tea.KeyMsg {
	key := tea.KeyMsg{Type: tea.KeyType(b)} // control characters are bubbletea's types
	switch {
	case b == '\n':
		key.Type = tea.KeyEnter
	case b == '\b':
		key.Type = tea.KeyBackspace
	case b == ' ':
		key = tea.KeyMsg{Type: tea.KeySpace, Runes: []rune{' '}}
	case b > ' ' && b < 0x7f:
		key = tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{rune(b)}}
	}
	return []tea.KeyMsg{key}
}
