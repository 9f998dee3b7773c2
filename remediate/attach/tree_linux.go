package attach

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/bitlocker"
)

// What a computer may lack that its administrator can do something about.
var (
	// ErrNoDriver means that the kernel has no ntfs3.
	ErrNoDriver = errors.New("this kernel cannot write to NTFS: it has no ntfs3 driver")
	// ErrNoMapper means that the kernel cannot map a BitLocker volume.
	ErrNoMapper = errors.New("this kernel has no device mapper with its crypt and zero targets")
	// ErrInUse means that a device is mounted or held by something already.
	ErrInUse = errors.New("is in use")
)

// Tree is an NTFS volume mounted as a file tree.
type Tree struct {
	Dir string

	device   string
	mapping  *Mapping
	readonly bool
}

// OpenTree mounts an NTFS volume at dir. table is the device-mapper table of an unlocked BitLocker volume, nil for any
// other. A volume that Windows marked for a check is mounted for writing all the same; it keeps the mark.
func OpenTree(device, dir string, table []bitlocker.Target, readonly bool) (_ *Tree, err error) {
	t := &Tree{Dir: dir, device: device, readonly: readonly}
	if table != nil {
		if t.mapping, err = Map(fmt.Sprintf("bootmend-%d", os.Getpid()), table, readonly); err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
				err = fmt.Errorf("%w: %w", ErrNoMapper, err)
			}
			return nil, err
		}
		device = t.mapping.Device
	}
	err = Mount(device, dir, NTFS, readonly)
	if errors.Is(err, ErrDirty) {
		err = Mount(device, dir, NTFSForce, readonly)
	}
	if err != nil && t.mapping != nil {
		err = errors.Join(err, t.mapping.Remove())
	}
	if errors.Is(err, unix.ENODEV) {
		err = fmt.Errorf("%w: %w", ErrNoDriver, err)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Close takes the tree away. What was written has then reached the device, and is read from there next time.
func (t *Tree) Close() error {
	var errs []error
	if !t.readonly {
		errs = append(errs, SyncFS(t.Dir))
	}
	errs = append(errs, Unmount(t.Dir))
	if t.mapping != nil {
		if !t.readonly {
			errs = append(errs, Flush(t.mapping.Device))
		}
		errs = append(errs, t.mapping.Remove())
	}
	if !t.readonly {
		errs = append(errs, Flush(t.device))
	}
	return errors.Join(errs...)
}

// PartitionAt finds the device node of the partition of a disk that begins at a byte offset.
func PartitionAt(disk string, offset int64) (string, error) {
	dir, err := sysfsDir(disk)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		part := filepath.Join(dir, e.Name())
		if number(filepath.Join(part, "partition")) > 0 && number(filepath.Join(part, "start"))*512 == offset {
			return "/dev/" + strings.ReplaceAll(e.Name(), "!", "/"), nil
		}
	}
	return "", fmt.Errorf("the kernel knows no partition of %s at byte %d: have it read the table again, with partprobe or by plugging the disk in anew", disk, offset)
}

func sysfsDir(device string) (string, error) {
	major, minor, err := numbers(device)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
}

func numbers(device string) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return 0, 0, &os.PathError{Op: "stat", Path: device, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("%s is no block device", device)
	}
	return unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}

// CheckFree makes sure that nothing on this computer uses a volume: it is neither mounted nor held by a mapping.
func CheckFree(device string) error {
	major, minor, err := numbers(device)
	if err != nil {
		return err
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer mounts.Close()
	if at := mountedAt(bufio.NewScanner(mounts), fmt.Sprintf("%d:%d", major, minor)); at != "" {
		return fmt.Errorf("%s %w: it is mounted at %s", device, ErrInUse, at)
	}
	dir, err := sysfsDir(device)
	if err != nil {
		return err
	}
	if holders, err := os.ReadDir(filepath.Join(dir, "holders")); err == nil && len(holders) > 0 {
		return fmt.Errorf("%s %w: %s is made from it", device, ErrInUse, holders[0].Name())
	}
	return nil
}

// mountedAt reads the format of /proc/self/mountinfo (proc(5)): the third field is the device, the fifth the folder.
func mountedAt(mounts *bufio.Scanner, device string) string {
	for mounts.Scan() {
		fields := strings.Fields(mounts.Text())
		if len(fields) > 4 && fields[2] == device {
			return unescape(fields[4])
		}
	}
	return ""
}

// unescape undoes the octal escapes for blanks in the fields of mountinfo.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
