package attach

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Block is a disk or partition as sysfs describes it.
type Block struct {
	// Name is the kernel's name, such as nvme0n1p3; Device its node.
	Name, Device string
	// Disk is the name of the whole disk; equal to Name for a disk.
	Disk string
	// Partition counts from 1; 0 is a whole disk.
	Partition int
	// Start and Size are in bytes.
	Start, Size int64
	// HardwareReadOnly is true where the device itself refuses writes (a CD, a write-protect switch).
	HardwareReadOnly bool
	// Model is the vendor's name of the disk, for people.
	Model string
}

// List reads all disks and partitions of the machine; memory disks, loops and mappings are left out.
func List() ([]Block, error) { return list("/sys/class/block") }

func list(sysfs string) ([]Block, error) {
	entries, err := os.ReadDir(sysfs)
	if err != nil {
		return nil, fmt.Errorf("listing block devices: %w", err)
	}
	var blocks []Block
	for _, e := range entries {
		b, ok := read(filepath.Join(sysfs, e.Name()))
		if ok && b.Size > 0 {
			blocks = append(blocks, b)
		}
	}
	sort.Slice(blocks, func(i, j int) bool {
		if blocks[i].Disk != blocks[j].Disk {
			return blocks[i].Disk < blocks[j].Disk
		}
		return blocks[i].Partition < blocks[j].Partition
	})
	return blocks, nil
}

// virtual prefixes are devices that never hold a machine's Windows or our media.
var virtual = []string{"loop", "ram", "zram", "dm-", "md", "fd", "nbd", "mtd"}

func read(dir string) (Block, bool) {
	b := Block{Name: filepath.Base(dir)}
	for _, prefix := range virtual {
		if strings.HasPrefix(b.Name, prefix) {
			return b, false
		}
	}
	b.Device = "/dev/" + strings.ReplaceAll(b.Name, "!", "/")
	b.Disk = b.Name
	diskDir := dir
	if n := number(filepath.Join(dir, "partition")); n > 0 {
		b.Partition = int(n)
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return b, false // unplugged while we looked
		}
		diskDir = filepath.Dir(real)
		b.Disk = filepath.Base(diskDir)
	}
	// sysfs counts 512-byte sectors whatever the device's own sector size.
	b.Start = number(filepath.Join(dir, "start")) * 512
	b.Size = number(filepath.Join(dir, "size")) * 512
	b.HardwareReadOnly = number(filepath.Join(diskDir, "ro")) == 1
	b.Model = strings.Join(strings.Fields(text(filepath.Join(diskDir, "device/vendor"))+" "+text(filepath.Join(diskDir, "device/model"))), " ")
	return b, true
}

func text(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func number(path string) int64 {
	n, err := strconv.ParseInt(text(path), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
