package screen

import (
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// A made-up recovery password whose groups are all multiples of 11.
const typedKey = "110011-220022-330033-440044-550055-660066-111111-222222"

// slowly is a person's clock: a second between two looks at it.
func slowly() func() time.Time {
	now := time.Unix(1721365740, 0)
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

// press decodes what a terminal sends and hands it to an entry.
func press(e Entry, bytes string) (sum Reaction, bells int) {
	var d Decoder
	each := func(keys []tea.KeyMsg) {
		for _, key := range keys {
			if sum.Done {
				return
			}
			r := e.Key(key)
			if sum = sum.then(r); r.Bell {
				bells++
			}
		}
	}
	for _, b := range []byte(bytes) {
		each(d.Feed(b))
	}
	each(d.Flush())
	return sum, bells
}

func TestRecovery(t *testing.T) {
	for name, tc := range map[string]struct {
		keys  string
		done  bool
		bells int
		shows string
	}{
		"with dashes":            {keys: typedKey, done: true},
		"scanner without dashes": {keys: strings.ReplaceAll(typedKey, "-", "") + "\r", done: true},
		"wrong digit in group 3": {keys: "110011220022330034" + "330033" + "440044550055660066111111222222", done: true, bells: 1, shows: "group 3 is not valid"},
		"group too large":        {keys: "720896", bells: 1, shows: "group 1 is not valid"},
		"early enter":            {keys: "1100\r11" + typedKey[6:], done: true, bells: 1, shows: "4 of 6 digits"},
		"backspace":              {keys: "12\b\b" + typedKey, done: true},
		"backspace over border":  {keys: "110011\x7f1" + typedKey[6:], done: true},
		"backspace on nothing":   {keys: "\b\b" + typedKey, done: true},
		"letters are ignored":    {keys: "x1y1z0011" + typedKey[6:], done: true},
		"delete and cursor keys": {keys: "110011\x1b[3~\x1b[A\x1b[[A\x1bOP" + typedKey[6:], done: true},
		"American with Shift":    {keys: shifted(typedKey, shiftedDigits), done: true},
		"French":                 {keys: "é-" + "\b\b" + french(typedKey), done: true},
		"French in ISO 8859-1":   {keys: "\xe9-" + "\b\b" + latin1(french(typedKey)), done: true},
		"French, seen late":      {keys: "&&&&&&" + french("110011") + french(typedKey), done: true, bells: 2, shows: "group 1 is not valid"},
		"unfinished":             {keys: typedKey[:20]},
	} {
		t.Run(name, func(t *testing.T) {
			k := &Recovery{now: slowly()}
			sum, bells := press(k, tc.keys)
			if sum.Done != tc.done || bells != tc.bells || !strings.Contains(sum.Serial, tc.shows) || sum.Serial != sum.Screen {
				t.Fatalf("done %t, bells %d, screen %q", sum.Done, bells, sum.Screen)
			}
			if tc.done {
				expectKey(t, k)
			}
		})
	}
}

func expectKey(t *testing.T, k *Recovery) {
	t.Helper()
	if p, err := k.Password(); err != nil || p.Reveal() != typedKey {
		t.Fatalf("got another key (%v)", err)
	}
}

// TestRecoveryPaste drops what a paste sends on after a wrong group: it would land in the wrong places.
func TestRecoveryPaste(t *testing.T) {
	bad := strings.Replace(typedKey, "330033", "330034", 1)
	for name, paste := range map[string][]tea.KeyMsg{
		"one message": {{Type: tea.KeyRunes, Runes: []rune(bad)}},
		"key by key":  keysOf(bad),
	} {
		now := time.Unix(1721365740, 0)
		k := &Recovery{now: func() time.Time {
			now = now.Add(2 * time.Millisecond)
			return now
		}}
		for _, key := range paste {
			if k.Key(key).Done {
				t.Fatalf("%s: done", name)
			}
		}
		if got := k.Prompt(); got != "  key: 110011-220022-" {
			t.Errorf("%s: left %q", name, got)
		}
		now = now.Add(time.Second)
		if !k.Key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(typedKey[14:])}).Done {
			t.Fatalf("%s: the rest does not complete it", name)
		}
		expectKey(t, k)

		// A scanner ends with Enter, and may be used again at once.
		k = &Recovery{now: func() time.Time { return now }}
		var sum Reaction
		for _, key := range append(append(keysOf("1"+"2"+bad), tea.KeyMsg{Type: tea.KeyEnter}), keysOf(typedKey)...) {
			sum = sum.then(k.Key(key))
		}
		if !sum.Done {
			t.Fatalf("%s: a second scan does not complete it", name)
		}
		expectKey(t, k)
	}
}

func TestRecoveryLetters(t *testing.T) {
	k := &Recovery{Letters: "sp", now: slowly()}
	if sum, _ := press(k, "1100xP"); !sum.Done || k.Letter != 'p' {
		t.Errorf("done %t, letter %q", sum.Done, k.Letter)
	}
	k = &Recovery{Letters: "s", now: slowly()}
	if sum, _ := press(k, "\x1bOSp"); sum.Done {
		t.Error("the end of a function key is taken for a letter")
	}
	k.Forget()
	if k.Prompt() != keyPrompt {
		t.Error("not forgotten")
	}
}

func keysOf(s string) (keys []tea.KeyMsg) {
	for _, r := range s {
		keys = append(keys, tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
	}
	return keys
}

func FuzzRecovery(f *testing.F) {
	f.Add(typedKey)
	f.Add("123456\b\b\b\b\b\b\b")
	f.Fuzz(func(t *testing.T, keys string) {
		k := &Recovery{now: slowly()}
		sum, _ := press(k, keys)
		for _, row := range k.View(80, 10) {
			if len(row) > 200 {
				t.Errorf("row %q", row)
			}
		}
		if sum.Done {
			if _, err := k.Password(); err != nil {
				t.Fatalf("groups were accepted one by one, the whole was not: %v", err)
			}
		}
	})
}

// shifted replaces digits by what a keyboard sends in their place.
func shifted(digits string, keyboard map[rune]rune) string {
	sends := map[rune]rune{}
	for b, d := range keyboard {
		sends[d] = b
	}
	return strings.Map(func(d rune) rune {
		if b, ok := sends[d]; ok {
			return b
		}
		return d
	}, digits)
}

// french is the same for a French keyboard. It has no dashes, for its six is one.
func french(digits string) string { return shifted(strings.ReplaceAll(digits, "-", ""), frenchDigits) }

func latin1(s string) string {
	var out []byte
	for _, r := range s {
		out = append(out, byte(r))
	}
	return string(out)
}
