package remediate

import (
	"errors"

	"golang.org/x/sys/windows"
)

// volumeFull reports whether an error says that a volume has no room left.
func volumeFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// deviceFailed reports whether an error says that the disk, rather than one file,
// is the trouble.
func deviceFailed(err error) bool {
	for _, e := range []error{
		windows.ERROR_WRITE_PROTECT, windows.ERROR_NOT_READY, windows.ERROR_CRC, windows.ERROR_IO_DEVICE,
		windows.ERROR_DISK_FULL, windows.ERROR_DEVICE_NOT_CONNECTED,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
