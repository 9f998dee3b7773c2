package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// pollTime is how often an address that is not there yet is looked for.
const pollTime = 250 * time.Millisecond

// Link is a card that has an address.
type Link struct {
	Card    string       // as Windows names it: Ethernet
	Address netip.Prefix // and the network's size
}

// String tells a person where the machine is: "Ethernet, 10.0.0.5/24".
func (l *Link) String() string { return l.Card + ", " + l.Address.String() }

// Connect waits until one of the machine's cards has an address that can be used; Windows asks the DHCP server for it
// (in Windows PE after wpeinit). The caller bounds the time by ctx.
func Connect(ctx context.Context) (*Link, error) {
	for {
		link, missing := look()
		if link != nil {
			return link, nil
		}
		select {
		case <-time.After(pollTime):
		case <-ctx.Done():
			if missing == nil {
				missing = errors.New("no answer from a DHCP server on the network")
			}
			return nil, missing
		}
	}
}

// Missing says what keeps the machine off the network for now: ErrNoCard, ErrNoCable, or nil.
func Missing() error {
	_, missing := look()
	return missing
}

// look finds the first card with an address; else what is missing, as far as can be told.
func look() (*Link, error) {
	cards, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	missing := ErrNoCard
	for _, card := range cards {
		if card.Flags&net.FlagLoopback != 0 || len(card.HardwareAddr) == 0 {
			continue
		}
		if card.Flags&net.FlagUp == 0 {
			if errors.Is(missing, ErrNoCard) {
				missing = ErrNoCable
			}
			continue
		}
		missing = nil
		addresses, err := card.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			prefix, err := netip.ParsePrefix(a.String())
			// An address that a card gives itself where no DHCP server answers (RFC 3927, RFC 4862) leads nowhere.
			if err == nil && prefix.Addr().IsGlobalUnicast() {
				return &Link{Card: card.Name, Address: prefix}, nil
			}
		}
	}
	return nil, missing
}

// Keep waits for ctx's end: Windows renews the address by itself.
func (*Link) Keep(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
