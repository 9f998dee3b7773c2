package attach

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// FS names a file system of the kernel and how it is mounted here.
type FS struct {
	Type, Options string
}

// The file systems that the agent opens.
var (
	// NTFS shows file names as UTF-8.
	NTFS = FS{"ntfs3", "iocharset=utf8"}
	// NTFSForce also writes to a volume whose dirty flag is set. ntfs3 then leaves the flag as it is, so that
	// Windows still checks the volume on its next start.
	NTFSForce = FS{"ntfs3", "iocharset=utf8,force"}
	FAT       = FS{"vfat", "utf8,flush"}
	ExFAT     = FS{"exfat", "iocharset=utf8"}
	ISO9660   = FS{"iso9660", ""}
)

// Mount mounts device at dir, making dir if needed.
func Mount(device, dir string, fs FS, readonly bool) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	flags := uintptr(unix.MS_NOATIME | unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC)
	if readonly {
		flags |= unix.MS_RDONLY
	}
	err := unix.Mount(device, dir, fs.Type, flags, fs.Options)
	if err != nil {
		return fmt.Errorf("mounting %s as %s: %w", device, fs.Type, err)
	}
	return nil
}

// unmountTries bounds the wait for a file that is just being closed.
const unmountTries = 20

// Unmount takes the tree at dir away; what was written has then reached the device or an error is returned.
func Unmount(dir string) error {
	var err error
	for range unmountTries {
		if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", dir, err)
	}
	return nil
}

// SyncFS writes everything cached of the file system at dir to its device and reports write errors.
func SyncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("writing %s to its device: %w", dir, err)
	}
	return nil
}

// Flush writes a block device's cache out and drops it, so that whatever is read next comes from the device
// and not from memory. A write-protected disk can otherwise look repaired while nothing has reached it.
func Flush(device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fsync(int(f.Fd())); err != nil {
		return fmt.Errorf("flushing %s: %w", device, err)
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		return fmt.Errorf("dropping the cache of %s: %w", device, err)
	}
	return nil
}

// SetReadOnly makes the kernel refuse (or again allow) every write to a block device, whoever asks. Disks are
// guarded like this until a plan exists that needs them.
func SetReadOnly(device string, readonly bool) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	value := 0
	if readonly {
		value = 1
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, value); err != nil {
		return fmt.Errorf("setting %s read-only=%t: %w", device, readonly, err)
	}
	return nil
}
