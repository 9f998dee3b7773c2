package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/image/flash/flashtest"
)

// plainStick is a stick without a vice.
func plainStick(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stick")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	dev, detach, err := flashtest.Attach(path)
	if err != nil {
		t.Skipf("loop devices need root: %v", err)
	}
	t.Cleanup(func() {
		if err := detach(); err != nil {
			t.Error(err)
		}
	})
	return dev
}

// TestFlashWinPE writes Windows PE straight onto two sticks, and then one for each of two sites.
func TestFlashWinPE(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds to write sticks")
	}
	if _, _, err := assets.MendExe(); err != nil {
		t.Skip(err)
	}
	medium, dir := windowsMedium(t, "LZX"), wizardDir(t)
	lay(t, dir, map[string]string{"drivers/vmd.inf": "[Version]", "sites.csv": "Site,Computer\nBerlin,*-1\nParis,*-2\n"})
	sticks := []string{plainStick(t, 300<<20), plainStick(t, 310<<20)}
	t.Setenv(testSticksEnv, strings.Join(sticks, ","))
	flash := []string{"flash", "--to", sticks[0], "--to", sticks[1], "--yes", "--env", "winpe", "--winpe", medium}

	out, errs, err := bootmend(append(flash, "--drivers", filepath.Join(dir, "drivers"))...)
	if err != nil || !strings.Contains(out, "2 good, 0 bad") {
		t.Fatalf("%s\n%s\n%v", out, errs, err)
	}
	for _, dev := range sticks {
		if out, errs, err = bootmend("verify", dev); err != nil {
			t.Errorf("%s\n%s\n%v", out, errs, err)
		}
		for name, want := range map[string]string{
			"efi/boot/bootx64.efi": "manager for UEFI", "bootmend/drivers/vmd.inf": "[Version]", "bootmend/rules/01-crowdstrike-2024-07-19.yaml": "channel-file-291",
		} {
			if got := tool(t, "mtype", "-i", dev+"@@1M", "::/"+name); !strings.Contains(got, want) {
				t.Errorf("%s: %s holds %q", dev, name, got)
			}
		}
		wim := filepath.Join(t.TempDir(), "boot.wim")
		tool(t, "mcopy", "-i", dev+"@@1M", "::/sources/boot.wim", wim)
		tool(t, "wimlib-imagex", "verify", wim)
		if list := tool(t, "wimlib-imagex", "dir", wim, "2"); !strings.Contains(list, "mend.exe") {
			t.Errorf("%s: the agent is not in the WIM:\n%s", dev, list)
		}
	}

	out, errs, err = bootmend(append(flash, "--keys", filepath.Join(dir, "keys.csv"), "--unprotected-keys", "--label-from", filepath.Join(dir, "sites.csv"))...)
	if err != nil {
		t.Fatalf("%s\n%s\n%v", out, errs, err)
	}
	for i, dev := range sticks {
		list := tool(t, "mtype", "-i", dev+"@@1M", "::/bootmend/keys.csv")
		for n, computer := range []string{"FRONTDESK-1", "FRONTDESK-2"} {
			if strings.Contains(list, computer) != (n == i) {
				t.Errorf("stick %d has the keys\n%s", i+1, list)
			}
		}
		tool(t, "mdir", "-i", dev+"@@1M", "::/sources/boot.wim")
	}

	// Without a boot manager for a BIOS, that is told.
	if err := os.Remove(filepath.Join(medium, "bootmgr")); err != nil {
		t.Fatal(err)
	}
	if out, errs, err = bootmend(flash...); err != nil || !strings.Contains(errs, "each stick starts with UEFI only") {
		t.Errorf("%s\n%s\n%v", out, errs, err)
	}

	// What is wrong shows before a stick is written.
	for _, test := range []struct{ flag, value, want string }{
		{"--winpe", dir, "holds no Windows PE"},
		{"--control", "server.yaml", "open server.yaml"},
		{"--size", "10MB", "small"},
	} {
		if _, _, err := bootmend(append(flash, test.flag, test.value)...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: error %v", test.flag, test.value, err)
		}
	}
	if _, _, err := bootmend("flash", "heal.img", "--to", sticks[0], "--env", "winpe"); err == nil || !strings.Contains(err.Error(), "--env says what to build") {
		t.Errorf("error %v", err)
	}
}
