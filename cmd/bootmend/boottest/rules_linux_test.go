package boottest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/assets"
)

// sitePack takes two files of the test's Windows, and allows itself one.
const sitePack = `apiVersion: bootmend/v1
id: site
title: Two drivers of a site
blastRadius: {maxFiles: 1}
rules:
  - {id: ntfs, path: Windows/System32/drivers/ntfs.sys, action: quarantine}
  - {id: agent, path: Windows/System32/drivers/CrowdStrike/CSAgent.sys, identify: {leadingBytes: ["4D 5A"]}, action: quarantine}
`

// bootmend runs the program as a user would.
func bootmend(t *testing.T, args ...string) {
	t.Helper()
	path, err := program()
	check(t, err)
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("bootmend %q: %v\n%s", args, err, out)
	}
}

// TestSiteRules has a pack of a site, signed with its key: it goes beyond its blast radius, which is asked about and
// answered on the serial console; then the repair is undone from the menu, bit by bit.
func TestSiteRules(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	dir := t.TempDir()
	pack, key := filepath.Join(dir, "site.yaml"), filepath.Join(dir, "site")
	check(t, os.WriteFile(pack, []byte(sitePack), 0o600))
	bootmend(t, "rules", "keygen", "-o", key, "--no-password")
	bootmend(t, "rules", "sign", pack, "--key", key+".key")
	iso := media(t, keyList(disk), "--countdown", "0s", "--on-success", "wait", "--rules", pack, "--rules-key", key+".pub")
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}})

	m.expect("beyond the blast radius: rule pack site wants 2 files of this machine where at most 1 are allowed", patience)
	m.expect("Type YES", patience)
	m.send("YES\r")
	m.expect("HEALED: 1 Windows", patience)
	m.expect("Your choice: ", patience)
	fates := map[string]bool{"Windows/System32/drivers/ntfs.sys": true, CrowdStrike + "CSAgent.sys": true}
	healed, undone := *disk, *disk
	healed.Files, undone.Files = bytesKept(disk.Files), bytesKept(disk.Files)
	for i := range healed.Files {
		if fates[healed.Files[i].Path] {
			healed.Files[i].Fate = Quarantined
		}
		undone.Files[i].Fate = Stays
	}
	examine(t, &healed, true)
	guarded(t, &healed)

	m.send("u")
	m.expect("1  repair of .*: 4 files", patience)
	m.expect("Which one", patience)
	m.send("1")
	m.expect("goes back: .*CSAgent.sys", patience)
	m.expect("Type YES", patience)
	m.send("yes\r")
	m.expect("UNDONE: 4 files", patience)
	m.expect("Your choice: ", patience)
	m.send("p")
	check(t, m.WaitPowerOff(patience))
	m.noDefect()
	m.Close()
	examine(t, &undone, true)
}

func bytesKept(files []File) []File { return append([]File(nil), files...) }

// guarded makes sure that only administrators may write to the quarantine of a healed disk, as ntfs-3g sees it.
func guarded(t *testing.T, d *WindowsDisk) {
	t.Helper()
	err := withWindows(context.Background(), d, func(root string) error {
		runs, err := os.ReadDir(filepath.Join(root, QuarantineDir))
		if err != nil {
			return err
		}
		for _, r := range runs {
			for _, name := range []string{"", "manifest.json", "Windows/System32/drivers"} {
				sd := make([]byte, 4096)
				n, err := unix.Getxattr(filepath.Join(root, QuarantineDir, r.Name(), name), "system.ntfs_acl", sd)
				if err != nil {
					return err
				}
				// O:BAG:SYD:PAI with entries for two: S-1-1-0, everyone, is none of them.
				if everyone := []byte{1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}; n == 0 || bytes.Contains(sd[:n], everyone) || sd[3]&0x10 == 0 {
					t.Errorf("%s/%s: not guarded: %x", r.Name(), name, sd[:n])
				}
			}
		}
		return nil
	})
	check(t, err)
}

// TestUnsignedRules has a pack that somebody put onto finished media: it is left out, and said so.
func TestUnsignedRules(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{Plain: true})
	pack := filepath.Join(t.TempDir(), "site.yaml")
	check(t, os.WriteFile(pack, []byte(sitePack), 0o600))
	iso := media(t, "", "--countdown", "0s", "--rules", pack, "--allow-unsigned-rules")
	data, err := os.ReadFile(iso)
	check(t, err)
	strict := bytes.ReplaceAll(data, []byte("allow_unsigned_rules: true  "), []byte("allow_unsigned_rules: false "))
	if bytes.Equal(strict, data) {
		t.Fatal("no allow_unsigned_rules on the media")
	}
	check(t, os.WriteFile(iso, strict, 0o600))
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path}}})
	m.expect("rule pack 02-site.yaml is left out: it has no signature", patience)
	m.expect("NOT COMPLETE: 1 rule pack", patience)
	m.expect("Your choice: ", patience)
	m.noDefect()
	m.Close()
	examine(t, disk, true) // by the packaged rule
}

