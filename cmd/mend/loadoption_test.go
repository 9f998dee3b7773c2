package main

import (
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"
)

// A Windows 10 machine's own entry, as efibootmgr -v shows it, without its optional data.
const windowsEntry = "01000000" + "7400" + // active, 116 bytes of device path
	"570069006e0064006f0077007300200042006f006f00740020004d0061006e0061006700650072000000" +
	"04012a00" + "01000000" + "0008000000000000" + "0020030000000000" + "0b36a35c02dcd2459a4d3f2d1e0c9b8a" + "0202" +
	"04044600" + "5c004500460049005c004d006900630072006f0073006f00660074005c0042006f006f0074005c0062006f006f0074006d006700660077002e006500660069000000" +
	"7fff0400"

func TestParseLoadOption(t *testing.T) {
	data, err := hex.DecodeString(windowsEntry)
	if err != nil {
		t.Fatal(err)
	}
	guid, err := gptGUID("5CA3360B-DC02-45D2-9A4D-3F2D1E0C9B8A")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseLoadOption(data)
	want := loadOption{"Windows Boot Manager", guid, 1, 2048, 0x32000, windowsLoader}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if !got.startsWindows() {
		t.Error("not recognised")
	}
	if hex.EncodeToString(got.marshal()) != windowsEntry {
		t.Errorf("marshal gives\n%x", got.marshal())
	}
}

// TestWindowsInOrder has a stick first, an entry that is gone, and Windows twice.
func TestWindowsInOrder(t *testing.T) {
	windows, err := hex.DecodeString(windowsEntry)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string][]byte{
		"Boot0001": loadOption{Description: "Windows Boot Manager", File: `\EFI\BOOT\BOOTX64.EFI`}.marshal(), // a stick that calls itself so
		"Boot000A": windows, "Boot0003": windows, "Boot0004": windows[:20],
	}
	get := func(name string) ([]byte, error) {
		if data, ok := entries[name]; ok {
			return data, nil
		}
		return nil, os.ErrNotExist
	}
	for name, test := range map[string]struct {
		order string
		want  int
	}{
		"behind others":      {"0100" + "0200" + "0400" + "0a00" + "0300", 0xa},
		"the first of them":  {"0300" + "0a00", 3},
		"none":               {"0100" + "0400", -1},
		"empty":              {"", -1},
		"cut in the middle":  {"0100" + "0a", -1},
		"not in the order":   {"0200", -1},
		"behind a cut entry": {"0400" + "0300", 3},
	} {
		order, err := hex.DecodeString(test.order)
		if err != nil {
			t.Fatal(err)
		}
		n, o, err := windowsInOrder(order, get)
		if (err == nil) != (test.want >= 0) || err == nil && (int(n) != test.want || o.Description != "Windows Boot Manager") {
			t.Errorf("%s: %d, %+v, %v", name, n, o, err)
		}
	}
}

func TestParseLoadOptionHostile(t *testing.T) {
	for name, in := range map[string]string{
		"empty":               "",
		"no description end":  "010000000400" + "41004200",
		"path too long":       "01000000ff00" + "0000" + "7fff0400",
		"node of size zero":   "010000000800" + "0000" + "0401000000000000",
		"node beyond the end": "010000000400" + "0000" + "0401ffff",
	} {
		data, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if o, err := parseLoadOption(data); err == nil {
			t.Errorf("%s: accepted as %+v", name, o)
		}
	}
}

func TestBootNumber(t *testing.T) {
	for name, want := range map[string]int{"Boot0000": 0, "Boot001A": 0x1a, "BootFFFF": 0xffff, "BootOrder": -1, "BootNext": -1, "Boot1": -1, "Bootabcd": -1, "Boot+001": -1} {
		n, ok := bootNumber(name)
		if ok != (want >= 0) || (ok && int(n) != want) {
			t.Errorf("%s: %d, %t", name, n, ok)
		}
	}
}

func FuzzParseLoadOption(f *testing.F) {
	data, err := hex.DecodeString(windowsEntry)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseLoadOption(data)
		if err == nil && strings.Contains(o.Description, "\x00") {
			t.Fatal("a NUL in the description")
		}
	})
}
