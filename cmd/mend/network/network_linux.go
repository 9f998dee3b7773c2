package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// pollTime is how often a cable or a card that is not there yet is looked for.
	pollTime = 100 * time.Millisecond
	// A switch with spanning tree passes nothing for its first 30 seconds, so a request is repeated for as long as the
	// caller waits. The first answers come within a second elsewhere.
	answerTime = 3 * time.Second
)

// Link is a card that has an address.
type Link struct {
	Card    string       // as Linux names it: eth0
	Address netip.Prefix // and the network's size
	Router  netip.Addr   // not valid where the network has none
	DNS     []netip.Addr
	lease   *nclient4.Lease
}

// String tells a person where the machine is: "eth0, 10.0.0.5/24".
func (l *Link) String() string { return l.Card + ", " + l.Address.String() }

// Connect waits until one of the machine's wired cards has a link and a DHCP server has answered it, and sets the
// address, the default route and the resolver. Cards are asked at once, and the first that has an answer is the one
// that is used. The caller bounds the time by ctx; the error then tells how far it came.
func Connect(ctx context.Context) (*Link, error) { return connect(ctx, sysfs, resolver) }

func connect(ctx context.Context, sysfs, resolver string) (*Link, error) {
	type answer struct {
		card  string
		lease *nclient4.Lease
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer)
	asked := map[string]bool{}
	failure := ErrNoCard
	for {
		for _, card := range cards(sysfs) {
			if asked[card] {
				continue
			}
			if errors.Is(failure, ErrNoCard) {
				failure = ErrNoCable
			}
			if up, err := linkUp(card); err != nil || !up {
				continue
			}
			asked[card] = true
			go func() {
				lease, err := ask(ctx, card)
				select {
				case answers <- answer{card, lease, err}:
				case <-ctx.Done():
				}
			}()
		}
		select {
		case a := <-answers:
			if a.err != nil {
				failure = fmt.Errorf("network card %s: %w", a.card, a.err)
				delete(asked, a.card)
				continue
			}
			link, err := newLink(a.card, a.lease)
			if err != nil {
				return nil, err
			}
			return link, link.apply(resolver)
		case <-time.After(pollTime):
		case <-ctx.Done():
			if len(asked) > 0 && errors.Is(failure, ErrNoCable) {
				failure = errors.New("no answer from a DHCP server on the network")
			}
			return nil, failure
		}
	}
}

// Missing says what keeps the machine off the network for now: ErrNoCard, ErrNoCable, or nil.
func Missing() error { return missing(sysfs) }

func missing(sysfs string) error {
	list := cards(sysfs)
	if len(list) == 0 {
		return ErrNoCard
	}
	for _, card := range list {
		if up, err := linkUp(card); err == nil && up {
			return nil
		}
	}
	return ErrNoCable
}

const (
	sysfs    = "/sys/class/net"
	resolver = "/etc/resolv.conf" // where Go's own resolver looks
)

// cards are the wired Ethernet cards: those with hardware behind them that are no radio. See the kernel's
// Documentation/ABI/testing/sysfs-class-net.
func cards(dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		kind, err := os.ReadFile(filepath.Join(path, "type"))
		if err != nil || strings.TrimSpace(string(kind)) != "1" || !exists(path, "device") || exists(path, "phy80211") || exists(path, "wireless") {
			continue
		}
		names = append(names, e.Name())
	}
	return names
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// linkUp switches a card on and reports whether its cable leads somewhere.
func linkUp(card string) (bool, error) {
	link, err := netlink.LinkByName(card)
	if err != nil {
		return false, err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return false, err
		}
	}
	return link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0, nil
}

// ask gets an address for a card.
func ask(ctx context.Context, card string) (*nclient4.Lease, error) {
	client, err := nclient4.New(card, nclient4.WithTimeout(answerTime), nclient4.WithRetry(1))
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // the answer counts
	for {
		lease, err := client.Request(ctx)
		if err == nil {
			return lease, nil
		}
		if ctx.Err() != nil || !errors.Is(err, nclient4.ErrNoResponse) {
			return nil, err
		}
	}
}

// newLink reads the server's answer. Only what has a usable address and network is one.
func newLink(card string, lease *nclient4.Lease) (*Link, error) {
	ack := lease.ACK
	l := &Link{Card: card, lease: lease}
	address, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
	bits, size := ack.SubnetMask().Size()
	if size != 32 {
		return nil, fmt.Errorf("network card %s: the DHCP server %s gave no network mask", card, ack.ServerIdentifier())
	}
	if l.Address = netip.PrefixFrom(address, bits); !address.IsValid() || address.IsUnspecified() {
		return nil, fmt.Errorf("network card %s: the DHCP server %s gave no address", card, ack.ServerIdentifier())
	}
	for _, router := range ack.Router() {
		if l.Router, _ = netip.AddrFromSlice(router.To4()); l.Router.IsValid() {
			break
		}
	}
	for _, server := range ack.DNS() {
		if address, ok := netip.AddrFromSlice(server.To4()); ok {
			l.DNS = append(l.DNS, address)
		}
	}
	return l, nil
}

// apply sets what the answer says.
func (l *Link) apply(resolver string) error {
	link, err := netlink.LinkByName(l.Card)
	if err != nil {
		return fmt.Errorf("network card %s: %w", l.Card, err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: l.Address.Addr().AsSlice(), Mask: net.CIDRMask(l.Address.Bits(), 32)}}
	if err := netlink.AddrReplace(link, address); err != nil {
		return fmt.Errorf("network card %s: setting the address %s: %w", l.Card, l.Address, err)
	}
	if l.Router.IsValid() {
		// On the link even where the mask says otherwise, as clouds with a network of one address want it.
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: l.Router.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("network card %s: setting the router %s: %w", l.Card, l.Router, err)
		}
	}
	var text strings.Builder
	for _, server := range l.DNS {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	if text.Len() == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(resolver), 0o755); err != nil {
		return err
	}
	return os.WriteFile(resolver, []byte(text.String()), 0o644)
}

// Keep renews the lease when half of it is over (RFC 2131, section 4.4.5), until ctx ends. A server that does not
// answer is asked again; one that takes the address back ends it with an error.
func (l *Link) Keep(ctx context.Context) error {
	for {
		half := l.lease.ACK.IPAddressLeaseTime(time.Hour) / 2
		select {
		case <-time.After(max(half, shortestLease)):
		case <-ctx.Done():
			return nil
		}
		lease, err := renew(ctx, l.Card, l.lease)
		if nak := (*nclient4.ErrNak)(nil); errors.As(err, &nak) {
			return fmt.Errorf("network card %s: the DHCP server took the address %s back", l.Card, l.Address)
		}
		if err == nil {
			l.lease = lease
		}
	}
}

// shortestLease keeps a server that gives leases of no length from being asked all the time.
const shortestLease = 30 * time.Second

func renew(ctx context.Context, card string, lease *nclient4.Lease) (*nclient4.Lease, error) {
	client, err := nclient4.New(card, nclient4.WithTimeout(answerTime), nclient4.WithRetry(3))
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }() // the answer counts
	return client.Renew(ctx, lease, dhcpv4.WithClientIP(lease.ACK.YourIPAddr))
}
