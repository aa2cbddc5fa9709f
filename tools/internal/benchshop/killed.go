package benchshop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// kills is how often a contender is killed while buyers place orders.
	kills = 6
	// killedClients are the buyers during that.
	killedClients = 16
	// patience is how long a buyer asks for its order after the last kill. It is several times the
	// lease of pedidos, after which another process resumes an order.
	patience = 2 * time.Minute
	// afterError is the pause of a buyer that got an error, retryAfter of one whose order is not
	// final: the Retry-After of pedidos.
	afterError = 50 * time.Millisecond
	retryAfter = time.Second
)

// A tally compares what buyers were told with what was charged and sold.
type tally struct {
	orders, confirmed, interrupted int
	lost                           int // confirmed, but not charged its total once, or not sold
	doubled                        int // charged more than once, or charged without an order
	wronglyCharged                 int // not confirmed, but charged
	hanging                        int // without a final answer, or with stock that stays reserved
	recovery                       []time.Duration
	why                            []string // the first violations
}

func (t *tally) violation(count *int, format string, args ...any) {
	*count++
	if len(t.why) < 5 {
		t.why = append(t.why, fmt.Sprintf(format, args...))
	}
}

// A purchase is an order as its buyer knows it.
type purchase struct {
	key, body   string
	total       int64
	id, state   string
	interrupted bool // a request failed, or its answer was not final
	began       time.Time
	took        time.Duration // until the final answer
}

func final(state string) bool {
	return slices.Contains([]string{"confirmed", "failed", "refunded", "cancelled"}, state)
}

