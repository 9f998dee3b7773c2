// Package relay tells machines that start over the network what to load, beside a DHCP server that stays as it is.
//
// Usually that is done by proxyDHCP: one server hands out the address, a second one only names the boot program (Intel,
// Preboot Execution Environment 2.1, section 2.2). The GRUB that distributions sign looks for its files at the server of
// the first answer, though, and at nobody else's. So the question of a machine is passed on as a relay agent does (RFC
// 1542, section 4.1), and what the DHCP server answers comes back with the boot program in it. The address is always
// the DHCP server's; where a network has none, package lease takes its place.
//
// [Server.Serve] is the way in.
package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/insomniacslk/dhcp/iana"
)

// Arch is how a machine starts.
type Arch string

// The ways that can be served.
const (
	BIOS     Arch = "BIOS"
	UEFI     Arch = "UEFI"
	UEFIHTTP Arch = "UEFI HTTP"
)

// Machine is what a machine tells of itself before it has loaded anything.
type Machine struct {
	MAC  net.HardwareAddr
	Arch Arch
	// IPXE says that iPXE asks: the machine's own ROM, or one that was loaded before.
	IPXE bool
	// UUID is that of SMBIOS in the order that the machine sent it in, or zero where it sent none. Firmware sends it as
	// SMBIOS has it, the first three fields being little-endian (SMBIOS 3.7, section 7.2.1), or all of it big-endian.
	UUID [16]byte
}

// Server answers machines.
type Server struct {
	// Address is the server's own, which machines are sent to.
	Address netip.Addr
	// Files are the boot programs: names on the TFTP server, or a URL for UEFIHTTP. What is missing is not served.
	Files map[Arch]string
	// IPXE is the URL of a script for iPXE, of either firmware; where it is empty, iPXE gets what others do.
	IPXE string
	// Allow decides whether a machine that asks is served; nil serves all.
	Allow func(m Machine) bool
	// Lease answers as the network's DHCP server where it has none, nil being no answer. Then nothing is passed on, and
	// machines that run are answered, too, once Allow has agreed to them with no Arch.
	Lease func(p *dhcpv4.DHCPv4, now time.Time) *dhcpv4.DHCPv4
	// AllowAddress decides by the address that a machine is offered; nil serves all. A machine has none when it asks.
	AllowAddress func(address netip.Addr) bool
	// Offered is told of each machine that was given an address and a boot program; it may be nil.
	Offered func(m Machine, address net.IP)

	mu      sync.Mutex
	pending map[exchange]question
}

// exchange identifies a machine's conversation with DHCP servers.
type exchange struct {
	mac [6]byte
	id  dhcpv4.TransactionID
}

// question is one that was passed on.
type question struct {
	machine Machine
	asked   time.Time
	number  []byte // the machine's own, which comes back to it
	server  net.IP // who answered
}

const (
	portServer = 67
	portClient = 68
	// maxPending bounds what is remembered, patience how long: firmware gives up after about a minute (PXE 2.1, 2.2.3).
	maxPending = 4096
	patience   = time.Minute
	// maxHops is where relays stop (RFC 1542, section 4.1.1).
	maxHops = 4
)

// Serve answers on one network interface until ctx ends.
func (s *Server) Serve(ctx context.Context, ifname string) error {
	conn, err := server4.NewIPv4UDPConn(ifname, &net.UDPAddr{Port: portServer})
	if err != nil {
		return fmt.Errorf("port %d of %s: %w", portServer, ifname, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("port %d: %w", portServer, err)
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // the interface may be gone for a moment
			continue
		}
		packet, to := s.handle(buf[:n], time.Now())
		if packet == nil {
			continue
		}
		_, _ = conn.WriteToUDP(packet, to) // what is lost is asked for again
	}
}

// toAll is where packets go: neither is the DHCP server known, nor has the machine an address yet.
func toAll(port int) *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4bcast, Port: port} }

