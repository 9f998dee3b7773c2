package device

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// fakeSys writes a machine as sysfs shows it: path and content, or path and "-> target" for a link.
func fakeSys(t *testing.T, files map[string]string) tree {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			if err := os.Symlink(filepath.Join(root, target), path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return tree{sys: filepath.Join(root, "sys"), proc: filepath.Join(root, "proc"), dev: filepath.Join(root, "dev")}
}

// addDisk adds a disk with partitions at a place in the device tree.
func addDisk(files map[string]string, place, name, dev string, gigabytes string, attributes map[string]string, partitions map[string]string) string {
	dir := "sys/devices/" + place + "/block/" + name
	files["sys/block/"+name] = "-> " + dir
	files[dir+"/dev"] = dev + "\n"
	files[dir+"/size"] = gigabytes + "000000\n"
	files[dir+"/removable"] = "0\n"
	files[dir+"/ro"] = "0\n"
	files[dir+"/queue/logical_block_size"] = "512\n"
	for k, v := range attributes {
		files[dir+"/"+k] = v
	}
	for p, number := range partitions {
		files[dir+"/"+p+"/dev"] = number + "\n"
		files[dir+"/"+p+"/partition"] = "1\n"
	}
	return dir
}

const (
	usb2 = "pci0000:00/0000:00:14.0/usb2/2-4"
	usb3 = "pci0000:00/0000:00:14.0/usb3/3-1"
	ata  = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0"
)

func testMachine(t *testing.T) tree {
	files := map[string]string{
		"sys/devices/" + usb2 + "/idVendor": "0781\n", "sys/devices/" + usb2 + "/serial": "4C530001230512117380\n",
		"sys/devices/" + usb3 + "/idVendor": "1058\n", "sys/devices/" + usb3 + "/serial": "575854314139\n",
		"dev/sda2": "", "dev/disk/by-uuid/1234": "-> dev/sda3", "dev/sda3": "", "dev/mapper/vg-home": "-> dev/dm-0", "dev/dm-0": "",
		"proc/self/mountinfo": `22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
23 22 0:21 / /sys rw - sysfs sysfs rw
30 22 253:0 / /home rw - ext4 /dev/mapper/vg-home rw
31 22 8:17 / /media/ann/OLD\040STICK rw,nosuid - vfat /dev/sdb1 rw
32 22 0:50 / /mnt/photos rw - fuseblk /dev/sde1 rw
33 22 259:1 / /boot/efi rw - vfat /dev/nvme0n1p1 rw
junk
`,
		"proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sdf1                               partition\t1\t0\t-2\n/swap file 1 2\n",
	}
	sda := addDisk(files, ata, "sda", "8:0", "1000", map[string]string{"device/vendor": "ATA     \n", "device/model": "Samsung SSD 870 \n",
		"device/vpd_pg80": "\x00\x80\x00\x0fS5Y1NJ0R123456 "}, map[string]string{"sda2": "8:2", "sda3": "8:3"})
	files[sda+"/sda3/holders/dm-0"] = "-> sys/devices/virtual/block/dm-0"
	files["sys/devices/virtual/block/dm-0/dev"] = "253:0\n"
	files["sys/devices/virtual/block/dm-0/dm/name"] = "vg-home\n"
	files["sys/devices/virtual/block/dm-0/dm/uuid"] = "LVM-abc\n"
	files["sys/block/dm-0"] = "-> sys/devices/virtual/block/dm-0"
	files["sys/devices/virtual/block/dm-0/size"] = "100000\n"
	addDisk(files, usb2+"/2-4:1.0/host6/target6:0:0/6:0:0:0", "sdb", "8:16", "30", map[string]string{"removable": "1\n",
		"device/vendor": "SanDisk \n", "device/model": "Cruzer \x1b[31mBlade\n", "diskseq": "9\n"}, map[string]string{"sdb1": "8:17"})
	addDisk(files, usb2+"/2-4:1.0/host7/target7:0:0/7:0:0:0", "sdaa", "65:160", "30", map[string]string{"removable": "1\n",
		"device/vendor": "SanDisk", "device/model": "Ultra", "diskseq": "10\n"}, map[string]string{"sdaa1": "65:161"})
	addDisk(files, usb3+"/3-1:1.0/host8/target8:0:0/8:0:0:0", "sdc", "8:32", "4000", map[string]string{"device/vendor": "WD", "device/model": "Elements"}, nil)
	addDisk(files, usb2+"/2-5:1.0/host9/target9:0:0/9:0:0:0", "sdd", "8:48", "", map[string]string{"size": "0\n", "removable": "1\n"}, nil) // no card
	addDisk(files, usb2+"/2-6:1.0/host9/target9:0:0/9:0:0:1", "sde", "8:64", "60", map[string]string{"removable": "1\n", "ro": "1\n"}, map[string]string{"sde1": "8:65"})
	addDisk(files, ata+"9", "sdf", "8:80", "60", map[string]string{"queue/logical_block_size": "2048\n"}, map[string]string{"sdf1": "8:81"})
	addDisk(files, "pci0000:00/0000:00:1a.0/mmc_host/mmc0/mmc0:aaaa", "mmcblk0", "179:0", "30", map[string]string{"device/type": "SD\n", "device/name": "SN32G\n", "device/serial": "0x1234\n"}, nil)
	addDisk(files, "platform/soc/mmc_host/mmc1/mmc1:0001", "mmcblk1", "179:8", "60", map[string]string{"device/type": "MMC\n", "device/name": "BJTD4R\n"}, nil)
	addDisk(files, "platform/soc/mmc_host/mmc1/mmc1:0001", "mmcblk1boot0", "179:16", "1", nil, nil)
	addDisk(files, "pci0000:00/0000:01:00.0/nvme/nvme0", "nvme0n1", "259:0", "500", map[string]string{"device/model": "WDS500G", "device/serial": "2143"}, map[string]string{"nvme0n1p1": "259:1"})
	addDisk(files, "virtual", "loop0", "7:0", "1", nil, nil)
	addDisk(files, "pci0000:00/0000:00:1f/ata2/host1/target1:0:0/1:0:0:0", "sr0", "11:0", "1", map[string]string{"removable": "1\n"}, nil)
	return fakeSys(t, files)
}

func TestList(t *testing.T) {
	machine := testMachine(t)
	list, err := machine.list()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Device{}
	for _, d := range list {
		got[filepath.Base(d.Path)] = d
	}
	if len(got) != 9 {
		t.Errorf("%d disks, want 9: %v", len(got), list)
	}
	const gb = 512_000_000
	want := map[string]Device{
		"sda": {Model: "ATA Samsung SSD 870", Serial: "S5Y1NJ0R123456", Size: 1000 * gb, SectorSize: 512, Bus: "sata", System: true,
			Mounts: []string{"/", "/home"}, Users: []string{"LVM volume vg-home"}},
		"sdb": {Model: "SanDisk Cruzer [31mBlade", Serial: "4C530001230512117380", Size: 30 * gb, SectorSize: 512, Bus: "usb", Removable: true,
			Mounts: []string{"/media/ann/OLD STICK"}, Instance: "9"},
		"sdaa": {Model: "SanDisk Ultra", Serial: "4C530001230512117380", Size: 30 * gb, SectorSize: 512, Bus: "usb", Removable: true, Instance: "10"},
		"sdc":  {Model: "WD Elements", Serial: "575854314139", Size: 4000 * gb, SectorSize: 512, Bus: "usb"},
		"sde": {Serial: "4C530001230512117380", Size: 60 * gb, SectorSize: 512, Bus: "usb", Removable: true, ReadOnly: true,
			Mounts: []string{"/mnt/photos"}},
		"sdf":     {Size: 60 * gb, SectorSize: 2048, Bus: "sata", System: true, Users: []string{"swap"}},
		"mmcblk0": {Model: "SN32G", Serial: "0x1234", Size: 30 * gb, SectorSize: 512, Bus: "sd", Removable: true},
		"mmcblk1": {Model: "BJTD4R", Size: 60 * gb, SectorSize: 512, Bus: "mmc"},
		"nvme0n1": {Model: "WDS500G", Serial: "2143", Size: 500 * gb, SectorSize: 512, Bus: "nvme", System: true, Mounts: []string{"/boot/efi"}},
	}
	for name, w := range want {
		w.Path = filepath.Join(machine.dev, name)
		if !reflect.DeepEqual(got[name], w) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got[name], w)
		}
	}
	machine.loops = []string{filepath.Join(machine.dev, "loop0")}
	list, err = machine.list()
	if err != nil || len(list) != 10 || list[0].Bus != "loop" && list[9].Bus != "loop" && len(list[0].Refusals()) > 0 {
		t.Errorf("a loop device that was asked for: %v, %v", list, err)
	}
}

