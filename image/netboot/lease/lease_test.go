package lease

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var (
	own   = netip.MustParsePrefix("192.0.2.10/24")
	start = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
)

func newServer(t testing.TB, text string) *Server {
	t.Helper()
	r, err := ParseRange(text)
	if err != nil {
		t.Fatal(err)
	}
	return &Server{Address: own, Range: r, Time: time.Hour, Card: net.HardwareAddr{2, 0, 0, 0, 0, 10}}
}

// step is a packet of a machine and what it must be answered with.
type step struct {
	machine byte // last byte of its MAC
	kind    dhcpv4.MessageType
	server  string // option 54
	wants   string // option 50
	has     string // ciaddr
	after   time.Duration
	answer  dhcpv4.MessageType // none for silence
	address string             // that is answered; "" for any
}

const (
	discover, request, decline, release = dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease
	offer, ack, nak, silence            = dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak, dhcpv4.MessageTypeNone
	us, others                          = "192.0.2.10", "192.0.2.1"
)

func (s step) packet(t testing.TB) *dhcpv4.DHCPv4 {
	t.Helper()
	with := []dhcpv4.Modifier{dhcpv4.WithMessageType(s.kind)}
	if s.server != "" {
		with = append(with, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(s.server))))
	}
	if s.wants != "" {
		with = append(with, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(s.wants))))
	}
	if s.has != "" {
		with = append(with, dhcpv4.WithClientIP(net.ParseIP(s.has)))
	}
	p, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0, 0, 0, 0, s.machine}, with...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAnswer has what machines say to a server with very few addresses (RFC 2131, sections 4.3.1 to 4.3.4).