// handle is what is sent on for a packet, and where to; nil where it is not for this server.
func (s *Server) handle(packet []byte, now time.Time) ([]byte, *net.UDPAddr) {
	p, err := dhcpv4.FromBytes(packet)
	if err != nil || len(p.ClientHWAddr) != 6 {
		return nil, nil // whatever else is sent to this port
	}
	if s.Lease != nil {
		return s.lease(p, now)
	}
	key := exchange{[6]byte(p.ClientHWAddr), p.TransactionID}
	ours := net.IP(s.Address.AsSlice())
	switch {
	case p.OpCode == dhcpv4.OpcodeBootRequest && p.GatewayIPAddr.IsUnspecified() && p.HopCount < maxHops:
		if !s.passOn(p, key, now) {
			return nil, nil
		}
		p.GatewayIPAddr = ours
		p.HopCount++
		return p.ToBytes(), toAll(portServer)
	case p.OpCode == dhcpv4.OpcodeBootReply && p.GatewayIPAddr.Equal(ours):
		q, ok := s.answered(p, key)
		if !ok {
			return nil, nil
		}
		s.complete(p, q)
		if p.MessageType() == dhcpv4.MessageTypeAck && s.Offered != nil {
			s.Offered(q.machine, p.YourIPAddr)
		}
		return p.ToBytes(), toAll(portClient)
	}
	return nil, nil
}

// lease answers a packet as the network's only DHCP server.
func (s *Server) lease(p *dhcpv4.DHCPv4, now time.Time) ([]byte, *net.UDPAddr) {
	if p.OpCode != dhcpv4.OpcodeBootRequest || !p.GatewayIPAddr.IsUnspecified() {
		return nil, nil
	}
	m := machine(p)
	starts := strings.HasPrefix(p.ClassIdentifier(), "PXEClient") || strings.HasPrefix(p.ClassIdentifier(), "HTTPClient")
	if p.MessageType() == dhcpv4.MessageTypeDiscover && (starts && m.Arch == "" || s.Allow != nil && !s.Allow(m) || starts && s.file(m) == "") {
		return nil, nil // without an address, a machine that cannot be served goes on to its disk sooner
	}
	r := s.Lease(p, now)
	if r == nil {
		return nil, nil
	}
	kind := r.MessageType()
	if kind != dhcpv4.MessageTypeNak && !s.allows(r.YourIPAddr) {
		return nil, nil
	}
	if starts && s.file(m) != "" {
		s.complete(r, question{machine: m, number: p.Options.Get(dhcpv4.OptionClientMachineIdentifier)})
		if kind == dhcpv4.MessageTypeAck && s.Offered != nil {
			s.Offered(m, r.YourIPAddr)
		}
	}
	// Who asks for more time has an address, and may hear of nothing that is sent to all (RFC 2131, section 4.1).
	if kind == dhcpv4.MessageTypeAck && p.ClientIPAddr.Equal(r.YourIPAddr) {
		return r.ToBytes(), &net.UDPAddr{IP: p.ClientIPAddr, Port: portClient}
	}
	return r.ToBytes(), toAll(portClient)
}

// passOn prepares a machine's packet for the DHCP server, if it is to be served.
func (s *Server) passOn(p *dhcpv4.DHCPv4, key exchange, now time.Time) bool {
	switch p.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		m := machine(p)
		if m.Arch == "" || s.Allow != nil && !s.Allow(m) || s.file(m) == "" {
			return false
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.pending) >= maxPending {
			for k, q := range s.pending {
				if now.Sub(q.asked) > patience {
					delete(s.pending, k)
				}
			}
		}
		if s.pending == nil {
			s.pending = map[exchange]question{}
		}
		if len(s.pending) >= maxPending {
			return false // a flood: it asks again
		}
		s.pending[key] = question{machine: m, asked: now, number: p.Options.Get(dhcpv4.OptionClientMachineIdentifier)}
		return true
	case dhcpv4.MessageTypeRequest:
		s.mu.Lock()
		defer s.mu.Unlock()
		q, known := s.pending[key]
		if !known || q.server == nil || !p.ServerIdentifier().Equal(net.IP(s.Address.AsSlice())) {
			return false // it took another server's offer
		}
		p.UpdateOption(dhcpv4.OptServerIdentifier(q.server))
		return true
	}
	return false
}

