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
	check(t, os.Mkdir(filepath.Join(dir, "sources"), 0o755))
	_, err = run(context.Background(), "wimlib-imagex", "capture", tree, filepath.Join(dir, "sources/boot.wim"), "Windows PE", "--boot", "--compress=XPRESS")
	check(t, err)
	return dir
}

// TestWindowsPEDisc: what a source has for discs is started by each firmware from the catalog of the image: the boot
// sector by a BIOS, the volume by UEFI.
func TestWindowsPEDisc(t *testing.T) {
	skipShort(t)
	check(t, need("mkfs.fat", "mmd", "mcopy"))
	folder := windowsPEFolder(t)
	write(t, filepath.Join(folder, "Boot/etfsboot.com"), append(standInBootSector(), make([]byte, 4096)...)[:4096])
	volume, loader := filepath.Join(folder, "EFI/Microsoft/Boot/efisys.bin"), filepath.Join(t.TempDir(), "BOOTX64.EFI")
	write(t, volume, make([]byte, 1440<<10))
	write(t, loader, standInWimboot())
	for _, args := range [][]string{{"mkfs.fat", volume}, {"mmd", "-i", volume, "::/EFI", "::/EFI/BOOT"}, {"mcopy", "-i", volume, loader, "::/EFI/BOOT/"}} {
		_, err := run(context.Background(), args[0], args[1:]...)
		check(t, err)
	}
	for firmware, line := range map[Firmware]string{BIOS: StandIn, UEFI: StandInWimboot} {
		t.Run(string(firmware), func(t *testing.T) {
			parallel(t)
			image := media(t, "", "--env", "winpe", "--winpe", folder)
			m := boot(t, Options{Firmware: firmware, Media: image, Medium: CD})
			m.expect(line, patience)
			m.Close()
			verifyStick(t, image, "OK: ")
		})
	}
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
