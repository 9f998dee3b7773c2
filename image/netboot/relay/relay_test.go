package relay

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/bootmend/bootmend/image/netboot/lease"
)

var (
	mac      = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	ours     = net.IPv4(192, 0, 2, 10)
	site     = net.IPv4(192, 0, 2, 1)
	now      = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
	machines = map[Arch]string{BIOS: "bios.0", UEFI: "bootx64.efi", UEFIHTTP: "http://192.0.2.10/http-boot.iso"}
)

func newServer() *Server { return &Server{Address: netip.MustParseAddr("192.0.2.10"), Files: machines} }

// discover is the question of a machine.
func discover(t testing.TB, class string, arch iana.Arch, change ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.NewDiscovery(mac, append([]dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)), dhcpv4.WithOption(dhcpv4.OptClientArch(arch)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, make([]byte, 17)),
	}, change...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pass sends a packet through the server and reads what comes out.
func pass(t *testing.T, s *Server, p *dhcpv4.DHCPv4, port int) *dhcpv4.DHCPv4 {
	t.Helper()
	out, to := s.handle(p.ToBytes(), now)
	if out == nil {
		return nil
	}
	if to.Port != port {
		t.Errorf("sent to %v, want port %d", to, port)
	}
	q, err := dhcpv4.FromBytes(out)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// answer is what the site's DHCP server says to a packet that was passed on.
func answer(t *testing.T, asked *dhcpv4.DHCPv4, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	t.Helper()
	p, err := dhcpv4.NewReplyFromRequest(asked, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 55)),
		dhcpv4.WithServerIP(site), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(site)), dhcpv4.WithLeaseTime(3600))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestConversation starts a machine of each kind: the address is the site's, the rest ours.
func TestConversation(t *testing.T) {
	for name, test := range map[string]struct {
		class string
		arch  iana.Arch
		file  string
	}{
		"BIOS":             {"PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC, "bios.0"},
		"UEFI":             {"PXEClient:Arch:00007:UNDI:003001", iana.EFI_X86_64, "bootx64.efi"},
		"UEFI, old number": {"PXEClient:Arch:00009:UNDI:003001", iana.EFI_BC, "bootx64.efi"},
		"UEFI HTTP":        {"HTTPClient:Arch:00016:UNDI:003001", iana.EFI_X86_64_HTTP, "http://192.0.2.10/http-boot.iso"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			var started net.IP
			s.Offered = func(_ Machine, address net.IP) { started = address }
			asked := discover(t, test.class, test.arch)
			relayed := pass(t, s, asked, 67)
			if relayed == nil || !relayed.GatewayIPAddr.Equal(ours) || relayed.HopCount != 1 {
				t.Fatalf("passed on as %v", relayed)
			}
			offer := pass(t, s, answer(t, relayed, dhcpv4.MessageTypeOffer), 68)
			request, err := dhcpv4.NewRequestFromOffer(offer)
			if err != nil {
				t.Fatal(err)
			}
			relayed = pass(t, s, request, 67)
			if relayed == nil || !relayed.ServerIdentifier().Equal(site) {
				t.Fatalf("the request was passed on as %v", relayed)
			}
			ack := pass(t, s, answer(t, relayed, dhcpv4.MessageTypeAck), 68)
			for _, p := range []*dhcpv4.DHCPv4{offer, ack} {
				if !p.YourIPAddr.Equal(net.IPv4(192, 0, 2, 55)) || !p.ServerIPAddr.Equal(ours) || !p.ServerIdentifier().Equal(ours) ||
					!p.GatewayIPAddr.IsUnspecified() || p.BootFileName != test.file || p.BootFileNameOption() != test.file || p.ClassIdentifier() != test.class[:len(p.ClassIdentifier())] {
					t.Errorf("the machine was told\n%s", p.Summary())
				}
			}
			if !started.Equal(net.IPv4(192, 0, 2, 55)) {
				t.Errorf("told of %v", started)
			}
		})
	}
}