func TestAnswer(t *testing.T) {
	const one, two, three = "192.0.2.50", "192.0.2.51", "192.0.2.52"
	// take gives a machine an address.
	take := func(machine byte, address string) []step {
		return []step{{machine: machine, kind: discover, wants: address, answer: offer, address: address},
			{machine: machine, kind: request, server: us, wants: address, answer: ack, address: address}}
	}
	for name, test := range map[string]struct {
		addresses string
		steps     []step
	}{
		"the same again": {one + "-" + three, append(take(1, two),
			step{machine: 1, kind: discover, answer: offer, address: two},
			step{machine: 1, kind: discover, wants: three, answer: offer, address: two},
			step{machine: 1, kind: discover, after: 2 * time.Hour, answer: offer, address: two})},
		"a wish that cannot be": {one + "-" + one, []step{{machine: 1, kind: discover, wants: "198.51.100.7", answer: offer, address: one}}},
		"exhausted": {one + "-" + two, append(append(take(1, one), take(2, two)...),
			step{machine: 3, kind: discover},
			step{machine: 3, kind: discover, after: 59 * time.Minute},
			step{machine: 3, kind: discover, after: time.Hour, answer: offer},
			step{machine: 4, kind: discover, after: time.Hour, answer: offer},
			step{machine: 5, kind: discover, after: time.Hour})},
		"an offer that is not taken": {one + "-" + one, []step{
			{machine: 1, kind: discover, answer: offer, address: one},
			{machine: 2, kind: discover, after: 59 * time.Second},
			{machine: 2, kind: discover, after: time.Minute, answer: offer, address: one},
			{machine: 1, kind: request, server: us, wants: one, after: time.Minute, answer: nak},
			{machine: 2, kind: request, server: us, wants: one, after: time.Minute, answer: ack, address: one}}},
		"another address than offered": {one + "-" + two, []step{
			{machine: 1, kind: discover, wants: one, answer: offer, address: one},
			{machine: 1, kind: request, server: us, wants: two, answer: nak}}},
		"renewed": {one + "-" + one, append(take(1, one),
			step{machine: 1, kind: request, has: one, after: 30 * time.Minute, answer: ack, address: one},
			step{machine: 2, kind: discover, after: 89 * time.Minute},
			step{machine: 2, kind: discover, after: 90 * time.Minute, answer: offer, address: one})},
		"renewed late, when nobody else has it": {one + "-" + one, append(take(1, one),
			step{machine: 1, kind: request, has: one, after: 3 * time.Hour, answer: ack, address: one})},
		"renewed late, when somebody else has it": {one + "-" + one, append(take(1, one),
			step{machine: 2, kind: discover, after: time.Hour, answer: offer, address: one},
			step{machine: 1, kind: request, has: one, after: time.Hour, answer: nak})},
		"started again": {one + "-" + one, append(take(1, one),
			step{machine: 1, kind: request, wants: one, answer: ack, address: one},
			step{machine: 2, kind: request, wants: one, answer: nak})},
		"of another network, or from before this server": {one + "-" + three, append(take(1, one),
			step{machine: 2, kind: request, wants: "198.51.100.7"},
			step{machine: 2, kind: request, wants: two},
			step{machine: 2, kind: request, has: two})},
		"took another server's": {one + "-" + one, []step{
			{machine: 1, kind: discover, answer: offer, address: one},
			{machine: 1, kind: request, server: others, wants: "192.0.2.99"},
			{machine: 2, kind: discover, answer: offer, address: one}}},
		"declined": {one + "-" + two, append(take(1, one),
			step{machine: 1, kind: decline, server: us, wants: one},
			step{machine: 1, kind: discover, wants: one, answer: offer, address: two},
			step{machine: 2, kind: discover, wants: one},
			step{machine: 2, kind: request, wants: one, answer: nak},
			step{machine: 2, kind: discover, wants: one, after: time.Hour, answer: offer, address: one})},
		"declined for somebody else": {one + "-" + one, append(take(1, one),
			step{machine: 2, kind: decline, server: us, wants: one},
			step{machine: 1, kind: decline, server: others, wants: one},
			step{machine: 1, kind: decline, server: us, wants: two},
			step{machine: 1, kind: request, has: one, answer: ack, address: one})},
		"released": {one + "-" + one, append(take(1, one),
			step{machine: 2, kind: release, server: us, has: one},
			step{machine: 2, kind: discover},
			step{machine: 1, kind: release, server: us, has: one},
			step{machine: 2, kind: discover, answer: offer, address: one})},
		"the server's own address": {"192.0.2.10-192.0.2.11", append(take(1, "192.0.2.11"),
			step{machine: 2, kind: discover, wants: us})},
		"the server's own card": {one + "-" + one, []step{{machine: 10, kind: discover}}},
		"no machine":            {one + "-" + one, []step{{machine: 1, kind: dhcpv4.MessageTypeInform, has: one}, {machine: 1, kind: silence}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, test.addresses)
			for i, step := range test.steps {
				got := s.Answer(step.packet(t), start.Add(step.after))
				switch {
				case got == nil && step.answer == silence:
				case got == nil || got.MessageType() != step.answer:
					t.Fatalf("step %d: answered with %v", i, got)
				case step.address != "" && !got.YourIPAddr.Equal(net.ParseIP(step.address)):
					t.Fatalf("step %d: %v was given", i, got.YourIPAddr)
				case !got.ServerIdentifier().Equal(net.ParseIP(us)) || (step.answer == nak) != got.YourIPAddr.IsUnspecified():
					t.Errorf("step %d:\n%s", i, got.Summary())
				case step.answer == nak && !got.IsBroadcast():
					t.Errorf("step %d: the refusal goes to an address that is refused", i)
				case step.answer != nak && (got.SubnetMask().String() != "ffffff00" || got.IPAddressLeaseTime(0) != time.Hour || len(got.Router())+len(got.DNS()) > 0):
					t.Errorf("step %d: options\n%s", i, got.Summary())
				}
			}
		})
	}
}

// TestMany gives each of many machines an address of its own, and a server that is started anew most of them the same.
func TestMany(t *testing.T) {
	first := map[byte]string{}
	same := 0
	for range 2 {
		s := newServer(t, "192.0.2.20-192.0.2.220")
		seen := map[string]bool{}
		for machine := byte(100); machine < 200; machine++ {
			p := step{machine: machine, kind: discover}.packet(t)
			got := s.Answer(p, start).YourIPAddr.String()
			if seen[got] || !s.Knows(p.ClientHWAddr) {
				t.Fatalf("%s was given twice, or forgotten", got)
			}
			seen[got] = true
			if first[machine] == got {
				same++
			}
			first[machine] = got
		}
	}
	if same != 100 {
		t.Errorf("%d of 100 machines have the same address after a restart in which they came in the same order", same)
	}
}

// TestTold has the callers hear of what a person has to know.
func TestTold(t *testing.T) {
	s := newServer(t, "192.0.2.50-192.0.2.50")
	var full []string
	var other []netip.Addr
	s.Full = func(mac net.HardwareAddr) { full = append(full, mac.String()) }
	s.Other = func(a netip.Addr) { other = append(other, a) }
	for _, step := range []step{{machine: 1, kind: discover}, {machine: 2, kind: discover}, {machine: 1, kind: request, server: us, wants: "192.0.2.50"},
		{machine: 3, kind: request, server: others, wants: "192.0.2.99"}} {
		s.Answer(step.packet(t), start)
	}
	if len(full) != 1 || full[0] != "02:00:00:00:00:02" || len(other) != 1 || other[0].String() != others {
		t.Errorf("told of %v and %v", full, other)
	}
}

