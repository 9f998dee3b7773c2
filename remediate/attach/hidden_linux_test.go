package attach

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHiddenDisks reads a /sys as such machines have it: the tree of a laptop in RST mode is as the ahci driver makes it.
func TestHiddenDisks(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  []string // a part of each reason
	}{
		"all driven": {map[string]string{
			"bus/pci/devices/0000:00:17.0/class":                      "0x010601",
			"bus/pci/devices/0000:00:17.0/driver/module":              "",
			"bus/pci/devices/0000:00:02.0/class":                      "0x030000", // a screen without a driver is none of our business
			"module/ahci/drivers/pci:ahci/0000:00:17.0/remapped_nvme": "0",
		}, nil},
		"remapped": {map[string]string{
			"bus/pci/devices/0000:00:17.0/class":                      "0x010400",
			"bus/pci/devices/0000:00:17.0/driver/module":              "",
			"module/ahci/drivers/pci:ahci/0000:00:17.0/remapped_nvme": "2",
		}, []string{"hides 2 NVMe disks"}},
		"no driver": {map[string]string{
			"bus/pci/devices/0000:00:0e.0/class":  "0x010400",
			"bus/pci/devices/0000:00:0e.0/vendor": "0x8086",
			"bus/pci/devices/0000:00:0e.0/device": "0x9a0b",
			"bus/pci/devices/0000:03:00.0/class":  "0x010700",
			"bus/pci/devices/0000:03:00.0/vendor": "0x1d17",
			"bus/pci/devices/0000:03:00.0/device": "0x0001",
		}, []string{"controller Intel, RAID (PCI 8086:9a0b at 0000:00:0e.0)", "of an unknown maker, SAS (PCI 1d17:0001"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, value := range tc.files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got := hiddenDisks(root)
			if len(got) != len(tc.want) {
				t.Fatalf("got %+v", got)
			}
			for i, want := range tc.want {
				if !strings.Contains(got[i].What, want) || got[i].Next == "" {
					t.Errorf("got %+v, want %q", got[i], want)
				}
			}
		})
	}
}
