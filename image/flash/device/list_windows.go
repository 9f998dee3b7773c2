package device

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// Control codes of winioctl.h, which x/sys does not have. None but lengthInfo needs an administrator.
const (
	ioctlStorageQueryProperty   = 0x2d1400
	ioctlStorageGetDeviceNumber = 0x2d1080
	ioctlDiskGetLengthInfo      = 0x7405c
	ioctlDiskGetGeometryEx      = 0x700a0
	ioctlDiskIsWritable         = 0x70024
	ioctlDiskUpdateProperties   = 0x70140
	ioctlVolumeGetDiskExtents   = 0x560000
	fsctlLockVolume             = 0x90018
	fsctlDismountVolume         = 0x90020
)

// diskInterface is GUID_DEVINTERFACE_DISK.
var diskInterface = windows.GUID{Data1: 0x53f56307, Data2: 0xb6bf, Data3: 0x11d0, Data4: [8]byte{0x94, 0xf2, 0x00, 0xa0, 0xc9, 0x1e, 0xfb, 0x8b}}

// List finds the disks of the machine. The names of loop devices mean nothing here.
func List(...string) ([]Device, error) {
	paths, err := windows.CM_Get_Device_Interface_List("", &diskInterface, windows.CM_GET_DEVICE_INTERFACE_LIST_PRESENT)
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	volumes, err := listVolumes()
	if err != nil {
		return nil, err
	}
	var list []Device
	for _, path := range paths {
		if path == "" {
			continue
		}
		d, number, err := describe(path)
		if err != nil || d.Size == 0 {
			continue // unplugged while we looked, or a card reader without a card
		}
		for _, v := range volumes {
			if !slices.Contains(v.disks, number) {
				continue
			}
			d.System = d.System || v.system
			for _, m := range v.mounts {
				add(&d.Mounts, m)
			}
		}
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Device) int {
		if n := len(a.Path) - len(b.Path); n != 0 {
			return n
		}
		return strings.Compare(a.Path, b.Path)
	})
	return list, nil
}

// describe asks a disk what it is.
func describe(path string) (Device, uint32, error) {
	h, err := openHandle(path, 0)
	if err != nil {
		return Device{}, 0, err
	}
	defer func() { _ = windows.CloseHandle(h) }()
	answer, err := control(h, ioctlStorageGetDeviceNumber, nil, 12)
	if err != nil {
		return Device{}, 0, err
	}
	number, err := parseDeviceNumber(answer)
	if err != nil {
		return Device{}, 0, err
	}
	d := Device{Path: fmt.Sprintf(`\\.\PhysicalDrive%d`, number), Bus: "other", SectorSize: 512}
	// STORAGE_PROPERTY_QUERY: StorageDeviceProperty, PropertyStandardQuery, both 0.
	if answer, err = control(h, ioctlStorageQueryProperty, make([]byte, 12), 4096); err == nil {
		s, err := parseStorageDescriptor(answer)
		if err != nil {
			return d, number, err
		}
		d.Model, d.Serial, d.Bus, d.Removable = s.model, s.serial, s.bus, s.removable
	}
	if answer, err = control(h, ioctlDiskGetGeometryEx, nil, 256); err != nil {
		return d, number, err
	}
	if d.SectorSize, d.Size, err = parseGeometry(answer); err != nil {
		return d, number, err
	}
	if _, err := control(h, ioctlDiskIsWritable, nil, 0); err == windows.ERROR_WRITE_PROTECT {
		d.ReadOnly = true
	}
	return d, number, nil
}

// volume is a file system that Windows knows.
type volume struct {
	path   string // \\?\Volume{GUID}, without the last backslash: the volume, not its root folder
	disks  []uint32
	mounts []string
	system bool
}

func listVolumes() ([]volume, error) {
	name := make([]uint16, windows.MAX_PATH+1)
	find, err := windows.FindFirstVolume(&name[0], uint32(len(name)))
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	defer func() { _ = windows.FindVolumeClose(find) }()
	systemDir, err := windows.GetSystemWindowsDirectory()
	if err != nil {
		return nil, fmt.Errorf("find the system's volume: %w", err)
	}
	systemRoot := strings.ToUpper(systemDir[:min(len(systemDir), 3)]) // C:\
	boot := bootDisks()
	var list []volume
	for {
		root := windows.UTF16ToString(name)
		v := volume{path: strings.TrimSuffix(root, `\`), mounts: mountPoints(root)}
		v.disks = volumeDisks(v.path)
		v.system = slices.ContainsFunc(v.mounts, func(m string) bool { return strings.ToUpper(m) == systemRoot }) ||
			slices.ContainsFunc(v.disks, func(n uint32) bool { return slices.Contains(boot, n) })
		list = append(list, v)
		if err := windows.FindNextVolume(find, &name[0], uint32(len(name))); err == windows.ERROR_NO_MORE_FILES {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("list volumes: %w", err)
		}
	}
}

// bootDisks are the disks of the partition that the machine was started from.
func bootDisks() []uint32 {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\Setup`, registry.QUERY_VALUE)
	if err != nil {
		return nil
	}
	defer func() { _ = key.Close() }()
	name, _, err := key.GetStringValue("SystemPartition") // \Device\HarddiskVolume1
	if err != nil {
		return nil
	}
	return volumeDisks(`\\?\GLOBALROOT` + name)
}

// volumeDisks are the numbers of the disks that a volume lies on; none for a CD.
func volumeDisks(path string) []uint32 {
	h, err := openHandle(path, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = windows.CloseHandle(h) }()
	answer, err := control(h, ioctlVolumeGetDiskExtents, nil, 8+24*256)
	if err != nil {
		return nil
	}
	disks, err := parseDiskExtents(answer)
	if err != nil {
		return nil
	}
	return disks
}

// mountPoints are the letters and folders of a volume.
func mountPoints(root string) []string {
	name, err := windows.UTF16PtrFromString(root)
	if err != nil {
		return nil
	}
	buf := make([]uint16, 1<<14)
	var n uint32
	if err := windows.GetVolumePathNamesForVolumeName(name, &buf[0], uint32(len(buf)), &n); err != nil {
		return nil
	}
	var list []string
	for _, s := range strings.Split(string(utf16.Decode(buf[:min(int(n), len(buf))])), "\x00") {
		add(&list, s)
	}
	return list
}

func openHandle(path string, access uint32) (windows.Handle, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	return windows.CreateFile(name, access, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_NO_BUFFERING, 0)
}

// control sends a control code and returns at most size bytes of answer.
func control(h windows.Handle, code uint32, in []byte, size int) ([]byte, error) {
	out := make([]byte, size)
	var n uint32
	err := windows.DeviceIoControl(h, code, unsafe.SliceData(in), uint32(len(in)), unsafe.SliceData(out), uint32(size), &n, nil)
	return out[:min(int(n), size)], err
}
