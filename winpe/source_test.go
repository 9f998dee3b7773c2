package winpe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// capture makes a WIM with an image of each set of files; the last one boots.
func capture(t *testing.T, path string, images ...[]string) {
	t.Helper()
	if _, err := exec.LookPath("wimlib-imagex"); err != nil {
		t.Skip("wimlib-imagex is not installed")
	}
	for i, files := range images {
		dir := t.TempDir()
		for _, name := range files {
			write(t, filepath.Join(dir, name))
		}
		command := []string{"capture", dir, path}
		if i > 0 {
			command = []string{"append", dir, path}
		}
		out, err := exec.Command("wimlib-imagex", append(command, fmt.Sprintf("Image %d", i+1), "--boot")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(path), 0o600); err != nil {
		t.Fatal(err)
	}
}

var (
	bare = []string{"Windows/System32/wpeinit.exe", "Windows/Boot/EFI/bootmgfw.efi"}
	full = append(slices.Clone(bare), "Windows/System32/manage-bde.exe",
		"Windows/servicing/Packages/WinPE-SecureStartup-Package~31bf3856ad364e35~amd64~~10.0.22621.1.mum",
		"Windows/servicing/Packages/WinPE-SecureStartup-Package~31bf3856ad364e35~amd64~de-DE~10.0.22621.1.mum",
		"Windows/servicing/Packages/WinPE-WMI-Package~31bf3856ad364e35~amd64~~10.0.22621.1.mum")
	media = []string{"BOOTMGR", "boot/Boot.sdi", "boot/bcd", "efi/boot/BootX64.efi", "efi/microsoft/boot/bcd"}
)

func TestStatus(t *testing.T) {
	for name, test := range map[string]struct {
		wim     string // below the folder
		images  [][]string
		media   string
		kind    string
		use     int
		missing string
		note    string
	}{
		"copype":             {"media/sources/boot.wim", [][]string{full}, "media", "working folder made by copype", 1, "", ""},
		"medium, other case": {"SOURCES/BOOT.WIM", [][]string{full, full}, ".", "Windows medium or media folder", 2, "", ""},
		"ADK":                {"Windows Preinstallation Environment/amd64/en-us/winpe.wim", [][]string{full}, "Windows Preinstallation Environment/amd64/Media", "ADK folder", 1, "", ""},
		"without manage-bde": {"sources/boot.wim", [][]string{bare}, ".", "Windows medium or media folder", 0, "manage-bde", ""},
		"the other image":    {"sources/boot.wim", [][]string{full, bare}, ".", "Windows medium or media folder", 1, "", "image 2 boots"},
		"no Windows PE":      {"sources/boot.wim", [][]string{{"hello.txt"}}, ".", "Windows medium or media folder", 0, "Windows PE", ""},
		"no media folder":    {"en-us/winpe.wim", [][]string{full}, "elsewhere", "ADK folder of an architecture", 1, "boot.sdi", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, test.wim)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			capture(t, path, test.images...)
			for _, file := range media {
				write(t, filepath.Join(dir, test.media, file))
			}
			s, err := Open(dir, "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			st, err := s.Status()
			if err != nil {
				t.Fatal(err)
			}
			if st.Kind != test.kind || st.Use != test.use {
				t.Errorf("%+v", st)
			}
			if got := strings.Join(st.Missing, "\n"); (got == "") != (test.missing == "") || !strings.Contains(got, test.missing) {
				t.Errorf("missing: %s", got)
			}
			if got := strings.Join(st.Notes, "\n"); !strings.Contains(got, test.note) {
				t.Errorf("notes: %s", got)
			}
			if st.Use > 0 && strings.Join(st.Images[st.Use-1].Packages, " ") != "WinPE-SecureStartup WinPE-WMI" {
				t.Errorf("packages %q", st.Images[st.Use-1].Packages)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	if _, err := Open(t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "holds no Windows PE") {
		t.Errorf("an empty folder: %v", err)
	}
	file := filepath.Join(t.TempDir(), "boot.wim")
	write(t, file)
	if _, err := Open(file, ""); err == nil || !strings.Contains(err.Error(), "begins with") {
		t.Errorf("no WIM: %v", err)
	}
}

// TestOpenISO takes the WIM and the boot files straight from an image as Windows' media are: UDF beside ISO 9660.
func TestOpenISO(t *testing.T) {
	if _, err := exec.LookPath("genisoimage"); err != nil {
		t.Skip("genisoimage is not installed")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sources"), 0o755); err != nil {
		t.Fatal(err)
	}
	capture(t, filepath.Join(dir, "sources", "boot.wim"), bare, full)
	for _, file := range media {
		write(t, filepath.Join(dir, file))
	}
	image := func(dir string, args ...string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "windows.iso")
		if out, err := exec.Command("genisoimage", append(args, "-quiet", "-o", path, dir)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return path
	}
	s, err := Open(image(dir, "-udf", "-iso-level", "3"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	st, err := s.Status()
	if err != nil {
		t.Fatal(err)
	}
	if st.Use != 2 || len(st.Missing) > 0 || st.Kind != "ISO image of a Windows medium" || !strings.HasSuffix(st.WIM, "windows.iso: sources/boot.wim") {
		t.Errorf("%+v", st)
	}
	for want, path := range map[string]string{
		"mount it":       image(dir, "-iso-level", "3"),
		"no Windows PE:": image(filepath.Join(dir, "boot"), "-udf"),
	} {
		if _, err := Open(path, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestOpenMedia(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "winre.wim")
	capture(t, file, full)
	for _, path := range media {
		write(t, filepath.Join(dir, path))
	}
	for media, missing := range map[string]bool{"": true, dir: false} {
		s, err := Open(file, media)
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.Status()
		if err != nil || st.Use != 1 || len(st.Missing) > 0 != missing {
			t.Errorf("media %q: %+v, %v", media, st, err)
		}
		_ = s.Close()
	}
	for want, media := range map[string]string{"is a file": file, "neither": t.TempDir(), "no such file": filepath.Join(dir, "none")} {
		if _, err := Open(file, media); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}
