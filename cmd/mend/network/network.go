// Package network gives the broken machine an address. On Linux it looks for wired network cards, waits for a cable and
// asks the site's DHCP server (RFC 2131); nothing is kept from one start to the next. In Windows PE, Windows does that,
// and the package waits for it.
package network

import "errors"

// ErrNoCard is returned when no wired network card has appeared; ErrNoCable when none of them had a link.
var (
	ErrNoCard  = errors.New("no wired network card that this environment has a driver for")
	ErrNoCable = errors.New("no network card has a link: plug in the network cable")
)