func TestRange(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.50-192.0.2.99":     "",
		" 192.0.2.50 - 192.0.2.50 ": "",
		"192.0.2.1-192.0.2.254":     "",
		"":                          "is not a range",
		"192.0.2.50":                "is not a range",
		"192.0.2.50-99":             "is not a range",
		"192.0.2.50-2001:db8::1":    "is not a range",
		"192.0.2.99-192.0.2.50":     "lower address first",
		"10.0.0.0-10.255.255.255":   "use fewer",
		"0.0.0.0-255.255.255.255":   "use fewer",
		"192.0.2.0-192.0.2.99":      "is the number",
		"192.0.2.99-192.0.2.255":    "is for all",
		"192.0.2.99-192.0.3.9":      "not within the network 192.0.2.0/24",
		"192.0.1.99-192.0.2.99":     "not within the network 192.0.2.0/24",
	} {
		r, err := ParseRange(text)
		if err == nil {
			err = r.Check(own)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestOfferedBy tells servers that hand addresses out from all else that is heard.
func TestOfferedBy(t *testing.T) {
	question, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0, 0, 0, 0, 10})
	if err != nil {
		t.Fatal(err)
	}
	reply := func(with ...dhcpv4.Modifier) []byte {
		p, err := dhcpv4.NewReplyFromRequest(question, append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 77)), dhcpv4.WithMessageType(offer),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(others)))}, with...)...)
		if err != nil {
			t.Fatal(err)
		}
		return p.ToBytes()
	}
	for name, test := range map[string]struct {
		packet []byte
		want   string
	}{
		"an offer":              {reply(), others},
		"BOOTP":                 {reply(dhcpv4.WithoutOption(dhcpv4.OptionServerIdentifier), dhcpv4.WithServerIP(net.ParseIP(others))), others},
		"one without a name":    {reply(dhcpv4.WithoutOption(dhcpv4.OptionServerIdentifier)), "0.0.0.0"},
		"proxyDHCP":             {reply(dhcpv4.WithYourIP(net.IPv4zero)), ""},
		"our own":               {reply(dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(us)))), ""},
		"to another's question": {reply(dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4})), ""},
		"the question":          {question.ToBytes(), ""},
		"garbage":               {[]byte("garbage"), ""},
	} {
		got := offeredBy(test.packet, question.TransactionID, own.Addr())
		if got.IsValid() != (test.want != "") || got.IsValid() && got.String() != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []step{{kind: discover}, {kind: request, server: us, wants: "192.0.2.50"}, {kind: request, has: "192.0.2.50"},
		{kind: decline, server: us, wants: "192.0.2.50"}, {kind: release, server: us, has: "192.0.2.50"}} {
		f.Add(s.packet(f).ToBytes(), step{kind: discover, machine: 2}.packet(f).ToBytes())
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		s := newServer(t, "192.0.2.50-192.0.2.52")
		holds := map[string]string{} // who was given what; time stands still
		for _, packet := range [][]byte{step{machine: 1, kind: discover}.packet(t).ToBytes(), one, two, one} {
			p, err := dhcpv4.FromBytes(packet)
			if err != nil {
				continue
			}
			r := s.Answer(p, start)
			if len(s.given) > 3 || len(s.of) > 3 {
				t.Fatalf("%d and %d are remembered", len(s.given), len(s.of))
			}
			if r == nil || r.MessageType() != ack {
				continue
			}
			a, mac := r.YourIPAddr.String(), p.ClientHWAddr.String()
			if given := from4(r.YourIPAddr); !s.Range.Contains(given) || holds[a] != "" && holds[a] != mac {
				t.Fatalf("%s was given to %s, and had been to %q", a, mac, holds[a])
			}
			holds[a] = mac
		}
	})
}

func FuzzParseRange(f *testing.F) {
	f.Add("192.0.2.50-192.0.2.99")
	f.Add("255.255.255.255-255.255.255.255")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRange(text)
		if err != nil {
			return
		}
		again, err := ParseRange(r.String())
		if err != nil || again != r || !r.Contains(r.First) || !r.Contains(r.Last) {
			t.Errorf("%q became %v, %v", text, again, err)
		}
		_ = r.Check(own)
	})
}
