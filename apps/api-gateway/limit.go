package main

import (
	"container/list"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/loja-veloz/platform/apps/internal/config"
)

// rateSettings of the limit that each client has for itself, in each replica.
type rateSettings struct {
	perSecond int // RATE_PER_SECOND; 0 turns the limit off
	burst     int // RATE_BURST: at once, after a pause
	clients   int // RATE_CLIENTS: remembered; who was away longest is forgotten first
	// proxies (TRUSTED_PROXIES) is how many proxies of ours a request passes
	// before it gets here, each adding to X-Forwarded-For whom it heard it from.
	proxies int
}

func readRate(env *config.Reader) rateSettings {
	perSecond := env.Int("RATE_PER_SECOND", 100, 0, 1_000_000)
	return rateSettings{
		perSecond: perSecond,
		burst:     env.Int("RATE_BURST", max(1, 2*perSecond), 1, 1_000_000),
		clients:   env.Int("RATE_CLIENTS", 10_000, 1, 1_000_000),
		proxies:   env.Int("TRUSTED_PROXIES", 0, 0, 10),
	}
}

// client is what a limit counts by: the principal, or the address of a request without one.
type client struct {
	principal string
	address   netip.Addr
}

// clientAddress returns the address that a request came from, as far as it can
// be known: of X-Forwarded-For only the entry that the outermost of our own
// proxies added counts, never one that the sender may have written itself. With
// fewer entries than proxies the request took another way, and the connection's
// own address is what is known.
//
// Addresses of IPv6 are taken by their /64, which is what one subscriber has.
func clientAddress(r *http.Request, proxies int) netip.Addr {
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

// forwardedFor returns the n-th entry from the right, over all lines.
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

// limiter has a token bucket per client, for a bounded number of clients.
type limiter struct {
	settings rateSettings
	now      func() time.Time

	mu      sync.Mutex
	recent  *list.List // of *bucket, latest first
	buckets map[client]*list.Element
}

type bucket struct {
	client client
	tokens *rate.Limiter
}

func newLimiter(settings rateSettings) *limiter {
	return &limiter{settings: settings, now: time.Now, recent: list.New(), buckets: map[client]*list.Element{}}
}

// verdict on one request.
type verdict struct {
	allowed   bool
	remaining int           // further requests at once
	reset     time.Duration // until the bucket is full again
	wait      time.Duration // until one more is allowed
}

// take counts a request of who.
func (l *limiter) take(who client) verdict {
	now := l.now()
	tokens := l.bucket(who)
	allowed := tokens.AllowN(now, 1)
	left := max(0, tokens.TokensAt(now))
	perToken := float64(time.Second) / float64(l.settings.perSecond)
	v := verdict{
		allowed:   allowed,
		remaining: int(left),
		reset:     time.Duration((float64(l.settings.burst) - left) * perToken),
	}
	if !allowed {
		v.wait = time.Duration((1 - left) * perToken)
	}
	return v
}

func (l *limiter) bucket(who client) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if element, ok := l.buckets[who]; ok {
		l.recent.MoveToFront(element)
		return element.Value.(*bucket).tokens
	}
	if l.recent.Len() >= l.settings.clients {
		oldest := l.recent.Back()
		delete(l.buckets, l.recent.Remove(oldest).(*bucket).client)
	}
	who.principal = strings.Clone(who.principal) // not the whole header that it was cut from
	fresh := &bucket{who, rate.NewLimiter(rate.Limit(l.settings.perSecond), l.settings.burst)}
	l.buckets[who] = l.recent.PushFront(fresh)
	return fresh.tokens
}

// size is how many clients are remembered.
func (l *limiter) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recent.Len()
}

// describe tells a client where it stands, in whole seconds.
func (v verdict) describe(answer http.Header, burst int) {
	values := [...]string{strconv.Itoa(burst), strconv.Itoa(v.remaining), strconv.Itoa(int(math.Ceil(v.reset.Seconds())))}
	answer["Ratelimit-Limit"] = values[0:1:1] // as http.Header spells it
	answer["Ratelimit-Remaining"] = values[1:2:2]
	answer["Ratelimit-Reset"] = values[2:3:3]
}
