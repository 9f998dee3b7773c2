package screen

import (
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	for name, tc := range map[string]struct {
		in    string
		width int
		want  string
	}{
		"fits":               {"  stays: a.sys", 40, "  stays: a.sys"},
		"no width":           {strings.Repeat("word ", 50), 0, strings.Repeat("word ", 50)},
		"breaks and indents": {"  one two three four", 12, "  one two\r\n    three\r\n    four"},
		"long word":          {"  moved: Windows/System32/drivers/x.sys", 20, "  moved:\r\n    Windows/System32/drivers/x.sys"},
		"not ASCII":          {"äöü äöü äöü", 8, "äöü äöü\r\n  äöü"},
		"empty":              {"", 10, ""},
	} {
		if got := Wrap(tc.in, tc.width); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}
