package device

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// List finds the disks of the machine. Of loop devices only those named in loops count, and they count as sticks;
// that is for tests.
func List(loops ...string) ([]Device, error) {
	return tree{sys: "/sys", proc: "/proc", dev: "/dev", loops: loops}.list()
}

// tree is where the kernel describes itself.
type tree struct {
	sys, proc, dev string
	loops          []string
}

// skipped are block devices that are no disks of their own. mmcblk0boot0 and the like are areas inside a chip.
var skipped = regexp.MustCompile(`^(ram|zram|loop|dm-|md|sr|fd|nbd|zd|mtdblock)\d|^mmcblk\d+(boot\d|rpmb|gp\d)`)

func (t tree) list() ([]Device, error) {
	entries, err := os.ReadDir(filepath.Join(t.sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	mounts, err := t.mounts()
	if err != nil {
		return nil, err
	}
	swaps := t.swaps()
	var list []Device
	for _, e := range entries {
		name := e.Name()
		loop := slices.Contains(t.loops, t.node(name))
		if skipped.MatchString(name) && !loop {
			continue
		}
		real, err := filepath.EvalSymlinks(filepath.Join(t.sys, "block", name))
		if err != nil {
			continue // unplugged while we looked
		}
		d := t.describe(name, real)
		if loop {
			d.Bus, d.Removable = "loop", true
		}
		if d.Size == 0 {
			continue // a card reader without a card
		}
		t.use(&d, real, mounts, swaps, 0)
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Device) int {
		// sdz comes before sdaa, as they were plugged in.
		if n := len(a.Path) - len(b.Path); n != 0 && a.Bus == b.Bus {
			return n
		}
		return strings.Compare(a.Path, b.Path)
	})
	return list, nil
}

// node is the device's file; sysfs writes "!" for the "/" in it.
func (t tree) node(name string) string {
	return filepath.Join(t.dev, strings.ReplaceAll(name, "!", "/"))
}

func (t tree) describe(name, real string) Device {
	d := Device{
		Path:       t.node(name),
		Size:       number(filepath.Join(real, "size")) * 512, // in 512 bytes, whatever the sectors are
		SectorSize: int(number(filepath.Join(real, "queue/logical_block_size"))),
		Removable:  number(filepath.Join(real, "removable")) == 1,
		ReadOnly:   number(filepath.Join(real, "ro")) == 1,
		Instance:   text(filepath.Join(real, "diskseq")),
	}
	if d.SectorSize == 0 {
		d.SectorSize = 512
	}
	device := filepath.Join(real, "device")
	vendor := text(filepath.Join(device, "vendor"))
	if strings.HasPrefix(vendor, "0x") {
		vendor = "" // a number, for programs (virtio)
	}
	d.Model = clean(vendor + " " + text(filepath.Join(device, "model")))
	d.Serial = clean(text(filepath.Join(device, "serial")))
	if d.Serial == "" {
		d.Serial = clean(text(filepath.Join(real, "serial"))) // virtio
	}
	d.Bus = bus(strings.TrimPrefix(real, t.sys))
	switch d.Bus {
	case "usb":
		// The serial number is the stick's, some folders up; a card reader gives its own to every card in it.
		for up := filepath.Dir(real); len(up) > len(t.sys); up = filepath.Dir(up) {
			if text(filepath.Join(up, "idVendor")) == "" {
				continue
			}
			d.Serial = clean(text(filepath.Join(up, "serial")))
			if d.Model == "" {
				d.Model = clean(text(filepath.Join(up, "manufacturer")) + " " + text(filepath.Join(up, "product")))
			}
			break
		}
	case "mmc":
		d.Model = clean(text(filepath.Join(device, "name")))
		if text(filepath.Join(device, "type")) == "SD" {
			d.Bus, d.Removable = "sd", true // the kernel calls neither cards nor soldered chips removable
		}
	}
	if d.Serial == "" {
		// SCSI and SATA: the vital product data page 0x80, four bytes before the number (SPC-4, 7.8.15).
		if page, err := os.ReadFile(filepath.Join(device, "vpd_pg80")); err == nil && len(page) > 4 {
			d.Serial = clean(string(page[4:]))
		}
	}
	return d
}

// bus tells by a device's place in the tree what it is attached by.
func bus(path string) string {
	found := "other"
	for _, part := range strings.Split(path, "/") {
		switch {
		case strings.HasPrefix(part, "usb") && number0(part[3:]):
			return "usb"
		case strings.HasPrefix(part, "mmc_host") || strings.HasPrefix(part, "mmcblk"):
			return "mmc"
		case part == "nvme" || strings.HasPrefix(part, "nvme-"):
			return "nvme"
		case strings.HasPrefix(part, "virtio") && number0(part[6:]):
			found = "virtio"
		case strings.HasPrefix(part, "ata") && number0(part[3:]):
			found = "sata"
		case strings.HasPrefix(part, "target") && found == "other":
			found = "scsi"
		}
	}
	return found
}

func number0(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

// use finds what is mounted or active on a disk, on its partitions, and on what lies over them.
func (t tree) use(d *Device, dir string, mounts map[string][]string, swaps map[string]bool, depth int) {
	if depth > 8 {
		return // mappings do not nest like that
	}
	name := filepath.Base(dir)
	for _, id := range []string{text(filepath.Join(dir, "dev")), name} {
		for _, where := range mounts[id] {
			add(&d.Mounts, where)
			d.System = d.System || systemMount(where)
		}
	}
	if swaps[name] {
		add(&d.Users, "swap")
		d.System = true
	}
	holders, _ := os.ReadDir(filepath.Join(dir, "holders")) // there are none where there is no folder
	for _, h := range holders {
		real, err := filepath.EvalSymlinks(filepath.Join(dir, "holders", h.Name()))
		if err != nil {
			real = filepath.Join(t.sys, "block", h.Name())
		}
		add(&d.Users, holder(real))
		t.use(d, real, mounts, swaps, depth+1)
	}
	children, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, c := range children {
		part := filepath.Join(dir, c.Name())
		if _, err := os.Stat(filepath.Join(part, "partition")); c.IsDir() && err == nil {
			t.use(d, part, mounts, swaps, depth+1)
		}
	}
}

// holder names what lies over a disk.
func holder(dir string) string {
	name := clean(text(filepath.Join(dir, "dm/name")))
	uuid := text(filepath.Join(dir, "dm/uuid"))
	switch {
	case name == "":
		return filepath.Base(dir)
	case strings.HasPrefix(uuid, "LVM-"):
		return "LVM volume " + name
	case strings.HasPrefix(uuid, "CRYPT-"):
		return "encrypted volume " + name
	}
	return "mapping " + name
}

// systemMounts are where systems, installed and live, have what they run from.
var systemMounts = []string{"/boot", "/efi", "/usr", "/var", "/home", "/etc", "/opt", "/srv", "/nix", "/cdrom",
	"/run/live", "/run/initramfs", "/run/archiso", "/usr/lib/live", "/lib/live"}

func systemMount(where string) bool {
	return where == "/" || slices.ContainsFunc(systemMounts, func(s string) bool {
		return where == s || strings.HasPrefix(where, s+"/") && !strings.HasPrefix(where, "/home/")
	})
}

// mounts reads /proc/self/mountinfo (proc_pid_mountinfo(5)): mount points by device number and by name. The
// number is not the disk's where a file system has several disks (btrfs) or is served by a program (ntfs-3g);
// then the name is.
func (t tree) mounts() (map[string][]string, error) {
	data, err := os.ReadFile(filepath.Join(t.proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("list mounted file systems: %w", err)
	}
	found := map[string][]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		mount, source, ok := strings.Cut(lines.Text(), " - ")
		m, s := strings.Fields(mount), strings.Fields(source)
		if !ok || len(m) < 5 || len(s) < 2 {
			continue
		}
		where := unescape(m[4])
		found[m[2]] = append(found[m[2]], where)
		if name := t.name(unescape(s[1])); name != "" {
			found[name] = append(found[name], where)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list mounted file systems: %w", err)
	}
	return found, nil
}

// name is the kernel's name of a device that is known by its file or a link to that.
func (t tree) name(path string) string {
	rest, ok := strings.CutPrefix(path, "/dev/")
	if !ok {
		return ""
	}
	path = filepath.Join(t.dev, rest)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	return strings.ReplaceAll(strings.TrimPrefix(path, t.dev+"/"), "/", "!")
}

// swaps reads /proc/swaps: the names of partitions that are swapped to.
func (t tree) swaps() map[string]bool {
	found := map[string]bool{}
	data, err := os.ReadFile(filepath.Join(t.proc, "swaps"))
	if err != nil {
		return found // a kernel without swap
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == "partition" {
			found[t.name(unescape(fields[0]))] = true
		}
	}
	return found
}

// unescape undoes the \040 that the kernel writes for a blank.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
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
