package boottest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
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
