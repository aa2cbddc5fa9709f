package benchshop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/dev"
)

const (
	// againstBuyers are the buyers of the loads with which two commits are compared.
	againstBuyers = 16
	// againstRounds is how often each is measured. Every second round has the opposite order.
	againstRounds = 4
)

// edition is a shop built from one commit, with a PostgreSQL of its own. Only one is under load.
type edition struct {
	name   string
	shop   *dev.Shop
	server server
	buyers *buyers

	rate            []float64       // orders per second, by round
	p99             []time.Duration // at half of this tree's rate, by round
	used            map[string]time.Duration
	orders          int // of all rounds, with used
	perOrder, alone rate
	aloneP50        time.Duration
}

// against compares the orders of this tree with those of the commit that AGAINST names.
func (b *bench) against(ctx context.Context, s server) error {
	source, err := b.extract(ctx)
	if err != nil {
		return err
	}
	ours, theirs := &edition{name: "this tree"}, &edition{name: b.Against}
	start := func(e *edition, folder, root string, then func(context.Context) error) error {
		return b.withShop(ctx, dev.Options{Dir: filepath.Join(b.dir, folder), Root: root}, func(ctx context.Context, shop *dev.Shop) (err error) {
			e.shop, e.server, e.used = shop, s, map[string]time.Duration{}
			e.server.url = shop.DatabaseURL
			if e.buyers, err = newBuyers(ctx, shop); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			return then(ctx)
		})
	}
	return start(ours, "ours", "", func(context.Context) error {
		return start(theirs, "theirs", source, func(ctx context.Context) error { return b.compareEditions(ctx, ours, theirs) })
	})
}

// extract writes the tree of the commit that AGAINST names into a folder, and returns it.
func (b *bench) extract(ctx context.Context) (string, error) {
	source, archive := filepath.Join(b.dir, "source"), filepath.Join(b.dir, "source.tar")
	if err := os.Mkdir(source, 0o755); err != nil {
		return "", err
	}
	err := command.Command{Args: []string{"git", "archive", "--output=" + archive, b.Against + "^{commit}"}, Dir: b.Root}.Run(ctx)
	if err != nil {
		return "", fmt.Errorf("AGAINST is %q: name a commit of this repo: %w", b.Against, err)
	}
	return source, command.Command{Args: []string{"tar", "--extract", "--file=" + archive, "--directory=" + source}}.Run(ctx)
}

