package benchshop

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/dev"
)

// orders measures the confirmed orders per second, their latency, and the rate at which the
// database alone runs the same statements.
func (b *bench) orders(ctx context.Context, shop *dev.Shop, s server) error {
	o := &ordersRun{bench: b, shop: shop, server: s, used: map[string]time.Duration{}, length: b.length(10 * time.Second)}
	for _, step := range []func(context.Context) error{
		o.warmUp, o.saturateShop, o.record, o.saturateReplay, o.compareRounds, o.countCommits, o.latencyAtHalfLoad,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	o.rows()
	o.statements()
	return nil
}

// ordersRun has the results of the steps of orders.
type ordersRun struct {
	*bench
	shop   *dev.Shop
	server server
	length time.Duration // of a round
	buyers *buyers
	errs   []string // orders that were not confirmed

	clients, replayClients int // numbers of clients with the highest rates
	recorded               example
	agree                  int    // number of recorded orders with the same statements
	script                 string // path of pgbench's script
	variables              []string
	replayed               int64 // orders in all replays

	shopRate, sameRate, bestRate []float64                // per second, by round
	used                         map[string]time.Duration // CPU time by process, while orders are placed
	usedByReplay                 time.Duration            // CPU time of PostgreSQL
	placed, same, best           int64                    // orders of all rounds
	sameSyncs                    int64                    // syncs of the log during the replays by o.clients
	last                         replay                   // by replayClients

	perOrder, perOrderAlone rate
	alone                   run
	aloneReplay             replay
	late                    run // open load at half of the shop's rate
}

func (o *ordersRun) warmUp(ctx context.Context) (err error) {
	if o.buyers, err = newBuyers(ctx, o.shop); err != nil {
		return err
	}
	o.Out.Step("warming up")
	closed(ctx, o.buyers.target(), 16, o.bench.length(8*time.Second))
	return o.analyze(ctx, o.server.databases...)
}

func (o *ordersRun) analyze(ctx context.Context, databases ...string) error {
	for _, d := range databases {
		if _, err := o.server.query(ctx, d, "VACUUM ANALYZE"); err != nil {
			return err
		}
	}
	return nil
}

// place has a number of buyers place orders for a time.
func (o *ordersRun) place(ctx context.Context, clients int, length time.Duration) (run, error) {
	r := closed(ctx, o.buyers.target(), clients, length)
	o.note(fmt.Sprintf("%d buyers", clients), r)
	return r, context.Cause(ctx)
}

func (o *ordersRun) note(what string, r run) {
	if r.bad > 0 {
		o.errs = append(o.errs, fmt.Sprintf("%s: %d of %d orders were not confirmed when answered, such as: %s",
			what, r.bad, r.bad+len(r.latencies), r.why))
	}
}

// replay has a number of pgbench's clients replay the recorded order for a time.
func (o *ordersRun) replay(ctx context.Context, clients int, length time.Duration) (replay, error) {
	r, err := o.server.replay(ctx, o.script, o.variables, clients, length)
	o.replayed += r.orders
	return r, err
}

// steps are the numbers of buyers and of pgbench's clients to try.
var steps = []int{4, 8, 16, 32, 64, 128}

// saturate adds clients until the rate no longer rises, and returns the number of clients with
// the highest rate.
func (b *bench) saturate(ctx context.Context, what string, measure func(clients int) (float64, error)) (int, error) {
	best, highest, worse := 0, 0.0, 0
	for _, n := range steps {
		rate, err := measure(n)
		if err != nil {
			return 0, err
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		b.Out.Step("%d %s: %.0f orders/s", n, what, rate)
		if rate > highest*1.03 {
			best, highest, worse = n, rate, 0
		} else if worse++; worse == 2 {
			break
		}
	}
	return best, nil
}

func (o *ordersRun) saturateShop(ctx context.Context) (err error) {
	o.clients, err = o.saturate(ctx, "buyers", func(n int) (float64, error) {
		r, err := o.place(ctx, n, o.bench.length(5*time.Second))
		return r.perSecond(), err
	})
	return err
}

// record turns the SQL of one order into a script for pgbench.
func (o *ordersRun) record(ctx context.Context) (err error) {
	o.Out.Step("recording one order's SQL")
	if o.recorded, o.agree, err = o.server.record(ctx, serverLog(o.shopDir()), o.buyers.place); err != nil {
		return err
	}
	for _, a := range o.buyers.items {
		o.recorded.skus = append(o.recorded.skus, a.SKU)
	}
	if err := o.server.prepareReplay(ctx, filepath.Join(o.shopDir(), "bin")); err != nil {
		return err
	}
	if err := o.server.infer(ctx, o.recorded.statements); err != nil {
		return err
	}
	var text string
	if text, o.variables, err = o.recorded.script(); err != nil {
		return err
	}
	o.script = filepath.Join(o.dir, "order.sql")
	return os.WriteFile(o.script, []byte(text), 0o600)
}

func (o *ordersRun) saturateReplay(ctx context.Context) error {
	if _, err := o.replay(ctx, 16, o.bench.length(8*time.Second)); err != nil {
		return err
	}
	if err := errors.Join(o.server.verify(ctx, o.replayed), o.analyze(ctx, replayed)); err != nil {
		return err
	}
	var err error
	o.replayClients, err = o.saturate(ctx, "clients of pgbench", func(n int) (float64, error) {
		r, err := o.replay(ctx, n, o.bench.length(5*time.Second))
		return r.perSecond, err
	})
	return err
}

// compareRounds has the shop and pgbench take turns.
func (o *ordersRun) compareRounds(ctx context.Context) error {
	for i := range rounds {
		if err := o.round(ctx, i+1); err != nil {
			return err
		}
	}
	return o.server.verify(ctx, o.replayed)
}

func (o *ordersRun) round(ctx context.Context, n int) error {
	var shop run
	err := o.cpuDuring(o.shop, o.used, func() (err error) { shop, err = o.place(ctx, o.clients, o.length); return err })
	if err != nil {
		return err
	}
	before, err := o.server.counters(ctx, replayed)
	if err != nil {
		return err
	}
	same, err := o.replay(ctx, o.clients, o.length)
	if err != nil {
		return err
	}
	after, err := o.server.counters(ctx, replayed) // a session that has ended has reported its counters
	if err != nil {
		return err
	}
	used := map[string]time.Duration{}
	err = o.cpuDuring(o.shop, used, func() (err error) { o.last, err = o.replay(ctx, o.replayClients, o.length); return err })
	if err != nil {
		return err
	}
	if same.orders == 0 || o.last.orders == 0 {
		return fmt.Errorf("pgbench replayed no order within %s: the machine is too busy for a comparison", o.length)
	}
	o.placed += int64(len(shop.latencies) + shop.bad)
	o.same, o.best = o.same+same.orders, o.best+o.last.orders
	o.sameSyncs += after.minus(before).syncs
	o.usedByReplay += used[dev.PostgreSQL]
	o.shopRate = append(o.shopRate, shop.perSecond())
	o.sameRate, o.bestRate = append(o.sameRate, same.perSecond), append(o.bestRate, o.last.perSecond)
	o.Out.Step("round %d: the shop %.0f orders/s with %d buyers; pgbench %.0f/s with as many clients, %.0f/s with %d",
		n, shop.perSecond(), o.clients, same.perSecond, o.last.perSecond, o.replayClients)
	return nil
}

// countCommits counts the server's commits and syncs per order, without those that happen
// anyway.
func (o *ordersRun) countCommits(ctx context.Context) error {
	o.Out.Step("counting commits")
	idle, err := o.server.counted(ctx, rate{}, func() (int, error) { return 1, sleep(ctx, statsDelay) })
	if err != nil {
		return err
	}
	o.perOrder, err = o.server.counted(ctx, idle, func() (int, error) {
		r, err := o.place(ctx, o.clients, o.length)
		return len(r.latencies) + r.bad, err
	})
	if err != nil {
		return err
	}
	o.Out.Step("measuring one buyer alone")
	o.perOrderAlone, err = o.server.counted(ctx, idle, func() (int, error) {
		o.alone, err = o.place(ctx, 1, o.length)
		return len(o.alone.latencies) + o.alone.bad, err
	})
	if err != nil {
		return err
	}
	o.aloneReplay, err = o.replay(ctx, 1, o.bench.length(5*time.Second))
	return err
}

func (o *ordersRun) halfLoad() float64 { return median(o.shopRate) / 2 }

func (o *ordersRun) latencyAtHalfLoad(ctx context.Context) error {
	o.Out.Step("latency at %.0f orders/s", o.halfLoad())
	o.late = open(ctx, o.buyers.target(), o.halfLoad(), o.bench.length(20*time.Second))
	o.note("at half load", o.late)
	return context.Cause(ctx)
}

// percent returns each value in percent of the value of the same round in of.
func percent(values, of []float64) []float64 {
	var all []float64
	for i := range values {
		all = append(all, 100*values[i]/of[i])
	}
	return all
}

func (o *ordersRun) rows() {
	t := &o.table
	ofSame, ofBest := percent(o.shopRate, o.sameRate), percent(o.shopRate, o.bestRate)
	t.head("Orders, through api-gateway, confirmed when answered")
	t.row(fmt.Sprintf("orders per second, %d buyers", o.clients), spread(o.shopRate), "", true)
	t.row(fmt.Sprintf("pgbench's replays per second, %d clients", o.clients), spread(o.sameRate), "", true)
	t.row(fmt.Sprintf("pgbench's replays per second, its best: %d clients", o.replayClients), spread(o.bestRate), "", true)
	t.row("orders in percent of the replays by as many clients", spread(ofSame)+" %", ">= 50 %", median(ofSame) >= 50)
	t.row("orders in percent of the replays at their best", spread(ofBest)+" %", ">= 50 %", median(ofBest) >= 50)
	p99 := o.late.percentile(99)
	t.row(fmt.Sprintf("POST /pedidos at %.0f/s: p50, p95, p99", o.halfLoad()),
		fmt.Sprintf("%s, %s, %s", milliseconds(o.late.percentile(50)), milliseconds(o.late.percentile(95)), milliseconds(p99)),
		"p99 <= 100 ms", p99 <= 100*time.Millisecond)
	t.row("commits per order (including read-only transactions)", fmt.Sprintf("%.2f", o.perOrder.commits), "", true)
	t.row(fmt.Sprintf("syncs of the log per order: shop, %d buyers; replay", o.clients),
		fmt.Sprintf("%.2f; %.2f", o.perOrder.syncs, float64(o.sameSyncs)/float64(max(1, o.same))), "", true)
	t.row("syncs of the log per order: one buyer alone", fmt.Sprintf("%.2f", o.perOrderAlone.syncs), "", true)
	t.row("log written per order", fmt.Sprintf("%.1f KiB", o.perOrder.walBytes/1024), "", true)
	t.row("one buyer alone: p50; pgbench alone: mean",
		fmt.Sprintf("%s; %.1f ms", milliseconds(o.alone.percentile(50)), 1000/math.Max(o.aloneReplay.perSecond, 0.001)), "", true)
	var cpus []string
	for _, name := range append([]string{dev.PostgreSQL}, o.services()...) {
		if us := o.used[name].Microseconds(); us > 0 { // a checkout does not involve every service
			cpus = append(cpus, fmt.Sprintf("%s %.0f", name, float64(us)/float64(max(1, o.placed))))
		}
	}
	t.row("CPU per order, µs", strings.Join(cpus, ", "), "", true)
	t.row("CPU per replay, µs", fmt.Sprintf("%s %d", dev.PostgreSQL, o.usedByReplay.Microseconds()/max(1, o.best)), "", true)
}

// statements adds the recorded order below the table.
func (o *ordersRun) statements() {
	after := &o.table.after
	fmt.Fprintf(after, "\nThe SQL of one order (%d of %d recorded orders are the same), with pgbench's mean time with %d clients:\n\n",
		o.agree, tries, o.replayClients)
	for i, st := range o.recorded.statements {
		ms := ""
		if i < len(o.last.latencies) {
			ms = fmt.Sprintf(" %.2f ms", o.last.latencies[i])
		}
		fmt.Fprintf(after, "%d. %s: `%s`%s\n", i+1, st.database, st.first(), ms)
	}
	for _, text := range o.errs {
		fmt.Fprintf(after, "\n%s\n", text)
	}
}
