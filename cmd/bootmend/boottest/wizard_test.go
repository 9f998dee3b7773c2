package boottest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	socket := filepath.Join(t.TempDir(), "tmux")
	tmux := func(args ...string) string {
		out, err := run(context.Background(), "tmux", append([]string{"-S", socket, "-f", "/dev/null"}, args...)...)
		check(t, err)
		return string(out)
	}
	tmux("new-session", "-d", "-x", "80", "-y", "24", "-c", dir, bootmend)
	t.Cleanup(func() { _, _ = run(context.Background(), "tmux", "-S", socket, "kill-server") })
	see := func(want string) {
		t.Helper()
		text := ""
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			if text = tmux("capture-pane", "-p"); strings.Contains(text, want) {
				return
			}
		}
		t.Fatalf("the wizard does not show %q:\n%s", want, text)
	}
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
		see(step.see)
		tmux("send-keys", step.press)
	}
	see("bootmend build usb -o heal.img --keys keys.csv --unprotected-keys")

	m := boot(t, Options{Media: filepath.Join(dir, "heal.img"), Medium: USB, Disks: []Disk{{Path: disk.Path}}})
	m.healed()
	t.Logf("healed and restarted after %s", elapsed(m.reset(patience)))
	m.noDefect()
	examine(t, disk, true)
}
