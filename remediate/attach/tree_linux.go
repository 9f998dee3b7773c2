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
	"github.com/bootmend/bootmend/remediate/ntfsstate"
)

// What a computer may lack that its administrator can do something about.
var (
	// ErrNoDriver means that the kernel has no ntfs3.
	ErrNoDriver = errors.New("this kernel cannot write to NTFS: it has no ntfs3 driver")
	// ErrNoMapper means that the kernel cannot map a BitLocker volume.
	ErrNoMapper = errors.New("this kernel has no device mapper with its crypt and zero targets")
	// ErrJournal means that Windows left changes in the volume's journal that the kernel cannot bring to their places.
	ErrJournal = errors.New("what Windows left in the journal of this volume cannot be read here")
	// ErrInUse means that a device is mounted or held by something already.
	ErrInUse = errors.New("is in use")
)

// Tree is an NTFS volume mounted as a file tree.
type Tree struct {
	Dir string
	// Dirty is set where Windows had marked the volume to be checked at its next start. It keeps the mark.
	Dirty bool

	device, clear string
	mapping       *Mapping
	readonly      bool
	unmarked      bool // a file system whose mark the kernel looks after
}

// mapName is unlike any that another program has chosen.
func mapName() string { return fmt.Sprintf("bootmend-%d", os.Getpid()) }

// reach makes the clear volume a block device. table is the device-mapper table of an unlocked BitLocker volume, nil
// for any other.
func reach(device string, table []bitlocker.Target, readonly bool) (*Tree, error) {
	t := &Tree{device: device, clear: device, readonly: readonly}
	if table == nil {
		return t, nil
	}
	var err error
	if t.mapping, err = Map(mapName(), table, readonly); err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w: %w", ErrNoMapper, err)
		}
		return nil, err
	}
	t.clear = t.mapping.Device
	return t, nil
}

// leave takes the mapping away. What was written has then reached the device, and is read from there next time.
func (t *Tree) leave() error {
	var errs []error
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

// OpenTree mounts an NTFS volume at dir. table is the device-mapper table of an unlocked BitLocker volume, nil for any
// other.
//
// A volume to be written to is marked as dirty first, as Windows does with one that it wants checked, and loses the
// mark when the tree is closed. If the power fails in between, Windows checks the volume at its next start. Besides,
// ntfs3 then lets the record of $Volume alone, where it would else set and take away the mark at every step: a volume
// on which that record is torn cannot be mounted at all.
func OpenTree(device, dir string, table []bitlocker.Target, readonly bool) (*Tree, error) {
	t, err := reach(device, table, readonly)
	if err != nil {
		return nil, err
	}
	t.Dir = dir
	fs := NTFS
	if !readonly {
		fs = NTFSForce
		t.Dirty, err = setDirty(t.clear, true)
	}
	if err == nil {
		err = Mount(t.clear, dir, fs, readonly)
		if err != nil && !readonly {
			err = t.notMounted(err)
		}
	}
	if errors.Is(err, unix.ENODEV) {
		err = fmt.Errorf("%w: %w", ErrNoDriver, err)
	}
	if err != nil {
		return nil, errors.Join(err, t.leave())
	}
	return t, nil
}

// notMounted takes our mark from a volume that could not be mounted for writing, and tells why where that can be told.
func (t *Tree) notMounted(err error) error {
	if !t.Dirty {
		if _, markErr := setDirty(t.clear, false); markErr != nil {
			err = errors.Join(err, markErr)
		}
	}
	f, openErr := os.Open(t.clear)
	if openErr != nil {
		return err
	}
	defer f.Close()
	state, readErr := ntfsstate.Read(f)
	if readErr == nil && (state.Log == ntfsstate.LogInUse || state.Log == ntfsstate.LogDamaged) {
		return fmt.Errorf("%w (it is %s): %w", ErrJournal, state.Log, err)
	}
	return err
}

// OpenFAT mounts a FAT volume at dir, such as an EFI system partition. The kernel marks it as dirty as long as it is
// mounted for writing.
func OpenFAT(device, dir string, readonly bool) (*Tree, error) {
	t := &Tree{Dir: dir, device: device, clear: device, readonly: readonly, unmarked: true}
	return t, Mount(device, dir, FAT, readonly)
}

// Close takes the tree away. What was written has then reached the device, and is read from there next time. A
// volume on which not all went well, or that Windows had marked as dirty, is left marked.
func (t *Tree) Close(well bool) error {
	var errs []error
	if !t.readonly {
		errs = append(errs, SyncFS(t.Dir))
	}
	err := errors.Join(append(errs, Unmount(t.Dir))...)
	if err == nil && !t.readonly {
		err = Flush(t.clear)
		if err == nil && well && !t.Dirty && !t.unmarked {
			_, err = setDirty(t.clear, false)
		}
	}
	return errors.Join(err, t.leave())
}

// setDirty sets or takes away the mark of the volume on device and tells whether it was set.
func setDirty(device string, dirty bool) (was bool, err error) {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	state, err := ntfsstate.Read(f)
	if err != nil {
		return false, err
	}
	return state.Dirty, ntfsstate.SetDirty(f, dirty)
}

// ReadState tells what an NTFS volume says of its own health. It is not to be mounted for writing meanwhile.
func ReadState(device string, table []bitlocker.Target) (_ ntfsstate.State, err error) {
	t, err := reach(device, table, true)
	if err != nil {
		return ntfsstate.State{}, err
	}
	defer func() { err = errors.Join(err, t.leave()) }()
	f, err := os.Open(t.clear)
	if err != nil {
		return ntfsstate.State{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return ntfsstate.Read(f)
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