// TestIPXE has iPXE get a script, whatever the firmware, and others what is for theirs.
func TestIPXE(t *testing.T) {
	const script = "http://192.0.2.10/boot.ipxe"
	class := func(text string) dhcpv4.Modifier {
		return dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte(text))
	}
	for name, test := range map[string]struct {
		arch   iana.Arch
		change []dhcpv4.Modifier
		file   string
	}{
		"a BIOS's ROM":       {iana.INTEL_X86PC, nil, "undionly.kpxe"},
		"another user class": {iana.INTEL_X86PC, []dhcpv4.Modifier{class("\x05Linux")}, "undionly.kpxe"},
		"iPXE for a BIOS":    {iana.INTEL_X86PC, []dhcpv4.Modifier{class("iPXE")}, script},
		"iPXE for UEFI":      {iana.EFI_X86_64, []dhcpv4.Modifier{class("\x04iPXE")}, script},
		"UEFI without iPXE":  {iana.EFI_X86_64, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Address: netip.MustParseAddr("192.0.2.10"), Files: map[Arch]string{BIOS: "undionly.kpxe"}, IPXE: script}
			relayed := pass(t, s, discover(t, "PXEClient", test.arch, test.change...), 67)
			if relayed == nil {
				if test.file != "" {
					t.Error("not served")
				}
				return
			}
			offer := pass(t, s, answer(t, relayed, dhcpv4.MessageTypeOffer), 68)
			if offer.BootFileName != test.file || offer.BootFileNameOption() != test.file {
				t.Errorf("the machine was told %q", offer.BootFileName)
			}
		})
	}
	// Where there is no script, iPXE is a ROM as any.
	if offer := newServer().file(Machine{Arch: BIOS, IPXE: true}); offer != "bios.0" {
		t.Errorf("iPXE is told %q", offer)
	}
}

// TestLeftAlone has packets that nobody must hear of again.
func TestLeftAlone(t *testing.T) {
	uefi := func(change ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		return discover(t, "PXEClient", iana.EFI_X86_64, change...)
	}
	plain, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		t.Fatal(err)
	}
	request := uefi(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ours)))
	stray := answer(t, uefi(), dhcpv4.MessageTypeOffer)
	stray.GatewayIPAddr = ours
	for name, p := range map[string]*dhcpv4.DHCPv4{
		"a computer that runs":               plain,
		"another processor":                  discover(t, "PXEClient", iana.EFI_ARM64),
		"HTTP boot of a PXE client":          discover(t, "PXEClient", iana.EFI_X86_64_HTTP),
		"our own, come back":                 uefi(dhcpv4.WithGatewayIP(ours)),
		"from another relay":                 uefi(dhcpv4.WithGatewayIP(net.IPv4(198, 51, 100, 1))),
		"in a circle":                        uefi(func(d *dhcpv4.DHCPv4) { d.HopCount = maxHops }),
		"a request that nothing came before": request,
		"an offer that nobody asked for":     stray,
		"an inform":                          uefi(dhcpv4.WithMessageType(dhcpv4.MessageTypeInform)),
	} {
		t.Run(name, func(t *testing.T) {
			if out, _ := newServer().handle(p.ToBytes(), now); out != nil {
				t.Errorf("%x was sent", out)
			}
		})
	}
}

func TestNotAllowed(t *testing.T) {
	s := newServer()
	s.Allow = func(m Machine) bool { return m.MAC.String() != mac.String() }
	if out, _ := s.handle(discover(t, "PXEClient", iana.EFI_X86_64).ToBytes(), now); out != nil {
		t.Error("a machine that is not in the list was served")
	}
}

// TestAddresses has machines pass whose address is of the networks that are served, and hides from others.
func TestAddresses(t *testing.T) {
	for network, served := range map[string]bool{"192.0.2.0/24": true, "198.51.100.0/24": false} {
		s := newServer()
		s.AllowAddress = netip.MustParsePrefix(network).Contains
		relayed := pass(t, s, discover(t, "PXEClient", iana.EFI_X86_64), 67)
		if relayed == nil {
			t.Fatal("not passed on: it has no address yet")
		}
		if offer := pass(t, s, answer(t, relayed, dhcpv4.MessageTypeOffer), 68); (offer != nil) != served {
			t.Errorf("%s: the machine was told %v", network, offer)
		}
	}
}

