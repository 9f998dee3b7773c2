package config

import (
	"slices"
	"strings"
	"testing"
)

func TestParseSerials(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		want Serials
		err  string
	}{
		"one":       {in: "5CD1234ABC", want: Serials{"5CD1234ABC"}},
		"Notepad":   {in: "\xef\xbb\xbfPF2ABCDE\r\n\r\n  5CD1234ABC  # reception\r\n", want: Serials{"PF2ABCDE", "5CD1234ABC"}},
		"spaces":    {in: "VMware-56 4d 8a 01\n", want: Serials{"VMware-56 4d 8a 01"}},
		"empty":     {in: "", err: "no serial number"},
		"remarks":   {in: "# floor 3\n\n", err: "no serial number"},
		"UTF-16":    {in: "\xff\xfeP\x00F\x002\x00", err: "line 1: "},
		"keys":      {in: "110011-220022-330033-440044-550055-660066-111111-222222\n", err: "line 1: that is a recovery password"},
		"bare key":  {in: "PF2ABCDE\n110011220022330033440044550055660066111111222222\n", err: "line 2: that is a recovery password"},
		"a table":   {in: "Serial,Owner\nPF2ABCDE,reception\n", err: "line 1: that is no serial number"},
		"too long":  {in: "PF2ABCDE\n" + strings.Repeat("x", 65), err: "line 2: "},
		"too large": {in: strings.Repeat("#", maxSerials+1), err: "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseSerials([]byte(test.in))
			if test.err == "" && (err != nil || !slices.Equal(got, test.want)) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Fatalf("%q, %v; want %q, %q", got, err, test.want, test.err)
			}
			if err != nil && strings.Contains(err.Error(), "110011") {
				t.Errorf("the error has the key: %v", err)
			}
		})
	}
}

func TestSerialsHas(t *testing.T) {
	s := Serials{"PF2ABCDE", "5cd1234abc"}
	for serial, want := range map[string]bool{"PF2ABCDE": true, "pf2abcde": true, "5CD1234ABC ": true, "PF2ABCD": false, "": false} {
		if s.Has(serial) != want {
			t.Errorf("%q: %t", serial, !want)
		}
	}
}

func FuzzParseSerials(f *testing.F) {
	f.Add([]byte("PF2ABCDE # x\n5CD1234ABC\n"))
	f.Add([]byte("\xef\xbb\xbf\x00\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSerials(data)
		if err != nil {
			return
		}
		again, err := ParseSerials(s.Marshal())
		if err != nil || !slices.Equal(again, s) {
			t.Fatalf("%q became %q, %v", s, again, err)
		}
	})
}
