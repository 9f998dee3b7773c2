package boottest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/bootmend/bootmend/cmd/bootmend/tui/termtest"
)

// TestWizard is the whole errand: a person answers the wizard's questions in a terminal of 80×24, and the stick that
// it makes heals a machine.
func TestWizard(t *testing.T) {
	skipShort(t)
	parallel(t)
	bootmend, err := program()
	check(t, err)
	check(t, need("tmux"))
	disk := newDisk(t, DiskOptions{})
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "keys.csv"), []byte(keyList(disk)), 0o600))
	term := termtest.Start(t, termtest.Options{Size: "80x24", Dir: dir}, bootmend)
	for _, step := range []struct{ see, press string }{
		{"What do you want?", "Enter"},
		{"What shall the machines start?", "Enter"},
		{"Where do the recovery keys come from?", "Enter"},
		{"Which file or folder has the keys?", "keys.csv"},
		{"> keys.csv", "Enter"},
		{"2 recovery keys", "Enter"},
		{"How shall the keys be protected?", "3"},
		{"Keys that anyone can read?", "2"},
		{"A rule pack of your own?", "Enter"},
		{"What shall be done with the faulty files?", "Enter"},
		{"What does a healed machine do?", "Enter"},
		{"What does a machine do that could not be healed?", "Enter"},
		{"Where shall it go?", "2"},
		{"Which file shall be written?", "Enter"},
		{"They are readable by anyone who has it.", "Enter"},
	} {
		term.Shows(step.see)
		term.Keys(step.press)
	}
	term.Shows("bootmend build usb -o heal.img --keys keys.csv --unprotected-keys")

	m := boot(t, Options{Media: filepath.Join(dir, "heal.img"), Medium: USB, Disks: []Disk{{Path: disk.Path}}})
	m.healed()
	t.Logf("healed and restarted after %s", elapsed(m.reset(patience)))
	m.noDefect()
	examine(t, disk, true)
}
