package boottest

import "testing"

// TestStick boots the image of a stick with each firmware, and reads the log that the machine leaves on it.
func TestStick(t *testing.T) {
	for name, test := range map[string]struct {
		firmware Firmware
		bus      Bus
	}{
		"uefi":       {UEFI, NVMe},
		"secureboot": {SecureBoot, AHCI},
		"bios":       {BIOS, Virtio},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			disk := newDisk(t, DiskOptions{})
			image := mediaStick(t, keyList(disk), "--countdown", "0s")
			m := boot(t, Options{Firmware: test.firmware, Media: image, Medium: USB, Disks: []Disk{{Path: disk.Path, Bus: test.bus}}})
			m.healed()
			m.expect("Log on the media: bootmend/logs/", patience)
			t.Logf("healed and restarted after %s", elapsed(m.reset(patience)))
			m.noDefect()
			m.Close()
			examine(t, disk, true)
			stickLog(t, image)
		})
	}
}
