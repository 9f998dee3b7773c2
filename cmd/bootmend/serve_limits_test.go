package main

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/image/netboot/relay"
)

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, map[string]string{
		"macs":  "# floor 3\n52:54:00:12:34:56 # PC-17\n\n52-54-00-12-34-57\n",
		"uuids": "{4c4c4544-0042-3510-8052-b4c04f4a3132}\n",
		"bad":   "52:54:00:12:34:56\nPC-17\n",
		"empty": "# nobody\n",
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	// As SMBIOS has it, and the other way round.
	uuid := [16]byte{0x44, 0x45, 0x4c, 0x4c, 0x42, 0, 0x10, 0x35, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4a, 0x31, 0x32}
	swapped := [16]byte{0x4c, 0x4c, 0x45, 0x44, 0, 0x42, 0x35, 0x10, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4a, 0x31, 0x32}
	someone := net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	other := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	for name, test := range map[string]struct {
		options limitOptions
		yes, no []relay.Machine
	}{
		"all":      {limitOptions{}, []relay.Machine{{MAC: other}}, nil},
		"mac":      {limitOptions{macs: []string{"52:54:00:12:34:56"}}, []relay.Machine{{MAC: someone}}, []relay.Machine{{MAC: other}, {MAC: other, UUID: uuid}}},
		"mac file": {limitOptions{macFile: in("macs")}, []relay.Machine{{MAC: someone}, {MAC: net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x57}}}, []relay.Machine{{MAC: other}}},
		"uuid": {limitOptions{uuids: []string{"4C4C4544-0042-3510-8052-B4C04F4A3132"}},
			[]relay.Machine{{MAC: other, UUID: uuid}, {MAC: other, UUID: swapped}}, []relay.Machine{{MAC: someone}, {MAC: someone, UUID: [16]byte{1}}}},
		"zero uuid": {limitOptions{uuids: []string{"00000000-0000-0000-0000-000000000000"}}, nil, []relay.Machine{{MAC: someone}}},
		"either": {limitOptions{uuidFile: in("uuids"), macs: []string{"52:54:00:12:34:56"}},
			[]relay.Machine{{MAC: someone}, {MAC: other, UUID: uuid}}, []relay.Machine{{MAC: other}}},
	} {
		l, err := test.options.read()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, m := range test.yes {
			if !l.machine(m) {
				t.Errorf("%s: %+v is not served", name, m)
			}
		}
		for _, m := range test.no {
			if l.machine(m) {
				t.Errorf("%s: %+v is served", name, m)
			}
		}
	}
	for want, o := range map[string]limitOptions{
		`--mac: "PC-17" is not an address`: {macs: []string{"PC-17"}},
		`line 2: "PC-17" is not`:           {macFile: in("bad")},
		`--uuid: "PC-17" is not a UUID`:    {uuids: []string{"PC-17"}},
		"names no machine":                 {uuidFile: in("empty")},
		"no such file":                     {macFile: in("missing")},
		`"10.1" is not a network`:          {subnets: []string{"10.1"}},
		`"2001:db8::/32" is not a network`: {subnets: []string{"2001:db8::/32"}},
		"is 10.1.0.0/16 meant?":            {subnets: []string{"10.1.2.3/16"}},
	} {
		if _, err := o.read(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
	var usage *usageError
	if _, err := (&limitOptions{macFile: in("bad")}).read(); !errors.As(err, &usage) {
		t.Errorf("%v is no usage error", err)
	}
}

func TestLimitSubnets(t *testing.T) {
	l, err := (&limitOptions{subnets: []string{"10.1.0.0/16", "192.0.2.0/25"}}).read()
	if err != nil {
		t.Fatal(err)
	}
	pages := l.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	for address, want := range map[string]bool{"10.1.255.1": true, "10.2.0.1": false, "192.0.2.127": true, "192.0.2.128": false, "::ffff:10.1.0.1": true, "2001:db8::1": false} {
		if l.address(netip.MustParseAddr(address)) != want {
			t.Errorf("%s: %v", address, !want)
		}
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r.RemoteAddr = net.JoinHostPort(address, "1234")
		w := httptest.NewRecorder()
		if pages.ServeHTTP(w, r); (w.Code == http.StatusNoContent) != want {
			t.Errorf("%s gets status %d", address, w.Code)
		}
	}
}

func TestSeldom(t *testing.T) {
	var s seldom
	start := time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
	for _, test := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Second, false}, {59 * time.Second, false}, {time.Minute, true}, {61 * time.Second, false}} {
		if s.now(start.Add(test.after)) != test.want {
			t.Errorf("after %v: %v", test.after, !test.want)
		}
	}
}
