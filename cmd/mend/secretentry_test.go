package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestSecretEntry(t *testing.T) {
	for name, test := range map[string]struct{ keys, want, screen, serial string }{
		"plain":         {"open me", "open me", "*******", "*******"},
		"backspace":     {"ab\x7fc\x08d", "ad", "**" + left + "*" + left + "*", "**" + left + "*" + left + "*"},
		"nothing left":  {"\x7fa", "a", "*", "*"},
		"Ctrl-U":        {"ab\x15c", "c", "**" + left + left + "*", "**" + left + left + "*"},
		"Escape":        {"ab\x1bOpen", "Open", "**" + left + left + "****", "**" + left + left + "****"},
		"cursor key":    {"\x1b[Aab\x1b[[Bc\x1b[15~d", "d", "**" + left + left + "*" + left + "*", "**" + left + left + "*" + left + "*"},
		"shown":         {"zy\tab\t", "zyab", "**\b\bzyab\b\b\b\b****", "****"},
		"control bytes": {"a\x00\x01b", "ab", "**", "**"},
		"not ASCII":     {"größe\x7f\x7f\x7f", "gr", "*****" + left + left + left, "*****" + left + left + left},
		"shown umlaut":  {"\tö", "ö", "ö", "*"},
	} {
		var e secretEntry
		var screen, serial strings.Builder
		for _, b := range []byte(test.keys) {
			s, l := e.feed(b)
			screen.WriteString(s)
			serial.WriteString(l)
		}
		if e.ended {
			t.Errorf("%s: ended", name)
		}
		e.feed('\r')
		if !e.ended {
			t.Errorf("%s: not ended by Enter", name)
		}
		if screen.String() != test.screen || serial.String() != test.serial {
			t.Errorf("%s: screen %q, serial %q", name, screen.String(), serial.String())
		}
		kept := e.text
		if got := e.take(); got != test.want {
			t.Errorf("%s: got %q", name, got)
		}
		if len(bytes.Trim(kept[:cap(kept)], "\x00")) > 0 || e.ended {
			t.Errorf("%s: something stayed", name)
		}
	}
}

func TestSecretEntryIsBounded(t *testing.T) {
	var e secretEntry
	for range 2 * maxSecret {
		e.feed('x')
	}
	if len(e.take()) != maxSecret {
		t.Error("no bound")
	}
}
