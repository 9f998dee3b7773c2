//go:build unix

package remediate

import (
	"errors"
	"os"
	"syscall"
)

// notOffered reports whether a file system says that it cannot do such a thing, as
// some do of syncing directories and of links. An I/O error is never one of these.
func notOffered(err error) bool {
	for _, e := range []syscall.Errno{syscall.EINVAL, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EPERM, syscall.EMLINK} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func syncFile(f *os.File) error { return f.Sync() }

func syncDirectory(f *os.File) error {
	if err := f.Sync(); err != nil && !notOffered(err) {
		return err
	}
	return nil
}
