package output

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, []byte("older"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("newer"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "older" {
		t.Fatalf("the file changed to %q before it was complete", got)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Discard() // as deferred by callers
	if got := read(t, path); got != "newer" {
		t.Fatalf("got %q", got)
	}
	alone(t, path)
}

func TestDiscard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f, err := Create(path, false)
	if err != nil {
		t.Fatal(err)
	}
	f.Discard()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 0 {
		t.Fatalf("left behind: %v, %v", entries, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir:                               "is a folder",
		os.DevNull:                        "is a device",
		filepath.Join(dir, "no", "where"): "choose a folder",
	} {
		if _, err := Create(path, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestExplain(t *testing.T) {
	f := &File{path: "heal.iso"}
	for want, err := range map[string]error{
		"nothing was left behind": fmt.Errorf("copying: %w", context.Canceled),
		"heal.iso: bad":           errors.New("bad"),
	} {
		if got := f.Explain(err, 1<<20); !strings.Contains(got.Error(), want) || !errors.Is(got, err) {
			t.Errorf("got %v", got)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// alone makes sure that nothing but the file is in its folder.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Fatalf("in the folder: %v, %v", entries, err)
	}
}