// output runs the program and returns what it printed, and its exit status.
func output(t *testing.T, args ...string) (string, int) {
	t.Helper()
	path, err := program()
	check(t, err)
	cmd := exec.Command(path, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// volumes are what "rules test --json" says of a tree, without the name of the tree.
func volumes(t *testing.T, args ...string) any {
	t.Helper()
	path, err := program()
	check(t, err)
	out, err := exec.Command(path, append([]string{"rules", "test", "--json"}, args...)...).Output()
	if err != nil {
		t.Fatalf("rules test %q: %v", args, err)
	}
	var all []map[string]any
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		delete(v, "volume")
		// A mounted tree tells more times of a file than one is named by.
		for _, a := range v["plan"].(map[string]any)["actions"].([]any) {
			times := a.(map[string]any)["times"].(map[string]any)
			delete(times, "accessed")
			delete(times, "created")
		}
	}
	return any(all)
}

// TestRulesOnDisks tries the packaged pack out on the image of a BitLocker disk, which is read without the kernel, and
// on the same volume mounted by ntfs-3g, which must agree; and repairs and restores the mounted one.
func TestRulesOnDisks(t *testing.T) {
	disk := newDisk(t, DiskOptions{})
	before := sum(t, disk.Path)
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys.csv")
	check(t, os.WriteFile(keys, []byte(keyList(disk)), 0o600))
	pack := filepath.Join(repository(), "assets/rules/crowdstrike-2024-07-19.yaml")

	out, code := output(t, "rules", "test", pack, disk.Path, "--key-file", keys)
	for _, want := range []string{"to quarantine: 2 files", "00000032.sys", "00000033.sys\n    not faulty", "00000099.sys\n    not the kind",
		"C-00000290-00000000-00000117.sys\n    its name is not C-00000291-*.sys"} {
		if !strings.Contains(out, want) || code != 0 {
			t.Errorf("%q is not in (exit status %d)\n%s", want, code, out)
		}
	}
	if _, code := output(t, "rules", "test", pack, disk.Path, "--key-file", keys, "--partition", "4"); code != 3 {
		t.Errorf("the recovery partition: exit status %d, want 3", code)
	}
	fromImage := volumes(t, pack, disk.Path, "--key-file", keys)
	if sum(t, disk.Path) != before {
		t.Error("the disk was changed")
	}

	err := withVolume(context.Background(), disk, func(volume string) error {
		clear := filepath.Join(dir, "clear")
		if _, err := run(context.Background(), "cp", volume, clear); err != nil {
			return err
		}
		err := withNTFS(context.Background(), clear, false, func(root string) error {
			if mounted := volumes(t, pack, root); !reflect.DeepEqual(mounted, fromImage) {
				t.Errorf("mounted: %v\nimage:   %v", mounted, fromImage)
			}
			if out, code := output(t, "repair", "--yes", root); code != 0 || !strings.Contains(out, "read back and verified") {
				t.Errorf("repair: exit status %d\n%s", code, out)
			}
			if out, code := output(t, "repair", "--yes", root); code != 3 {
				t.Errorf("repair again: exit status %d\n%s", code, out)
			}
			return nil
		})
		if err != nil {
			return err
		}
		plain := *disk
		plain.Options.Plain = true
		f := &Findings{Logs: map[string][]byte{}}
		err = withNTFS(context.Background(), clear, true, func(root string) error { return f.examine(&plain, root, true) })
		if err != nil || len(f.Problems) > 0 || f.Moved != 2 {
			t.Errorf("repaired: %v, %d moved: %v", err, f.Moved, f.Problems)
		}
		err = withNTFS(context.Background(), clear, false, func(root string) error {
			if out, code := output(t, "restore", "--yes", root); code != 0 || strings.Count(out, "back in place") != 2 {
				t.Errorf("restore: exit status %d\n%s", code, out)
			}
			return nil
		})
		if err != nil {
			return err
		}
		plain.Files = bytesKept(disk.Files)
		for i := range plain.Files {
			plain.Files[i].Fate = Stays
		}
		f = &Findings{Logs: map[string][]byte{}}
		err = withNTFS(context.Background(), clear, true, func(root string) error { return f.examine(&plain, root, true) })
		if len(f.Problems) > 0 || f.Untouched != len(plain.Files) {
			t.Errorf("restored: %d untouched: %v", f.Untouched, f.Problems)
		}
		return err
	})
	check(t, err)
}

// attachedInit is a Linux of one program, with the broken machine's disk attached.
const attachedInit = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /sbin /usr/bin
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec > /dev/ttyS0 2>&1
echo "without modules"
modprobe nvme
while ! [ -b /dev/nvme0n1p4 ]; do sleep 0.2; done
bootmend repair --yes /dev/nvme0n1 --key-file /keys.csv; echo "status $?"
for m in %s; do modprobe $m; done
echo "with modules"
bootmend repair --dry-run /dev/nvme0n1 --key-file /keys.csv; echo "status $?"
bootmend repair --yes /dev/nvme0n1 --key-file /keys.csv; echo "status $?"
bootmend repair --yes /dev/nvme0n1p3 --key-file /keys.csv; echo "status $?"
bootmend restore --yes /dev/nvme0n1 --key-file /keys.csv; echo "status $?"
bootmend repair --yes /dev/nvme1n1p1; echo "status $?"
echo "left $(grep -c -e bootmend-volume -e dm- /proc/mounts) $(ls /dev | grep -c '^dm-')"
sync
poweroff -f
`

// TestAttachedDisk repairs a disk that is attached to a Linux machine by its device, BitLocker and all, and restores it.
func TestAttachedDisk(t *testing.T) {
	parallel(t)
	check(t, need("busybox"))
	disk := newDisk(t, DiskOptions{Dirty: true})
	bundle, err := assets.OpenBundle()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	root, kernel, initrd := filepath.Join(dir, "root"), filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initrd")
	modules, err := bundle.ReadFile("modules.cpio")
	check(t, err)
	image, err := bundle.ReadFile("vmlinuz")
	check(t, err)
	wanted := []string{"dm-crypt", "dm-zero", "xts", "aesni-intel", "ntfs3"}
	check(t, peerModuleTree(root, modules, append([]string{"nvme"}, wanted...)))
	program, err := program()
	check(t, err)
	busybox, err := lookTool("busybox")
	check(t, err)
	for to, from := range map[string]string{"bin/bootmend": program, "bin/busybox": busybox} {
		data, err := os.ReadFile(from)
		check(t, err)
		check(t, writeFile(filepath.Join(root, to), data, 0o755))
	}
	check(t, writeFile(filepath.Join(root, "init"), fmt.Appendf(nil, attachedInit, strings.Join(wanted, " ")), 0o755))
	check(t, writeFile(filepath.Join(root, "keys.csv"), []byte(keyList(disk)), 0o600))
	check(t, os.WriteFile(kernel, image, 0o600))
	_, err = run(context.Background(), "sh", "-c", `cd "$1" && find . | LC_ALL=C sort | busybox cpio -o -H newc > "$2"`, "sh", root, initrd)
	check(t, err)

	member := newSmall(t, SmallOptions{Disk: at(-1024, "Intel Raid ISM Cfg Sig. 1.3.00")})
	before := sum(t, member.Path)
	m := boot(t, Options{Firmware: BIOS, Disks: []Disk{{Path: disk.Path}, {Path: member.Path}}, Extra: []string{"-kernel", kernel, "-initrd", initrd,
		"-append", "quiet console=ttyS0 panic=30"}})
	m.expect("without modules", patience)
	m.expect("has no device mapper with its crypt and zero targets|has no ntfs3 driver", patience)
	m.expect("hint: load ", patience)
	m.expect("status 1", patience)
	m.expect("with modules", patience)
	m.expect("to quarantine: 2 files", patience)
	m.expect("status 0", patience)
	m.expect("in quarantine: 2 files", patience)
	m.expect("read back and verified", patience)
	m.expect("status 0", patience)
	m.expect("nothing to repair", patience)
	m.expect("status 3", patience)
	m.expect("back in place: ", patience)
	m.expect("status 0", patience)
	m.expect("/dev/nvme1n1 is part of an Intel RAID .*: nothing is written to it", patience)
	m.expect("hint: Writing to one disk of a set would damage", patience)
	m.expect("status 1", patience)
	m.expect("left 0 0", patience)
	check(t, m.WaitPowerOff(patience))
	if leak := LeakedKey(disk.Password, []byte(m.Transcript())); leak != "" {
		t.Errorf("the console showed %s of the recovery password", leak)
	}
	m.Close()
	if sum(t, member.Path) != before {
		t.Error("the disk of a set was changed")
	}
	undone := *disk
	undone.Files = bytesKept(disk.Files)
	for i := range undone.Files {
		undone.Files[i].Fate = Stays
	}
	// The logs do not name the machine: the disk is not in it.
	found, err := Examine(context.Background(), &undone, true)
	check(t, err)
	if len(found.Problems) > 0 || found.Untouched != len(undone.Files) || len(found.Logs) != 2 {
		t.Errorf("restored: %d untouched, %d logs: %v", found.Untouched, len(found.Logs), found.Problems)
	}
}
