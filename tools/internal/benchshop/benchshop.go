// Package benchshop measures the shop on this machine, in one run: orders per
// second beside what the database alone would do, latency, the cost of
// api-gateway beside that of other proxies, and what each service takes.
package benchshop

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Options of a run.
type Options struct {
	Root  string // of the checkout
	Local string // its folder of generated things
	Cache *toolchain.Cache
	Out   *console.Console
	Short bool     // a tenth of the time: for trying the program out
	Only  []string // parts: orders, footprint, gateway; none means all
	Env   []string // NAME=value for all services, over the usual
}

// rounds is how often what is compared takes turns.
const rounds = 3

// Run measures, prints a table, and leaves nothing behind.
func Run(ctx context.Context, o Options) (err error) {
	lock, err := take(o.Local)
	if err != nil {
		return err
	}
	defer lock.Close()
	dir := filepath.Join(o.Local, "bench-shop")
	if err := os.RemoveAll(dir); err != nil { // what a killed run left
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "release"), 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	for _, part := range o.Only {
		if !slices.Contains(parts, part) {
			return fmt.Errorf("ONLY names %q: there are %s", part, strings.Join(parts, ", "))
		}
	}
	b := &bench{Options: o, dir: dir}
	began := loadAverage()
	if err := b.measure(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	o.Out.Plain("\n%s, %d cores, load average %s at first and %s at last, %s\n\n%s",
		machine(), runtime.NumCPU(), began, loadAverage(), time.Now().UTC().Format(time.DateTime), b.table.String())
	return nil
}

var parts = []string{"orders", "footprint", "gateway"}

// take locks the folder itself, so that nothing is left of the lock.
func take(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("bench-shop runs already in this checkout: %w", err), f.Close())
	}
	return f, nil
}

type bench struct {
	Options
	dir   string
	table table
}

func (b *bench) wants(part string) bool { return len(b.Only) == 0 || slices.Contains(b.Only, part) }

// length is so long, or what a trial takes of it.
func (b *bench) length(d time.Duration) time.Duration {
	if b.Short {
		return max(d/10, time.Second)
	}
	return d
}

func (b *bench) measure(ctx context.Context) error {
	debian := debian{filepath.Join(b.Cache.Root, "debian")}
	var s server
	var err error
	// Before anything starts: a fault of these needs no shop.
	if b.wants("orders") {
		if s.pgbench, s.env, err = debian.find(ctx, "pgbench", "postgresql-15", "postgresql-client-15", "libpq5"); err != nil {
			return err
		}
		if s.psql, _, err = debian.find(ctx, "psql", "postgresql-client-15", "libpq5"); err != nil {
			return err
		}
	}
	var nginx, traefik string
	var nginxEnv []string
	if b.wants("gateway") {
		if nginx, nginxEnv, err = debian.find(ctx, "nginx", "nginx"); err != nil {
			return err
		}
		if traefik, err = b.traefik(ctx); err != nil {
			return err
		}
	}
	b.Out.Step("building the services as for images")
	if err := release(ctx, b.Root, filepath.Join(b.dir, "release")); err != nil {
		return err
	}
	if b.wants("orders") || b.wants("footprint") {
		if err := b.shop(ctx, s); err != nil {
			return err
		}
	}
	if b.wants("gateway") {
		return b.gateway(ctx, traefik, nginx, nginxEnv)
	}
	return nil
}

// traefik is the pinned one, built where it is missing.
func (b *bench) traefik(ctx context.Context) (string, error) {
	for _, t := range toolchain.Images {
		if t.Name == "traefik" {
			if err := b.Cache.Ensure(ctx, t); err != nil {
				return "", err
			}
			return b.Cache.Binary(t, t.Name)
		}
	}
	return "", errors.New("Traefik is not among the pinned tools")
}

