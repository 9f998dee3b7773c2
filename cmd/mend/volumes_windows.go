package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/remediate"
)

// volume is a drive that may hold Windows.
type volume struct {
	drive string // "C:"
	// meta is set for a BitLocker volume that was locked when it was found.
	meta *bitlocker.Metadata
	// opened is set once Windows has opened it; method and keyID tell by what.
	opened        bool
	method, keyID string
	// tried is how many of the keyring's sources have been tried.
	tried int
}

// locked reports whether a key is wanted.
func (v *volume) locked() bool { return v.meta != nil && !v.opened }

// device is what the log knows the volume by.
func (v *volume) device() string { return v.drive }

// opensByPassword: manage-bde asks for a user's password by itself and takes none from another program.
const opensByPassword = false

func (v *volume) root() string { return v.drive + `\` }

// title is what a person knows the volume by.
func (v *volume) title() string {
	if v.meta != nil && v.meta.Description != "" {
		return fmt.Sprintf("%s (%s)", v.meta.Description, v.drive)
	}
	return v.drive
}

// inPE reports whether this is Windows PE, which has a key for that (Microsoft, "Detect if you're running Windows PE").
func inPE() bool {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Control\MiniNT`, registry.QUERY_VALUE)
	if err == nil {
		_ = k.Close()
	}
	return err == nil
}

// inSafeMode is what Windows tells each program.
func inSafeMode() bool { return os.Getenv("SAFEBOOT_OPTION") != "" }

func environment() string {
	switch {
	case inPE():
		return "Windows PE"
	case inSafeMode():
		return "Windows in Safe Mode"
	}
	return "Windows"
}

