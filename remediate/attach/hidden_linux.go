package attach

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Hidden is a reason why this machine may have disks that are not in [List].
type Hidden struct {
	// What is the reason, Next what a person can do, each a sentence.
	What, Next string
}

// HiddenDisks tells of disks that cannot be seen: those that an Intel RAID controller keeps to itself, and those behind
// a storage controller that nothing drives. Drivers must have had the time to load.
func HiddenDisks() []Hidden { return hiddenDisks("/sys") }

const switchMode = "In the firmware set-up, switch the storage mode from RAID/RST (or VMD) to AHCI, boot this medium again, and switch it back " +
	"afterwards: Windows needs the old setting to start."

func hiddenDisks(sysfs string) []Hidden {
	var found []Hidden
	if n := remapped(sysfs); n > 0 {
		disks := "an NVMe disk"
		if n > 1 {
			disks = fmt.Sprintf("%d NVMe disks", n)
		}
		found = append(found, Hidden{"The Intel RAID controller hides " + disks + ".", switchMode})
	}
	for _, dir := range storageControllers(sysfs) {
		if _, err := os.Stat(filepath.Join(dir, "driver")); err == nil {
			continue
		}
		vendor, device := hexID(filepath.Join(dir, "vendor")), hexID(filepath.Join(dir, "device"))
		next := "If there is a setting for it in the firmware set-up, choose AHCI for the time of the repair; else start Windows' own recovery environment, which has its driver."
		if vendor == "8086" {
			next = switchMode
		}
		found = append(found, Hidden{fmt.Sprintf("This medium has no driver for the storage controller %s (PCI %s:%s at %s), so its disks are not seen.",
			controllerName(dir, vendor), vendor, device, filepath.Base(dir)), next})
	}
	return found
}

// remapped counts NVMe disks that an Intel RAID controller keeps from the operating system; the ahci driver counts them
// since Linux 5.3.
func remapped(sysfs string) (n int) {
	files, err := filepath.Glob(filepath.Join(sysfs, "module/ahci/drivers/pci:ahci/*/remapped_nvme"))
	if err != nil {
		return 0
	}
	for _, f := range files {
		n += int(number(f))
	}
	return n
}

// storageControllers are the PCI devices of class 1, mass storage.
func storageControllers(sysfs string) (dirs []string) {
	files, err := filepath.Glob(filepath.Join(sysfs, "bus/pci/devices/*/class"))
	if err != nil {
		return nil
	}
	for _, f := range files {
		if strings.HasPrefix(text(f), "0x01") {
			dirs = append(dirs, filepath.Dir(f))
		}
	}
	return dirs
}

func hexID(path string) string { return strings.TrimPrefix(text(path), "0x") }

// vendors make most of the storage controllers of PCs and servers (The PCI ID Repository).
var vendors = map[string]string{
	"8086": "Intel", "1022": "AMD", "1000": "Broadcom (LSI)", "9005": "Adaptec", "103c": "HP", "1028": "Dell", "15ad": "VMware", "1b4b": "Marvell", "105a": "Promise",
}

// Kinds of mass storage, the second byte of the class (PCI Code and ID Assignment Specification).
var storageKinds = map[string]string{"00": "SCSI", "01": "IDE", "04": "RAID", "06": "SATA", "07": "SAS", "08": "NVMe"}

func controllerName(dir, vendor string) string {
	name, ok := vendors[vendor]
	if !ok {
		name = "of an unknown maker"
	}
	if class := text(filepath.Join(dir, "class")); len(class) >= 6 && storageKinds[class[4:6]] != "" {
		name += ", " + storageKinds[class[4:6]]
	}
	return name
}
