package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/winpe"
)

// windowsImage captures an image of so many files, with what Windows' own tools write of it into the XML.
func windowsImage(t *testing.T, wim string, arch, build int, languages []string, files ...string) {
	t.Helper()
	dir, verb := t.TempDir(), "append"
	for _, name := range files {
		lay(t, dir, map[string]string{name: name})
	}
	if _, err := os.Stat(wim); err != nil {
		verb = "capture"
	}
	tool(t, "wimlib-imagex", verb, dir, wim, "Microsoft Windows PE "+filepath.Base(dir), "--boot")
	args := []string{"info", wim, "--boot"}
	images := 1
	if verb == "append" {
		images = 2
	}
	args = append(args, fmt.Sprint(images))
	properties := map[string]any{"ARCH": arch, "VERSION/MAJOR": 10, "VERSION/MINOR": 0, "VERSION/BUILD": build, "VERSION/SPBUILD": 382}
	for i, language := range languages {
		properties[fmt.Sprintf("LANGUAGES/LANGUAGE[%d]", i+1)] = language
	}
	for _, name := range []string{"ARCH", "VERSION/MAJOR", "VERSION/MINOR", "VERSION/BUILD", "VERSION/SPBUILD", "LANGUAGES/LANGUAGE[1]", "LANGUAGES/LANGUAGE[2]"} {
		if value, ok := properties[name]; ok {
			args = append(args, "--image-property", fmt.Sprintf("WINDOWS/%s=%v", name, value))
		}
	}
	tool(t, "wimlib-imagex", args...)
}

func TestWinPEInfo(t *testing.T) {
	const packages = "Windows/servicing/Packages/"
	pe := []string{"Windows/System32/wpeinit.exe", "Windows/Boot/EFI/bootmgfw.efi"}
	bde := append([]string{
		"Windows/System32/manage-bde.exe", packages + "WinPE-SecureStartup-Package~31bf3856ad364e35~amd64~~10.0.26100.1.mum",
		packages + "WinPE-SecureStartup-Package~31bf3856ad364e35~amd64~de-DE~10.0.26100.1.mum", packages + "WinPE-WMI-Package~31bf3856ad364e35~amd64~~10.0.26100.1.mum",
		packages + "Microsoft-Windows-WinPE-LanguagePack-Package~31bf3856ad364e35~amd64~de-DE~10.0.26100.1.mum",
	}, pe...)
	type image struct {
		arch, build int
		languages   []string
		files       []string
	}
	for name, test := range map[string]struct {
		images []image
		use    int
		want   []string
	}{
		"with manage-bde": {[]image{{9, 26100, []string{"de-DE", "en-US"}, bde}}, 1,
			[]string{"Version 10.0.26100.382, x64", "Languages de-DE, en-US", "Packages WinPE-SecureStartup, WinPE-WMI", "Usable yes", "Media are made of image 1"}},
		"without": {[]image{{9, 22621, []string{"en-US"}, pe}}, 0,
			[]string{"Version 10.0.22621.382, x64", "Languages en-US", "Usable no: without manage-bde: add the package WinPE-SecureStartup"}},
		"32 bits": {[]image{{0, 19041, []string{"en-US"}, bde}}, 0, []string{"10.0.19041.382, x86", "Usable no: not for x64 machines"}},
		"ARM":     {[]image{{12, 26100, []string{"en-US"}, bde}}, 0, []string{"10.0.26100.382, ARM64", "Usable no: not for x64 machines"}},
		"two images": {[]image{{9, 26100, []string{"fr-FR"}, bde}, {9, 26100, []string{"fr-FR"}, pe}}, 1,
			[]string{"Languages fr-FR", "Media are made of image 1", "Note image 2 boots, but image 1 is the one that will do"}},
	} {
		t.Run(name, func(t *testing.T) {
			wim := filepath.Join(t.TempDir(), "boot.wim")
			for _, i := range test.images {
				windowsImage(t, wim, i.arch, i.build, i.languages, i.files...)
			}
			out, errs, err := bootmend("winpe", "info", wim)
			if err != nil {
				t.Fatalf("%v\n%s", err, errs)
			}
			text := strings.Join(strings.Fields(out), " ")
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			out, _, err = bootmend("winpe", "info", "--json", wim)
			var status winpe.Status
			if err == nil {
				err = json.Unmarshal([]byte(out), &status)
			}
			if err != nil || status.Use != test.use || len(status.Images) != len(test.images) {
				t.Errorf("%+v, %v", status, err)
			}
		})
	}
}

// TestWinPEInfoSamples looks at WIMs that others made, none of which is Windows PE, and at kinds that are not read.
func TestWinPEInfoSamples(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, map[string]string{"tree/file": "content"})
	refused := map[string]string{"--solid": "export it to a WIM", "--pipable": "export it with wimlib-imagex"}
	for flag, want := range refused {
		wim := filepath.Join(dir, strings.TrimLeft(flag, "-")+".wim")
		tool(t, "wimlib-imagex", "capture", filepath.Join(dir, "tree"), wim, flag)
		if _, _, err := bootmend("winpe", "info", wim); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	root := os.Getenv("BOOTMEND_TESTDATA")
	if root == "" {
		root = "../../../shared/testdata"
	}
	samples, err := filepath.Glob(filepath.Join(root, "wim", "*.wim"))
	if err != nil || len(samples) == 0 {
		t.Skip("the samples of others are not here (BOOTMEND_TESTDATA)")
	}
	for _, sample := range samples {
		out, _, err := bootmend("winpe", "info", sample)
		if err != nil || !strings.Contains(out, "Usable  no: ") || !strings.Contains(out, "copype amd64 FOLDER") {
			t.Errorf("%s: %v\n%s", sample, err, out)
		}
	}
}
