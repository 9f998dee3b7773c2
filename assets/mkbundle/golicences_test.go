package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLicenceTexts(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/LICENSE": "MIT\r\nby A", "a/sub/NOTICE.txt": "A's notice", "a/licence_test.go": "package a",
		"b/COPYING": "MIT\nby A\n", "b/SQLite-LICENSE": "public domain",
		"c/README.md": "# c\n\n## Licence\n\nISC\n\n## Author\n\nC\n",
		"d/README.md": "# d\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dirs := map[string][]string{}
	for module, folders := range map[string]string{"a v1": "a a/sub", "b v2": "b", "c v3": "c"} {
		for _, folder := range strings.Fields(folders) {
			dirs[module] = append(dirs[module], filepath.Join(dir, folder))
		}
	}
	got, err := licenceTexts(dirs)
	if err != nil {
		t.Fatal(err)
	}
	for text, n := range map[string]int{
		"  a v1\n  b v2\n  c v3\n": 1, "a v1, b v2\n\nMIT\nby A\n": 1, "A's notice": 1, "public domain": 1, "ISC": 1, "package a": 0, "Author": 0, "by A": 1,
	} {
		if found := strings.Count(string(got), text); found != n {
			t.Errorf("%q is there %d times, want %d:\n%s", text, found, n, got)
		}
	}
	dirs["d v4"] = []string{filepath.Join(dir, "d")}
	if _, err := licenceTexts(dirs); err == nil || !strings.Contains(err.Error(), "d v4 has no licence file") {
		t.Errorf("a module without licence: %v", err)
	}
}
