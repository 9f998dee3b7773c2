package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/image/usb"
)

// tool runs a program that another hand wrote, or skips the test where it is absent.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// windowsMedium makes what an installation medium has, in the shape of Microsoft's, with nothing of Microsoft's in it:
// its second image will do, its first, which boots, will not.
func windowsMedium(t *testing.T, compress string) string {
	t.Helper()
	dir, trees := t.TempDir(), t.TempDir()
	lay(t, dir, map[string]string{
		"bootmgr": "manager", "boot/boot.sdi": "sdi", "boot/bcd": "BIOS store", "boot/etfsboot.com": "sector",
		"efi/boot/bootx64.efi": "manager for UEFI", "efi/microsoft/boot/bcd": "UEFI store", "efi/microsoft/boot/fonts/wgl4_boot.ttf": "font",
		"sources/install.wim": "Windows itself", "setup.exe": "setup",
	})
	system := "Windows/System32/"
	lay(t, filepath.Join(trees, "1"), map[string]string{system + "wpeinit.exe": "init", "Windows/Boot/EFI/bootmgfw.efi": "other manager"})
	lay(t, filepath.Join(trees, "2"), map[string]string{
		system + "wpeinit.exe": "init", system + "manage-bde.exe": "bde", system + "winpeshl.ini": "[LaunchApps]\r\nrecenv.exe\r\n",
		"Windows/Boot/EFI/boot.stl": "list", "large": strings.Repeat("0123456789abcdef", 1<<16),
	})
	wim := filepath.Join(dir, "sources", "boot.wim")
	tool(t, "wimlib-imagex", "capture", filepath.Join(trees, "1"), wim, "Windows PE", "--boot", "--check", "--compress="+compress)
	tool(t, "wimlib-imagex", "append", filepath.Join(trees, "2"), wim, "Windows Setup", "--check")
	return dir
}

// bootmend runs a command in this process.
func bootmend(args ...string) (out, errs string, err error) {
	var o, e bytes.Buffer
	cmd := newRootCommand()
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	cmd.SetArgs(args)
	err = cmd.Execute()
	return o.String(), e.String(), err
}

func TestBuildWinPE(t *testing.T) {
	if _, _, err := assets.MendExe(); err != nil {
		t.Skip(err)
	}
	drivers := t.TempDir()
	lay(t, drivers, map[string]string{"vmd/iaStorVD.inf": "[Version]", "vmd/iaStorVD.sys": "MZ"})
	for _, compress := range []string{"LZX", "XPRESS", "none"} {
		t.Run(compress, func(t *testing.T) {
			medium := windowsMedium(t, compress)
			dir := t.TempDir()
			disc := filepath.Join(dir, "windows.iso")
			tool(t, "genisoimage", "-quiet", "-udf", "-iso-level", "3", "-o", disc, medium)
			images := map[string]string{disc: filepath.Join(dir, "of-iso.img"), medium: filepath.Join(dir, "of-folder.img")}
			for source, image := range images {
				if _, errs, err := bootmend("build", "usb", "-o", image, "--env", "winpe", "--winpe", source, "--drivers", drivers); err != nil {
					t.Fatalf("%v\n%s", err, errs)
				}
			}
			a, err := os.ReadFile(images[disc])
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, "stick")
			partition := filepath.Join(dir, "partition")
			if err := os.WriteFile(partition, a[1<<20:], 0o600); err != nil {
				t.Fatal(err)
			}
			if out := tool(t, "sfdisk", "--verify", "--dump", images[disc]); !strings.Contains(out, "label: dos") || !strings.Contains(out, "type=c, bootable") {
				t.Errorf("sfdisk: %s", out)
			}
			tool(t, "fsck.fat", "-n", partition)
			tool(t, "7z", "x", "-y", "-o"+out, partition)
			for name, want := range map[string]string{
				"efi/boot/bootx64.efi": "manager for UEFI", "efi/microsoft/boot/bcd": "UEFI store", "boot/boot.sdi": "sdi",
				"bootmgr": "manager", "EFI/Microsoft/Boot/boot.stl": "list", "bootmend/drivers/vmd/iaStorVD.inf": "[Version]", "efi/microsoft/boot/fonts/wgl4_boot.ttf": "font",
			} {
				if got := readFold(t, out, name); got != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			if _, err := os.Stat(filepath.Join(out, "sources", "install.wim")); err == nil {
				t.Error("Windows itself is on the stick")
			}

			// wimlib agrees with the WIM, what was in it is there still, and the image with the agent boots.
			wim := filepath.Join(out, "sources", "boot.wim")
			tool(t, "wimlib-imagex", "verify", wim)
			if info := tool(t, "wimlib-imagex", "info", wim); !strings.Contains(strings.Join(strings.Fields(info), " "), "Boot Index: 2") {
				t.Errorf("%s", info)
			}
			applied := filepath.Join(dir, "applied")
			tool(t, "wimlib-imagex", "apply", wim, "2", applied)
			if shell := readFold(t, applied, "Windows/System32/winpeshl.ini"); !strings.Contains(shell, `cmd.exe, /c %SYSTEMDRIVE%\bootmend.cmd`) {
				t.Errorf("winpeshl.ini: %q", shell)
			}
			if script := readFold(t, applied, "bootmend.cmd"); !strings.Contains(script, "\r\nmend.exe\r\n") {
				t.Errorf("bootmend.cmd: %q", script)
			}
			if agent := readFold(t, applied, "mend.exe"); !strings.HasPrefix(agent, "MZ") || len(agent) < 1<<20 {
				t.Errorf("mend.exe of %d bytes", len(agent))
			}
			if readFold(t, applied, "large") != strings.Repeat("0123456789abcdef", 1<<16) {
				t.Error("what was in the image is not there any more")
			}
			tool(t, "wimlib-imagex", "apply", wim, "1", filepath.Join(dir, "first"))
			if _, err := os.Stat(filepath.Join(dir, "first", "mend.exe")); err == nil {
				t.Error("the agent is in the other image, too")
			}

			// "flash" lets the partition fill a larger stick.
			stick, err := usb.Open(bytes.NewReader(a), int64(len(a)))
			if err != nil {
				t.Fatal(err)
			}
			if l, err := stick.Layout(8e9); err != nil || l.FreeBytes() < 7e9 {
				t.Errorf("on a larger stick: %v", err)
			}
			if got, errs, err := bootmend("verify", images[disc]); err != nil {
				t.Errorf("verify: %v\n%s%s", err, got, errs)
			}
			// The same inputs give the same bytes.
			again := filepath.Join(dir, "again.img")
			if _, errs, err := bootmend("build", "usb", "-o", again, "--env", "winpe", "--winpe", disc, "--drivers", drivers); err != nil {
				t.Fatalf("%v\n%s", err, errs)
			}
			if b, err := os.ReadFile(again); err != nil || !bytes.Equal(a, b) {
				t.Errorf("another image the second time: %v", err)
			}
		})
	}
}

