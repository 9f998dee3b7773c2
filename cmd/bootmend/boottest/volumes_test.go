package boottest

import (
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// TestVolumes heals machines whose BitLocker is not what Windows makes by default.
func TestVolumes(t *testing.T) {
	for name, test := range map[string]struct {
		bus  Bus
		disk DiskOptions
	}{
		"xts-256":      {NVMe, DiskOptions{BitLocker: fvetest.Options{Method: bitlocker.MethodXTS256}}},
		"cbc-256":      {AHCI, DiskOptions{BitLocker: fvetest.Options{Method: bitlocker.MethodCBC256}}},
		"elephant-128": {AHCI, DiskOptions{BitLocker: fvetest.Options{Method: bitlocker.MethodElephant128}}},
		"4k-sectors":   {NVMe, DiskOptions{SectorSize: 4096}},
		// Two thirds up, the faulty files are in the encrypted part and free space is in the clear one.
		"partially-encrypted": {Virtio, DiskOptions{EncryptedPercent: 40}},
		"suspended":           {NVMe, DiskOptions{ClearKey: true, BitLocker: fvetest.Options{Method: bitlocker.MethodXTS256}}},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			disk := newDisk(t, test.disk)
			keys := ""
			if !test.disk.ClearKey {
				keys = keyList(disk)
			}
			m := boot(t, Options{Firmware: Direct, Media: media(t, keys, "--countdown", "0s"),
				Disks: []Disk{{Path: disk.Path, Bus: test.bus, SectorSize: test.disk.SectorSize}}})
			m.healed()
			t.Logf("healed and restarted after %s", elapsed(m.reset(patience)))
			m.noDefect()
			examine(t, disk, true)
		})
	}
}