// TestMachineUUID reads option 97 as QEMU's ROM and OVMF send it.
func TestMachineUUID(t *testing.T) {
	uuid := []byte{0x44, 0x45, 0x4c, 0x4c, 0x42, 0, 0x10, 0x35, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4a, 0x31, 0x32}
	for name, test := range map[string]struct {
		option []byte
		want   [16]byte
	}{
		"none":            {nil, [16]byte{}},
		"one":             {append([]byte{0}, uuid...), [16]byte(uuid)},
		"of another type": {append([]byte{1}, uuid...), [16]byte{}},
		"too short":       {uuid, [16]byte{}},
		"too long":        {append([]byte{0, 0}, uuid...), [16]byte{}},
		"never set":       {append([]byte{0}, bytes.Repeat([]byte{0xff}, 16)...), [16]byte{}},
	} {
		p := discover(t, "PXEClient", iana.EFI_X86_64)
		p.DeleteOption(dhcpv4.OptionClientMachineIdentifier)
		if test.option != nil {
			p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, test.option))
		}
		var got *Machine
		s := newServer()
		s.Allow = func(m Machine) bool { got = &m; return true }
		s.handle(p.ToBytes(), now)
		if got == nil || got.UUID != test.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// newBench is a server on a network without any other.
func newBench() *Server {
	s := newServer()
	leases := &lease.Server{Address: netip.MustParsePrefix("192.0.2.10/24"), Time: time.Hour,
		Range: lease.Range{First: netip.MustParseAddr("192.0.2.50"), Last: netip.MustParseAddr("192.0.2.59")}}
	s.Lease = leases.Answer
	return s
}

// TestLease starts a machine of each kind where no other DHCP server is, and gives one that runs nothing but an address.
func TestLease(t *testing.T) {
	for name, test := range map[string]struct {
		class string
		arch  iana.Arch
		file  string
	}{
		"BIOS":      {"PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC, "bios.0"},
		"UEFI":      {"PXEClient:Arch:00007:UNDI:003001", iana.EFI_X86_64, "bootx64.efi"},
		"UEFI HTTP": {"HTTPClient:Arch:00016:UNDI:003001", iana.EFI_X86_64_HTTP, "http://192.0.2.10/http-boot.iso"},
		"running":   {"MSFT 5.0", iana.EFI_X86_64, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newBench()
			var asked, offered []Machine
			s.Allow = func(m Machine) bool { asked = append(asked, m); return true }
			s.Offered = func(m Machine, _ net.IP) { offered = append(offered, m) }
			question := discover(t, test.class, test.arch)
			offer := pass(t, s, question, portClient)
			if offer == nil {
				t.Fatal("no answer")
			}
			request, err := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(test.class)),
				dhcpv4.WithOption(dhcpv4.OptClientArch(test.arch)), dhcpv4.WithOptionCopied(question, dhcpv4.OptionClientMachineIdentifier))
			if err != nil {
				t.Fatal(err)
			}
			ack := pass(t, s, request, portClient)
			for _, p := range []*dhcpv4.DHCPv4{offer, ack} {
				class, number := test.class[:len(p.ClassIdentifier())], p.Options.Get(dhcpv4.OptionClientMachineIdentifier)
				if !p.YourIPAddr.Equal(offer.YourIPAddr) || !p.ServerIdentifier().Equal(ours) || p.BootFileName != test.file || p.ClassIdentifier() != class ||
					(number != nil) != (test.file != "") || p.ServerIPAddr.Equal(ours) != (test.file != "") || p.Router() != nil {
					t.Errorf("the machine was told\n%s", p.Summary())
				}
			}
			if len(asked) != 1 || (asked[0].Arch == "") != (test.file == "") || len(offered) != len(asked) && test.file != "" {
				t.Errorf("asked about %v, told of %v", asked, offered)
			}
			// It asks for more time from where it is.
			renew, err := dhcpv4.NewRenewFromAck(ack)
			if err != nil {
				t.Fatal(err)
			}
			if out, to := s.handle(renew.ToBytes(), now); out == nil || !to.IP.Equal(offer.YourIPAddr) || to.Port != portClient {
				t.Errorf("the renewal is answered to %v", to)
			}
		})
	}
}

