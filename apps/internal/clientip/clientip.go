// Package clientip finds the address that a request came from, behind a known number of our
// own proxies.
package clientip

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Header names the address of the shopper for whom a shop front sends a request. Only
// api-gateway reads it, and only from shop fronts.
const Header = "Shopper-Address"

// MaxProxies is the largest number of proxies that a setting accepts.
const MaxProxies = 10

// Of returns the address that a request came from. In X-Forwarded-For it
// trusts only the entry that the outermost of our own proxies appended, since a
// client can write the entries before it. A header with fewer entries than proxies
// did not pass all proxies; then the address is that of the connection.
//
// An IPv6 address is reduced to its /64, the usual allocation of one subscriber.
func Of(r *http.Request, proxies int) netip.Addr {
	if proxies > 0 {
		if address, ok := forwardedFor(r.Header["X-Forwarded-For"], proxies); ok {
			return subscriber(address)
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return subscriber(address)
}

func subscriber(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if address.Is6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return address
}

// forwardedFor returns the n-th entry from the right, counted over all lines.
func forwardedFor(lines []string, n int) (netip.Addr, bool) {
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var entry string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, entry = rest[:comma], rest[comma+1:]
			} else {
				entry, more = rest, false
			}
			if n--; n == 0 {
				address, err := netip.ParseAddr(strings.TrimSpace(entry))
				return address, err == nil
			}
		}
	}
	return netip.Addr{}, false
}
