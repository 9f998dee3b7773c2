package main

import (
	"strings"
	"testing"
)

func TestReadSitesErrors(t *testing.T) {
	for name, c := range map[string][2]string{
		"nothing":      {"", "names no site"},
		"no keys":      {"Site,Colour\nBerlin,red\n", "line 1: no column is called KeyID, Computer or OU"},
		"no site":      {"Site,OU\nBerlin,B\n\n,C\n", "line 4: the site is missing"},
		"no value":     {"Site,OU\nBerlin,\n", "line 2: site Berlin: neither"},
		"quote":        {"Site,OU\n\"Berlin,B\n", "parse error on line 2"},
		"short row":    {"Site,OU,KeyID\nBerlin\n", "line 2: site Berlin: neither"},
		"larger table": {strings.Repeat("x", sitesLimit+1), "larger than 64 MiB"},
	} {
		if _, err := readSites(strings.NewReader(c[0]), "sites.csv"); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v, want %s", name, err, c[1])
		}
	}
}

func FuzzReadSites(f *testing.F) {
	f.Add("Site,Computer,KeyID\nBerlin,BER-*,\nParis,,4F1C2A9B-0000-4111-8222-333344445555\n")
	f.Add("\xef\xbb\xbfsite;OU\r\n\"B;1\";\"OU=B\x1b[31m\"\r\n")
	f.Fuzz(func(t *testing.T, table string) {
		sites, err := readSites(strings.NewReader(table), "sites.csv")
		if err == nil && len(sites) == 0 {
			t.Error("no site and no error")
		}
		for _, s := range sites {
			if s.name == "" || strings.ContainsAny(s.name, "\x1b\n") || s.keys.IsZero() {
				t.Errorf("%+v", s)
			}
		}
	})
}
