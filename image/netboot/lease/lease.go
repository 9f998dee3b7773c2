// Package lease is a DHCP server (RFC 2131) for a bench: a network without any other. It hands out addresses of one range
// with the network's mask, no router and no name server, and remembers them in memory only. [Server.Answer] is the way
// in; package relay receives and sends, and adds what a machine is to load.
//
// Two DHCP servers on one network take it down, so [Probe] looks for another one first.
package lease

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Range is the addresses from the first to the last one, both included.
type Range struct{ First, Last netip.Addr }

// maxRange bounds what is searched and remembered.
const maxRange = 1 << 16

// ParseRange reads "10.1.0.50-10.1.0.99".
func ParseRange(text string) (Range, error) {
	first, last, _ := strings.Cut(text, "-")
	var r Range
	var err error
	if r.First, err = netip.ParseAddr(strings.TrimSpace(first)); err == nil {
		r.Last, err = netip.ParseAddr(strings.TrimSpace(last))
	}
	switch {
	case err != nil || !r.First.Is4() || !r.Last.Is4():
		return Range{}, fmt.Errorf("%q is not a range such as 10.1.0.50-10.1.0.99", text)
	case r.Last.Less(r.First):
		return Range{}, fmt.Errorf("%s comes after %s: write the lower address first", r.First, r.Last)
	case number(r.Last)-number(r.First) >= maxRange:
		return Range{}, fmt.Errorf("%s are more than %d addresses: use fewer", r, maxRange)
	}
	return r, nil
}

// String is the form that ParseRange reads.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// Contains reports whether an address is of the range.
func (r Range) Contains(a netip.Addr) bool { return a.Is4() && !a.Less(r.First) && !r.Last.Less(a) }

