package boottest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/remediate/bcd/bcdtest"
)

// TestSafeMode goes the way of a machine whose key nobody has: Safe Mode is set on the partition that is never
// encrypted, the machine goes on to Windows, and when it comes back with a key it is healed and Safe Mode is gone.
func TestSafeMode(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	before := bootStoreOf(t, disk)
	o := Options{Dir: t.TempDir(), Firmware: UEFI, Media: media(t, "", "--countdown", "0s"), Disks: []Disk{{Path: disk.Path}}}
	m := boot(t, o)
	askSafeMode(m)
	m.expect("SAFE MODE SET: Windows 10", patience)
	m.expect("Your choice: ", patience)
	m.send("w")
	m.reset(patience)
	m.resume()
	m.expect(StandIn, patience)
	m.noDefect()
	m.Close()

	set := bootStoreOf(t, disk)
	if got, want := set.text, before.with(`"Element"=hex(3):01,00,00,00,00,00,00,00`); got != want {
		t.Errorf("the boot configuration is\n%s\nwant\n%s", got, want)
	}
	if len(set.kept) != 1 || !bytes.Equal(set.kept[0], before.data) {
		t.Errorf("%d stores are kept, want the one as it was", len(set.kept))
	}
	examine(t, disk, false)

	o.Media = media(t, keyList(disk), "--countdown", "0s")
	m = boot(t, o)
	m.healed()
	m.expect("SAFE MODE TAKEN BACK", patience)
	m.reset(patience)
	m.noDefect()
	m.Close()
	if after := bootStoreOf(t, disk); after.text != before.text {
		t.Errorf("after the repair the boot configuration is\n%s\nwant\n%s", after.text, before.text)
	}
	if out, err := run(context.Background(), "mdir", "-b", "-i", esp(disk), "::/EFI/Microsoft/Boot"); err != nil || bytes.Contains(out, []byte("bootmend-safemode")) {
		t.Errorf("the marker stays: %s (%v)", out, err)
	}
	fsckESP(t, disk)
	examine(t, disk, true)
}

// TestSafeModeRefused cannot write: it says so, and nothing changes.
func TestSafeModeRefused(t *testing.T) {
	for name, test := range map[string]struct {
		readonly, full bool
		says           string
	}{
		"write-protected": {readonly: true, says: "refuses writes"},
		"full":            {full: true, says: "no space left"},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			disk := newDisk(t, DiskOptions{})
			if test.full {
				filler := filepath.Join(t.TempDir(), "filler")
				check(t, os.WriteFile(filler, contents("filler", espSize), 0o600))
				_, _ = run(context.Background(), "mcopy", "-i", esp(disk), filler, "::") // ends with the disk full
				fillESP(t, disk)
			}
			before := bootStoreOf(t, disk)
			m := boot(t, Options{Firmware: Direct, Media: media(t, "", "--countdown", "0s"), Disks: []Disk{{Path: disk.Path, Bus: Virtio, ReadOnly: test.readonly}}})
			askSafeMode(m)
			m.expect("NOT SET: .*"+test.says, patience)
			m.expect("Your choice: ", patience)
			m.send("p")
			if err := m.WaitPowerOff(patience); err != nil {
				t.Fatal(err)
			}
			m.noDefect()
			m.Close()
			if after := bootStoreOf(t, disk); !bytes.Equal(after.data, before.data) {
				t.Error("the boot configuration changed")
			}
			fsckESP(t, disk)
		})
	}
}

// TestSafeModeBIOS has the store where a BIOS starts Windows: on an active NTFS partition of an MBR.
func TestSafeModeBIOS(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	system := filepath.Join(t.TempDir(), "system")
	store, err := bcdtest.Store("Windows 7", `\Windows\system32\winload.exe`)
	check(t, err)
	check(t, makeNTFS(context.Background(), system, espSize, "System Reserved", espStart, 512, []File{
		{Path: "Boot/BCD", Time: installed, Data: store}, {Path: "bootmgr", Time: installed, Data: contents("bootmgr", 4000)}}))
	check(t, withNTFS(context.Background(), system, false, func(root string) error { return guardFile(filepath.Join(root, "Boot/BCD")) }))
	makeMBR(t, disk, system)

	m := boot(t, Options{Firmware: Direct, Media: media(t, "", "--countdown", "0s"), Disks: []Disk{{Path: disk.Path, Bus: AHCI}}})
	askSafeMode(m)
	m.expect("SAFE MODE SET: Windows 7", patience)
	m.expect("Your choice: ", patience)
	// The key has turned up after all.
	m.send("t")
	typeKey(m, disk)
	m.healed()
	m.expect("SAFE MODE TAKEN BACK", patience)
	m.reset(patience)
	m.noDefect()
	m.Close()
	check(t, copyOut(disk.Path, espStart, espSize, system))
	check(t, withNTFS(context.Background(), system, true, func(root string) error {
		data, err := os.ReadFile(filepath.Join(root, "Boot/BCD"))
		if err != nil {
			return err
		}
		if text, was := storeText(t, data), storeText(t, store); text != was {
			t.Errorf("the boot configuration is\n%s\nwant\n%s", text, was)
		}
		kept, err := filepath.Glob(filepath.Join(root, "Boot/BCD?*"))
		if err == nil && len(kept) < 1 {
			t.Error("the store as it was is not kept")
		}
		return err
	}))
}

