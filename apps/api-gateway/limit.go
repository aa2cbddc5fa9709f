package main

import (
	"container/list"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/loja-veloz/platform/apps/internal/clientip"
	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// rateSettings of the rate limit, which each replica applies to each client.
type rateSettings struct {
	perSecond int // RATE_PER_SECOND; 0 turns the limit off
	burst     int // RATE_BURST: requests at once, after a pause
	clients   int // RATE_CLIENTS: clients tracked; the least recently seen is dropped first
	// proxies (TRUSTED_PROXIES) is the number of our own proxies that a request passes
	// before the gateway. Each appends its peer's address to X-Forwarded-For.
	proxies int
	// fronts (SHOP_FRONTS) are the clients that send requests for many shoppers, and name the
	// address of each in the header Shopper-Address: the storefront.
	fronts []string
}

func readRate(env *config.Reader) rateSettings {
	fronts := words(env, "SHOP_FRONTS")
	if len(fronts) == 0 {
		fronts = []string{"storefront"}
	}
	for _, name := range fronts {
		if _, err := parsePrincipal(name); err != nil {
			env.Reject("SHOP_FRONTS", "%q %v", name, err)
		}
	}
	perSecond := env.Int("RATE_PER_SECOND", 100, 0, 1_000_000)
	return rateSettings{
		perSecond: perSecond,
		burst:     env.Int("RATE_BURST", max(1, 2*perSecond), 1, 1_000_000),
		clients:   env.Int("RATE_CLIENTS", 10_000, 1, 1_000_000),
		proxies:   env.Int("TRUSTED_PROXIES", 0, 0, clientip.MaxProxies),
		fronts:    fronts,
	}
}

// caller is the unit that the rate limit counts: a principal or, without one, an address; or a
// shopper's address at a shop front.
type caller struct {
	principal value.ClientID
	address   netip.Addr
}

// limiter has a token bucket per client, for a bounded number of clients.
type limiter struct {
	settings rateSettings
	now      func() time.Time

	mu      sync.Mutex
	recent  *list.List // of *bucket, latest first
	buckets map[caller]*list.Element
}

type bucket struct {
	caller caller
	tokens *rate.Limiter
}

func newLimiter(settings rateSettings) *limiter {
	return &limiter{settings: settings, now: time.Now, recent: list.New(), buckets: map[caller]*list.Element{}}
}

// verdict is the decision on one request.
type verdict struct {
	allowed   bool
	remaining int           // further requests that are allowed at once
	reset     time.Duration // until the bucket is full again
	wait      time.Duration // until the next request is allowed
}

// take counts a request and decides on it.
func (l *limiter) take(who caller) verdict {
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

func (l *limiter) bucket(who caller) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if element, ok := l.buckets[who]; ok {
		l.recent.MoveToFront(element)
		return element.Value.(*bucket).tokens
	}
	if l.recent.Len() >= l.settings.clients {
		oldest := l.recent.Back()
		delete(l.buckets, l.recent.Remove(oldest).(*bucket).caller)
	}
	// Copy the name, which may be a part of a token that would stay in memory with it.
	who.principal = value.ClientID(strings.Clone(string(who.principal)))
	fresh := &bucket{who, rate.NewLimiter(rate.Limit(l.settings.perSecond), l.settings.burst)}
	l.buckets[who] = l.recent.PushFront(fresh)
	return fresh.tokens
}

// size returns the number of clients that are tracked.
func (l *limiter) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recent.Len()
}

// describe sets the RateLimit headers, with times in whole seconds.
func (v verdict) describe(answer http.Header, burst int) {
	values := [...]string{strconv.Itoa(burst), strconv.Itoa(v.remaining), strconv.Itoa(int(math.Ceil(v.reset.Seconds())))}
	answer["Ratelimit-Limit"] = values[0:1:1] // as http.Header spells it
	answer["Ratelimit-Remaining"] = values[1:2:2]
	answer["Ratelimit-Reset"] = values[2:3:3]
}
