package main

import (
	"reflect"
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
)

func TestParseBootParameters(t *testing.T) {
	for cmdline, want := range map[string]bootParameters{
		"": {},
		"BOOT_IMAGE=/bootmend/vmlinuz quiet bootmend.media=0123abcd\n": {mediaID: "0123abcd"},
		"bootmend.dry-run bootmend.media=x console=ttyS0":              {mediaID: "x", dryRun: true},
		"bootmend.serials bootmend.media=x":                            {mediaID: "x", listed: true},
		"bootmend.dry-runs xbootmend.media=y":                          {},
	} {
		if got := parseBootParameters(cmdline); got != want {
			t.Errorf("%q: got %+v, want %+v", cmdline, got, want)
		}
	}
}

func TestParseEvent(t *testing.T) {
	got := parseEvent([]byte("add@/devices/pci0/usb1\x00ACTION=add\x00MODALIAS=usb:v0627p0001\x00SUBSYSTEM=usb\x00"))
	want := map[string]string{"ACTION": "add", "MODALIAS": "usb:v0627p0001", "SUBSYSTEM": "usb"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestLooksLikeData(t *testing.T) {
	for description, want := range map[string]bool{
		"FRONTDESK-7 C: 7/19/2024":   false,
		"FRONTDESK-7 D: 7/19/2024":   true,
		"FRONTDESK-7 Daten 19.07.24": false, // may be Windows: ask
		"":                           false,
		"PC c: 1/1/2020":             false,
	} {
		v := &volume{meta: &bitlocker.Metadata{Description: description}}
		if got := v.looksLikeData(); got != want {
			t.Errorf("%q: got %t", description, got)
		}
	}
	if (&volume{}).looksLikeData() {
		t.Error("a plain NTFS volume is asked no key anyway")
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[int64]string{512e6: "512 MB", 256060514304: "256 GB", 2000398934016: "2.0 TB"} {
		if got := sizeText(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	if count(1, "disk") != "1 disk" || count(0, "disk") != "0 disks" || count(2, "recovery key") != "2 recovery keys" {
		t.Error("count")
	}
}

func TestHarmless(t *testing.T) {
	if got := harmless("C-00000291-\x1b[2Jä\u009b.sys"); got != "C-00000291-?[2Jä?.sys" {
		t.Errorf("got %q", got)
	}
}
