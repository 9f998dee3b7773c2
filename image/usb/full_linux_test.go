package usb

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDiskFull builds onto a file system that is too small.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("bootmend-test", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "out.img")
	if err := os.WriteFile(path, []byte("older"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Write(context.Background(), path, testSpec(t), 0, nil)
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "MiB: make room") {
		t.Errorf("got %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "older" {
		t.Errorf("what was there is %q (%v)", got, err)
	}
}
