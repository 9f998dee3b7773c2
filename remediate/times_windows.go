package remediate

import (
	"io/fs"
	"syscall"
	"time"
)

func moreTimes(_ fs.File, info fs.FileInfo, t *Times) {
	d, ok := info.Sys().(*syscall.Win32FileAttributeData)
	if !ok {
		return
	}
	t.Accessed = time.Unix(0, d.LastAccessTime.Nanoseconds()).UTC()
	t.Created = time.Unix(0, d.CreationTime.Nanoseconds()).UTC()
}
