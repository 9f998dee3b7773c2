//go:build unix

package remediate

import (
	"errors"
	"syscall"
)

// volumeFull reports whether an error says that a volume has no room left.
func volumeFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }

// deviceFailed reports whether an error says that the disk, rather than one file,
// is the trouble.
func deviceFailed(err error) bool {
	for _, e := range []syscall.Errno{syscall.EIO, syscall.EROFS, syscall.ENODEV, syscall.ENXIO, syscall.ENOSPC} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
