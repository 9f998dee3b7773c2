package lease

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// ProbeTime is how long a server may take to answer [Probe]. Many look for 3 seconds whether an address is in use before
// they offer it.
const ProbeTime = 6 * time.Second

// Probe asks for an address on an interface, takes none, and returns the DHCP server that offered one; not valid where
// there is none. card is the interface's own, since switches let no other pass; own is the address of a server of this
// program, which does not count.
func Probe(ctx context.Context, ifname string, card net.HardwareAddr, own netip.Addr) (netip.Addr, error) {
	if len(card) != 6 {
		return netip.Addr{}, fmt.Errorf("interface %s: is no Ethernet: choose another", ifname)
	}
	listen := &net.UDPAddr{Port: dhcpv4.ClientPort}
	if runtime.GOOS == "windows" {
		listen.IP = own.AsSlice() // what is sent from there leaves by that interface, which else only Unix can say
	}
	conn, err := server4.NewIPv4UDPConn(ifname, listen)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("port %d of %s: %w", dhcpv4.ClientPort, ifname, err)
	}
	defer func() { _ = conn.Close() }() // nothing was written that counts
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	// The machine has an address that works, but answers to that one might take another way.
	question, err := dhcpv4.NewDiscovery(card, dhcpv4.WithBroadcast(true))
	if err != nil {
		return netip.Addr{}, err
	}
	buf := make([]byte, 4096)
	var unsent error
	for end := time.Now().Add(ProbeTime); time.Now().Before(end); {
		if _, unsent = conn.WriteToUDP(question.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ServerPort}); unsent != nil {
			unsent = fmt.Errorf("interface %s: %w", ifname, unsent)
		}
		if err := conn.SetReadDeadline(time.Now().Add(ProbeTime / 3)); err != nil {
			return netip.Addr{}, errors.Join(ctx.Err(), err)
		}
		for {
			n, err := conn.Read(buf)
			if ctx.Err() != nil {
				return netip.Addr{}, ctx.Err()
			}
			if err != nil {
				break // nothing more: ask again
			}
			if server := offeredBy(buf[:n], question.TransactionID, own); server.IsValid() {
				return server, nil
			}
		}
	}
	return netip.Addr{}, unsent
}

// offeredBy is the server that offers an address in a packet; not valid in any other. One that only names a boot program
// has no address to offer (PXE 2.1, section 2.2).
func offeredBy(packet []byte, id dhcpv4.TransactionID, own netip.Addr) netip.Addr {
	p, err := dhcpv4.FromBytes(packet)
	if err != nil || p.OpCode != dhcpv4.OpcodeBootReply || p.TransactionID != id || !from4(p.YourIPAddr).IsValid() {
		return netip.Addr{}
	}
	server := from4(p.ServerIdentifier())
	if !server.IsValid() {
		server = from4(p.ServerIPAddr) // BOOTP
	}
	if !server.IsValid() {
		server = netip.IPv4Unspecified()
	}
	if server == own {
		return netip.Addr{}
	}
	return server
}