// guardFile gives a file on a mounted NTFS volume a security descriptor (MS-DTYP, 2.4.6), as every file has that Windows
// made: the administrators own it, and nobody else may do anything with it.
func guardFile(path string) error {
	administrators := []byte{1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0} // S-1-5-32-544
	sd := []byte{1, 0, 0x04, 0x80, 20, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 52, 0, 0, 0}
	sd = append(append(sd, administrators...), administrators...)
	sd = append(sd, 2, 0, 32, 0, 1, 0, 0, 0, 0, 0, 24, 0, 0xff, 0x01, 0x1f, 0) // one entry: all rights
	return unix.Setxattr(path, "system.ntfs_acl", append(sd, administrators...), 0)
}

// askSafeMode lets the question for the key pass and chooses Safe Mode with network.
func askSafeMode(m machine) {
	m.t.Helper()
	m.expect("key: ", patience)
	m.send("s")
	m.expect("NOT HEALED", patience)
	m.expect("Your choice: ", patience)
	m.send("s")
	m.expect("N: with network", patience)
	m.send("n")
}

func esp(disk *WindowsDisk) string { return fmt.Sprintf("%s@@%d", disk.Path, espStart) }

// bootStore is a boot configuration store as other people's programs read it.
type bootStore struct {
	data []byte
	text string
	kept [][]byte
}

// with is the text with the element safeboot of the default entry.
func (s bootStore) with(value string) string {
	key := `[\Objects\` + bcdtest.Loader + `\Elements\`
	place := strings.Index(s.text, key+"25000020]") // they are sorted, and this one is the next
	next := strings.Index(s.text[place+1:], "\n[") + place + 2
	return s.text[:next] + key + "25000080]\n" + value + "\n\n" + s.text[next:]
}

func bootStoreOf(t *testing.T, disk *WindowsDisk) bootStore {
	t.Helper()
	dir := t.TempDir()
	_, err := run(context.Background(), "mcopy", "-i", esp(disk), "::/EFI/Microsoft/Boot/BCD*", dir)
	check(t, err)
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	check(t, err)
	var s bootStore
	for _, name := range names {
		data, err := os.ReadFile(name)
		check(t, err)
		if filepath.Base(name) == "BCD" {
			s.data = data
		} else {
			s.kept = append(s.kept, data)
		}
	}
	s.text = storeText(t, s.data)
	return s
}

// storeText is what hivex reads.
func storeText(t *testing.T, data []byte) string {
	t.Helper()
	check(t, need("hivexregedit"))
	name := filepath.Join(t.TempDir(), "BCD")
	check(t, os.WriteFile(name, data, 0o600))
	text, err := run(context.Background(), "hivexregedit", "--export", name, `\`)
	check(t, err)
	return string(text)
}

// fillESP takes what is left of the EFI system partition, down to the last cluster.
func fillESP(t *testing.T, disk *WindowsDisk) {
	t.Helper()
	for size := espSize; size >= 256; size /= 2 {
		name := filepath.Join(t.TempDir(), fmt.Sprintf("fill%d", size))
		check(t, os.WriteFile(name, make([]byte, size), 0o600))
		_, _ = run(context.Background(), "mcopy", "-i", esp(disk), name, "::") // what does not fit is left out
	}
}

func fsckESP(t *testing.T, disk *WindowsDisk) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "esp")
	check(t, copyOut(disk.Path, espStart, espSize, image))
	if out, err := run(context.Background(), "fsck.fat", "-n", image); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
}

func copyOut(path string, start, size int64, to string) error {
	data := make([]byte, size)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.ReadAt(data, start); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

// makeMBR puts an active partition with the image system and the Windows volume into an MBR, in place of the GPT.
func makeMBR(t *testing.T, disk *WindowsDisk, system string) {
	t.Helper()
	data, err := os.ReadFile(system)
	check(t, err)
	f, err := os.OpenFile(disk.Path, os.O_RDWR, 0)
	check(t, err)
	defer func() { check(t, f.Close()) }()
	zeros := make([]byte, 34*512)
	_, err = f.WriteAt(zeros, 0)
	check(t, err)
	_, err = f.WriteAt(zeros, diskSize-int64(len(zeros)))
	check(t, err)
	_, err = f.WriteAt(data, espStart)
	check(t, err)
	sector := make([]byte, 512)
	for i, p := range []struct{ flag, start, size int }{{0x80, espStart, espSize}, {0, windowsStart, windowsSize}} {
		entry := sector[446+16*i:]
		entry[0], entry[4] = byte(p.flag), 7
		binary.LittleEndian.PutUint32(entry[8:], uint32(p.start/512))
		binary.LittleEndian.PutUint32(entry[12:], uint32(p.size/512))
	}
	sector[510], sector[511] = 0x55, 0xaa
	_, err = f.WriteAt(sector, 0)
	check(t, err)
}
