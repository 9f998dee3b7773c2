package main

import (
	"testing"

	"github.com/bootmend/bootmend/remediate"
)

// biosTable has a BIOS structure, one without strings, and the system's, as QEMU makes them.
const biosTable = "\x00\x06\x00\x00\x01\x02SeaBIOS\x001.16\x00\x00" +
	"\x20\x0b\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x01\x1b\x00\x01\x01\x02\x00\x03\x3d\x2c\x1b\x5a\x91\x02\x5f\x4e\x8a\x0b\x9c\x0d\x1e\x2f\x3a\x4b\x06\x00\x00" +
	"Dell Inc.\x00Latitude 0291 \x00BM-0291\x00\x00" +
	"\x7f\x04\x00\x7f\x00\x00"

func TestParseSMBIOS(t *testing.T) {
	want := remediate.Identity{Model: "Dell Inc. Latitude 0291", Serial: "BM-0291", UUID: "5a1b2c3d-0291-4e5f-8a0b-9c0d1e2f3a4b"}
	if got := parseSMBIOS([]byte(biosTable)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for n := range len(biosTable) {
		if got := parseSMBIOS([]byte(biosTable[:n])); got.UUID != "" && got.UUID != want.UUID {
			t.Errorf("cut to %d bytes: %+v", n, got)
		}
	}
}

func FuzzSMBIOS(f *testing.F) {
	f.Add([]byte(biosTable))
	f.Fuzz(func(_ *testing.T, table []byte) { parseSMBIOS(table) })
}
