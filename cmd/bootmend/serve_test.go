package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestServeUsage(t *testing.T) {
	for args, want := range map[string]string{
		"serve --env winpe":                  "needs --winpe PATH",
		"serve --env winpe --winpe boot.wim": "needs --wimboot FILE",
		"serve --wimboot wimboot":            "add --env winpe",
		"serve --ipxe ipxe.efi":              "add --env winpe",
		"serve --winpe boot.wim":             "add --env winpe",
	} {
		if _, _, err := bootmend(strings.Fields(args)...); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// TestLoaders tells copies of iPXE apart by what is in them.
func TestLoaders(t *testing.T) {
	dir := t.TempDir()
	program := func(machine uint16) string {
		b := make([]byte, 4096)
		copy(b, "MZ")
		b[0x3C] = 0x40
		copy(b[0x40:], "PE\x00\x00")
		binary.LittleEndian.PutUint16(b[0x44:], machine)
		return string(b)
	}
	lay(t, dir, map[string]string{
		"ipxe.efi": program(0x8664), "arm.efi": program(0xaa64), "broken.efi": "MZ" + strings.Repeat("x", 5000), "undionly.kpxe": strings.Repeat("k", 70_000),
		"notes.txt": "no program", "large.iso": strings.Repeat("i", maxIPXEBIOS+1),
	})
	for _, test := range []struct{ names, want, refused string }{
		{"", "", ""},
		{"ipxe.efi", "/ipxe.efi", ""},
		{"undionly.kpxe ipxe.efi", "/ipxe.0 /ipxe.efi", ""},
		{"ipxe.efi ipxe.efi", "", "there are two"},
		{"arm.efi", "", "no program for UEFI on x64"},
		{"broken.efi", "", "no program for UEFI on x64"},
		{"notes.txt", "", "neither a program"},
		{"large.iso", "", "neither a program"},
		{"missing", "", "no such file"},
	} {
		var o serveOptions
		for _, name := range strings.Fields(test.names) {
			o.ipxe = append(o.ipxe, filepath.Join(dir, name))
		}
		files, err := o.loaders()
		if test.refused != "" {
			if err == nil || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%s: %v", test.names, err)
			}
			continue
		}
		if err != nil || len(files) != len(strings.Fields(test.want)) {
			t.Errorf("%s: %d files, %v", test.names, len(files), err)
		}
		for _, path := range strings.Fields(test.want) {
			if files[path] == nil {
				t.Errorf("%s: nothing at %s", test.names, path)
			}
		}
	}
}
