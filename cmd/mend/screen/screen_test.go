package screen

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

var key = Key{Computer: "FRONTDESK-7", ID: "8F716353-7FA6-4FE6-8C27-1D1F3A4B5C6D"}

// TestGolden compares pages with files that were looked at. BOOTMEND_UPDATE=1 writes them anew.
func TestGolden(t *testing.T) {
	sizes := map[string][2]int{"80x25": {80, 25}, "160x50": {160, 50}, "200x60": {200, 60}}
	for name, size := range sizes {
		width, height := size[0], size[1]
		header := Header("Lenovo 20XW, serial number PF2ABCDE", Unlock, width)
		room := height - len(header) - MinLines
		for page, rows := range map[string][]string{
			"question": Question(key, width, room),
			"unnamed":  Question(Key{ID: key.ID}, width, room),
			"healed":   Result("HEALED", width, room),
			"not-ok":   Result("NOT OK", width, room),
			"dry":      Result("DRY RUN", width, room),
			"ok":       Result("OK", width, room),
		} {
			t.Run(page+"-"+name, func(t *testing.T) {
				if rows == nil {
					t.Fatal("does not fit")
				}
				rows := append(header[:len(header):len(header)], rows...)
				if len(rows) > height-MinLines {
					t.Errorf("%d rows", len(rows))
				}
				got := ""
				for _, row := range rows {
					got += shown(row, width) + "\n"
				}
				golden(t, page+"-"+name, got)
			})
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if os.Getenv("BOOTMEND_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// shown is a row as it stands on the display; a row that is too long would break.
func shown(row string, width int) string {
	text := ansi.Strip(row)
	if n := ansi.StringWidth(text); n >= width {
		return "TOO LONG: " + text
	}
	return strings.TrimRight(text, " ")
}

func TestTooSmall(t *testing.T) {
	if Question(key, 60, 40) != nil || Question(key, 80, 15) != nil {
		t.Error("a question that does not fit")
	}
	if Result("NOT HEALED", 40, 40) != nil || Result("HEALED", 80, 8) != nil {
		t.Error("a result that does not fit")
	}
	if Result("ß", 80, 25) != nil {
		t.Error("a letter that there is none of")
	}
	if Question(Key{Computer: strings.Repeat("long", 200), ID: key.ID}, 80, 17) != nil {
		t.Error("a code that does not fit")
	}
}
