package remediate

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// moreTimes asks for the time of creation too, which ntfs3 keeps.
func moreTimes(f fs.File, _ fs.FileInfo, t *Times) {
	file, ok := f.(*os.File)
	if !ok {
		return
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	var st unix.Statx_t
	var statErr error
	err = raw.Control(func(fd uintptr) {
		statErr = unix.Statx(int(fd), "", unix.AT_EMPTY_PATH|unix.AT_STATX_SYNC_AS_STAT, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	})
	if err != nil || statErr != nil {
		return
	}
	at := func(s unix.StatxTimestamp) time.Time { return time.Unix(s.Sec, int64(s.Nsec)).UTC() }
	if st.Mask&unix.STATX_ATIME != 0 {
		t.Accessed = at(st.Atime)
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		t.Created = at(st.Btime)
	}
}
