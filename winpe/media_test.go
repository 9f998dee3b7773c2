package winpe

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/winpe/bcd"
)

var when = time.Date(2024, 7, 20, 8, 0, 0, 0, time.UTC)

func content(t *testing.T, files []BootFile, path string) string {
	t.Helper()
	i := slices.IndexFunc(files, func(f BootFile) bool { return strings.EqualFold(f.Path, path) })
	if i < 0 {
		return ""
	}
	r, err := files[i].Open()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil || int64(len(data)) != files[i].Size {
		t.Fatalf("%s: %d bytes where %d were announced, %v", path, len(data), files[i].Size, err)
	}
	return string(data)
}

// TestBootConfiguration has a boot configuration of the media folder come first, then one of the image; where there is
// neither, one is written for the loader that the image has, and where there is none of those, it is missing.
func TestBootConfiguration(t *testing.T) {
	const system = "Windows/System32/"
	for name, test := range map[string]struct {
		image      []string // beside full
		media      []string // beside boot.sdi and the boot managers
		uefi, bios string   // the loader that a store was written for, or the end of the file that it is
		missing    string
	}{
		"of the media folder": {[]string{system + "boot/winload.efi", "Windows/Boot/DVD/EFI/BCD"}, []string{"efi/microsoft/boot/bcd", "boot/bcd"},
			"efi/microsoft/boot/bcd", "boot/bcd", ""},
		"of the image": {[]string{system + "boot/winload.efi", "Windows/Boot/DVD/EFI/BCD", "Windows/Boot/DVD/PCAT/BCD"}, nil,
			"DVD/EFI/BCD", "DVD/PCAT/BCD", ""},
		"written": {[]string{system + "boot/winload.efi", system + "winload.efi", system + "boot/winload.exe"}, nil,
			`\windows\system32\boot\winload.efi`, `\windows\system32\boot\winload.exe`, ""},
		"another place": {[]string{system + "winload.efi", system + "winload.exe"}, nil,
			`\windows\system32\winload.efi`, `\windows\system32\winload.exe`, ""},
		"no loader for BIOS": {[]string{system + "winload.efi"}, nil, `\windows\system32\winload.efi`, "", ""},
		"no loader":          {nil, nil, "", "", "missing: the boot configuration for UEFI (BCD):"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "sources"), 0o755); err != nil {
				t.Fatal(err)
			}
			capture(t, filepath.Join(dir, "sources/boot.wim"), append(slices.Clone(full), test.image...))
			for _, file := range append([]string{"bootmgr", "boot/boot.sdi", "boot/etfsboot.com", "efi/boot/bootx64.efi", "efi/microsoft/boot/efisys.bin"}, test.media...) {
				write(t, filepath.Join(dir, file))
			}
			s, err := Open(dir, "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			status, err := s.Status()
			if err != nil {
				t.Fatal(err)
			}
			written := 0
			for _, loader := range []string{test.uefi, test.bios} {
				if strings.HasPrefix(loader, `\`) {
					written++
				}
			}
			if n := strings.Count(strings.Join(status.Notes, "\n"), "media get one that is written"); n != written {
				t.Errorf("%d notes, want %d: %q", n, written, status.Notes)
			}
			disc, err := s.DiscFiles(t.Context(), 1, []byte("MZ"), when)
			if test.missing != "" {
				if err == nil || !strings.Contains(err.Error(), test.missing) {
					t.Errorf("%v; want %q", err, test.missing)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]string{pathBCD: test.uefi, pathBCDBIOS: test.bios} {
				got := content(t, disc.Files, path)
				if !strings.HasPrefix(want, `\`) {
					if !strings.HasSuffix(got, want) || got == "" && want != "" {
						t.Errorf("%s: %q, want %q", path, got, want)
					}
					continue
				}
				store, err := bcd.RAMDisk(want, when)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(store) {
					t.Errorf("%s is not the store for %s", path, want)
				}
				hivex(t, got, want)
			}
			network, err := s.NetworkFiles(t.Context(), 1, []byte("MZ"), when)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{pathManagerBIOS, pathManager, pathBCDBIOS, pathSDI, pathWIM}
			if test.bios == "" {
				want = []string{pathManager, pathBCD, pathSDI, pathWIM}
			}
			if !slices.EqualFunc(network, want, func(f BootFile, path string) bool { return strings.EqualFold(f.Path, path) }) {
				t.Errorf("for wimboot: %v", network)
			}
			if got, want := content(t, network, want[len(want)-3]), content(t, disc.Files, want[len(want)-3]); got != want {
				t.Error("wimboot gets another store")
			}
			if (disc.BIOS.Size > 0) != (test.bios != "") {
				t.Errorf("boot sector of %d bytes", disc.BIOS.Size)
			}
		})
	}
}

// TestWIMAlone makes sticks and boot servers of a WIM that has all boot files in it, with no folder beside it.
func TestWIMAlone(t *testing.T) {
	wim := filepath.Join(t.TempDir(), "winre.wim")
	inside := []string{"Windows/Boot/DVD/EFI/boot.sdi", "Windows/Boot/PCAT/bootmgr", "Windows/System32/boot/winload.efi", "Windows/System32/boot/winload.exe"}
	capture(t, wim, append(slices.Clone(full), inside...))
	s, err := Open(wim, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	status, err := s.Status()
	if err != nil || status.Use != 1 || len(status.Missing) > 0 || len(status.Notes) != 2 {
		t.Errorf("%+v, %v", status, err)
	}
	files, err := s.StickFiles(t.Context(), 1, []byte("MZ"), when)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		pathManager: "Windows/Boot/EFI/bootmgfw.efi", pathManagerBIOS: "Windows/Boot/PCAT/bootmgr", pathSDI: "Windows/Boot/DVD/EFI/boot.sdi",
		pathBCD: "", pathBCDBIOS: "", pathWIM: "",
	} {
		if got := content(t, files, path); got == "" || !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	if network, err := s.NetworkFiles(t.Context(), 1, []byte("MZ"), when); err != nil || len(network) != 5 {
		t.Errorf("%d files for wimboot, %v", len(network), err)
	}
	if _, err := s.DiscFiles(t.Context(), 1, []byte("MZ"), when); err == nil || !strings.Contains(err.Error(), "efisys.bin") {
		t.Errorf("a disc: %v", err)
	}
}

// hivex has another program find the loader.
func hivex(t *testing.T, store, loader string) {
	t.Helper()
	if _, err := exec.LookPath("hivexget"); err != nil {
		t.Skip("hivexget is absent: apt-get install libhivex-bin")
	}
	path := filepath.Join(t.TempDir(), "BCD")
	if err := os.WriteFile(path, []byte(store), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("hivexget", path, `\Objects\{7619dcc9-fafe-11d9-b411-000476eba25f}\Elements\12000002`, "Element").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != loader {
		t.Errorf("hivexget: %v: %s", err, out)
	}
}

// TestTooLarge refuses a WIM that no file of media can hold, whatever the media, and says what to do.
func TestTooLarge(t *testing.T) {
	dir := t.TempDir()
	wim := filepath.Join(dir, "sources/boot.wim")
	if err := os.MkdirAll(filepath.Dir(wim), 0o755); err != nil {
		t.Fatal(err)
	}
	capture(t, wim, append([]string{"Windows/System32/winload.efi"}, full...))
	for _, file := range []string{"boot/boot.sdi", "efi/boot/bootx64.efi", "efi/microsoft/boot/efisys.bin"} {
		write(t, filepath.Join(dir, file))
	}
	build := func(size int64) error {
		if err := os.Truncate(wim, size); err != nil { // sparse: more than the header tells of lies behind it
			t.Fatal(err)
		}
		s, err := Open(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		_, stick := s.StickFiles(t.Context(), 1, []byte("MZ"), when)
		_, disc := s.DiscFiles(t.Context(), 1, []byte("MZ"), when)
		_, network := s.NetworkFiles(t.Context(), 1, []byte("MZ"), when)
		if (stick == nil) != (disc == nil) || (stick == nil) != (network == nil) {
			t.Errorf("stick %v, disc %v, network %v", stick, disc, network)
		}
		return stick
	}
	if err := build(maxFile - 1<<20); err != nil {
		t.Errorf("a WIM just below the limit: %v", err)
	}
	for _, size := range []int64{maxFile - 100, maxFile + 1, 5 << 30} {
		err := build(size)
		if err == nil || !strings.Contains(err.Error(), "(4 GiB)") || !strings.Contains(err.Error(), "cannot be split") || !strings.Contains(err.Error(), "dism /export-image") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
