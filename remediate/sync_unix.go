//go:build unix

package remediate

import (
	"errors"
	"os"
	"syscall"
)

// notOffered reports whether a file system says that it cannot sync this kind of
// thing, as some do for directories. An I/O error is never one of these.
func notOffered(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) ||
		errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS)
}

func syncFile(f *os.File) error { return f.Sync() }

func syncDirectory(f *os.File) error {
	if err := f.Sync(); err != nil && !notOffered(err) {
		return err
	}
	return nil
}
