package screen

import (
	"strings"
	"testing"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"
)

// typedText is the text that keys stand for; others are named.
func typedText(keys []tea.KeyMsg) string {
	var out strings.Builder
	for _, key := range keys {
		switch key.Type {
		case tea.KeyRunes, tea.KeySpace:
			out.WriteString(string(key.Runes))
		default:
			out.WriteString("<" + key.String() + ">")
		}
	}
	return out.String()
}

func TestDecoder(t *testing.T) {
	for bytes, want := range map[string]string{
		"a B\r\n\t":             "a B<enter><enter><tab>",
		"\x7f\b\x03\x15":        "<backspace><backspace><ctrl+c><ctrl+u>",
		"\x1b[A\x1bOPx\x1b[[By": "xy", // cursor and function keys
		"\x1b[15~z\x1b":         "z<esc>",
		"\x1b\x1bq":             "<esc><esc>q",
		"größe €":               "größe €",
		"gr\xf6\xdfe":           "größe", // ISO 8859-1
		"\xe9":                  "é",
		"\x85":                  "\u0085",
	} {
		var d Decoder
		var keys []tea.KeyMsg
		for _, b := range []byte(bytes) {
			keys = append(keys, d.Feed(b)...)
		}
		if keys = append(keys, d.Flush()...); typedText(keys) != want || d.Open() {
			t.Errorf("%q: got %q, want %q", bytes, typedText(keys), want)
		}
	}
}

// TestDecoderInPieces has a slow line: nothing of a cursor key is taken for a letter, and a character waits for its end.
func TestDecoderInPieces(t *testing.T) {
	var d Decoder
	for _, b := range []byte("\x1b[A") {
		if keys := d.Feed(b); keys != nil {
			t.Errorf("%q gives %q", b, typedText(keys))
		}
	}
	if d.Open() {
		t.Error("a cursor key is not over")
	}
	if keys := d.Feed(0xc3); keys != nil || !d.Open() {
		t.Errorf("half a character gives %q", typedText(keys))
	}
	if got := typedText(d.Feed(0xa9)); got != "é" {
		t.Errorf("got %q", got)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("a\x1b[Aé\xe9\x1b"))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		var d Decoder
		n := 0
		for _, b := range bytes {
			for _, key := range d.Feed(b) {
				n++
				for _, r := range key.Runes {
					if !utf8.ValidRune(r) {
						t.Errorf("rune %x", r)
					}
				}
			}
			if len(d.pending) >= utf8.UTFMax {
				t.Fatalf("%d bytes wait", len(d.pending))
			}
		}
		if n += len(d.Flush()); n > len(bytes) || d.Open() {
			t.Errorf("%d keys of %d bytes, or more to come", n, len(bytes))
		}
	})
}
