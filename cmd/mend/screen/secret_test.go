package screen

import (
	"bytes"
	"strings"
	"testing"
)

func TestSecret(t *testing.T) {
	for name, test := range map[string]struct{ keys, want, screen, serial string }{
		"plain":         {"open me", "open me", "*******", "*******"},
		"backspace":     {"ab\x7fc\x08d", "ad", "**" + left + "*" + left + "*", "**" + left + "*" + left + "*"},
		"nothing left":  {"\x7fa", "a", "*", "*"},
		"Ctrl-U":        {"ab\x15c", "c", "**" + left + left + "*", "**" + left + left + "*"},
		"Escape":        {"ab\x1bpen", "pen", "**" + left + left + "***", "**" + left + left + "***"},
		"cursor key":    {"\x1b[Aab\x1b[[Bc\x1b[15~d", "abcd", "****", "****"},
		"shown":         {"zy\tab\t", "zyab", "**\b\bzyab\b\b\b\b****", "****"},
		"control bytes": {"a\x00\x01b", "ab", "**", "**"},
		"not ASCII":     {"größe\x7f\x7f\x7f", "gr", "*****" + left + left + left, "*****" + left + left + left},
		"ISO 8859-1":    {"gr\xf6\xdfe", "größe", "*****", "*****"},
		"three bytes":   {"5 €", "5 €", "***", "***"},
		"shown umlaut":  {"\tö", "ö", "ö", "*"},
	} {
		e := &Secret{Ask: "passphrase: "}
		sum, _ := press(e, test.keys)
		if sum.Done {
			t.Errorf("%s: ended", name)
		}
		if end, _ := press(e, "\r"); !end.Done {
			t.Errorf("%s: not ended by Enter", name)
		}
		if sum.Screen != test.screen || sum.Serial != test.serial {
			t.Errorf("%s: screen %q, serial %q", name, sum.Screen, sum.Serial)
		}
		kept := e.text
		if got := e.Take(); got != test.want {
			t.Errorf("%s: got %q", name, got)
		}
		if len(bytes.Trim(kept[:cap(kept)], "\x00")) > 0 {
			t.Errorf("%s: something stayed", name)
		}
	}
}

func TestSecretIsBounded(t *testing.T) {
	var e Secret
	press(&e, strings.Repeat("x", 2*maxSecret))
	if rows := e.View(80, 10); len(rows) != 1 || len(rows[0]) > 100 {
		t.Errorf("shows %q", rows)
	}
	if len(e.Take()) != maxSecret {
		t.Error("no bound")
	}
}
