// Package benchshop measures the shop on this machine in one run: orders per second compared
// with the database's own maximum, latency, what telemetry costs, whether the services keep
// their indicators, the CPU and latency of api-gateway compared with other proxies, and the
// size, start time and memory of each service.
package benchshop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/repo"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Options of a run.
type Options struct {
	Root  string // of the repo
	Local string // the repo's folder of generated files
	Cache *toolchain.Cache
	Out   *console.Console
	Short bool     // a trial run, in a tenth of the time
	Only  []string // parts to measure, by their names in parts; empty means all but the comparisons
	Env   []string // NAME=value for all services; overrides the benchmark's own settings

	Against string // the commit that the part against compares with
}

// rounds is how many times each of the compared things is measured. They take turns.
const rounds = 3

// Run measures the shop and prints a table. It removes everything that it created.
func Run(ctx context.Context, o Options) (err error) {
	for _, part := range o.Only {
		if !slices.Contains(parts, part) {
			return fmt.Errorf("ONLY contains %q: name one or more of %s, separated by commas", part, strings.Join(parts, ", "))
		}
	}
	if err := o.checkAgainst(); err != nil {
		return err
	}
	folder := filepath.Join(o.Local, "bench-shop")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	lock, err := process.LockFolder(folder)
	if err != nil {
		return fmt.Errorf("bench-shop runs only once at a time: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder), lock.Release()) }()
	dir := filepath.Join(folder, "run")
	if err := os.RemoveAll(dir); err != nil { // a killed run may have left files there
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "release"), 0o755); err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	b := &bench{Options: o, dir: dir}
	if b.catalogue, err = repo.Catalogue(o.Root); err != nil {
		return err
	}
	began := loadAverage()
	if err := b.measure(ctx); err != nil {
		return cause(ctx, err)
	}
	o.Out.Plain("\n%s, %d cores, load average %s at the start and %s at the end, %s\n\n%s",
		machine(), runtime.NumCPU(), began, loadAverage(), time.Now().UTC().Format(time.DateTime), b.table.String())
	return nil
}

var parts = []string{"orders", "footprint", "telemetry", "objectives", "gateway", "dbos", "against"}

type bench struct {
	Options
	catalogue *catalogue.Catalogue
	dir       string
	table     table
}

// services returns the names of all services. A caller comes after those that it calls.
func (b *bench) services() []string { return catalogue.Names(b.catalogue.Services()) }

// wants tells whether a part is to be measured. The comparisons with DBOS and with another commit
// must be named: they say nothing of the shop alone.
func (b *bench) wants(part string) bool {
	return len(b.Only) == 0 && part != "dbos" && part != "against" || slices.Contains(b.Only, part)
}

// length returns d, or a tenth of it, but at least a second, in a short run.
func (b *bench) length(d time.Duration) time.Duration {
	if b.Short {
		return max(d/10, time.Second)
	}
	return d
}

func (b *bench) measure(ctx context.Context) error {
	debian := debian{filepath.Join(b.Cache.Root, "debian")}
	s := server{databases: b.catalogue.Databases()}
	var err error
	// Find or build every program before the shop starts, which takes long.
	if b.wants("orders") {
		if s.pgbench, s.env, err = debian.find(ctx, "pgbench", "postgresql-15", "postgresql-client-15", "libpq5"); err != nil {
			return err
		}
	}
	if b.wants("orders") || b.wants("dbos") || b.wants("against") {
		var env []string
		if s.psql, env, err = debian.find(ctx, "psql", "postgresql-client-15", "libpq5"); err != nil {
			return err
		}
		s.env = append(s.env, env...)
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
	if b.wants("dbos") {
		if err := b.buildDBOS(ctx); err != nil {
			return err
		}
	}
	if b.wants("footprint") || b.wants("gateway") {
		b.Out.Step("building the services as for images")
		if err := b.release(ctx); err != nil {
			return err
		}
	}
	if err := b.measureShops(ctx, s); err != nil {
		return err
	}
	if b.wants("gateway") {
		return b.gateway(ctx, traefik, nginx, nginxEnv)
	}
	return nil
}

// measureShops measures what needs a shop. Each group of parts has a shop of its own.
func (b *bench) measureShops(ctx context.Context, s server) error {
	if b.wants("against") {
		if err := b.against(ctx, s); err != nil {
			return err
		}
	}
	if b.wants("orders") || b.wants("footprint") {
		err := b.withShop(ctx, dev.Options{Dir: b.shopDir()}, func(ctx context.Context, shop *dev.Shop) error {
			return b.measureShop(ctx, shop, s)
		})
		if err != nil {
			return err
		}
	}
	if b.wants("dbos") {
		err := b.withShop(ctx, dev.Options{Dir: filepath.Join(b.dir, "compared")}, func(ctx context.Context, shop *dev.Shop) error {
			return b.compareDBOS(ctx, shop, s)
		})
		if err != nil {
			return err
		}
	}
	if b.wants("telemetry") || b.wants("objectives") {
		if err := b.withShop(ctx, dev.Options{Dir: filepath.Join(b.dir, "observed"), Telemetry: true}, b.observed); err != nil {
			return err
		}
	}
	return nil
}

// traefik returns the path of the pinned Traefik, and builds it if it is missing.
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

// withShop runs measure on a shop of its own, with the folder, the tree and the telemetry of o. An unexpected end of one of the
// shop's processes ends measure's context.
func (b *bench) withShop(ctx context.Context, o dev.Options, measure func(context.Context, *dev.Shop) error) (err error) {
	shop, err := b.startShop(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.StopNow()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if failed := shop.Wait(ctx); failed != nil {
			cancel(failed)
		}
	}()
	return cause(ctx, measure(ctx, shop))
}

func (b *bench) measureShop(ctx context.Context, shop *dev.Shop, s server) error {
	s.url = shop.DatabaseURL
	if b.wants("footprint") {
		if err := b.footprint(ctx, shop); err != nil {
			return err
		}
	}
	if b.wants("orders") {
		return b.orders(ctx, shop, s)
	}
	return nil
}

// cause returns err, or the cause of ctx's end if ctx has ended: then it led to err.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (b *bench) footprint(ctx context.Context, shop *dev.Shop) error {
	b.table.head("Each service, idle")
	for _, service := range b.services() {
		b.Out.Step("%s: size, start, memory", service)
		f, err := measureFootprint(ctx, shop, service, filepath.Join(b.dir, "release", service))
		if err != nil {
			return err
		}
		mib := func(n int64) float64 { return float64(n) / (1 << 20) }
		b.table.row(service+": resident memory, 5 s after its start",
			fmt.Sprintf("%.1f MiB (PSS %.1f)", mib(f.rss), mib(f.pss)), "<= 30 MiB", mib(f.rss) <= 30)
		b.table.row(service+": start to ready, median of "+fmt.Sprint(starts), milliseconds(f.ready), "<= 1 s", f.ready <= time.Second)
		b.table.row(service+": image (one layer: the program)",
			fmt.Sprintf("%.1f MiB gzip (%.1f plain)", mib(f.gzip), mib(f.binary)), "<= 30 MiB", mib(f.gzip) <= 30)
	}
	return nil
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

func (b *bench) gateway(ctx context.Context, traefik, nginx string, nginxEnv []string) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.Out.Step("comparing api-gateway, Traefik and nginx in front of the same upstream")
	p := proxies{dir: b.dir}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := p.start(ctx, self, b.gatewayEnv, filepath.Join(b.dir, "release", gatewayName), traefik, nginx, nginxEnv); err != nil {
		return err
	}
	if err := compare(ctx, p.list, b.length(5*time.Second), b.Out.Step); err != nil {
		return err
	}
	b.compared(p.list[0], p.list[1:])
	return b.idle(ctx, p.list[1:3])
}

// idle adds the rows of idle clients of api-gateway, which is the first in list, and of Traefik.
func (b *bench) idle(ctx context.Context, list []*proxy) error {
	b.table.head(fmt.Sprintf("%d idle clients, %s without a request", idleClients, b.length(idleTime)))
	for i, p := range list {
		b.Out.Step("%d idle clients of %s", idleClients, p.name)
		result, err := holdIdle(ctx, p.target(), p.pid, idleClients, b.length(idleTime))
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		goal := ""
		if i == 0 {
			goal = "all held"
		}
		b.table.row(p.name+": clients held", fmt.Sprint(result.held, " ", result.failed), goal, result.held == idleClients)
		b.table.row(p.name+": resident memory per idle client", fmt.Sprintf("%.1f KiB", result.memory), "", true)
	}
	return nil
}

// compared adds the rows of the proxies. The first in list is api-gateway and the second is
// Traefik; direct is the upstream without a proxy.
func (b *bench) compared(direct *proxy, list []*proxy) {
	ours, theirs := list[0], list[1]
	b.table.head("Proxies in front of one upstream, " + fmt.Sprint(proxyClients) + " connections")
	cost := func(what string, of func(*proxy) []float64) {
		for _, p := range list {
			goal, met := "", true
			if p == ours {
				goal, met = "<= Traefik's / 2", median(of(ours)) <= median(of(theirs))/2
			}
			b.table.row(p.name+": CPU per request at "+what, spread(of(p))+" µs", goal, met)
		}
	}
	cost("saturation", func(p *proxy) []float64 { return p.cpu })
	cost("half load", func(p *proxy) []float64 { return p.cpuHalf })
	for _, p := range append([]*proxy{direct}, list...) {
		b.table.row(p.name+": requests per second at saturation", spread(p.rate), "", true)
	}
	added := func(p *proxy) (p50, p99 time.Duration) {
		return median(p.p50) - median(direct.p50), median(p.p99) - median(direct.p99)
	}
	_, theirP99 := added(theirs)
	for _, p := range list {
		p50, p99 := added(p)
		goal, met := "", true
		if p == ours {
			goal, met = "p99 <= Traefik's / 2", p99 <= theirP99/2
		}
		b.table.row(p.name+": added latency at half load: p50, p99", milliseconds(p50)+", "+milliseconds(p99), goal, met)
	}
}

// spread formats the median, the minimum and the maximum.
func spread(values []float64) string {
	return fmt.Sprintf("%.0f (%.0f to %.0f)", median(values), slices.Min(values), slices.Max(values))
}

// table is the result as a table in Markdown, with text below it.
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
	fmt.Fprintf(&b, "| %-62s | %-38s | %-15s | met |\n", "measurement", "figure: median (minimum to maximum)", "goal")
	fmt.Fprintf(&b, "|%s|%s|%s|-----|\n", strings.Repeat("-", 64), strings.Repeat("-", 40), strings.Repeat("-", 17))
	for _, r := range t.rows {
		fmt.Fprintf(&b, "| %-62s | %-38s | %-15s | %-3s |\n", r[0], r[1], r[2], r[3])
	}
	return b.String() + t.after.String()
}