func TestRefusals(t *testing.T) {
	list, err := testMachine(t).list()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]Kind{
		"sda": {System, InUse, Mounted, Fixed, Large}, "sdb": {Mounted}, "sdaa": nil, "sdc": {Fixed, Large}, "sde": {Mounted, ReadOnly},
		"sdf": {System, InUse, Sectors, Fixed}, "mmcblk0": nil, "mmcblk1": {Fixed}, "nvme0n1": {System, Mounted, Fixed},
	}
	for _, d := range list {
		var kinds []Kind
		for _, r := range d.Refusals() {
			if r.Reason == "" {
				t.Errorf("%s: no reason", d)
			}
			kinds = append(kinds, r.Kind)
		}
		if w := want[filepath.Base(d.Path)]; !reflect.DeepEqual(kinds, w) {
			t.Errorf("%s: %v, want %v", d, kinds, w)
		}
	}
	if d := (Device{Size: 512 << 30, SectorSize: 512, Removable: true}); len(d.Refusals()) != 1 || d.Refusals()[0].Kind != Large {
		t.Errorf("a large one: %v", d.Refusals())
	}
}

// TestOwnMachine lists what is really there.
func TestOwnMachine(t *testing.T) {
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if d.Size <= 0 || !strings.HasPrefix(d.Path, "/dev/") || d.Bus == "" {
			t.Errorf("%+v", d)
		}
		t.Logf("%s: %v", d, d.Refusals())
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add("31 22 8:17 / /media/OLD\\040STICK rw - vfat /dev/sdb1 rw\n")
	f.Add("1 - \n - /dev/ \\777 \\\n")
	f.Fuzz(func(t *testing.T, content string) {
		files := map[string]string{"proc/self/mountinfo": content, "proc/swaps": content}
		addDisk(files, usb2, "sdb", "8:16", "30", nil, map[string]string{"sdb1": "8:17"})
		if list, err := fakeSys(t, files).list(); err == nil && len(list) != 1 {
			t.Errorf("%v", list)
		}
	})
}
