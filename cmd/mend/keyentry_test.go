package main

import (
	"strings"
	"testing"
)

// A made-up recovery password whose groups are all multiples of 11.
const typed = "110011-220022-330033-440044-550055-660066-111111-222222"

func TestKeyEntry(t *testing.T) {
	for name, tc := range map[string]struct {
		keys  string
		done  bool
		bells int
		shows string
	}{
		"with dashes":            {keys: typed, done: true},
		"scanner without dashes": {keys: strings.ReplaceAll(typed, "-", "") + "\r", done: true},
		"wrong digit in group 3": {keys: "110011220022330034" + "330033" + "440044550055660066111111222222", done: true, bells: 1, shows: "group 3 is not valid"},
		"group too large":        {keys: "720896", bells: 1, shows: "group 1 is not valid"},
		"early enter":            {keys: "1100\r11" + typed[6:], done: true, bells: 1, shows: "4 of 6 digits"},
		"backspace":              {keys: "12\b\b" + typed, done: true},
		"backspace over border":  {keys: "110011\x7f1" + typed[6:], done: true},
		"backspace on nothing":   {keys: "\b\b" + typed, done: true},
		"letters are ignored":    {keys: "x1y1z0011" + typed[6:], done: true},
		"delete and cursor keys": {keys: "110011\x1b[3~\x1b[A\x1b[[A\x1bOP" + typed[6:], done: true},
		"American with Shift":    {keys: shifted(typed, shiftedDigits), done: true},
		"French":                 {keys: "\xc3\xa9-" + "\b\b" + french(typed), done: true},
		"French, seen late":      {keys: "&&&&&&" + french("110011") + french(typed), done: true, bells: 2, shows: "group 1 is not valid"},
		"unfinished":             {keys: typed[:20]},
	} {
		t.Run(name, func(t *testing.T) {
			var k keyEntry
			var screen strings.Builder
			bells := 0
			for _, b := range []byte(tc.keys) {
				echo, bell := k.feed(b)
				screen.WriteString(echo)
				if bell {
					bells++
				}
			}
			if k.done() != tc.done || bells != tc.bells || !strings.Contains(screen.String(), tc.shows) {
				t.Fatalf("done %t, bells %d, screen %q", k.done(), bells, screen.String())
			}
			if !tc.done {
				return
			}
			p, err := k.password()
			if err != nil || p.Reveal() != typed {
				t.Fatalf("got another key (%v)", err)
			}
		})
	}
}

func FuzzKeyEntry(f *testing.F) {
	f.Add([]byte(typed))
	f.Add([]byte("123456\b\b\b\b\b\b\b"))
	f.Fuzz(func(t *testing.T, keys []byte) {
		var k keyEntry
		for _, b := range keys {
			k.feed(b)
		}
		if k.done() {
			if _, err := k.password(); err != nil {
				t.Fatalf("groups were accepted one by one, the whole was not: %v", err)
			}
		}
	})
}

// shifted replaces digits by what a keyboard sends in their place.
func shifted(digits string, keyboard map[byte]byte) string {
	sends := map[byte]byte{}
	for b, d := range keyboard {
		sends[d] = b
	}
	var out []byte
	for _, d := range []byte(digits) {
		if b, ok := sends[d]; ok {
			d = b
		}
		out = append(out, d)
	}
	return string(out)
}

// french is the same for a French keyboard, in UTF-8. It has no dashes, for its six is one.
func french(digits string) string {
	var out []rune
	for _, b := range []byte(shifted(strings.ReplaceAll(digits, "-", ""), frenchDigits)) {
		out = append(out, rune(b))
	}
	return string(out)
}
