package keys

import (
	"strings"
	"testing"
	"time"
)

// TestHostileTime reads texts of a megabyte that a parser takes minutes for if it looks at the rest of the text for
// each line or bracket.
func TestHostileTime(t *testing.T) {
	const n = 1 << 20
	for name, in := range map[string]string{
		"braces":        `{"a":1}` + "\n" + strings.Repeat("{\n", n/2),
		"nested lists":  strings.Repeat("[", n),
		"nested":        strings.Repeat(`{"a":`, n/5),
		"open quotes":   "KeyID,RecoveryKey\n" + strings.Repeat("\"a,b\n", n/5),
		"one digit":     strings.Repeat("1", n),
		"groups":        strings.Repeat("12345 ", n/6),
		"dashes":        strings.Repeat("-", n),
		"almost GUIDs":  strings.Repeat("11111111-2222-3333-4444-55555555550 ", n/36),
		"folded LDIF":   "dn: x\n" + strings.Repeat(" a\n", n/3),
		"commas":        "KeyID,RecoveryKey\n" + strings.Repeat(",", n),
		"line feeds":    strings.Repeat("\n", n),
		"returns":       strings.Repeat("\r", n),
		"old lines":     strings.Repeat("a\r", n/2),
		"feed far away": strings.Repeat("a\r", n/2) + "\n",
		"objects":       strings.Repeat(`{"key":"x","deviceId":"y","id":"`+id1+`"}`, n/70),
		"deep computer": strings.Repeat(`{"computerName":"x","b":[`, 30) + strings.Repeat(`{"recoveryKey":"z"},`, n/25) + "1" + strings.Repeat("]}", 30),
	} {
		start := time.Now()
		_, err := Read(strings.NewReader(in), "x")
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		} else {
			t.Log(name, took, err)
		}
	}
}
