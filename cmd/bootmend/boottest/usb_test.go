package boottest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

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
			verifyStick(t, image, "added    /bootmend/logs/")
		})
	}
}

// TestStickAdditions drops a newer key list and a signed rule pack onto a finished stick, as an administrator does in
// Explorer: the machine is healed with a key and by a rule that were not there when the stick was built.
func TestStickAdditions(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	bootmend, err := program()
	check(t, err)
	dir := t.TempDir()
	pack := filepath.Join(dir, "next.yaml")
	check(t, os.WriteFile(pack, []byte(`apiVersion: bootmend/v1
id: the-next-incident
title: A rule pack that came after the stick was built
rules:
  - id: channel-file-290
    path: Windows/System32/drivers/CrowdStrike/C-00000290-*.sys
    action: quarantine
`), 0o600))
	for _, args := range [][]string{
		{"rules", "keygen", "--no-password", "-o", filepath.Join(dir, "site")},
		{"rules", "sign", "--key", filepath.Join(dir, "site.key"), pack},
	} {
		if out, err := exec.Command(bootmend, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	image := mediaStick(t, "", "--countdown", "0s", "--rules-key", filepath.Join(dir, "site.pub"))
	keys := filepath.Join(dir, "site-b.csv")
	check(t, os.WriteFile(keys, []byte(keyList(disk)), 0o600))
	put(t, image, keys, "bootmend/keys/")
	put(t, image, pack, "bootmend/rules/")
	put(t, image, pack+".minisig", "bootmend/rules/")
	m := boot(t, Options{Firmware: Direct, Media: image, Medium: USB, Disks: []Disk{{Path: disk.Path}}})
	m.expect("to quarantine: .*C-00000290-", patience)
	m.healed()
	m.reset(patience)
	m.noDefect()
	m.Close()
	verifyStick(t, image, "added    /bootmend/rules/next.yaml")
}

// TestFullStick has no room for a log: the machine is healed all the same, and nothing half-written stays.
func TestFullStick(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{Plain: true})
	image := mediaStick(t, "", "--countdown", "0s")
	fillStick(t, image)
	m := boot(t, Options{Firmware: Direct, Media: image, Medium: USB, Disks: []Disk{{Path: disk.Path}}})
	m.healed()
	m.expect("The log could not be written to the media: .*no space left", patience)
	m.reset(patience)
	m.noDefect()
	m.Close()
	examine(t, disk, true)
	if out, err := run(context.Background(), "mdir", "-b", "-i", mediaVolume(image), "::/bootmend/logs/"); err == nil && strings.Contains(string(out), "json") {
		t.Errorf("a part of a log was left on the stick:\n%s", out)
	}
	verifyStick(t, image, "added    /full.bin")
}

// TestProtectedStick has its write protection on.
func TestProtectedStick(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{Plain: true})
	image := mediaStick(t, "", "--countdown", "0s")
	before := sum(t, image)
	m := boot(t, Options{Firmware: Direct, Media: image, Medium: USB, ReadOnly: true, Disks: []Disk{{Path: disk.Path}}})
	m.healed()
	m.reset(patience)
	m.noDefect()
	m.Close()
	examine(t, disk, true)
	if sum(t, image) != before {
		t.Error("a write-protected stick changed")
	}
}

// mediaVolume is how mtools is told where the partition of a stick begins.
func mediaVolume(image string) string { return image + "@@1M" }

// put copies a file onto a stick.
func put(t *testing.T, image, file, to string) {
	t.Helper()
	_, err := run(context.Background(), "mcopy", "-o", "-i", mediaVolume(image), file, "::/"+to)
	check(t, err)
}

// fillStick leaves no cluster free.
func fillStick(t *testing.T, image string) {
	t.Helper()
	out, err := run(context.Background(), "minfo", "-i", mediaVolume(image))
	check(t, err)
	number := func(after string) (n int64) {
		_, text, _ := strings.Cut(string(out), after)
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatalf("%s: %v in\n%s", after, err, out)
		}
		return n
	}
	file := filepath.Join(t.TempDir(), "full.bin")
	check(t, os.WriteFile(file, nil, 0o600))
	check(t, os.Truncate(file, number("free clusters=")*number("cluster size: ")*512))
	put(t, image, file, "")
}

// verifyStick checks a stick that was used as a user would; line is part of what that must say.
func verifyStick(t *testing.T, image, line string) {
	t.Helper()
	bootmend, err := program()
	check(t, err)
	out, err := exec.Command(bootmend, "verify", image).CombinedOutput()
	if err != nil || !strings.Contains(string(out), line) {
		t.Errorf("bootmend verify: %v, without %q:\n%s", err, line, out)
	}
}
