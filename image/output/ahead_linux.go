package output

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriting asks the system to write what it holds of a file, without waiting. It is no promise, so a system that
// cannot does no harm.
func startWriting(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}
