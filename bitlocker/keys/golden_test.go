package keys

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden shows all that was read; digits of keys too, which are no real ones.
func golden(l *List) string {
	var b strings.Builder
	for _, e := range l.Entries {
		id := "-"
		if e.HasID {
			id = e.ID.String()
		}
		fmt.Fprintf(&b, "line %d: %s %s computer=%q container=%q\n", e.Line, id, e.Password.Reveal(), e.Computer, e.Container)
	}
	for _, p := range l.Problems {
		fmt.Fprintf(&b, "line %d: %s: %s", p.Line, p.Kind, p.Reason)
		if !p.ID.IsZero() {
			fmt.Fprintf(&b, " [%s]", p.ID)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestGolden reads a sample of each dialect: what Windows saves in several languages, what tools print and export.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	samples := 0
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.IsDir() || strings.HasSuffix(file, ".golden") {
			continue
		}
		samples++
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			l, err := Read(bytes.NewReader(data), filepath.Base(file))
			if err != nil {
				t.Fatal(err)
			}
			got := golden(l)
			if *update {
				if err := os.WriteFile(file+".golden", []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file + ".golden")
			if err != nil || got != string(want) {
				t.Errorf("%v, got:\n%s\nwant:\n%s", err, got, want)
			}
		})
	}
	if samples < 15 {
		t.Errorf("only %d samples", samples)
	}
}

// TestReadPath reads all samples as a folder.
func TestReadPath(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string]string{
		"a/keys.csv":     "KeyID,RecoveryKey\n" + id1 + "," + key1 + "\n",
		"b/keys.txt":     "ID: {" + id2 + "}\n" + key2 + "\n",
		"again.csv":      "KeyID,RecoveryKey\n" + id1 + "," + key1 + "\n",
		".hidden/x.csv":  "KeyID,RecoveryKey\n," + key2 + "\n",
		"picture.png":    "\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR",
		"b/empty.txt":    "",
		"spreadsheet.db": "PK\x03\x04",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := ReadPath(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Entries) != 2 || l.Duplicates != 1 || len(l.Problems) != 3 {
		t.Errorf("%d duplicates:\n%s", l.Duplicates, render(l))
	}
	if _, err := ReadPath(t.Context(), filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}
