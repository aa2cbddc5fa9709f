package benchshop

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/postgres"
	"github.com/loja-veloz/platform/tools/internal/repo"
)

// TestOrdersOnDBOSSurviveAKill places 20 orders at the program in the folder dbos, with the real
// estoque and pagamentos. It kills the program after the first ones, and repeats a key.
func TestOrdersOnDBOSSurviveAKill(t *testing.T) {
	ctx := t.Context()
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	shop, err := dev.Start(ctx, dev.Options{
		Dir: filepath.Join(t.TempDir(), "shop"), Programs: []string{"estoque", "pagamentos"}, Postgres: postgres.Options{Settings: []string{"fsync=off"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shop.StopNow(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{Options: Options{Root: root, Out: console.New(io.Discard)}, dir: t.TempDir()}
	if err := b.buildDBOS(ctx); err != nil {
		t.Fatal(err)
	}
	program, err := b.dbosContender(ctx, shop, "calls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := program.kill(); err != nil {
			t.Error(err)
		}
	})
	if err := program.start(ctx); err != nil {
		t.Fatal(err)
	}
	c := &comparison{bench: b, shop: shop}
	if c.buyers, err = newBuyers(ctx, shop); err != nil {
		t.Fatal(err)
	}
	placeAndKill(ctx, t, c, program)
}

func placeAndKill(ctx context.Context, t *testing.T, c *comparison, program *contender) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	conn := &connection{address: strings.TrimPrefix(program.url, "http://")}
	defer conn.close()
	var first *purchase
	for i := range 20 {
		p := c.purchase()
		final := make(chan bool, 1)
		go func() { final <- p.ask(ctx, conn, true) }()
		if i == 10 { // while the order is under way, or before
			if err := errors.Join(program.kill(), program.start(ctx)); err != nil {
				t.Fatal(err)
			}
		}
		if !<-final {
			t.Fatalf("order %d is not final", i)
		}
		var payment struct {
			State  string
			Amount struct{ Amount int64 }
		}
		header := map[string]string{"Client-Id": benchClient}
		if err := call(ctx, http.MethodGet, c.shop.URL("pagamentos")+"/pagamentos/"+p.id, "", header, &payment); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"confirmed": "captured", "failed": "declined"}[p.state]
		if payment.State != want || payment.Amount.Amount != p.total {
			t.Errorf("order %s is %s and costs %d; its payment is %s of %d", p.id, p.state, p.total, payment.State, payment.Amount.Amount)
		}
		if first == nil {
			first = p
		}
	}
	again := &purchase{key: first.key, body: first.body}
	if !again.ask(ctx, conn, true) || again.id != first.id || again.state != first.state {
		t.Errorf("the first key again: order %s is %s, want order %s, %s", again.id, again.state, first.id, first.state)
	}
}

func TestMoneyAndStockAreComparedWithTheOrders(t *testing.T) {
	charged, sold := charge{1, 100}, "confirmed"
	for name, c := range map[string]struct {
		state    string
		charges  map[string]charge
		reserved map[string]string
		want     tally
	}{
		"as agreed":           {"confirmed", map[string]charge{"a": charged}, map[string]string{"a": sold}, tally{confirmed: 1}},
		"declined":            {"failed", nil, map[string]string{"a": "released"}, tally{}},
		"not charged":         {"confirmed", nil, map[string]string{"a": sold}, tally{confirmed: 1, lost: 1}},
		"another amount":      {"confirmed", map[string]charge{"a": {1, 99}}, map[string]string{"a": sold}, tally{confirmed: 1, lost: 1}},
		"not sold":            {"confirmed", map[string]charge{"a": charged}, map[string]string{"a": "released"}, tally{confirmed: 1, lost: 1}},
		"charged twice":       {"confirmed", map[string]charge{"a": {2, 200}}, map[string]string{"a": sold}, tally{confirmed: 1, doubled: 1}},
		"a second order":      {"confirmed", map[string]charge{"a": charged, "b": charged}, map[string]string{"a": sold}, tally{confirmed: 1, doubled: 1}},
		"failed, but charged": {"failed", map[string]charge{"a": charged}, nil, tally{wronglyCharged: 1}},
		"no final answer":     {"", nil, nil, tally{hanging: 1}},
		"stock stays":         {"failed", nil, map[string]string{"a": "reserved"}, tally{hanging: 1}},
	} {
		got := agree([]*purchase{{id: "a", total: 100, state: c.state}}, c.charges, c.reserved)
		if got.confirmed != c.want.confirmed || got.lost != c.want.lost || got.doubled != c.want.doubled ||
			got.wronglyCharged != c.want.wronglyCharged || got.hanging != c.want.hanging {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
