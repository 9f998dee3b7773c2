package attach

import (
	"os"
	"path/filepath"
	"testing"
)

// sysfs builds the part of /sys that list reads: an NVMe disk with two partitions, a CD drive, a loop device
// and an empty card reader.
func sysfs(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write := func(path, value string) {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, target string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, "class/block"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../"+target, filepath.Join(root, "class/block", name)); err != nil {
			t.Fatal(err)
		}
	}
	const nvme = "devices/pci/nvme0n1"
	write(nvme+"/size", "1000")
	write(nvme+"/ro", "0")
	write(nvme+"/device/model", "QEMU NVMe Ctrl      ")
	for i, start := range []string{"34", "500"} {
		part := nvme + "/nvme0n1p" + string(rune('1'+i))
		write(part+"/partition", string(rune('1'+i)))
		write(part+"/start", start)
		write(part+"/size", "100")
		link(filepath.Base(part), part)
	}
	link("nvme0n1", nvme)
	write("devices/sr0/size", "80")
	write("devices/sr0/ro", "1")
	write("devices/sr0/device/vendor", "QEMU")
	write("devices/sr0/device/model", "DVD-ROM")
	link("sr0", "devices/sr0")
	write("devices/loop0/size", "8")
	link("loop0", "devices/loop0")
	write("devices/sdb/size", "0")
	link("sdb", "devices/sdb")
	return filepath.Join(root, "class/block")
}

func TestList(t *testing.T) {
	got, err := list(sysfs(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []Block{
		{Name: "nvme0n1", Device: "/dev/nvme0n1", Disk: "nvme0n1", Size: 512000, Model: "QEMU NVMe Ctrl"},
		{Name: "nvme0n1p1", Device: "/dev/nvme0n1p1", Disk: "nvme0n1", Partition: 1, Start: 34 * 512, Size: 51200, Model: "QEMU NVMe Ctrl"},
		{Name: "nvme0n1p2", Device: "/dev/nvme0n1p2", Disk: "nvme0n1", Partition: 2, Start: 256000, Size: 51200, Model: "QEMU NVMe Ctrl"},
		{Name: "sr0", Device: "/dev/sr0", Disk: "sr0", Size: 40960, HardwareReadOnly: true, Model: "QEMU DVD-ROM"},
	}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
}