// TestLeaseLeftAlone has packets that the only DHCP server of a network does not answer.
func TestLeaseLeftAlone(t *testing.T) {
	offer := answer(t, discover(t, "PXEClient", iana.EFI_X86_64), dhcpv4.MessageTypeOffer)
	for name, p := range map[string]*dhcpv4.DHCPv4{
		"another processor":                     discover(t, "PXEClient", iana.EFI_ARM64),
		"another processor over HTTP":           discover(t, "HTTPClient", iana.EFI_ARM64_HTTP),
		"through a router":                      discover(t, "PXEClient", iana.EFI_X86_64, dhcpv4.WithGatewayIP(net.IPv4(198, 51, 100, 1))),
		"an offer":                              offer,
		"an inform":                             discover(t, "PXEClient", iana.EFI_X86_64, dhcpv4.WithMessageType(dhcpv4.MessageTypeInform)),
		"a request that nothing came before":    discover(t, "PXEClient", iana.EFI_X86_64, dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest)),
		"BOOTP, which knows no type of message": discover(t, "PXEClient", iana.EFI_X86_64, func(d *dhcpv4.DHCPv4) { d.DeleteOption(dhcpv4.OptionDHCPMessageType) }),
	} {
		if out, _ := newBench().handle(p.ToBytes(), now); out != nil {
			t.Errorf("%s: %x was sent", name, out)
		}
	}
	s := newBench()
	s.Allow = func(Machine) bool { return false }
	if out, _ := s.handle(discover(t, "PXEClient", iana.EFI_X86_64).ToBytes(), now); out != nil {
		t.Error("a machine that is not in the list was served")
	}
	s = newBench()
	s.AllowAddress = func(netip.Addr) bool { return false }
	if out, _ := s.handle(discover(t, "PXEClient", iana.EFI_X86_64).ToBytes(), now); out != nil {
		t.Error("an address of another network was offered")
	}
}

// TestOtherServer has a machine that takes the DHCP server's own offer: its request is none of ours.
func TestOtherServer(t *testing.T) {
	s := newServer()
	relayed := pass(t, s, discover(t, "PXEClient", iana.EFI_X86_64), 67)
	pass(t, s, answer(t, relayed, dhcpv4.MessageTypeOffer), 68)
	direct := answer(t, relayed, dhcpv4.MessageTypeOffer)
	direct.GatewayIPAddr = net.IPv4zero
	request, err := dhcpv4.NewRequestFromOffer(direct)
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := s.handle(request.ToBytes(), now); out != nil {
		t.Error("the request to another server was passed on")
	}
}

// TestFlood remembers no more than it may, and forgets in time.
func TestFlood(t *testing.T) {
	s := newServer()
	for i := range maxPending + 100 {
		p := discover(t, "PXEClient", iana.EFI_X86_64)
		p.ClientHWAddr = net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}
		s.handle(p.ToBytes(), now)
	}
	if len(s.pending) != maxPending {
		t.Errorf("%d questions are remembered", len(s.pending))
	}
	if out, _ := s.handle(discover(t, "PXEClient", iana.EFI_X86_64).ToBytes(), now.Add(2*patience)); out == nil {
		t.Error("nobody is served after a flood")
	}
}

func TestTurns(t *testing.T) {
	turns := Turns{Pause: 10 * time.Minute}
	if turns.Had(mac, now) {
		t.Error("had a turn before any")
	}
	turns.Begin(mac, now)
	for after, want := range map[time.Duration]bool{0: true, 9 * time.Minute: true, 10 * time.Minute: false} {
		if turns.Had(mac, now.Add(after)) != want {
			t.Errorf("after %v: %v", after, !want)
		}
	}
}

func FuzzHandle(f *testing.F) {
	f.Add(discover(f, "PXEClient:Arch:00007", iana.EFI_X86_64).ToBytes())
	f.Add(discover(f, "HTTPClient:Arch:00016", iana.EFI_X86_64_HTTP).ToBytes())
	if plain, err := dhcpv4.NewDiscovery(mac); err == nil {
		f.Add(plain.ToBytes())
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if out, to := newServer().handle(p, now); out != nil {
			q, err := dhcpv4.FromBytes(out)
			if err != nil || to.Port != portServer || !q.GatewayIPAddr.Equal(ours) {
				t.Errorf("%x became %x to %v, %v", p, out, to, err)
			}
		}
		if out, to := newBench().handle(p, now); out != nil {
			q, err := dhcpv4.FromBytes(out)
			if err != nil || to.Port != portClient || q.OpCode != dhcpv4.OpcodeBootReply || !q.ServerIdentifier().Equal(ours) {
				t.Errorf("%x was answered with %x to %v, %v", p, out, to, err)
			}
		}
	})
}
