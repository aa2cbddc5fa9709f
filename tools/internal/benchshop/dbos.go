package benchshop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/loja-veloz/platform/tools/internal/command"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

const (
	// dbosClients are the connections of the loads with which pedidos and DBOS are compared.
	dbosClients = 16
	// dbosRounds is how often each is measured. Every second round has the opposite order.
	dbosRounds = 4
)

// A contender takes orders at POST /pedidos, with estoque and pagamentos of the shop. Only one
// runs at a time.
type contender struct {
	name, url  string
	database   string // its own; estoque and pagamentos are the same for all
	unfinished string // SQL that counts its orders that are not final
	start      func(context.Context) error
	kill       func() error // by SIGKILL
	pid        func() (int, error)

	rate         []float64 // orders per second, by round
	p50, p99     []time.Duration
	used         map[string]time.Duration // CPU time of all rounds, by process
	orders       int                      // of all rounds
	walBytes     int64
	idle         rate // per second
	perOrder     rate
	alone        []time.Duration // p50 of one buyer, by round
	afterKilling tally
}

// pedidosContender is the state machine of the shop.
func pedidosContender(shop *dev.Shop) *contender {
	const name = "pedidos"
	return &contender{
		name: name, url: shop.URL(name), database: name,
		unfinished: "SELECT count(*) FROM pedidos WHERE attend_at IS NOT NULL",
		start:      func(ctx context.Context) error { return shop.Restart(ctx, name) },
		kill:       func() error { return shop.Kill(name) },
		pid:        func() (int, error) { return shop.PID(name) },
	}
}

// dbosName is the name of the program in the folder dbos, and of its database, which DBOS creates.
const dbosName = "dbos"

// dbosContender is the program in the folder dbos, with the given setting STEPS.
func (b *bench) dbosContender(ctx context.Context, shop *dev.Shop, steps string) (*contender, error) {
	port, err := process.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	url := "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	var run *process.Process
	start := func(ctx context.Context) (err error) {
		cmd := exec.Command(b.dbosProgram()) //nolint:noctx // its supervisor ends it
		cmd.Env = append([]string{
			"STEPS=" + steps, "PORT=" + strconv.Itoa(port), "DATABASE_URL=" + shop.DatabaseURL(dbosName),
			"ESTOQUE_URL=" + shop.URL("estoque"), "PAGAMENTOS_URL=" + shop.URL("pagamentos"),
		}, b.Env...)
		if run, err = process.Run(process.Spec{Name: dbosName, Cmd: cmd, Log: filepath.Join(b.dir, dbosName+".log")}); err != nil {
			return err
		}
		return answers(ctx, run, url+"/ready")
	}
	return &contender{
		name: "DBOS, a step per call", url: url, database: dbosName,
		unfinished: "SELECT count(*) FROM dbos.workflow_status WHERE status <> 'SUCCESS'",
		start:      start,
		kill: func() error {
			if run == nil {
				return nil
			}
			return run.End(syscall.SIGKILL, 0)
		},
		pid: func() (int, error) { return run.PID(), nil },
	}, nil
}

func (b *bench) dbosProgram() string { return filepath.Join(b.dir, dbosName) }

// buildDBOS builds the program in the folder dbos, which is a module of its own.
func (b *bench) buildDBOS(ctx context.Context) error {
	b.Out.Step("building the order flow on DBOS")
	return command.Command{
		Args: []string{"go", "build", "-buildvcs=false", "-o", b.dbosProgram(), "."},
		Dir:  filepath.Join(b.Root, "tools", "internal", "benchshop", "dbos"), Env: toolchain.BuildEnv,
	}.Run(ctx)
}

// comparison measures the contenders by turns.
type comparison struct {
	*bench
	shop   *dev.Shop
	server server
	buyers *buyers
	all    []*contender // pedidos, DBOS with a step per call, DBOS with one step
}

func (b *bench) compareDBOS(ctx context.Context, shop *dev.Shop, s server) (err error) {
	s.url = shop.DatabaseURL
	c := &comparison{bench: b, shop: shop, server: s, all: []*contender{pedidosContender(shop)}}
	for _, steps := range []string{"calls", "order"} {
		d, err := b.dbosContender(ctx, shop, steps)
		if err != nil {
			return err
		}
		if steps == "order" {
			d.name = "DBOS, one step"
		}
		c.all = append(c.all, d)
	}
	defer func() {
		for _, each := range c.all {
			err = errors.Join(err, each.kill())
		}
	}()
	if c.buyers, err = newBuyers(ctx, shop); err != nil {
		return err
	}
	if err := c.all[0].kill(); err != nil { // the shop has started it
		return err
	}
	for _, step := range []func(context.Context) error{c.rounds, c.countWork, c.killEach} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	c.rows()
	return nil
}

// rounds has the contenders take turns, in the order A B C, C B A, and so on.
func (c *comparison) rounds(ctx context.Context) error {
	for i := range dbosRounds {
		order := slices.Clone(c.all)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, each := range order {
			if err := c.turn(ctx, each, func() error { return c.measureTurn(ctx, each) }); err != nil {
				return fmt.Errorf("%s: %w", each.name, err)
			}
			c.Out.Step("round %d of %d: %s, %.0f orders/s", i+1, dbosRounds, each.name, each.rate[i])
		}
	}
	return nil
}