func (b *bench) shop(ctx context.Context, s server) (err error) {
	stack, err := startShop(ctx, b.Options, filepath.Join(b.dir, "shop"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stack.StopNow()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if failed := stack.Wait(ctx); failed != nil {
			cancel(failed)
		}
	}()
	s.url = stack.DatabaseURL
	if b.wants("footprint") {
		if err := b.footprint(ctx, stack); err != nil {
			return cause(ctx, err)
		}
	}
	if b.wants("orders") {
		return cause(ctx, b.orders(ctx, stack, s))
	}
	return nil
}

func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (b *bench) footprint(ctx context.Context, stack *dev.Stack) error {
	b.table.head("Each service, idle and alone")
	for _, service := range services {
		b.Out.Step("%s: size, start, memory", service)
		f, err := measureFootprint(ctx, stack, service, filepath.Join(b.dir, "release", service))
		if err != nil {
			return err
		}
		mib := func(n int64) float64 { return float64(n) / (1 << 20) }
		b.table.row(service+": resident memory, 5 s after its start", fmt.Sprintf("%.1f MiB (PSS %.1f)", mib(f.rss), mib(f.pss)), "<= 30 MiB", mib(f.rss) <= 30)
		b.table.row(service+": start to ready, median of "+fmt.Sprint(starts), milliseconds(f.ready), "<= 1 s", f.ready <= time.Second)
		b.table.row(service+": image (one layer: the program)", fmt.Sprintf("%.1f MiB gzip (%.1f plain)", mib(f.gzip), mib(f.binary)), "<= 30 MiB", mib(f.gzip) <= 30)
	}
	return nil
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

// steps of buyers and of pgbench's clients.
var steps = []int{4, 8, 16, 32, 64, 128}

// saturate takes more and more clients until that brings no more, and returns
// how many were best.
func (b *bench) saturate(ctx context.Context, what string, measure func(clients int) (float64, error)) (int, error) {
	best, most, worse := 0, 0.0, 0
	for _, n := range steps {
		rate, err := measure(n)
		if err != nil {
			return 0, err
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		b.Out.Step("%s: %d at once, %.0f/s", what, n, rate)
		if rate > most*1.03 {
			best, most, worse = n, rate, 0
		} else if worse++; worse == 2 {
			break
		}
	}
	return best, nil
}

// orders measures how many are confirmed per second, and what they wait for.
func (b *bench) orders(ctx context.Context, stack *dev.Stack, s server) error {
	buyers, err := newBuyers(ctx, stack)
	if err != nil {
		return err
	}
	b.Out.Step("warming up")
	place := buyers.target()
	closed(ctx, place, 16, b.length(8*time.Second))
	analyze := func(names ...string) error {
		for _, d := range names {
			if _, err := s.query(ctx, d, "VACUUM ANALYZE"); err != nil {
				return err
			}
		}
		return nil
	}
	if err := analyze(databases...); err != nil {
		return err
	}
	var troubles []string
	orders := func(clients int, length time.Duration) (run, error) {
		r := closed(ctx, place, clients, length)
		if r.bad > 0 {
			troubles = append(troubles, fmt.Sprintf("%d buyers: %d of %d orders were not confirmed when answered, such as: %s", clients, r.bad, r.bad+len(r.latencies), r.why))
		}
		return r, cause(ctx, ctx.Err())
	}
	clients, err := b.saturate(ctx, "buyers", func(n int) (float64, error) {
		r, err := orders(n, b.length(5*time.Second))
		return r.perSecond(), err
	})
	if err != nil {
		return err
	}

	b.Out.Step("recording one order's SQL")
	e, agree, err := s.record(ctx, serverLog(filepath.Join(b.dir, "shop")), buyers.place)
	if err != nil {
		return err
	}
	for _, a := range buyers.articles {
		e.skus = append(e.skus, a.SKU)
	}
	if err := s.prepareReplay(ctx, filepath.Join(b.dir, "shop", "bin")); err != nil {
		return err
	}
	if err := s.infer(ctx, e.statements); err != nil {
		return err
	}
	text, variables, err := e.script()
	if err != nil {
		return err
	}
	script := filepath.Join(b.dir, "order.sql")
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return err
	}
	var replayedOrders int64
	pgbench := func(clients int, length time.Duration) (replay, error) {
		r, err := s.replay(ctx, script, variables, clients, length)
		replayedOrders += r.orders
		return r, err
	}
	if _, err := pgbench(16, b.length(8*time.Second)); err != nil {
		return err
	}
	if err := errors.Join(s.verify(ctx, replayedOrders), analyze(replayed)); err != nil {
		return err
	}
	bestClients, err := b.saturate(ctx, "pgbench", func(n int) (float64, error) {
		r, err := pgbench(n, b.length(5*time.Second))
		return r.perSecond, err
	})
	if err != nil {
		return err
	}

	var (
		shopRate, sameRate, bestRate, ratioSame, ratioBest []float64
		used, usedByReplay                                 = map[string]time.Duration{}, time.Duration(0)
		placed, same, best                                 int64
		last                                               replay
		syncs                                              int64 // of replays by as many clients
	)
	length := b.length(10 * time.Second)
	for i := range rounds {
		var shop run
		var sameRun replay
		if err := b.used(stack, used, func() error { shop, err = orders(clients, length); return err }); err != nil {
			return err
		}
		before, err := s.counters(ctx, replayed)
		if err != nil {
			return err
		}
		if sameRun, err = pgbench(clients, length); err != nil {
			return err
		}
		after, err := s.counters(ctx, replayed) // its sessions have ended, and told all
		if err != nil {
			return err
		}
		replaying := map[string]time.Duration{}
		if err := b.used(stack, replaying, func() error { last, err = pgbench(bestClients, length); return err }); err != nil {
			return err
		}
		placed, same, best = placed+int64(len(shop.latencies)+shop.bad), same+sameRun.orders, best+last.orders
		syncs += after.minus(before).syncs
		usedByReplay += replaying[dev.PostgreSQL]
		shopRate, sameRate, bestRate = append(shopRate, shop.perSecond()), append(sameRate, sameRun.perSecond), append(bestRate, last.perSecond)
		ratioSame, ratioBest = append(ratioSame, 100*shop.perSecond()/sameRun.perSecond), append(ratioBest, 100*shop.perSecond()/last.perSecond)
		b.Out.Step("round %d: %.0f orders/s, pgbench %.0f/s by as many clients, %.0f/s by %d", i+1, shop.perSecond(), sameRun.perSecond, last.perSecond, bestClients)
	}
	if err := s.verify(ctx, replayedOrders); err != nil {
		return err
	}

	b.Out.Step("counting commits")
	var many, alone run
	idle, err := b.counted(ctx, s, rate{}, func() (int, error) { return 1, sleep(ctx, statsDelay) })
	if err != nil {
		return err
	}
	perOrder, err := b.counted(ctx, s, idle, func() (int, error) {
		many, err = orders(clients, length)
		return len(many.latencies) + many.bad, err
	})
	if err != nil {
		return err
	}
	b.Out.Step("one buyer alone")
	perOrderAlone, err := b.counted(ctx, s, idle, func() (int, error) {
		alone, err = orders(1, length)
		return len(alone.latencies) + alone.bad, err
	})
	if err != nil {
		return err
	}
	aloneReplay, err := pgbench(1, b.length(5*time.Second))
	if err != nil {
		return err
	}

	half := median(shopRate) / 2
	b.Out.Step("latency at %.0f orders/s", half)
	late := open(ctx, place, half, b.length(20*time.Second))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if late.bad > 0 {
		troubles = append(troubles, fmt.Sprintf("at half load: %d of %d orders were not confirmed when answered, such as: %s", late.bad, late.bad+len(late.latencies), late.why))
	}

	t := &b.table
	t.head("Orders, through api-gateway, confirmed when answered")
	t.row(fmt.Sprintf("orders per second, %d buyers", clients), spread(shopRate, "%.0f"), "", true)
	t.row(fmt.Sprintf("pgbench's replays per second, %d clients", clients), spread(sameRate, "%.0f"), "", true)
	t.row(fmt.Sprintf("pgbench's replays per second, its best: %d clients", bestClients), spread(bestRate, "%.0f"), "", true)
	t.row("orders of the replays by as many clients", spread(ratioSame, "%.0f")+" %", ">= 50 %", median(ratioSame) >= 50)
	t.row("orders of the replays at their best", spread(ratioBest, "%.0f")+" %", ">= 50 %", median(ratioBest) >= 50)
	t.row(fmt.Sprintf("POST /pedidos at %.0f/s: p50, p95, p99", half), fmt.Sprintf("%s, %s, %s", milliseconds(late.percentile(50)), milliseconds(late.percentile(95)), milliseconds(late.percentile(99))), "p99 <= 100 ms", late.percentile(99) <= 100*time.Millisecond)
	t.row("commits per order (transactions, reading ones too)", fmt.Sprintf("%.2f", perOrder.commits), "", true)
	t.row(fmt.Sprintf("syncs of the log per order: shop, %d buyers; replay", clients), fmt.Sprintf("%.2f; %.2f", perOrder.syncs, float64(syncs)/float64(max(1, same))), "", true)
	t.row("syncs of the log per order: one buyer alone", fmt.Sprintf("%.2f", perOrderAlone.syncs), "", true)
	t.row("log written per order", fmt.Sprintf("%.1f KiB", perOrder.walBytes/1024), "", true)
	t.row("one buyer alone: p50; pgbench alone: mean", fmt.Sprintf("%s; %.1f ms", milliseconds(alone.percentile(50)), 1000/math.Max(aloneReplay.perSecond, 0.001)), "", true)
	var cpus []string
	for _, name := range append([]string{dev.PostgreSQL}, services[:4]...) {
		cpus = append(cpus, fmt.Sprintf("%s %.0f", name, float64(used[name].Microseconds())/float64(max(1, placed))))
	}
	t.row("CPU per order, µs", strings.Join(cpus, ", "), "", true)
	t.row("CPU per replay, µs", fmt.Sprintf("%s %d", dev.PostgreSQL, usedByReplay.Microseconds()/max(1, best)), "", true)

	fmt.Fprintf(&t.after, "\nOne order's SQL (%d of %d recorded orders agree), and pgbench's mean time of each by %d clients:\n\n", agree, tries, bestClients)
	for i, st := range e.statements {
		ms := ""
		if i < len(last.latencies) {
			ms = fmt.Sprintf(" %.2f ms", last.latencies[i])
		}
		fmt.Fprintf(&t.after, "%d. %s: `%s`%s\n", i+1, st.database, st.first(), ms)
	}
	for _, trouble := range troubles {
		fmt.Fprintf(&t.after, "\n%s\n", trouble)
	}
	return nil
}

// used adds what each component uses meanwhile.
func (b *bench) used(stack *dev.Stack, into map[string]time.Duration, do func() error) error {
	before, err := usage(stack)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	after, err := usage(stack)
	for name := range after {
		into[name] += after[name] - before[name]
	}
	return err
}

// A rate is of something: a second of idleness, or an order.
type rate struct{ commits, syncs, walBytes float64 }

// counted is what the server does in do by each of what that returns the number
// of, less what goes on anyway. For idleness itself, it is by second.
func (b *bench) counted(ctx context.Context, s server, idle rate, do func() (int, error)) (rate, error) {
	before, err := s.counters(ctx, databases...)
	if err != nil {
		return rate{}, err
	}
	began := time.Now()
	n, err := do()
	if err != nil {
		return rate{}, err
	}
	if err := sleep(ctx, statsDelay); err != nil {
		return rate{}, err
	}
	after, err := s.counters(ctx, databases...)
	if err != nil {
		return rate{}, err
	}
	d, seconds := after.minus(before), time.Since(began).Seconds()
	by := float64(max(1, n))
	if idle == (rate{}) {
		by = seconds
	}
	return rate{
		(float64(d.commits) - idle.commits*seconds) / by,
		(float64(d.syncs) - idle.syncs*seconds) / by,
		(float64(d.walBytes) - idle.walBytes*seconds) / by,
	}, nil
}

func (b *bench) gateway(ctx context.Context, traefik, nginx string, nginxEnv []string) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.Out.Step("api-gateway, Traefik and nginx before one upstream")
	list, stop, err := proxies(ctx, b.dir, self, filepath.Join(b.dir, "release", "api-gateway"), traefik, nginx, nginxEnv)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	if err := compare(ctx, list, b.length(5*time.Second), b.Out.Step); err != nil {
		return err
	}
	direct, ours, theirs := list[0], list[1], list[2]
	b.table.head("Proxies before one upstream, " + fmt.Sprint(proxyClients) + " connections")
	for _, p := range list[1:] {
		goal, met := "", true
		if p == ours {
			goal, met = "below Traefik's", median(ours.cpu) < median(theirs.cpu)
		}
		b.table.row(p.name+": CPU per request at saturation", spread(p.cpu, "%.0f")+" µs", goal, met)
	}
	for _, p := range list[1:] {
		goal, met := "", true
		if p == ours {
			goal, met = "below Traefik's", median(ours.cpuHalf) < median(theirs.cpuHalf)
		}
		b.table.row(p.name+": CPU per request at half load", spread(p.cpuHalf, "%.0f")+" µs", goal, met)
	}
	for _, p := range list {
		b.table.row(p.name+": requests per second at saturation", spread(p.rate, "%.0f"), "", true)
	}
	for _, p := range list[1:] {
		p50, p99 := median(p.p50)-median(direct.p50), median(p.p99)-median(direct.p99)
		goal, met := "", true
		if p == ours {
			goal, met = "p99 <= 2 ms", p99 <= 2*time.Millisecond
		}
		b.table.row(p.name+": added at half load: p50, p99", milliseconds(p50)+", "+milliseconds(p99), goal, met)
	}
	return nil
}

// spread shows the median, and the least and the most.
func spread(values []float64, format string) string {
	return fmt.Sprintf(format+" ("+format+" to "+format+")", median(values), slices.Min(values), slices.Max(values))
}

// table is what is printed, in Markdown.
type table struct {
	rows  [][4]string
	after strings.Builder
}

func (t *table) head(title string) { t.rows = append(t.rows, [4]string{"**" + title + "**"}) }

func (t *table) row(name, figure, goal string, met bool) {
	verdict := ""
	if goal != "" {
		verdict = map[bool]string{true: "yes", false: "NO"}[met]
	}
	t.rows = append(t.rows, [4]string{name, figure, goal, verdict})
}

func (t *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %-62s | %-38s | %-15s | met |\n|%s|%s|%s|-----|\n", "what", "figure: median (least to most)", "goal", strings.Repeat("-", 64), strings.Repeat("-", 40), strings.Repeat("-", 17))
	for _, r := range t.rows {
		fmt.Fprintf(&b, "| %-62s | %-38s | %-15s | %-3s |\n", r[0], r[1], r[2], r[3])
	}
	return b.String() + t.after.String()
}