// drives lists the letters of fixed disks, having given letters to volumes of Windows PE that have none.
func drives() []string {
	if inPE() {
		giveLetters()
	}
	mask, err := windows.GetLogicalDrives()
	if err != nil {
		return nil
	}
	var list []string
	for i := range 26 {
		drive := string(rune('A'+i)) + ":"
		root, err := windows.UTF16PtrFromString(drive + `\`)
		if err != nil || mask>>i&1 == 0 {
			continue
		}
		switch windows.GetDriveType(root) {
		case windows.DRIVE_REMOVABLE, windows.DRIVE_REMOTE, windows.DRIVE_CDROM, windows.DRIVE_RAMDISK:
			continue
		}
		if inPE() && strings.EqualFold(drive, os.Getenv("SystemDrive")) {
			continue // Windows PE's own disk, in memory
		}
		list = append(list, drive)
	}
	return list
}

// giveLetters mounts volumes that have no letter, as the one that the machine starts from does not always get one.
// Whatever fails leaves that volume as it is.
func giveLetters() {
	name := make([]uint16, windows.MAX_PATH)
	search, err := windows.FindFirstVolume(&name[0], uint32(len(name)))
	if err != nil {
		return
	}
	defer func() { _ = windows.FindVolumeClose(search) }()
	for ; err == nil; err = windows.FindNextVolume(search, &name[0], uint32(len(name))) {
		var paths [1024]uint16
		var n uint32
		if windows.GetVolumePathNamesForVolumeName(&name[0], &paths[0], uint32(len(paths)), &n) != nil || paths[0] != 0 || windows.GetDriveType(&name[0]) != windows.DRIVE_FIXED {
			continue
		}
		mask, err := windows.GetLogicalDrives()
		if err != nil {
			return
		}
		for i := 3; i < 24; i++ { // D: to W:, as X: is Windows PE's own
			if mask>>i&1 != 0 {
				continue
			}
			root, err := windows.UTF16PtrFromString(string(rune('A'+i)) + `:\`)
			if err != nil || windows.SetVolumeMountPoint(root, &name[0]) == nil {
				break
			}
		}
	}
}

// look tells what a drive holds; nil is nothing that could be Windows.
func look(drive string) (*volume, error) {
	v := &volume{drive: drive}
	if _, err := os.ReadDir(v.root()); err == nil {
		return v, nil
	}
	raw, err := openRaw(drive)
	if err != nil {
		return nil, nil //nolint:nilerr // an empty drive, or one of no file system that Windows knows
	}
	defer raw.Close()
	v.meta, err = bitlocker.ReadMetadata(raw, raw.size)
	if errors.Is(err, bitlocker.ErrNotBitLocker) {
		return nil, nil
	}
	return v, err
}

// rawVolume reads whole sectors, as Windows wants volumes to be read.
type rawVolume struct {
	*os.File
	size int64
}

func openRaw(drive string) (*rawVolume, error) {
	f, err := os.Open(`\\.\` + drive)
	if err != nil {
		return nil, err
	}
	size, err := volumeSize(f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &rawVolume{f, size}, nil
}

// volumeSize asks for the length (winioctl.h, IOCTL_DISK_GET_LENGTH_INFO).
func volumeSize(f *os.File) (int64, error) {
	const getLengthInfo = 0x7405c
	var length int64
	var n uint32
	err := windows.DeviceIoControl(windows.Handle(f.Fd()), getLengthInfo, nil, 0, (*byte)(unsafe.Pointer(&length)), 8, &n, nil)
	if err == nil && length > 0 {
		return length, nil
	}
	end, seekErr := f.Seek(0, io.SeekEnd)
	if seekErr != nil || end <= 0 {
		return 0, fmt.Errorf("size of the volume: %w", errors.Join(err, seekErr))
	}
	return end, nil
}

const sector = 4096 // also a multiple of the smaller ones

// ReadAt implements io.ReaderAt.
func (r *rawVolume) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= r.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > r.size-off
	if short {
		p = p[:r.size-off]
	}
	start := off &^ (sector - 1)
	end := min((off+int64(len(p))+sector-1)&^(sector-1), r.size)
	buf := make([]byte, end-start)
	defer clear(buf)
	n, err := io.ReadFull(io.NewSectionReader(r.File, start, end-start), buf)
	done := copy(p, buf[min(off-start, int64(n)):n])
	if done == len(p) {
		err = nil
		if short {
			err = io.EOF
		}
	}
	return done, err
}

// flush makes sure that what was written to a drive is on its disk (FlushFileBuffers of a volume).
func flush(drive string) error {
	f, err := os.OpenFile(`\\.\`+drive, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("write what is cached of %s to its disk: %w", drive, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write what is cached of %s to its disk: %w", drive, err)
	}
	return nil
}

// awaitMedia is findMedia with patience: Windows PE is up before it has seen every stick.
func awaitMedia() string {
	const pause = 500 * time.Millisecond
	tries := 1
	if inPE() {
		tries = 30
	}
	for range tries - 1 {
		if dir := findMedia(); dir != "" {
			return dir
		}
		time.Sleep(pause)
	}
	return findMedia()
}

// findMedia looks for the folder bootmend: beside this program, in Windows PE's own disk, then on the stick.
func findMedia() string {
	var places []string
	if exe, err := os.Executable(); err == nil {
		places = append(places, filepath.Dir(exe))
	}
	if inPE() {
		places = append(places, os.Getenv("SystemDrive")+`\`)
	}
	for _, place := range append(places, sticks()...) {
		if info, err := os.Stat(filepath.Join(place, "bootmend")); err == nil && info.IsDir() {
			return place
		}
	}
	return ""
}

// sticks are the roots of volumes that are named as all media are.
func sticks() (roots []string) {
	mask, err := windows.GetLogicalDrives()
	if err != nil {
		return nil
	}
	for i := range 26 {
		root := string(rune('A'+i)) + `:\`
		if mask>>i&1 == 1 && strings.EqualFold(label(root), "BOOTMEND") {
			roots = append(roots, root)
		}
	}
	return roots
}

// removable are the roots of sticks.
func removable() (roots []string) {
	mask, err := windows.GetLogicalDrives()
	if err != nil {
		return nil
	}
	for i := range 26 {
		root := string(rune('A'+i)) + `:\`
		path, err := windows.UTF16PtrFromString(root)
		if err == nil && mask>>i&1 == 1 && windows.GetDriveType(path) == windows.DRIVE_REMOVABLE {
			roots = append(roots, root)
		}
	}
	return roots
}

// label is the name of the volume at root.
func label(root string) string {
	path, err := windows.UTF16PtrFromString(root)
	if err != nil {
		return ""
	}
	var name [windows.MAX_PATH + 1]uint16
	if windows.GetVolumeInformation(path, &name[0], uint32(len(name)), nil, nil, nil, nil, 0) != nil {
		return ""
	}
	return windows.UTF16ToString(name[:])
}

// readIdentity takes the machine's identity from SMBIOS (GetSystemFirmwareTable, RawSMBIOSData: the table begins at byte 8).
func readIdentity() remediate.Identity {
	const provider = 'R'<<24 | 'S'<<16 | 'M'<<8 | 'B'
	get := kernel32.NewProc("GetSystemFirmwareTable")
	if get.Find() != nil {
		return remediate.Identity{}
	}
	buf := make([]byte, 1<<20)
	n, _, _ := get.Call(provider, 0, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	if n < 8 || n > uintptr(len(buf)) {
		return remediate.Identity{}
	}
	return parseSMBIOS(buf[8:n])
}

// availableMemory is how many bytes may still be used (sysinfoapi.h, MEMORYSTATUSEX); 0 where Windows does not say.
func availableMemory() int64 {
	status := struct {
		length, load                           uint32
		total, available                       uint64
		totalPage, availablePage, totalVirtual uint64
		availableVirtual, availableExtended    uint64
	}{length: 64}
	get := kernel32.NewProc("GlobalMemoryStatusEx")
	if get.Find() != nil {
		return 0
	}
	if ok, _, _ := get.Call(uintptr(unsafe.Pointer(&status))); ok == 0 {
		return 0
	}
	return int64(status.available)
}