// turn starts a contender, warms it up, measures it, and ends it. A checkpoint before makes all of
// them write the same pages in full after it.
func (c *comparison) turn(ctx context.Context, each *contender, measure func() error) error {
	if _, err := c.server.query(ctx, "postgres", "CHECKPOINT"); err != nil {
		return err
	}
	if err := each.start(ctx); err != nil {
		return err
	}
	closed(ctx, c.buyers.targetAt(each.url), dbosClients, c.length(3*time.Second))
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errors.Join(measure(), each.kill())
}

func (c *comparison) measureTurn(ctx context.Context, each *contender) error {
	walBefore, err := c.written(ctx)
	if err != nil {
		return err
	}
	before, err := c.cpuOf(each)
	if err != nil {
		return err
	}
	r, err := c.place(ctx, each, dbosClients, c.length(8*time.Second))
	if err != nil {
		return err
	}
	after, err := c.cpuOf(each)
	if err != nil {
		return err
	}
	walAfter, err := c.written(ctx)
	if err != nil {
		return err
	}
	if each.used == nil {
		each.used = map[string]time.Duration{}
	}
	for name := range after {
		each.used[name] += after[name] - before[name]
	}
	each.rate = append(each.rate, r.perSecond())
	each.p50, each.p99 = append(each.p50, r.percentile(50)), append(each.p99, r.percentile(99))
	each.orders += len(r.latencies)
	each.walBytes += walAfter - walBefore
	alone, err := c.place(ctx, each, 1, c.length(3*time.Second))
	each.alone = append(each.alone, alone.percentile(50))
	return err
}

// place has buyers place orders for a time. It fails if an order was not confirmed when answered.
func (c *comparison) place(ctx context.Context, each *contender, clients int, length time.Duration) (run, error) {
	r := closed(ctx, c.buyers.targetAt(each.url), clients, length)
	return r, r.failed(ctx)
}

// written returns how many bytes of its log the server has written since its start.
func (c *comparison) written(ctx context.Context) (int64, error) {
	return c.server.number(ctx, "postgres", "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
}

// cpuOf returns the CPU time of PostgreSQL, estoque, pagamentos and the contender.
func (c *comparison) cpuOf(each *contender) (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for name, find := range map[string]func() (int, error){
		dev.PostgreSQL: func() (int, error) { return c.shop.PID(dev.PostgreSQL) },
		"estoque":      func() (int, error) { return c.shop.PID("estoque") },
		"pagamentos":   func() (int, error) { return c.shop.PID("pagamentos") },
		each.name:      each.pid,
	} {
		pid, err := find()
		if err != nil {
			return nil, err
		}
		if used[name], err = cpu(pid); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return used, nil
}

// countWork counts the server's commits and syncs per order of each contender, and when it is idle.
func (c *comparison) countWork(ctx context.Context) error {
	for _, each := range c.all {
		c.Out.Step("counting commits: %s", each.name)
		s := c.server
		s.databases = []string{each.database, "estoque", "pagamentos"}
		err := c.turn(ctx, each, func() (err error) {
			if err := sleep(ctx, statsDelay); err != nil { // until what was placed so far is counted
				return err
			}
			if each.idle, err = s.counted(ctx, rate{}, func() (int, error) { return 1, nil }); err != nil {
				return err
			}
			each.perOrder, err = s.counted(ctx, each.idle, func() (int, error) {
				r, err := c.place(ctx, each, dbosClients, c.length(8*time.Second))
				return len(r.latencies), err
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", each.name, err)
		}
	}
	return nil
}

func (c *comparison) rows() {
	t := &c.table
	t.head(fmt.Sprintf("Orders at pedidos and at the same flow on DBOS, %d buyers, without api-gateway", dbosClients))
	for _, each := range c.all {
		t.row(each.name+": orders per second", spread(each.rate), "", true)
	}
	for _, each := range c.all[1:] {
		t.row(each.name+": orders in percent of those of pedidos", spread(percent(each.rate, c.all[0].rate))+" %", "", true)
	}
	for _, each := range c.all {
		t.row(each.name+": p50, p99", milliseconds(median(each.p50))+", "+milliseconds(median(each.p99)), "", true)
	}
	for _, each := range c.all {
		t.row(each.name+": one buyer alone: p50", milliseconds(median(each.alone)), "", true)
	}
	for _, each := range c.all {
		ms := func(name string) float64 {
			return float64(each.used[name].Microseconds()) / 1000 / float64(max(1, each.orders))
		}
		own, others, database := ms(each.name), ms("estoque")+ms("pagamentos"), ms(dev.PostgreSQL)
		t.row(each.name+": CPU per order: itself, PostgreSQL, in all",
			fmt.Sprintf("%.2f, %.2f, %.2f ms", own, database, own+others+database), "", true)
	}
	for _, each := range c.all {
		t.row(each.name+": commits, rollbacks, syncs per order",
			fmt.Sprintf("%.1f, %.1f, %.1f", each.perOrder.commits, each.perOrder.rollbacks, each.perOrder.syncs), "", true)
	}
	for _, each := range c.all {
		t.row(each.name+": log written per order", fmt.Sprintf("%.1f KiB", float64(each.walBytes)/1024/float64(max(1, each.orders))), "", true)
	}
	for _, each := range c.all {
		t.row(each.name+": transactions per second when idle", fmt.Sprintf("%.1f", each.idle.commits+each.idle.rollbacks), "", true)
	}
	c.killRows()
}