// Check refuses a range that machines of a network could not use.
func (r Range) Check(network netip.Prefix) error {
	network = network.Masked()
	broadcast := number(network.Addr()) | 1<<(32-network.Bits()) - 1
	switch {
	case !network.Contains(r.First) || !network.Contains(r.Last):
		return fmt.Errorf("%s is not within the network %s of this computer: use addresses of it", r, network)
	case network.Bits() < 31 && r.First == network.Addr():
		return fmt.Errorf("%s is the number of the network %s: start after it", r.First, network)
	case network.Bits() < 31 && number(r.Last) == broadcast:
		return fmt.Errorf("%s is for all of the network %s: end before it", r.Last, network)
	}
	return nil
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// Server hands addresses out. It may be used by several goroutines.
type Server struct {
	// Address is the server's own with the size of its network; it is not handed out.
	Address netip.Prefix
	Range   Range
	// Card is the server's own network card, which is not answered: it asks in order to find other servers.
	Card net.HardwareAddr
	// Time is how long a machine has an address for, unless it asks again.
	Time time.Duration
	// Full is told of a machine for which no address was left; it may be nil, and must not call the server.
	Full func(mac net.HardwareAddr)
	// Other is told of a machine that took another server's address: there is one. The same holds for it.
	Other func(server netip.Addr)

	mu    sync.Mutex
	given map[netip.Addr]given
	of    map[[6]byte]netip.Addr // the other way round
}

// given is an address that was handed out, kept beyond its end for the machine to have it again.
type given struct {
	mac   [6]byte // zero for one that a stranger uses
	until time.Time
	taken bool // not only offered
}

// offerTime is how long an address that was offered is kept for the machine.
const offerTime = time.Minute

// Knows reports whether a machine was offered or given an address.
func (s *Server) Knows(mac net.HardwareAddr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.of[hardware(mac)]
	return known
}

func hardware(mac net.HardwareAddr) (m [6]byte) {
	copy(m[:], mac)
	return m
}

// Answer is what a machine's packet is answered with; nil leaves it without.
func (s *Server) Answer(p *dhcpv4.DHCPv4, now time.Time) *dhcpv4.DHCPv4 {
	if p.OpCode != dhcpv4.OpcodeBootRequest || len(p.ClientHWAddr) != 6 || bytes.Equal(p.ClientHWAddr, s.Card) || hardware(p.ClientHWAddr) == [6]byte{} {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given == nil {
		s.given, s.of = map[netip.Addr]given{}, map[[6]byte]netip.Addr{}
	}
	mac := hardware(p.ClientHWAddr)
	switch p.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		a, ok := s.choose(mac, wanted(p), now)
		if !ok {
			if s.Full != nil {
				s.Full(p.ClientHWAddr)
			}
			return nil
		}
		if g := s.given[a]; g.mac != mac || g.until.Before(now.Add(offerTime)) {
			s.give(a, given{mac, now.Add(offerTime), false})
		}
		return s.reply(p, dhcpv4.MessageTypeOffer, a)
	case dhcpv4.MessageTypeRequest:
		return s.request(p, mac, now)
	case dhcpv4.MessageTypeDecline: // somebody else has the address, who does not know of this server
		if a, has := s.of[mac]; has && a == wanted(p) && s.chosen(p) {
			s.give(a, given{until: now.Add(s.Time), taken: true})
		}
	case dhcpv4.MessageTypeRelease:
		if a, has := s.of[mac]; has && a == from4(p.ClientIPAddr) && s.chosen(p) {
			s.given[a] = given{mac: mac, until: now}
		}
	}
	return nil
}

// request answers a machine that takes an offer, or asks for its address again (RFC 2131, section 4.3.2).
func (s *Server) request(p *dhcpv4.DHCPv4, mac [6]byte, now time.Time) *dhcpv4.DHCPv4 {
	a, has := s.of[mac]
	named := p.ServerIdentifier() != nil
	if named && !s.chosen(p) {
		if has && !s.given[a].taken { // the offer goes back
			delete(s.given, a)
			delete(s.of, mac)
		}
		if s.Other != nil {
			s.Other(from4(p.ServerIdentifier()))
		}
		return nil
	}
	asked := wanted(p)
	if !asked.IsValid() {
		asked = from4(p.ClientIPAddr)
	}
	switch other, ok := s.given[asked]; {
	case has && a == asked:
		s.give(a, given{mac, now.Add(s.Time), true})
		return s.reply(p, dhcpv4.MessageTypeAck, a)
	case named, ok && now.Before(other.until): // the offer has run out, or the address is another machine's
		return s.reply(p, dhcpv4.MessageTypeNak, netip.Addr{})
	}
	return nil // what this server knows nothing of, it must not refuse
}

// chosen reports whether a packet names this server.
func (s *Server) chosen(p *dhcpv4.DHCPv4) bool {
	return from4(p.ServerIdentifier()) == s.Address.Addr()
}

// wanted is the address that a machine asks for, if it does (RFC 2132, section 9.1).
func wanted(p *dhcpv4.DHCPv4) netip.Addr { return from4(p.RequestedIPAddress()) }

// from4 is not valid where ip is none, or no address of a machine.
func from4(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To4())
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// choose finds an address for a machine: the one that it had, the one that it asks for, one that nobody had, and last the
// one that is free for the longest time. Where it begins depends on the machine only, so that a server that was started
// anew mostly gives each the same.
func (s *Server) choose(mac [6]byte, wanted netip.Addr, now time.Time) (netip.Addr, bool) {
	if a, has := s.of[mac]; has {
		return a, true
	}
	free := func(a netip.Addr) bool {
		return s.Range.Contains(a) && a != s.Address.Addr() && !now.Before(s.given[a].until)
	}
	if wanted.IsValid() && free(wanted) {
		return wanted, true
	}
	h := fnv.New32a()
	_, _ = h.Write(mac[:]) // cannot fail
	first, size := number(s.Range.First), number(s.Range.Last)-number(s.Range.First)+1
	var oldest netip.Addr
	for i := range size {
		a := address(first + uint32((uint64(h.Sum32())+uint64(i))%uint64(size)))
		g, had := s.given[a]
		switch {
		case !free(a):
		case !had:
			return a, true
		case !oldest.IsValid() || g.until.Before(s.given[oldest].until):
			oldest = a
		}
	}
	return oldest, oldest.IsValid()
}

// give notes who has an address now.
func (s *Server) give(a netip.Addr, g given) {
	if before, had := s.given[a]; had && before.mac != g.mac {
		delete(s.of, before.mac)
	}
	s.given[a] = g
	if g.mac != [6]byte{} {
		s.of[g.mac] = a
	}
}

// reply makes an answer; nil cannot happen but where the library refuses to make one.
func (s *Server) reply(p *dhcpv4.DHCPv4, kind dhcpv4.MessageType, a netip.Addr) *dhcpv4.DHCPv4 {
	with := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.Address.Addr().AsSlice())),
	}
	if kind == dhcpv4.MessageTypeNak {
		with = append(with, dhcpv4.WithBroadcast(true)) // section 4.3.2: whatever address the machine thinks it has
	} else {
		with = append(with, dhcpv4.WithYourIP(a.AsSlice()), dhcpv4.WithClientIP(p.ClientIPAddr),
			dhcpv4.WithNetmask(net.CIDRMask(s.Address.Bits(), 32)), dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(s.Time)))
	}
	r, err := dhcpv4.NewReplyFromRequest(p, with...)
	if err != nil {
		return nil
	}
	return r
}