func (b *bench) compareEditions(ctx context.Context, ours, theirs *edition) error {
	both := []*edition{ours, theirs}
	for i := range againstRounds {
		for _, e := range both {
			if err := e.saturated(ctx, b); err != nil {
				return fmt.Errorf("%s: %w", e.name, err)
			}
			b.Out.Step("round %d of %d: %s, %.0f orders/s", i+1, againstRounds, e.name, e.rate[i])
		}
		half := ours.rate[i] / 2
		for _, e := range both {
			late := open(ctx, e.buyers.target(), half, b.length(10*time.Second))
			if err := late.failed(ctx); err != nil {
				return fmt.Errorf("%s at %.0f orders/s: %w", e.name, half, err)
			}
			e.p99 = append(e.p99, late.percentile(99))
		}
		slices.Reverse(both)
	}
	for _, e := range both {
		b.Out.Step("counting commits and syncs: %s", e.name)
		if err := e.count(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	b.againstRows(ours, theirs)
	return nil
}

// saturated measures one round. A checkpoint before it makes both write the same pages in full after it.
func (e *edition) saturated(ctx context.Context, b *bench) error {
	if _, err := e.server.query(ctx, "postgres", "CHECKPOINT"); err != nil {
		return err
	}
	closed(ctx, e.buyers.target(), againstBuyers, b.length(3*time.Second))
	var r run
	err := b.cpuDuring(e.shop, e.used, func() error {
		r = closed(ctx, e.buyers.target(), againstBuyers, b.length(10*time.Second))
		return r.failed(ctx)
	})
	if err != nil {
		return err
	}
	e.orders += len(r.latencies)
	e.rate = append(e.rate, r.perSecond())
	return nil
}

// count counts the server's commits and syncs per order, under load and for one buyer alone.
func (e *edition) count(ctx context.Context, b *bench) error {
	idle, err := e.server.counted(ctx, rate{}, func() (int, error) { return 1, sleep(ctx, statsDelay) })
	if err != nil {
		return err
	}
	var r run
	of := func(clients int) (rate, error) {
		return e.server.counted(ctx, idle, func() (int, error) {
			r = closed(ctx, e.buyers.target(), clients, b.length(8*time.Second))
			return len(r.latencies), r.failed(ctx)
		})
	}
	if e.perOrder, err = of(againstBuyers); err != nil {
		return err
	}
	e.alone, err = of(1)
	e.aloneP50 = r.percentile(50)
	return err
}

// cpuOf returns the CPU time per order of some processes, in µs.
func (e *edition) cpuOf(names ...string) float64 {
	var used time.Duration
	for _, name := range names {
		used += e.used[name]
	}
	return float64(used.Microseconds()) / float64(max(1, e.orders))
}

func (b *bench) againstRows(ours, theirs *edition) {
	t := &b.table
	t.head(fmt.Sprintf("Orders of this tree and of %s, %d buyers", theirs.name, againstBuyers))
	for _, e := range []*edition{ours, theirs} {
		t.row(e.name+": orders per second", spread(e.rate), "", true)
	}
	faster := percent(ours.rate, theirs.rate)
	t.row("orders per second in percent of "+theirs.name, spread(faster)+" %", ">= 180 %", median(faster) >= 180)
	compare := func(what, unit string, goal float64, of func(*edition) float64) {
		ratio, text := 100*of(ours)/of(theirs), ""
		if goal > 0 {
			text = fmt.Sprintf("<= %.0f %%", goal)
		}
		t.row(what, fmt.Sprintf("%.2f, %.2f %s: %.0f %%", of(ours), of(theirs), unit, ratio), text, ratio <= goal)
	}
	services := b.services()
	compare("CPU per order of the services", "µs", 50, func(e *edition) float64 { return e.cpuOf(services...) })
	compare("CPU per order of PostgreSQL", "µs", 70, func(e *edition) float64 { return e.cpuOf(dev.PostgreSQL) })
	for _, name := range services {
		if ours.used[name] > 0 && theirs.used[name] > 0 {
			compare("CPU per order of "+name, "µs", 0, func(e *edition) float64 { return e.cpuOf(name) })
		}
	}
	compare("p99 at half of this tree's rate", "ms", 50, func(e *edition) float64 { return float64(median(e.p99).Microseconds()) / 1000 })
	compare("one buyer alone: p50", "ms", 0, func(e *edition) float64 { return float64(e.aloneP50.Microseconds()) / 1000 })
	compare("one buyer alone: syncs of the log per order", "", 0, func(e *edition) float64 { return e.alone.syncs })
	compare("commits per order", "", 0, func(e *edition) float64 { return e.perOrder.commits })
	compare("syncs of the log per order", "", 0, func(e *edition) float64 { return e.perOrder.syncs })
	compare("log written per order", "KiB", 0, func(e *edition) float64 { return e.perOrder.walBytes / 1024 })
}

// checkAgainst refuses a setting AGAINST that no part uses, and a part that needs it.
func (o Options) checkAgainst() error {
	named := slices.Contains(o.Only, "against")
	switch {
	case named && o.Against == "":
		return errors.New("ONLY contains against: set AGAINST to the commit to compare with")
	case !named && o.Against != "":
		return fmt.Errorf("AGAINST is %q, and ONLY is %q: set ONLY=against", o.Against, strings.Join(o.Only, ","))
	}
	return nil
}
