package remediate

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// linksFirst: neither ntfs3 nor ntfs-3g writes NTFS's journal.
const linksFirst = true

// damagedEntry reports whether an error is what ntfs3 says of a directory entry whose
// record is not what the entry says.
func damagedEntry(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) }

// forgetInodes has the kernel forget the files that nobody uses (proc(5),
// /proc/sys/vm/drop_caches). It gives each that was used lately a second chance, so it
// is told more than once.
func forgetInodes() bool {
	for range 4 {
		if os.WriteFile("/proc/sys/vm/drop_caches", []byte("2\n"), 0) != nil {
			return false
		}
	}
	return true
}

// renameNoReplace renames with RENAME_NOREPLACE, which ntfs3 knows; FUSE file
// systems without it get the portable form.
func renameNoReplace(root *os.Root, from, to string) error {
	fromDir, err := root.Open(path.Dir(from))
	if err != nil {
		return err
	}
	defer fromDir.Close()
	toDir, err := root.Open(path.Dir(to))
	if err != nil {
		return err
	}
	defer toDir.Close()
	err = unix.Renameat2(int(fromDir.Fd()), path.Base(from), int(toDir.Fd()), path.Base(to), unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		return renameChecked(root, from, to)
	case errors.Is(err, unix.EEXIST):
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

// syncFileSystem flushes the file system that f, a directory, lies on. ntfs3's syncfs
// sends everything to the disk but leaves it in the disk's cache (seen in a record of
// its writes, Linux 6.12); fsync is what empties that.
func syncFileSystem(f *os.File) error {
	if err := unix.Syncfs(int(f.Fd())); err != nil && !notOffered(err) {
		return err
	}
	return syncDirectory(f)
}
