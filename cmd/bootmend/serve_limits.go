package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/image/netboot/relay"
)

// limitOptions say whom "serve" answers.
type limitOptions struct {
	macs, uuids       []string
	macFile, uuidFile string
	subnets           []string
}

func (o *limitOptions) AddFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.macs, "mac", nil, "serve only the machines with these addresses (may be repeated)")
	f.StringVar(&o.macFile, "mac-file", "", "serve only the machines whose addresses are in this file, one a line")
	f.StringSliceVar(&o.uuids, "uuid", nil, "serve only the machines with these UUIDs, as the control server and \"dmidecode -s system-uuid\" show them, beside those of --mac (may be repeated)")
	f.StringVar(&o.uuidFile, "uuid-file", "", "serve only the machines whose UUIDs are in this file, one a line, beside those of --mac")
	f.StringSliceVar(&o.subnets, "subnet", nil, "serve only machines with an address of these networks, such as 10.1.0.0/16 (may be repeated)")
}

// limits are whom the server answers. None of a kind is no limit.
type limits struct {
	macs    map[string]bool
	uuids   map[[16]byte]bool // in either order of bytes
	subnets []netip.Prefix
}

// read takes the flags and the files that they name.
func (o *limitOptions) read() (*limits, error) {
	l := &limits{macs: map[string]bool{}, uuids: map[[16]byte]bool{}}
	for _, list := range []struct {
		flag  string
		texts []string
		file  string
		add   func(text, where string) error
	}{{"--mac", o.macs, o.macFile, l.addMAC}, {"--uuid", o.uuids, o.uuidFile, l.addUUID}} {
		for _, text := range list.texts {
			if err := list.add(text, list.flag); err != nil {
				return nil, err
			}
		}
		if list.file != "" {
			if err := readLimits(list.file, list.add); err != nil {
				return nil, err
			}
		}
	}
	for _, text := range o.subnets {
		p, err := netip.ParsePrefix(text)
		if err != nil || !p.Addr().Is4() {
			return nil, usagef("--subnet: %q is not a network such as 10.1.0.0/16", text)
		}
		if p != p.Masked() {
			return nil, usagef("--subnet: %s is an address in a network; is %s meant?", text, p.Masked())
		}
		l.subnets = append(l.subnets, p)
	}
	return l, nil
}

// readLimits reads a file with a machine a line and remarks after #.
func readLimits(name string, add func(text, where string) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	lines, found := bufio.NewScanner(f), false
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		found = true
		if err := add(text, fmt.Sprintf("%s line %d", name, n)); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !found {
		return withHint(fmt.Errorf("%s names no machine, so that none would be served", name), "leave the flag out to serve all")
	}
	return nil
}

func (l *limits) addMAC(text, where string) error {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return usagef("%s: %q is not an address such as 52:54:00:12:34:56", where, text)
	}
	l.macs[mac.String()] = true
	return nil
}

func (l *limits) addUUID(text, where string) error {
	uuid, err := bitlocker.ParseGUID(text)
	if err != nil {
		return usagef("%s: %q is not a UUID such as 4C4C4544-0042-3510-8052-B4C04F4A3132", where, text)
	}
	other := uuid
	slices.Reverse(other[:4])
	slices.Reverse(other[4:6])
	slices.Reverse(other[6:8])
	l.uuids[uuid], l.uuids[other] = true, true
	return nil
}

// machine reports whether a machine that asks is meant.
func (l *limits) machine(m relay.Machine) bool {
	return len(l.macs)+len(l.uuids) == 0 || l.macs[m.MAC.String()] || m.UUID != [16]byte{} && l.uuids[m.UUID]
}

// address reports whether one with this address is.
func (l *limits) address(a netip.Addr) bool {
	return len(l.subnets) == 0 || slices.ContainsFunc(l.subnets, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// handler gives others nothing.
func (l *limits) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !l.address(from.Addr()) {
			http.Error(w, "this network is not served", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// seldom lets one line a minute through.
type seldom struct {
	mu   sync.Mutex
	last time.Time
}

func (s *seldom) now(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && now.Sub(s.last) < time.Minute {
		return false
	}
	s.last = now
	return true
}