// killEach kills pedidos and DBOS, each while buyers place orders, and compares the money after it.
func (c *comparison) killEach(ctx context.Context) error {
	for _, each := range c.all[:2] {
		c.Out.Step("killing %s %d times", each.name, kills)
		err := c.turn(ctx, each, func() (err error) {
			each.afterKilling, err = c.buyAndKill(ctx, each, kills, c.length(4*time.Second))
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", each.name, err)
		}
	}
	return nil
}

// buyAndKill has buyers place orders while the contender is killed again and again. A buyer whose
// order is accepted, but not final yet, places the next one, and asks for the first one meanwhile.
func (c *comparison) buyAndKill(ctx context.Context, each *contender, times int, every time.Duration) (tally, error) {
	since, err := c.server.query(ctx, "postgres", "SELECT now()")
	if err != nil {
		return tally{}, err
	}
	waiting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var (
		mu     sync.Mutex
		bought []*purchase
		buyers sync.WaitGroup
	)
	address, stop := strings.TrimPrefix(each.url, "http://"), make(chan struct{})
	for range killedClients {
		buyers.Go(func() {
			conn := &connection{address: address}
			defer conn.close()
			for waiting.Err() == nil {
				select {
				case <-stop:
					return
				default:
				}
				p := c.purchase()
				mu.Lock()
				bought = append(bought, p)
				mu.Unlock()
				if p.ask(waiting, conn, false) {
					continue
				}
				buyers.Go(func() {
					conn := &connection{address: address}
					defer conn.close()
					p.ask(waiting, conn, true)
				})
			}
		})
	}
	failed := killRepeatedly(ctx, each, times, every)
	close(stop)
	timer := time.AfterFunc(patience, giveUp)
	buyers.Wait()
	timer.Stop()
	if failed != nil {
		return tally{}, failed
	}
	return c.reckon(ctx, each, since, bought)
}

func killRepeatedly(ctx context.Context, each *contender, times int, every time.Duration) error {
	for range times {
		if err := sleep(ctx, every/2+rand.N(every)); err != nil {
			return err
		}
		if err := each.kill(); err != nil {
			return err
		}
		if err := each.start(ctx); err != nil {
			return err
		}
	}
	return sleep(ctx, every/2)
}

// purchase returns a new order, one in eight with a card that is declined.
func (c *comparison) purchase() *purchase {
	item := c.buyers.items[rand.IntN(len(c.buyers.items))]
	key, body := c.buyers.order(item)
	if rand.IntN(8) == 0 {
		body = strings.Replace(body, "tok_approved", "tok_declined", 1)
	}
	return &purchase{key: key, body: body, total: item.Price.Amount, began: time.Now()}
}

// ask repeats the request until there is an answer, or until the order is final. If the answer has
// the order's id, it then reads the order, as the API asks for. It reports whether the order is final.
func (p *purchase) ask(ctx context.Context, conn *connection, untilFinal bool) bool {
	for ctx.Err() == nil {
		request := post(conn.address, p.key, p.body)
		if p.id != "" {
			request = fmt.Appendf(nil, "GET /pedidos/%s HTTP/1.1\r\nHost: %s\r\nClient-Id: %s\r\n\r\n", p.id, conn.address, benchClient)
		}
		status, body, err := conn.exchange(ctx, request)
		pause := afterError
		if err == nil && (status == http.StatusCreated || status == http.StatusOK || status == http.StatusAccepted) {
			var o struct{ ID, State string }
			_ = json.Unmarshal(body, &o) // an answer that is no order is not final
			p.id = o.ID
			if final(o.State) {
				p.state, p.took = o.State, time.Since(p.began)
				return true
			}
			pause = retryAfter
		}
		p.interrupted = true
		if pause == retryAfter && !untilFinal || sleep(ctx, pause) != nil {
			return false
		}
	}
	return false
}

// A charge is what the acquirer says about an order.
type charge struct{ captured, amount int64 }

// reckon compares the buyers' orders with the acquirer's charges and the reservations since a time.
func (c *comparison) reckon(ctx context.Context, each *contender, since string, bought []*purchase) (tally, error) {
	charges := map[string]charge{}
	err := c.each(ctx, "pagamentos", `SELECT c.order_id, count(*), sum(c.amount) - coalesce(sum(r.amount), 0)
		FROM simulator_charges AS c LEFT JOIN simulator_refunds AS r ON r.reference = c.reference AND r.state = 'refunded'
		WHERE c.state = 'captured' AND c.created_at >= '`+since+`' GROUP BY c.order_id`, func(f []string) error {
		n, errN := strconv.ParseInt(f[1], 10, 64)
		amount, errA := strconv.ParseInt(f[2], 10, 64)
		charges[f[0]] = charge{n, amount}
		return errors.Join(errN, errA)
	})
	if err != nil {
		return tally{}, err
	}
	reserved := map[string]string{}
	err = c.each(ctx, "estoque", "SELECT order_id, state FROM estoque_reservations WHERE created_at >= '"+since+"'",
		func(f []string) error { reserved[f[0]] = f[1]; return nil })
	if err != nil {
		return tally{}, err
	}
	unfinished, err := c.server.number(ctx, each.database, each.unfinished)
	if err != nil {
		return tally{}, err
	}
	t := agree(bought, charges, reserved)
	if unfinished > 0 {
		t.hanging += int(unfinished)
		t.why = append(t.why, fmt.Sprintf("%d orders are not final in the database", unfinished))
	}
	return t, nil
}

// agree counts the orders of which buyers, acquirer and stock disagree.
func agree(bought []*purchase, charges map[string]charge, reserved map[string]string) tally {
	var t tally
	known := map[string]bool{}
	for _, p := range bought {
		t.orders++
		known[p.id] = true
		if p.interrupted {
			t.interrupted++
			t.recovery = append(t.recovery, p.took)
		}
		paid := charges[p.id]
		switch {
		case !final(p.state):
			t.violation(&t.hanging, "key %s has no final answer", p.key)
		case paid.captured > 1:
			t.violation(&t.doubled, "order %s is charged %d times", p.id, paid.captured)
		case p.state == "confirmed" && (paid.amount != p.total || reserved[p.id] != "confirmed"):
			t.violation(&t.lost, "order %s is confirmed and costs %d, %d is charged, and its stock is %q",
				p.id, p.total, paid.amount, reserved[p.id])
		case p.state != "confirmed" && paid.amount != 0:
			t.violation(&t.wronglyCharged, "order %s is %s, and %d is charged", p.id, p.state, paid.amount)
		}
		if p.state == "confirmed" {
			t.confirmed++
		}
	}
	for id, paid := range charges {
		if !known[id] && paid.amount != 0 {
			t.violation(&t.doubled, "%d is charged for order %s, which no buyer knows", paid.amount, id)
		}
	}
	for id, state := range reserved {
		if state == "reserved" || state == "confirmed" && !known[id] {
			t.violation(&t.hanging, "the stock of order %s is %s", id, state)
		}
	}
	slices.Sort(t.recovery)
	return t
}

// each calls visit with the fields of each row.
func (c *comparison) each(ctx context.Context, database, sql string, visit func(fields []string) error) error {
	out, err := c.server.query(ctx, database, sql)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		if err := visit(strings.Split(strings.TrimSpace(line), "|")); err != nil {
			return fmt.Errorf("reading a row of %s: %w", database, err)
		}
	}
	return nil
}

func (c *comparison) killRows() {
	t := &c.table
	t.head(fmt.Sprintf("%d times kill -9 with %d buyers, and the money after it", kills, killedClients))
	for _, each := range c.all[:2] {
		a := each.afterKilling
		t.row(each.name+": orders, confirmed, interrupted", fmt.Sprintf("%d, %d, %d", a.orders, a.confirmed, a.interrupted), "", true)
		t.row(each.name+": lost, doubled, charged without being confirmed, hanging",
			fmt.Sprintf("%d, %d, %d, %d", a.lost, a.doubled, a.wronglyCharged, a.hanging), "all 0", a.lost+a.doubled+a.wronglyCharged+a.hanging == 0)
		if r := (run{latencies: a.recovery}); len(a.recovery) > 0 {
			t.row(each.name+": an interrupted order is answered after: p50, max",
				milliseconds(r.percentile(50))+", "+milliseconds(r.percentile(100)), "", true)
		}
		for _, why := range a.why {
			fmt.Fprintf(&t.after, "\n%s, killed: %s\n", each.name, why)
		}
	}
}
