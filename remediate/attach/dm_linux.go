package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/bitlocker"
)

// Mapping is an active device-mapper device.
type Mapping struct {
	// Device is its node, /dev/dm-N.
	Device string
	name   string
}

// Layout of the device-mapper ioctls: linux/dm-ioctl.h, version 4.
const (
	dmHeaderSize = int(unsafe.Sizeof(unix.DmIoctl{}))
	dmSpecSize   = int(unsafe.Sizeof(unix.DmTargetSpec{}))
	dmControl    = "/dev/" + unix.DM_DIR + "/" + unix.DM_CONTROL_NODE
)

// Map activates targets as the device-mapper device name. With readonly set, the kernel itself refuses every
// write through the mapping. The table holds the volume's key: the kernel is told to wipe its copy of the
// request, and ours is wiped here.
func Map(name string, targets []bitlocker.Target, readonly bool) (_ *Mapping, err error) {
	if name == "" || len(name) >= unix.DM_NAME_LEN {
		return nil, fmt.Errorf("device-mapper name %q: must be 1 to %d bytes", name, unix.DM_NAME_LEN-1)
	}
	control, err := os.OpenFile(dmControl, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("device-mapper is not available in this kernel: %w", err)
	}
	defer control.Close()

	flags := uint32(0)
	if readonly {
		flags = unix.DM_READONLY_FLAG
	}
	created, err := dmCall(control, unix.DM_DEV_CREATE, name, flags, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("creating device-mapper device %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_, rmErr := dmCall(control, unix.DM_DEV_REMOVE, name, 0, 0, nil)
			err = errors.Join(err, rmErr)
		}
	}()

	table := encodeTargets(targets)
	defer clear(table)
	if _, err = dmCall(control, unix.DM_TABLE_LOAD, name, flags|unix.DM_SECURE_DATA_FLAG, len(targets), table); err != nil {
		return nil, fmt.Errorf("loading the table of %s: %w (is a cipher module missing?)", name, err)
	}
	if _, err = dmCall(control, unix.DM_DEV_SUSPEND, name, flags, 0, nil); err != nil { // without the suspend flag: resume
		return nil, fmt.Errorf("activating %s: %w", name, err)
	}
	return &Mapping{Device: filepath.Join("/dev", fmt.Sprintf("dm-%d", unix.Minor(created.Dev))), name: name}, nil
}

// Remove takes the mapping away; it fails while something is mounted from it.
func (m *Mapping) Remove() error {
	control, err := os.OpenFile(dmControl, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	if _, err := dmCall(control, unix.DM_DEV_REMOVE, m.name, 0, 0, nil); err != nil {
		return fmt.Errorf("removing device-mapper device %s: %w", m.name, err)
	}
	return nil
}

// encodeTargets lays out dm_target_spec structures, each followed by its parameters and a NUL, padded to 8.
func encodeTargets(targets []bitlocker.Target) []byte {
	var out []byte
	for _, t := range targets {
		next := (dmSpecSize + len(t.Params) + 1 + 7) &^ 7
		spec := make([]byte, next)
		binary.NativeEndian.PutUint64(spec[0:], t.Start)
		binary.NativeEndian.PutUint64(spec[8:], t.Length)
		binary.NativeEndian.PutUint32(spec[20:], uint32(next))
		copy(spec[24:24+unix.DM_MAX_TYPE_NAME-1], t.Type)
		copy(spec[dmSpecSize:], t.Params)
		out = append(out, spec...)
	}
	return out
}

func dmCall(control *os.File, request uint, name string, flags uint32, count int, payload []byte) (*unix.DmIoctl, error) {
	// The kernel may answer with more than it was sent.
	buf := make([]byte, max(dmHeaderSize+len(payload), 4096))
	defer clear(buf)
	header := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	header.Version = [3]uint32{unix.DM_VERSION_MAJOR, 0, 0}
	header.Data_size = uint32(len(buf))
	header.Data_start = uint32(dmHeaderSize)
	header.Target_count = uint32(count)
	header.Flags = flags
	copy(header.Name[:len(header.Name)-1], name)
	copy(buf[dmHeaderSize:], payload)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), uintptr(request), uintptr(unsafe.Pointer(&buf[0]))); errno != 0 {
		return nil, errno
	}
	result := *header
	return &result, nil
}
