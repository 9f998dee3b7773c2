package boottest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hibernate makes a Windows volume one with a session to resume.
func hibernate(root string) error {
	return os.WriteFile(filepath.Join(root, "hiberfil.sys"), session("hibr"), 0o600)
}

// session is a hiberfil.sys that begins so.
func session(signature string) []byte {
	return append([]byte(signature), contents("hiberfil", 300_000)...)
}

// newSmall makes a disk, see [SmallOptions].
func newSmall(t *testing.T, o SmallOptions) *WindowsDisk {
	t.Helper()
	skipShort(t)
	disk, err := MakeSmall(context.Background(), filepath.Join(t.TempDir(), "disk.img"), o)
	check(t, err)
	return disk
}

// awake are the files of a disk with the session given up.
func awake(d *WindowsDisk) *WindowsDisk {
	after := *d
	after.Known = []string{"hiberfil.sys"}
	return &after
}

// givenUp makes sure that of a session nothing but the signature has changed, and that Windows will check the volume.
func givenUp(t *testing.T, d *WindowsDisk) {
	t.Helper()
	check(t, withVolume(context.Background(), d, func(volume string) error {
		if dirty, err := isDirty(volume); err != nil || !dirty {
			t.Errorf("Windows will not check the volume (%v)", err)
		}
		return withNTFS(context.Background(), volume, true, func(root string) error {
			data, err := os.ReadFile(filepath.Join(root, "hiberfil.sys"))
			if err == nil && !bytes.Equal(data, session("wake")) {
				t.Errorf("hiberfil.sys begins with %q", data[:8])
			}
			return err
		})
	}))
}

// TestHibernated has two hibernated Windows, one of them on BitLocker: they are refused, and not a byte is written; in
// the menu a person then gives the sessions up, on the second thought.
func TestHibernated(t *testing.T) {
	parallel(t)
	plain := newSmall(t, SmallOptions{Change: hibernate})
	locked := newSmall(t, SmallOptions{Change: hibernate, Encrypted: true})
	before := sum(t, plain.Path) + sum(t, locked.Path)
	m := boot(t, Options{Firmware: Direct, Media: media(t, keyList(locked), "--countdown", "0s", "--on-success", "wait"),
		Disks: []Disk{{Path: plain.Path, Bus: AHCI}, {Path: locked.Path, Bus: AHCI}}})
	for range 2 {
		m.expect("NOT HEALED: .*hibernated or was shut down with Fast Startup.*Start Windows once more and let it resume, or shut it down fully", patience)
	}
	m.expect("H  heal although Windows is hibernated: its session is lost", patience)
	m.expect("Your choice: ", patience)
	m.send("h")
	m.expect("documents that were open .* are lost", patience)
	m.expect("Type YES", patience)
	m.send("no\r")
	m.expect("Nothing was changed", patience)
	m.expect("Your choice: ", patience)
	if sum(t, plain.Path)+sum(t, locked.Path) != before {
		t.Error("a disk was changed before anybody agreed")
	}
	m.send("h")
	m.expect("Type YES", patience)
	m.send("YES\r")
	for range 2 {
		m.expect("The hibernated session is given up", patience)
		m.expect("Read back from the disk and verified", patience)
	}
	m.expect("HEALED: 2 Windows", patience)
	m.expect("Your choice: ", patience)
	m.send("p")
	check(t, m.WaitPowerOff(patience))
	m.noDefect()
	m.Close()
	for _, d := range []*WindowsDisk{plain, locked} {
		examine(t, awake(d), true)
		givenUp(t, d)
	}
}

// TestDiscardHibernation has media that were built for hibernated machines: nobody is asked.
func TestDiscardHibernation(t *testing.T) {
	parallel(t)
	disk := newSmall(t, SmallOptions{Change: func(root string) error {
		return os.WriteFile(filepath.Join(root, "hiberfil.sys"), session("RSTR"), 0o600)
	}})
	iso := media(t, "", "--countdown", "0s", "--discard-hibernation")
	m := boot(t, Options{Firmware: Direct, Media: iso, Disks: []Disk{{Path: disk.Path, Bus: AHCI}}})
	m.expect("The hibernated session is given up", patience)
	m.healed()
	m.reset(patience)
	m.noDefect()
	m.Close()
	examine(t, awake(disk), true)
	givenUp(t, disk)
	check(t, withWindows(context.Background(), disk, func(root string) error {
		logs, err := filepath.Glob(filepath.Join(root, LogDir, "logs", "*.jsonl"))
		if err != nil || len(logs) != 1 {
			t.Fatalf("logs: %q, %v", logs, err)
		}
		log, err := os.ReadFile(logs[0])
		if !strings.Contains(string(log), `"session_discarded":"hiberfil.sys holds a session whose resuming was interrupted"`) {
			t.Errorf("the log does not tell of the session:\n%s", log)
		}
		return err
	}))
}
