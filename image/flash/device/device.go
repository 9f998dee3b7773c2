// Package device finds the disks of this machine, says which of them are sticks that may be written, and opens
// them for that.
//
// [List] finds them, [Device.Refusals] are the reasons not to write one, and [Open] takes it for itself.
package device

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// LargestStick is the size in bytes above which a disk is not taken for a stick.
const LargestStick = 256 << 30

// Device is a whole disk.
type Device struct {
	// Path names it to the system: /dev/sdb, \\.\PhysicalDrive2, /dev/disk4.
	Path   string `json:"path"`
	Model  string `json:"model"`
	Serial string `json:"serial"`
	// Size is in bytes, SectorSize that of a logical block.
	Size       int64 `json:"size"`
	SectorSize int   `json:"sector_size"`
	// Bus is what it is attached by: usb, sd, mmc, sata, nvme, scsi and so on.
	Bus string `json:"bus"`
	// Removable is what the device says of its medium: true for sticks and cards, false for external disks.
	Removable bool `json:"removable"`
	ReadOnly  bool `json:"read_only"`
	// System is true where the running system lies on it.
	System bool `json:"system"`
	// Mounts are the places where its file systems are mounted.
	Mounts []string `json:"mounted"`
	// Users are swap, volume groups, RAID sets and mappings that are active on it.
	Users []string `json:"used_by"`
	// Instance tells a stick from another that was plugged into the same place later, where the system counts
	// them; empty elsewhere.
	Instance string `json:"-"`
}

// Kind sorts reasons by what can be done about them.
type Kind string

// Fixed and Large may be overruled by a person who names the device, Mounted by unmounting; the others not.
const (
	System   Kind = "system"
	Mounted  Kind = "mounted"
	InUse    Kind = "in use"
	ReadOnly Kind = "read-only"
	Sectors  Kind = "sectors"
	Fixed    Kind = "not removable"
	Large    Kind = "large"
)

// Refusal is a reason not to write a device.
type Refusal struct {
	Kind   Kind   `json:"kind"`
	Reason string `json:"reason"`
}

// Refusals are the reasons not to write the device, the gravest first; none for a stick.
func (d Device) Refusals() []Refusal {
	var list []Refusal
	add := func(k Kind, format string, args ...any) {
		list = append(list, Refusal{k, fmt.Sprintf(format, args...)})
	}
	if d.System {
		add(System, "the running system is on it")
	}
	if len(d.Users) > 0 {
		add(InUse, "used by %s", strings.Join(d.Users, ", "))
	}
	if len(d.Mounts) > 0 {
		add(Mounted, "mounted at %s", clean(strings.Join(d.Mounts, ", ")))
	}
	if d.ReadOnly {
		add(ReadOnly, "write-protected")
	}
	if d.SectorSize != 512 && d.SectorSize != 4096 {
		// Partition tables and FAT count in sectors. Media for other sizes are not made.
		add(Sectors, "has sectors of %d bytes", d.SectorSize)
	}
	if !d.Removable {
		add(Fixed, "not removable: a disk, not a stick")
	}
	if d.Size > LargestStick {
		add(Large, "larger than a stick: %s", Bytes(d.Size))
	}
	return list
}

// same reports whether d and o are one device, as far as can be told.
func (d Device) same(o Device) bool {
	return d.Path == o.Path && d.Instance == o.Instance && d.Model == o.Model && d.Serial == o.Serial && d.Size == o.Size
}

// Key names the device and the stick that is plugged in there now.
func (d Device) Key() string { return strings.Join([]string{d.Path, d.Instance, d.Serial}, "\x00") }

// String names the device to people.
func (d Device) String() string {
	parts := []string{d.Path}
	if d.Model != "" {
		parts = append(parts, d.Model)
	}
	parts = append(parts, Bytes(d.Size))
	if d.Serial != "" {
		parts = append(parts, "serial "+d.Serial)
	}
	return strings.Join(parts, ", ")
}

// Bytes writes a size as makers of sticks do, in powers of ten.
func Bytes(n int64) string {
	switch {
	case n >= 1e12:
		return fmt.Sprintf("%.1f TB", float64(n)/1e12)
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}

// clean makes what a device says of itself fit to be printed on a terminal.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	return strings.Join(strings.Fields(s), " ")
}

// add appends what is not there yet.
func add(list *[]string, s string) {
	if s != "" && !slices.Contains(*list, s) {
		*list = append(*list, s)
	}
}
