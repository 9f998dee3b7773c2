package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/u-root/u-root/pkg/efivarfs"
	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/remediate/attach"
	"github.com/bootmend/bootmend/remediate/disk"
)

// firmware is the machine's UEFI variable store. BootOrder is never written: changing it can make BitLocker
// ask for its recovery key.
type firmware struct{ vars *efivarfs.EFIVarFS }

// globalVariables is EFI_GLOBAL_VARIABLE (UEFI 2.10, section 3.3).
var globalVariables = uuid.MustParse("8be4df61-93ca-11d2-aa0d-00e098032b8c")

const keepAndShow = efivarfs.AttributeNonVolatile | efivarfs.AttributeBootserviceAccess | efivarfs.AttributeRuntimeAccess

// openFirmware returns nil on a machine that was started by a BIOS.
func openFirmware() *firmware {
	if _, err := os.Stat("/sys/firmware/efi"); err != nil {
		return nil
	}
	_ = unix.Mount("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, "")
	vars, err := efivarfs.New()
	if err != nil {
		return nil
	}
	return &firmware{vars}
}

// secureBoot reports whether the firmware checked what it started.
func (f *firmware) secureBoot() bool {
	_, data, err := f.vars.Get(variable("SecureBoot"))
	return err == nil && len(data) == 1 && data[0] == 1
}

// bootWindowsNext makes the next start, and only that one, go to the Windows Boot Manager on diskName, and
// returns the entry's description.
func (f *firmware) bootWindowsNext(diskName string) (string, error) {
	esp, err := findLoader(diskName)
	if err != nil {
		return "", err
	}
	number, option, err := f.windowsEntry(esp)
	if err != nil {
		return "", err
	}
	if err := f.vars.Set(variable("BootNext"), keepAndShow, binary.LittleEndian.AppendUint16(nil, number)); err != nil {
		return "", fmt.Errorf("writing BootNext: %w", err)
	}
	return fmt.Sprintf("%s (Boot%04X)", option.Description, number), nil
}

// windowsEntry looks for a boot entry of the loader on esp and makes one where there is none. A new entry is
// not put into BootOrder.
func (f *firmware) windowsEntry(esp loadOption) (uint16, loadOption, error) {
	names, err := f.vars.List()
	if err != nil {
		return 0, esp, fmt.Errorf("reading the firmware's boot entries: %w", err)
	}
	used := map[uint16]bool{}
	for _, v := range names {
		n, ok := bootNumber(v.Name)
		if !ok || v.GUID != globalVariables {
			continue
		}
		used[n] = true
		_, data, err := f.vars.Get(v)
		if err != nil {
			continue
		}
		if o, err := parseLoadOption(data); err == nil && o.startsWindows() && o.Partition == esp.Partition {
			return n, o, nil
		}
	}
	for n := uint16(0); n < 0x100; n++ {
		if used[n] {
			continue
		}
		if err := f.vars.Set(variable(fmt.Sprintf("Boot%04X", n)), keepAndShow, esp.marshal()); err != nil {
			return 0, esp, fmt.Errorf("adding a boot entry for Windows: %w", err)
		}
		return n, esp, nil
	}
	return 0, esp, errors.New("the firmware's list of boot entries is full")
}

// setupNext makes the next start show the firmware's set-up screen (UEFI 2.10, section 8.5.4, OsIndications).
func (f *firmware) setupNext() error {
	const bootToSetup = 1
	_, data, err := f.vars.Get(variable("OsIndicationsSupported"))
	if err != nil || len(data) < 8 || binary.LittleEndian.Uint64(data)&bootToSetup == 0 {
		return errors.New("this firmware cannot be told to show its set-up screen: press its key at power-on")
	}
	var wanted uint64
	if _, data, err := f.vars.Get(variable("OsIndications")); err == nil && len(data) >= 8 {
		wanted = binary.LittleEndian.Uint64(data)
	}
	return f.vars.Set(variable("OsIndications"), keepAndShow, binary.LittleEndian.AppendUint64(nil, wanted|bootToSetup))
}

func variable(name string) efivarfs.VariableDescriptor {
	return efivarfs.VariableDescriptor{Name: name, GUID: globalVariables}
}

// findLoader finds the EFI system partition that holds the Windows Boot Manager: on the disk of the Windows
// that was healed, else on any other.
func findLoader(diskName string) (loadOption, error) {
	blocks, err := attach.List()
	if err != nil {
		return loadOption{}, err
	}
	var elsewhere []attach.Block
	for _, b := range blocks {
		if b.Partition != 0 {
			continue
		}
		if b.Disk != diskName {
			elsewhere = append(elsewhere, b)
			continue
		}
		if o, ok := loaderOn(b); ok {
			return o, nil
		}
	}
	for _, b := range elsewhere {
		if o, ok := loaderOn(b); ok {
			return o, nil
		}
	}
	return loadOption{}, errors.New("no EFI system partition holds a Windows Boot Manager")
}

func loaderOn(b attach.Block) (loadOption, bool) {
	f, err := os.Open(b.Device)
	if err != nil {
		return loadOption{}, false
	}
	defer f.Close()
	volumes, err := disk.Volumes(f, b.Size)
	if err != nil {
		return loadOption{}, false
	}
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil || sector <= 0 {
		return loadOption{}, false
	}
	for _, v := range volumes {
		guid, err := gptGUID(v.GUID)
		if !v.ESP || v.Kind != disk.FAT || err != nil || !holdsLoader(partitionNode(b, v.Number)) {
			continue
		}
		return loadOption{
			Description: "Windows Boot Manager", Partition: guid, Number: uint32(v.Number),
			Start: uint64(v.Offset) / uint64(sector), Blocks: uint64(v.Size) / uint64(sector), File: windowsLoader,
		}, true
	}
	return loadOption{}, false
}

// partitionNode names a partition as the kernel does: nvme0n1p1, but sda1.
func partitionNode(b attach.Block, number int) string {
	if last := b.Device[len(b.Device)-1]; last >= '0' && last <= '9' {
		return fmt.Sprintf("%sp%d", b.Device, number)
	}
	return fmt.Sprintf("%s%d", b.Device, number)
}

func holdsLoader(node string) bool {
	const dir = "/run/esp"
	if err := attach.Mount(node, dir, attach.FAT, true); err != nil {
		return false
	}
	defer func() { _ = attach.Unmount(dir) }()
	_, err := os.Stat(filepath.Join(dir, strings.ReplaceAll(windowsLoader, `\`, "/"))) // vfat ignores case
	return err == nil
}