// TestBuildWinPEDisc makes a disc of each kind of source, and has xorriso, isoinfo and 7-Zip read it.
func TestBuildWinPEDisc(t *testing.T) {
	if _, _, err := assets.MendExe(); err != nil {
		t.Skip(err)
	}
	drivers, dir := t.TempDir(), t.TempDir()
	lay(t, drivers, map[string]string{"iaStorVD.inf": "[Version]", "iaStorVD.sys": "MZ"})
	medium := windowsMedium(t, "LZX")
	sector, firmware := strings.Repeat("b", 4096), strings.Repeat("u", 1440<<10)
	lay(t, medium, map[string]string{
		"boot/etfsboot.com": sector, "boot/bootfix.bin": "asks for a key", "efi/microsoft/boot/efisys.bin": "prompts",
		"efi/microsoft/boot/efisys_noprompt.bin": firmware, "boot/resources/bootres.dll": "res", "bootmgr.efi": "manager",
	})
	windows := filepath.Join(dir, "windows.iso")
	tool(t, "genisoimage", "-quiet", "-udf", "-iso-level", "3", "-o", windows, medium)
	copype := t.TempDir()
	if err := os.Rename(medium, filepath.Join(copype, "media")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"boot/etfsboot.com", "efi/microsoft/boot/efisys.bin", "efi/microsoft/boot/efisys_noprompt.bin"} {
		if err := os.Remove(filepath.Join(copype, "media", name)); err != nil {
			t.Fatal(err)
		}
	}
	lay(t, copype, map[string]string{"fwfiles/etfsboot.com": sector, "fwfiles/efisys.bin": firmware})
	for name, source := range map[string]string{"ISO image": windows, "copype": copype} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			disc, again := filepath.Join(dir, "out.iso"), filepath.Join(dir, "again.iso")
			for _, out := range []string{disc, again} {
				if _, errs, err := bootmend("build", "iso", "-o", out, "--env", "winpe", "--winpe", source, "--drivers", drivers); err != nil {
					t.Fatalf("%v\n%s", err, errs)
				}
			}
			a, err := os.ReadFile(disc)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(again); err != nil || !bytes.Equal(a, b) {
				t.Errorf("another image the second time: %v", err)
			}
			report := tool(t, "xorriso", "-indev", disc, "-report_el_torito", "plain")
			for _, want := range []string{"'BOOTMEND_PE'", "BIOS  y   none  0x0000  0x00      8 ", "UEFI  y   none  0x0000  0x00   2880 "} {
				if !strings.Contains(report, want) {
					t.Errorf("no %q in\n%s", want, report)
				}
			}
			boots := filepath.Join(dir, "boots")
			tool(t, "xorriso", "-osirrox", "on", "-indev", disc, "-extract_boot_images", boots)
			for file, want := range map[string]string{"eltorito_img1_bios.img": sector, "eltorito_img2_uefi.img": firmware} {
				if got := readFold(t, boots, file); got != want {
					t.Errorf("%s of %d bytes", file, len(got))
				}
			}
			list := tool(t, "isoinfo", "-f", "-i", disc)
			for _, want := range []string{"/BOOTMGR\n", "/BOOTMGR.EFI\n", "/BOOT/BCD\n", "/BOOT/BOOT.SDI\n", "/EFI/MICROSOFT/BOOT/BCD\n", "/EFI/BOOT/BOOTX64.EFI\n", "/SOURCES/BOOT.WIM\n"} {
				if !strings.Contains(list, want) {
					t.Errorf("no %q in\n%s", want, list)
				}
			}
			for _, bad := range []string{";1", "BOOTFIX", "INSTALL.WIM", "SETUP.EXE"} {
				if strings.Contains(list, bad) {
					t.Errorf("%s in\n%s", bad, list)
				}
			}
			out, applied := filepath.Join(dir, "disc"), filepath.Join(dir, "applied")
			tool(t, "7z", "x", "-y", "-o"+out, disc)
			wim := filepath.Join(out, "SOURCES", "BOOT.WIM")
			tool(t, "wimlib-imagex", "verify", wim)
			tool(t, "wimlib-imagex", "apply", wim, "2", applied)
			for file, want := range map[string]string{"bootmend/drivers/iaStorVD.inf": "[Version]", "bootmend/drivers/iaStorVD.sys": "MZ"} {
				if got := readFold(t, applied, file); got != want {
					t.Errorf("%s: %q", file, got)
				}
			}
			if got := readFold(t, applied, "bootmend/config.yaml"); !strings.Contains(got, "on_success: reboot") {
				t.Errorf("config.yaml: %q", got)
			}
			if rules, err := os.ReadDir(filepath.Join(applied, "bootmend", "rules")); err != nil || len(rules) == 0 {
				t.Errorf("rule packs: %v, %v", rules, err)
			}
			verifyDisc(t, disc, out)
		})
	}
	if _, _, err := bootmend("build", "iso", "-o", filepath.Join(dir, "out.iso"), "--env", "winpe", "--winpe", windowsMedium(t, "none")); err == nil || !strings.Contains(err.Error(), "efisys.bin") {
		t.Errorf("without a boot image for UEFI: %v", err)
	}
}

