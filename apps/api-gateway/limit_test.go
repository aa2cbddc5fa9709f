package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/internal/value"
)

func TestEachClientHasItsOwnRate(t *testing.T) {
	g := newGate(t, "RATE_PER_SECOND=1", "RATE_BURST=3", "TRUSTED_PROXIES=1")
	from := func(address string) reply { return g.get(t, "/estoque", "X-Forwarded-For", address) }
	for i := range 3 {
		answer := from("198.51.100.1")
		if answer.StatusCode != 200 || answer.Header.Get("RateLimit-Limit") != "3" || answer.Header.Get("RateLimit-Remaining") != strconv.Itoa(2-i) {
			t.Fatalf("request %d = %d %v", i+1, answer.StatusCode, answer.Header)
		}
	}
	// A client can write the entries to the left of the proxy's.
	answer := from("203.0.113.9, 198.51.100.1")
	g.wantRefused(t, answer, 429, "rate_limited")
	if answer.Header.Get("Retry-After") != "1" || answer.Header.Get("RateLimit-Remaining") != "0" || answer.Header.Get("RateLimit-Reset") != "3" {
		t.Errorf("headers %v", answer.Header)
	}
	if answer := from("198.51.100.2"); answer.StatusCode != 200 {
		t.Errorf("another client = %d", answer.StatusCode)
	}
	if got := len(g.backend.requests()); got != 4 {
		t.Errorf("%d requests were forwarded, want 4", got)
	}
	if got := g.metric(t, `gateway_rate_limited_total{service="api-gateway"}`); got != "1" {
		t.Errorf("gateway_rate_limited_total = %s, want 1", got)
	}
	if got := g.metric(t, `gateway_rate_clients{service="api-gateway"}`); got != "2" {
		t.Errorf("gateway_rate_clients = %s, want 2", got)
	}
	if answer := g.get(t, "/health"); answer.StatusCode != 200 {
		t.Errorf("/health = %d", answer.StatusCode)
	}
}

func TestWrongKeysAreLimitedByAddressAndClientsByName(t *testing.T) {
	g := newGate(t, "RATE_PER_SECOND=1", "RATE_BURST=2", "AUTH=api-key", "API_KEYS=loja:"+digest("right"))
	for range 2 {
		g.wantRefused(t, g.get(t, "/estoque", "X-Api-Key", "wrong"), 401, "unauthorized")
	}
	g.wantRefused(t, g.get(t, "/estoque", "X-Api-Key", "wrong"), 429, "rate_limited")
	// An authenticated client has its own limit, not that of its address.
	if answer := g.get(t, "/estoque", "X-Api-Key", "right"); answer.StatusCode != 200 {
		t.Errorf("a good key = %d", answer.StatusCode)
	}
}

// All shoppers are one client, the storefront, which says for whom it asks.
func TestEachShopperOfAFrontHasItsOwnRate(t *testing.T) {
	g := newGate(t, "RATE_PER_SECOND=1", "RATE_BURST=2", "AUTH=api-key",
		"API_KEYS=storefront:"+digest("front")+",loja:"+digest("other"))
	as := func(key, address string) reply {
		return g.get(t, "/estoque", "X-Api-Key", key, "Shopper-Address", address)
	}
	for range 2 {
		as("front", "198.51.100.1")
	}
	g.wantRefused(t, as("front", "198.51.100.1"), 429, "rate_limited")
	for _, address := range []string{"198.51.100.2", ""} { // another shopper, and the front itself
		if answer := as("front", address); answer.StatusCode != 200 {
			t.Errorf("for %q = %d", address, answer.StatusCode)
		}
	}
	// Another client cannot choose under which name it is counted.
	for i := range 2 {
		as("other", fmt.Sprintf("198.51.100.%d", i))
	}
	g.wantRefused(t, as("other", "198.51.100.9"), 429, "rate_limited")
	for _, r := range g.backend.requests() {
		if got := r.Header.Get("Shopper-Address"); got != "" {
			t.Errorf("a service was told the address %s", got)
		}
	}
}

func TestTheTableOfClientsIsBounded(t *testing.T) {
	l := newLimiter(rateSettings{perSecond: 1, burst: 1, clients: 100})
	address := func(i int) caller { return caller{address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})} }
	for i := range 10_000 {
		if !l.take(address(i)).allowed {
			t.Fatalf("client %d was refused its first request", i)
		}
		l.take(caller{principal: "loja"}) // so that it is always recently seen
	}
	if l.size() != 100 || len(l.buckets) != 100 {
		t.Errorf("%d and %d clients are tracked, want 100", l.size(), len(l.buckets))
	}
	if l.take(caller{principal: "loja"}).allowed {
		t.Error("a recently seen client was dropped")
	}
}

func TestBucketsFillWithTime(t *testing.T) {
	l := newLimiter(rateSettings{perSecond: 2, burst: 2, clients: 1})
	now := time.Unix(1_700_000_000, 0)
	l.now = func() time.Time { return now }
	who := caller{principal: "loja"}
	for _, step := range []struct {
		after     time.Duration
		allowed   bool
		remaining int
		wait      time.Duration
	}{
		{0, true, 1, 0}, {0, true, 0, 0}, {0, false, 0, 500 * time.Millisecond},
		{250 * time.Millisecond, false, 0, 250 * time.Millisecond}, {250 * time.Millisecond, true, 0, 0},
		{time.Hour, true, 1, 0},
		{-time.Hour, true, 0, 0}, // a clock that jumps back takes no tokens
	} {
		now = now.Add(step.after)
		if got := l.take(who); got.allowed != step.allowed || got.remaining != step.remaining || got.wait != step.wait {
			t.Errorf("after %s: %+v, want %+v", step.after, got, step)
		}
	}
}

func TestTheLimiterIsSafeForManyAtOnce(t *testing.T) {
	l := newLimiter(rateSettings{perSecond: 1, burst: 50, clients: 8})
	l.now = func() time.Time { return time.Unix(1_700_000_000, 0) }
	var allowed [4]int
	var everyone sync.WaitGroup
	for worker := range 4 {
		everyone.Go(func() {
			for range 100 {
				if l.take(caller{principal: "loja"}).allowed {
					allowed[worker]++
				}
				l.take(caller{principal: value.ClientID(fmt.Sprint("other-", worker))})
			}
		})
	}
	everyone.Wait()
	if sum := allowed[0] + allowed[1] + allowed[2] + allowed[3]; sum != 50 {
		t.Errorf("%d were allowed, want 50", sum)
	}
}
