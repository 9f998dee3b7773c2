package flash_test

import (
	"syscall"
	"testing"
)

func mountTmpfs(t testing.TB, dir, options string) error {
	if err := syscall.Mount("bootmend-test", dir, "tmpfs", 0, options); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return nil
}