// verifyDisc has "verify" find what is wrong with a disc: nothing at first, then one byte in each place in turn. unpacked
// is its files, mounted so to speak.
func verifyDisc(t *testing.T, disc, unpacked string) {
	t.Helper()
	got, errs, err := bootmend("verify", disc)
	if err != nil || !strings.Contains(got, "ISO image with Windows PE") || !strings.Contains(got, "OK: ") {
		t.Errorf("verify: %v\n%s%s", err, got, errs)
	}
	if got, errs, err := bootmend("verify", unpacked); err != nil || !strings.Contains(got, "mounted media with Windows PE") {
		t.Errorf("verify of the files: %v\n%s%s", err, got, errs)
	}
	if _, _, err := bootmend("flash", disc, "--all"); err == nil || !strings.Contains(err.Error(), "would start no machine") {
		t.Errorf("flash: %v", err)
	}
	whole, err := os.ReadFile(disc)
	if err != nil {
		t.Fatal(err)
	}
	for what, content := range map[string][]byte{
		"boot sector of the disc for BIOS": bytes.Repeat([]byte("b"), 4096), "boot image of the disc for UEFI": bytes.Repeat([]byte("u"), 5000),
		"/efi/boot/bootx64.efi": []byte("manager for UEFI"), "/sources/boot.wim": []byte("MSWIM"),
	} {
		at := bytes.Index(whole, content)
		if at < 0 {
			t.Fatalf("%s is not in the image", what)
		}
		bad := filepath.Join(t.TempDir(), "bad.iso")
		changed := bytes.Clone(whole)
		changed[at+3] ^= 1
		if err := os.WriteFile(bad, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, err := bootmend("verify", bad)
		if err == nil || !strings.Contains(strings.ToLower(got), strings.ToLower("CHANGED        "+what)) || strings.Count(got, "CHANGED") != 1 {
			t.Errorf("%s: %v\n%s", what, err, got)
		}
	}
}

func TestBuildWinPENetwork(t *testing.T) {
	if _, _, err := assets.MendExe(); err != nil {
		t.Skip(err)
	}
	medium, dir := windowsMedium(t, "XPRESS"), t.TempDir()
	lay(t, dir, map[string]string{"loader": "MZ wimboot", "text": "no program"})
	out := filepath.Join(dir, "out")
	args := []string{"build", "pxe", "-o", out, "--env", "winpe", "--winpe", medium, "--wimboot"}
	for range 2 { // the second replaces the first
		if _, errs, err := bootmend(append(args, filepath.Join(dir, "loader"))...); err != nil {
			t.Fatalf("%v\n%s", err, errs)
		}
	}
	for name, want := range map[string]string{"wimboot": "MZ wimboot", "bcd": "BIOS store", "boot.sdi": "sdi", "bootmgr": "manager", "bootx64.efi": "manager for UEFI"} {
		if got, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// Each file that the script names is there.
	script, err := os.ReadFile(filepath.Join(out, "boot.ipxe"))
	if err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for line := range strings.Lines(string(script)) {
		if words := strings.Fields(line); len(words) > 1 {
			loaded++
			if _, err := os.Stat(filepath.Join(out, words[1])); err != nil {
				t.Error(err)
			}
		}
	}
	if loaded != 6 {
		t.Errorf("%s", script)
	}
	if got, errs, err := bootmend("verify", out); err != nil || !strings.Contains(got, "with Windows PE") {
		t.Errorf("verify: %v\n%s%s", err, got, errs)
	}
	wim, applied := filepath.Join(out, "boot.wim"), filepath.Join(dir, "applied")
	tool(t, "wimlib-imagex", "verify", wim)
	tool(t, "wimlib-imagex", "apply", wim, "2", applied)
	if got := readFold(t, applied, "bootmend/config.yaml"); !strings.Contains(got, "on_success: reboot") {
		t.Errorf("config.yaml: %q", got)
	}
	for want, args := range map[string][]string{
		"is no wimboot":  append(args, filepath.Join(dir, "text")),
		"--wimboot FILE": args[:len(args)-1],
		"for the Linux":  append(args, filepath.Join(dir, "loader"), "--server", "192.0.2.1"),
		"add --env":      {"build", "pxe", "-o", out, "--wimboot", filepath.Join(dir, "loader")},
	} {
		if _, _, err := bootmend(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// readFold reads a file whose name on the volume may be of another case.
func readFold(t *testing.T, dir, name string) string {
	t.Helper()
	at := dir
	for part := range strings.SplitSeq(name, "/") {
		entries, err := os.ReadDir(at)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, e := range entries {
			if found = strings.EqualFold(e.Name(), part); found {
				at = filepath.Join(at, e.Name())
				break
			}
		}
		if !found {
			t.Fatalf("%s: no %s", name, part)
		}
	}
	data, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestBuildWinPERefused(t *testing.T) {
	if _, _, err := assets.MendExe(); err != nil {
		t.Skip(err)
	}
	medium := windowsMedium(t, "none")
	empty, alone := t.TempDir(), filepath.Join(t.TempDir(), "winre.wim")
	lay(t, empty, map[string]string{"setup.exe": "MZ"})
	data, err := os.ReadFile(filepath.Join(medium, "sources", "boot.wim"))
	if err == nil {
		err = os.WriteFile(alone, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.img")
	for _, test := range []struct{ args, want string }{
		{"--winpe " + medium, "add --env winpe"},
		{"--drivers " + empty, "add --env winpe"},
		{"--env winpe", "needs --winpe PATH"},
		{"--env dos", "use linux or winpe"},
		{"--env winpe --winpe " + medium + " --discard-hibernation", "left alone"},
		{"--env winpe --winpe " + medium + " --drivers " + empty, "holds no INF file"},
		{"--env winpe --winpe " + alone, "missing: the UEFI boot manager (bootx64.efi), the boot configuration for UEFI (BCD), the RAM disk's boot.sdi"},
		{"--env winpe --winpe " + empty, "holds no Windows PE"},
	} {
		_, _, err := bootmend(append([]string{"build", "usb", "-o", out}, strings.Fields(test.args)...)...)
		if err == nil || !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%s: %v", test.args, err)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: something was written", test.args)
		}
	}
	// With a folder of boot files, the WIM alone will do.
	if _, errs, err := bootmend("build", "usb", "-o", out, "--env", "winpe", "--winpe", alone, "--winpe-media", medium); err != nil {
		t.Errorf("%v\n%s", err, errs)
	}
}
