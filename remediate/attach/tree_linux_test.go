package attach

import (
	"bufio"
	"strings"
	"testing"
)

func TestMountedAt(t *testing.T) {
	const mounts = `22 1 8:2 / / rw - ext4 /dev/sda2 rw
30 22 8:17 / /mnt/old\040disk\134x rw,relatime shared:9 - ntfs3 /dev/sdb1 rw
short line
`
	for device, want := range map[string]string{"8:2": "/", "8:17": `/mnt/old disk\x`, "8:1": "", "0:0": ""} {
		if got := mountedAt(bufio.NewScanner(strings.NewReader(mounts)), device); got != want {
			t.Errorf("%s: got %q, want %q", device, got, want)
		}
	}
}

func TestCheckFreeWantsADevice(t *testing.T) {
	if err := CheckFree("/dev/null"); err == nil || !strings.Contains(err.Error(), "no block device") {
		t.Errorf("got %v", err)
	}
	if _, err := PartitionAt(t.TempDir(), 0); err == nil {
		t.Error("a folder has partitions")
	}
}
