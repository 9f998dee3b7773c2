package boottest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// windowsPEFolder is a folder as an administrator has one of Windows PE, with stand-ins for Microsoft's boot managers:
// for UEFI those of the disk, for a BIOS one that looks around as bootmgr must. There is no boot configuration in it.
func windowsPEFolder(t *testing.T) string {
	t.Helper()
	check(t, need("wimlib-imagex"))
	files, err := standInFiles(context.Background())
	check(t, err)
	files["bootmgr"], files["Boot/boot.sdi"] = standInManager(), []byte("sdi")
	delete(files, "EFI/Microsoft/Boot/BCD")
	dir, tree := t.TempDir(), t.TempDir()
	for name, content := range files {
		write(t, filepath.Join(dir, name), content)
	}
	for _, name := range []string{"wpeinit.exe", "manage-bde.exe", "boot/winload.efi", "boot/winload.exe"} {
		write(t, filepath.Join(tree, "Windows/System32", name), []byte("MZ"))
	}
	write(t, filepath.Join(dir, "sources/none"), nil)
	_, err = run(context.Background(), "wimlib-imagex", "capture", tree, filepath.Join(dir, "sources/boot.wim"), "Windows PE", "--boot", "--compress=XPRESS")
	check(t, err)
	return dir
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, content, 0o600))
}

// TestWindowsPEStick: the boot manager on a stick with Windows PE is started by each firmware, with what it needs to find
// its partition. What it does then is Microsoft's, and not to be had here.
func TestWindowsPEStick(t *testing.T) {
	skipShort(t)
	folder := windowsPEFolder(t)
	for _, firmware := range []Firmware{BIOS, UEFI, SecureBoot} {
		t.Run(string(firmware), func(t *testing.T) {
			parallel(t)
			image := mediaStick(t, "", "--env", "winpe", "--winpe", folder)
			m := boot(t, Options{Firmware: firmware, Media: image, Medium: USB})
			found := m.expect(StandIn+"|WRONG: .", time.Minute)
			if strings.HasPrefix(found[0], "WRONG") {
				t.Errorf("started the wrong way: %s", found[0])
			}
			m.Close()
			verifyStick(t, image, "OK: ")
		})
	}
}
