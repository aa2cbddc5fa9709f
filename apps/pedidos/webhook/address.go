package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
)

// Mode is to which addresses events may be sent.
type Mode string

// The modes.
const (
	Off    Mode = "off"    // none: nobody can register an endpoint, and nothing is sent
	Public Mode = "public" // https at port 443 of public addresses
	Any    Mode = "any"    // http too, and every address: for a machine of one's own, and for tests
)

// maxURL is the greatest length of an endpoint's URL in bytes.
const maxURL = 500

// checkURL returns why events may not be sent to a URL. The error completes a sentence that begins with
// the field's name, and does not repeat the URL. The address that its host has is checked each time that
// a connection is opened.
func (m Mode) checkURL(raw string) error {
	at, err := url.Parse(raw)
	switch {
	case len(raw) > maxURL:
		return fmt.Errorf("must have at most %d bytes", maxURL)
	case err != nil || at.Opaque != "" || at.Hostname() == "" || at.Scheme != "https" && at.Scheme != "http":
		return errors.New("must be an absolute URL such as https://example.com/events")
	case at.User != nil:
		return errors.New("must not contain a user or a password: verify the signature instead")
	case at.Fragment != "":
		return errors.New("must not have a fragment")
	case m == Any:
		return nil
	case at.Scheme != "https":
		return errors.New("must begin with https://")
	case at.Port() != "" && at.Port() != "443":
		return errors.New("must not have a port other than 443")
	}
	if ip, err := netip.ParseAddr(strings.Trim(at.Hostname(), "[]")); err == nil && !public(ip) {
		return errors.New("must have a public address")
	}
	return nil
}

// errAddress says that a connection was refused because of its address.
var errAddress = errors.New("the address is not public")

// control refuses a connection to an address that is not allowed. It is called with the address that the
// host's name was resolved to, so it does not help to change the name's records afterwards.
func (m Mode) control(_, address string, _ syscall.RawConn) error {
	if m == Any {
		return nil
	}
	to, err := netip.ParseAddrPort(address)
	if m != Public || err != nil || to.Port() != 443 || !public(to.Addr()) {
		return errAddress
	}
	return nil
}

// special are the ranges of the registries of special-purpose addresses that are not globally reachable,
// and those that lead to IPv4 addresses (https://www.iana.org/assignments/iana-ipv4-special-registry,
// https://www.iana.org/assignments/iana-ipv6-special-registry). public refuses those too that
// netip.Addr knows. A cluster's pods and Services have private addresses (RFC 1918, RFC 6598, RFC 4193).
var special = func() (all []netip.Prefix) {
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16",
		"fec0::/10",
	} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}()

// public tells whether an address is one of the internet.
func public(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return ip.IsGlobalUnicast() && !ip.IsPrivate() &&
		!slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(ip) })
}