// answered finds the question that a DHCP server's packet answers.
func (s *Server) answered(p *dhcpv4.DHCPv4, key exchange) (question, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, known := s.pending[key]
	if !known {
		return q, false
	}
	switch p.MessageType() {
	case dhcpv4.MessageTypeOffer:
		if q.server != nil && !q.server.Equal(p.ServerIdentifier()) {
			return q, false // the first server's offer stands
		}
		if !s.allows(p.YourIPAddr) {
			return q, false
		}
		q.server = p.ServerIdentifier()
		s.pending[key] = q
		return q, q.server != nil
	case dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak:
		return q, true
	}
	return q, false
}

// complete adds to a DHCP server's answer what the machine is to load.
func (s *Server) complete(p *dhcpv4.DHCPv4, q question) {
	ours := net.IP(s.Address.AsSlice())
	p.GatewayIPAddr = net.IPv4zero
	p.UpdateOption(dhcpv4.OptServerIdentifier(ours))
	if p.MessageType() == dhcpv4.MessageTypeNak {
		return
	}
	file := s.file(q.machine)
	p.ServerIPAddr, p.ServerHostName, p.BootFileName = ours, "", ""
	if len(file) < 128 { // the field of BOOTP; a longer URL is in the option only
		p.BootFileName = file
	}
	p.UpdateOption(dhcpv4.OptBootFileName(file))
	if q.number != nil {
		// Without it, some firmware takes the answer for another machine's (RFC 4578, section 2.3).
		p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, q.number))
	}
	// iPXE, which is QEMU's ROM too, takes the offer of the highest priority, and need not wait for a proxy (its options
	// 175.1 and 175.176).
	p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(175), []byte{1, 1, 1, 176, 1, 1}))
	if q.machine.Arch == UEFIHTTP {
		p.UpdateOption(dhcpv4.OptClassIdentifier("HTTPClient"))
		return
	}
	p.UpdateOption(dhcpv4.OptTFTPServerName(s.Address.String()))
	p.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient"))
	// Sub-option 6 with bit 3: load the file that is named here, without asking for a boot server and without a menu
	// (PXE 2.1, table 2-1).
	p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
}

// allows is AllowAddress.
func (s *Server) allows(ip net.IP) bool {
	address, ok := netip.AddrFromSlice(ip.To4())
	return s.AllowAddress == nil || ok && s.AllowAddress(address)
}

// machine is what a packet tells of who sent it.
func machine(p *dhcpv4.DHCPv4) Machine {
	return Machine{p.ClientHWAddr, arch(p), isIPXE(p), machineUUID(p)}
}

// machineUUID is the number of a machine (RFC 4578, section 2.3), of type 0, the only one. Boards that were never given
// one have the same digit all over.
func machineUUID(p *dhcpv4.DHCPv4) (uuid [16]byte) {
	number := p.Options.Get(dhcpv4.OptionClientMachineIdentifier)
	if len(number) != 17 || number[0] != 0 || len(bytes.Trim(number[1:], "\xff")) == 0 {
		return uuid
	}
	return [16]byte(number[1:])
}

// file is what a machine is to load.
func (s *Server) file(m Machine) string {
	if m.IPXE && s.IPXE != "" {
		return s.IPXE
	}
	return s.Files[m.Arch]
}

// isIPXE knows iPXE by its user class, which it sends without the length of RFC 3004, and with it.
func isIPXE(p *dhcpv4.DHCPv4) bool {
	return strings.TrimLeft(string(p.Options.Get(dhcpv4.OptionUserClassInformation)), "\x04") == "iPXE"
}

// arch is how the machine that asks starts; "" where it does not start over the network, or cannot run what there is.
func arch(p *dhcpv4.DHCPv4) Arch {
	class := p.ClassIdentifier()
	archs := p.ClientArch()
	if len(archs) == 0 {
		return ""
	}
	switch first := archs[0]; {
	case strings.HasPrefix(class, "HTTPClient") && first == iana.EFI_X86_64_HTTP:
		return UEFIHTTP
	case !strings.HasPrefix(class, "PXEClient"):
	case first == iana.INTEL_X86PC:
		return BIOS
	case first == iana.EFI_X86_64 || first == iana.EFI_BC: // firmware names either: an erratum of RFC 4578 swapped them
		return UEFI
	}
	return ""
}
