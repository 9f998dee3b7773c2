package remediate

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Extended attributes under which the kernel's ntfs3 and ntfs-3g show a file's
// security descriptor and its DOS attributes. A new file would otherwise have the
// driver's own default, which lets everybody read it: no place for a registry hive.
var rightsAttributes = []string{"system.ntfs_security", "system.ntfs_acl", "system.ntfs_attrib"}

// copyRights gives one file the owner and rights of another.
func (t *tree) copyRights(from, to string) error {
	src, err := t.root.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := t.root.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dst.Close()
	for _, name := range rightsAttributes {
		want, err := readAttribute(src, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if want == nil {
			continue
		}
		if err := unix.Fsetxattr(int(dst.Fd()), name, want, 0); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if got, err := readAttribute(dst, name); err != nil || !bytes.Equal(got, want) {
			return errors.Join(fmt.Errorf("%s does not read back as it was written", name), err)
		}
	}
	return syncFile(dst)
}

// readAttribute returns nil where the file system has no such attribute.
func readAttribute(f *os.File, name string) ([]byte, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Fgetxattr(int(f.Fd()), name, buf)
	if errors.Is(err, unix.ENODATA) || notOffered(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// onFAT reports whether the tree lies on a FAT file system.
func (t *tree) onFAT() bool {
	f, err := t.root.Open(".")
	if err != nil {
		return false
	}
	defer f.Close()
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && st.Type == unix.MSDOS_SUPER_MAGIC
}
