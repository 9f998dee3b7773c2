package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/bootmend/bootmend/image/netboot/lease"
)

// bench is what --dhcp-range adds: the DHCP server of a network that has no other.
type bench struct {
	leases lease.Server
	ifname string
	// quiet is set while nobody is answered: another server may have been plugged in.
	quiet  atomic.Bool
	looked time.Time       // when it was alone for the last time
	others chan netip.Addr // who answers on the network, too
	full   seldom
}

// leaseTime is longer than a machine needs, and short enough for the next ones to find free addresses.
const leaseTime = time.Hour

// newBench checks a range against the network of the interface that has the server's address.
func newBench(text, ifname string, own netip.Addr, limits *limits, lines *lineWriter) (*bench, error) {
	r, err := lease.ParseRange(text)
	if err != nil {
		return nil, usagef("--dhcp-range: %w", err)
	}
	card, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, err
	}
	addresses, err := card.Addrs()
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifname, err)
	}
	b := &bench{ifname: ifname, others: make(chan netip.Addr, 1)}
	b.leases = lease.Server{Range: r, Card: card.HardwareAddr, Time: leaseTime}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == own {
			b.leases.Address = p
		}
	}
	if err := r.Check(b.leases.Address); err != nil {
		return nil, usagef("--dhcp-range: %w", err)
	}
	if !limits.address(r.First) || !limits.address(r.Last) {
		return nil, usagef("--dhcp-range: %s is not all of a network of --subnet, so that machines would be given addresses that are not served", r)
	}
	b.leases.Full = func(mac net.HardwareAddr) {
		if b.full.now(time.Now()) {
			lines.printf("%s asks: no address is left of %s; each is free again %v after its machine was last heard of", mac, r, leaseTime)
		}
	}
	b.leases.Other = func(server netip.Addr) {
		select {
		case b.others <- server:
		default: // one is enough
		}
	}
	return b, nil
}

// answer is that of the DHCP server, unless there may be another one.
func (b *bench) answer(p *dhcpv4.DHCPv4, now time.Time) *dhcpv4.DHCPv4 {
	if b.quiet.Load() {
		return nil
	}
	return b.leases.Answer(p, now)
}

// begin refuses to be a second DHCP server. Without a cable there is nobody to ask: watch does it later.
func (b *bench) begin(ctx context.Context, lines *lineWriter) error {
	b.quiet.Store(true)
	if !linked(b.ifname) {
		lines.printf("%s has no link yet: nobody is answered before it has one, and no other DHCP server on it", b.ifname)
		return nil
	}
	lines.printf("looking for another DHCP server on %s, which takes %v", b.ifname, lease.ProbeTime)
	return b.look(ctx)
}

// look lets machines be answered unless another server is there, which is an error.
func (b *bench) look(ctx context.Context) error {
	server, err := lease.Probe(ctx, b.ifname, b.leases.Card, b.leases.Address.Addr())
	if errors.Is(err, context.Canceled) {
		err = nil // asked to stop, with nobody to answer
	} else if err == nil {
		b.looked = time.Now()
		b.quiet.Store(server.IsValid())
	}
	switch {
	case err != nil:
		return withHint(fmt.Errorf("looking for another DHCP server: %w", err), "give the interface a fixed address, and stop its DHCP client")
	case server.IsValid():
		return b.notAlone(server)
	}
	return nil
}

func (b *bench) notAlone(server netip.Addr) error {
	return withHint(fmt.Errorf("the DHCP server %s answers on %s: with a second one, machines get addresses that do not work", server, b.ifname),
		"leave --dhcp-range out, and machines are served beside that server")
}

// lookAgain is how often it is looked for another server while this one runs.
const lookAgain = time.Minute

// watch returns an error as soon as another server is there, and nil when ctx ends. Nobody is answered from the time that
// the cable is taken out until it is known what the next one leads to.
func (b *bench) watch(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	if time.Since(b.looked) > lookAgain { // somebody thought about a passphrase
		b.quiet.Store(true)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case server := <-b.others:
			b.quiet.Store(true)
			return b.notAlone(server)
		case <-tick.C:
		}
		if !linked(b.ifname) {
			b.quiet.Store(true)
			continue
		}
		if !b.quiet.Load() && time.Since(b.looked) < lookAgain {
			continue
		}
		err := b.look(ctx)
		var link *net.OpError
		if errors.As(err, &link) && !linked(b.ifname) {
			continue // taken out in the meantime
		}
		if err != nil {
			b.quiet.Store(true)
			return err
		}
	}
}

// linked reports whether an interface has a cable that leads somewhere.
func linked(ifname string) bool {
	card, err := net.InterfaceByName(ifname)
	return err == nil && card.Flags&net.FlagUp != 0 && card.Flags&net.FlagRunning != 0
}
