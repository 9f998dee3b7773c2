package keys

import (
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
)

func TestShapes(t *testing.T) {
	for _, text := range []string{id1, "00112233-4455-6677-8899-aAbBcCdDeEfF"} {
		want, err := bitlocker.ParseGUID(text)
		if err != nil || parseGUID(text) != want {
			t.Errorf("%s is read as %s (%v)", text, parseGUID(text), err)
		}
	}
	for text, want := range map[string]int{
		id1: 0, "{" + id1 + "}": 1, "x" + id1: -1, id1 + "1": -1, id1 + "-": -1, "é" + id1: 2, "-" + id1: 1, id1[1:]: -1, "": -1,
		"11111111-" + id1: 9,
	} {
		if got := findGUID(text, 0); got != want {
			t.Errorf("a GUID in %q at %d, want %d", text, got, want)
		}
	}
	for text, want := range map[string]string{
		key1:                       key1,
		"12 " + key1 + " x":        key1,
		"(" + key1 + ")":           key1,
		id1 + " " + key1:           key1,
		"2024-03-11 08:12 " + key1: key1,
		key1[:48]:                  key1[:48], // a group is missing
		key1[:41]:                  "",
		"":                         "",
		"1234567 12345":            "",
	} {
		start, end := findKey(text, 0)
		got := ""
		if start >= 0 {
			got = text[start:end]
		}
		if got != want {
			t.Errorf("a key in a text of %d bytes from %d to %d", len(text), start, end)
		}
	}
}
