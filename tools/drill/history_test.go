//go:build e2e

package drill

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/dev"
)

// TestHistory has many clients at once place, read and cancel orders, and read payments and the stock,
// while processes are killed and stopped and the network between the services fails. It records when
// every call began and when its answer arrived, and checks afterwards that the answers are possible.
//
// What must be linearizable, because one row of one database decides it: an order's state with its
// transitions, the first answer to an idempotency key, that a cancel is stored, and a payment's state.
// porcupine checks the operations of each idempotency key against a model of an order and its payment.
// A payment is charged before its order says so, so that a read may show it in any state on the way. But
// what one answer has shown binds all calls that begin after it, also those of the other service:
//
//   - A key names one order. Its first answer is repeated byte for byte, and shows the order as it was
//     when the answer was stored.
//   - An order's transitions only grow, along the state machine. No answer but a repeated one shows less
//     than an answer before it.
//   - After the answer to a cancel no order is paid, confirmed or failed. A charge that had been asked for
//     can still be captured, and is then refunded; of an order that is cancelled none is.
//   - A payment is captured before its order is paid, and refunded before its order is. If the order has
//     failed or is cancelled, the payment is declined, void, or missing.
//
// A call without an answer, or with one that leaves its effect open (5xx), may take effect at any time
// after its begin, or never.
//
// The stock is not linearizable together with the orders: units are held and returned some time between
// two states of an order, and a crash of the database can lose a reservation. During the run an item has at
// most its initial units minus those of orders that are certainly confirmed, and at least those minus the
// units of all orders that may hold some. Only at rest it has exactly the initial units minus those of the
// confirmed orders. At rest also all orders are final, the shop has exactly the orders that the keys name,
// the acquirer has captured and refunded each at most once, and the audit finds nothing.
func TestHistory(t *testing.T) {
	h := newHistory(t, number(t, "HISTORY_CHECKOUTS", 10_000), "")
	for _, found := range h.run(t) {
		t.Errorf("%s: %s", found.check, found.text)
	}
}

// number reads a setting of the drill from the environment.
func number(t *testing.T, name string, unset int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return unset
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q: it is a number from 1", name, text)
	}
	return n
}

const (
	clients = 32
	// A client may do two things at once, under two numbers, and others meet orders in the list. rest is the
	// number of the client that reads everything at the end.
	rest = 3 * clients
	// callLimit limits one call. The client then gives the call up, without an answer.
	callLimit = 15 * time.Second
	// remembered is how many of the last orders other clients look for one to read or cancel.
	remembered = 200
)

// history is a run of the drill.
type history struct {
	shop
	seed      uint64
	checkouts int
	began     time.Time
	goods     []item
	initial   map[string]int64 // units by SKU

	placed  atomic.Int64 // checkouts whose order was acknowledged
	started atomic.Int64
	struck  chan struct{} // closed when the nemeses have ended

	services []string
	network  *network
	database *database
	clocks   clocks
	strikes  map[string]int // by nemesis

	mu      sync.Mutex
	calls   []call
	baskets []*basket
	recent  []*basket
	failed  []finding // checkouts whose orders were not acknowledged

	patience time.Duration // until every order is final
}

// A basket is what one checkout orders.
type basket struct {
	number int
	key    string
	body   string
	total  int64
	units  map[string]int64
	id     string // of the order; guarded by history.mu
}

// A call is one call of one client, as the client saw it.
type call struct {
	client     int
	kind       string
	key        string // of a place
	id         string // of the order, if the client knew it, or if the answer says it
	sku        string
	begin, end time.Duration // since the history began; end is 0 without an answer
	status     int           // 0 without an answer
	code       string        // of a problem
	shown      shownOrder
	payment    shownPayment
	available  int64
	failure    string
}

type shownOrder struct {
	state  string
	path   path
	total  int64
	answer uint64
}

type shownPayment struct {
	state            string
	amount, refunded int64
}

// The kinds of calls.
const (
	callPlace   = "place"
	callRead    = "read"
	callCancel  = "cancel"
	callPayment = "payment"
	callStock   = "stock"
)

// newHistory starts the shop, with a bug if it is not "".
func newHistory(t *testing.T, checkouts int, bug string) *history {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("HISTORY_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("HISTORY_SEED is %q: it is a number", text)
		}
	}
	t.Logf("HISTORY_SEED=%d HISTORY_CHECKOUTS=%d", seed, checkouts)
	// A clock that was set can hold a job up for 2 min (apps/pedidos/jobs), its next attempt is at most 75 s later, and the
	// lease of an order whose process died then is over after one more minute.
	h := &history{seed: seed, checkouts: checkouts, struck: make(chan struct{}), strikes: map[string]int{}, patience: 5 * deadline}
	o := options(t)
	h.database, h.clocks = connectDatabase(t, &o), connectClocks(t, &o)
	h.database.behind = bug == behind
	if bug != "" {
		h.patience = deadline
		plant(&o, bug)
	}
	o.Env["pagamentos"] = append(o.Env["pagamentos"], "ACQUIRER_TIMEOUT=1s", "LOG_LEVEL=error")
	o.Env["pedidos"] = append(o.Env["pedidos"], "LOG_LEVEL=error")
	// An open circuit would keep the clients away for long after each strike.
	o.Env[entry] = append(o.Env[entry], "BREAKER_OPEN=200ms")
	o.Out = console.New(io.Discard) // it would be a line for every call that fails
	h.network, h.services = connect(t, seed, &o), o.Programs
	h.network.target = func(service string) string { return strings.TrimPrefix(h.URL(service), "http://") }
	h.shop = run(t, o)
	if err := h.database.start(t.Context(), h.shop); err != nil {
		t.Fatal(err)
	}
	// Some items sell out, and units come back when orders are cancelled.
	for i, one := range h.items(t) {
		if one.Available > 10 && i%3 > 0 {
			h.supply(t, one.SKU, int64(checkouts))
		}
	}
	h.goods, h.initial = h.items(t), map[string]int64{}
	for _, one := range h.goods {
		h.initial[one.SKU] = one.Available
	}
	h.began = time.Now()
	return h
}

// plant builds the services with a bug.
func plant(o *dev.Options, bug string) {
	o.Tags = append(o.Tags, "planted")
	for _, name := range o.Programs {
		o.Env[name] = append(o.Env[name], "PLANTED="+bug)
	}
}

// run runs the drill, and returns what it found wrong.
func (h *history) run(t *testing.T) []finding {
	t.Helper()
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	go func() {
		defer close(h.struck)
		if err := h.harass(ctx, min(max(h.checkouts/2500, 1), maxRounds)); err != nil {
			stop(err)
		}
	}()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { h.buy(ctx, i) })
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		t.Fatal(err)
	}
	h.network.passing.Wait()
	h.struckAll(t)
	t.Logf("%d checkouts in %s", h.started.Load(), time.Since(h.began).Round(time.Millisecond))
	return h.check(t)
}

// buy checks out until there are enough checkouts and the nemeses have ended.
func (h *history) buy(ctx context.Context, client int) {
	for ctx.Err() == nil {
		n := int(h.started.Add(1))
		if n > h.checkouts {
			select {
			case <-h.struck:
				h.started.Add(-1)
				return
			default:
			}
		}
		b := &buyer{h: h, ctx: ctx, client: 2 * client, dice: rand.New(rand.NewPCG(h.seed, uint64(n)))}
		if err := b.checkout(n); err != nil {
			h.mu.Lock()
			h.failed = append(h.failed, finding{checkAnswers, err.Error()})
			h.mu.Unlock()
		}
		h.placed.Add(1)
	}
}

// A buyer is a client during one checkout. Its dice depend only on the seed and the checkout's number.
type buyer struct {
	h      *history
	ctx    context.Context
	client int
	dice   *rand.Rand
}

func (b *buyer) chance(percent int) bool { return b.dice.IntN(100) < percent }

// basket chooses what a checkout orders, and with which card.
func (b *buyer) basket(n int) *basket {
	h := b.h
	one := &basket{number: n, key: fmt.Sprintf("history-%d-%d", h.seed, n), units: map[string]int64{}}
	lines := []string{}
	for _, i := range b.dice.Perm(len(h.goods))[:1+b.dice.IntN(2)] {
		good, quantity := h.goods[i], 1+b.dice.Int64N(3)
		one.units[good.SKU], one.total = quantity, one.total+quantity*good.Price.Amount
		lines = append(lines, fmt.Sprintf(`{"sku":%q,"quantity":%d}`, good.SKU, quantity))
	}
	card := "tok_approved"
	switch at := b.dice.IntN(1000); {
	case at < 40:
		card = "tok_declined"
	case at < 60:
		card = "tok_unavailable"
	case at < 100:
		card = "tok_refund_fails_once"
	case at < 105:
		card = "tok_timeout"
	case at < 110:
		card = "tok_slow"
	}
	one.body = fmt.Sprintf(`{"lines":[%s],"total":{"amount":%d,"currency":%q},"card_token":%q}`,
		strings.Join(lines, ","), one.total, h.goods[0].Price.Currency, card)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.baskets = append(h.baskets, one)
	return one
}

// checkout places an order until it is acknowledged, and then reads or cancels it, and orders of others.
func (b *buyer) checkout(n int) error {
	one := b.basket(n)
	twin := *b
	twin.client++
	switch {
	case b.chance(8): // the client hangs up
		ctx, cancel := context.WithTimeout(b.ctx, time.Duration(1+b.dice.IntN(60))*time.Millisecond)
		_ = b.place(ctx, one)
		cancel()
	case b.chance(10): // the client sends the order twice at once
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_ = twin.place(b.ctx, one)
		}()
		defer func() { <-sent }()
	}
	if b.chance(15) { // somebody meets the order before its client knows of it
		met := make(chan struct{})
		dice := rand.New(rand.NewPCG(b.h.seed, uint64(n)<<32))
		other := &buyer{h: b.h, ctx: b.ctx, client: 2*clients + n%clients, dice: dice}
		go func() {
			defer close(met)
			other.meet()
		}()
		defer func() { <-met }()
	}
	if err := b.acknowledged(one); err != nil {
		return err
	}
	b.use(one)
	if other := b.other(); other != nil {
		b.use(other)
	}
	return nil
}

// use reads or cancels an order that was placed, or places it again.
func (b *buyer) use(one *basket) {
	if b.chance(30) {
		b.read(one.id)
	}
	switch at := b.dice.IntN(100); {
	case at < 3:
		twin := *b
		twin.client++
		done := make(chan struct{})
		go func() {
			defer close(done)
			twin.cancel(one.id)
		}()
		b.cancel(one.id)
		<-done
		b.read(one.id)
	case at < 10:
		b.cancel(one.id)
		if b.chance(50) {
			b.read(one.id)
		}
	case at < 20:
		_ = b.place(b.ctx, one)
	case at < 35:
		b.payment(one.id)
	case at < 45:
		for sku := range one.units {
			b.stock(sku)
			break
		}
	}
}

// acknowledged places the order until the client knows its id.
func (b *buyer) acknowledged(one *basket) error {
	pause, end := 20*time.Millisecond, time.Now().Add(2*deadline)
	for b.ctx.Err() == nil {
		last := b.place(b.ctx, one)
		if last == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the order with the key %s was not acknowledged: %w", one.key, last)
		}
		time.Sleep(pause/2 + rand.N(pause))
		pause = min(2*pause, 300*time.Millisecond)
	}
	return b.ctx.Err()
}

// other returns one of the last orders of all clients.
func (b *buyer) other() *basket {
	b.h.mu.Lock()
	defer b.h.mu.Unlock()
	if !b.chance(50) || len(b.h.recent) == 0 {
		return nil
	}
	return b.h.recent[b.dice.IntN(len(b.h.recent))]
}

// call sends a request and records it. set takes what it needs from the answer's body.
func (b *buyer) call(ctx context.Context, c call, method, at, body string, set func(*call, []byte) error, header ...string) call {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	c.client, c.begin = b.client, time.Since(b.h.began)
	status, answer, err := b.h.send(ctx, method, at, body, header...)
	end := time.Since(b.h.began)
	if err == nil {
		c.status, c.end = status, end
		if status < 300 {
			err = set(&c, answer)
		} else {
			var problem struct {
				Code      string
				RequestID string `json:"request_id"`
			}
			err = json.Unmarshal(answer, &problem)
			c.code = problem.Code
			if c.code == "internal_error" {
				c.code += " (" + b.h.logged(problem.RequestID) + ")"
			}
		}
		if err != nil {
			err = fmt.Errorf("%d %s: %w", status, answer, err)
		}
	}
	if err != nil {
		c.failure = err.Error()
	}
	b.h.record(c)
	return c
}

// logged returns why a request failed, as the services have logged it since their last start but one.
func (h *history) logged(request string) string {
	logs, _ := filepath.Glob(filepath.Join(h.dir, "logs", "*.log*"))
	var causes []string
	for _, path := range logs {
		log, _ := os.ReadFile(path)
		for line := range bytes.Lines(log) {
			var entry struct{ Error, Service string }
			if bytes.Contains(line, []byte(request)) && json.Unmarshal(line, &entry) == nil && entry.Error != "" {
				causes = append(causes, entry.Service+": "+entry.Error)
			}
		}
	}
	return cmp.Or(strings.Join(causes, "; "), "not in the logs")
}

func (h *history) record(calls ...call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, calls...)
}

// errOpen says that a call's answer does not say whether it took effect.
var errOpen = errors.New("no answer that says what happened")

func (b *buyer) place(ctx context.Context, one *basket) error {
	c := b.call(ctx, call{kind: callPlace, key: one.key}, http.MethodPost, "/pedidos", one.body, setOrder, "Idempotency-Key", one.key)
	if c.status != http.StatusCreated && c.status != http.StatusAccepted || c.failure != "" {
		return fmt.Errorf("%w: %d %s %s", errOpen, c.status, c.code, c.failure)
	}
	b.h.mu.Lock()
	defer b.h.mu.Unlock()
	if one.id == "" {
		one.id = c.id
		if len(b.h.recent) < remembered {
			b.h.recent = append(b.h.recent, one)
		} else {
			b.h.recent[one.number%remembered] = one
		}
	}
	return nil
}

func (b *buyer) read(id string) call {
	return b.call(b.ctx, call{kind: callRead, id: id}, http.MethodGet, "/pedidos/"+id, "", setOrder)
}

func (b *buyer) cancel(id string) {
	b.call(b.ctx, call{kind: callCancel, id: id}, http.MethodPost, "/pedidos/"+id+"/cancel", "", setOrder)
}

func (b *buyer) payment(id string) {
	b.call(b.ctx, call{kind: callPayment, id: id}, http.MethodGet, "/pagamentos/"+id, "", setPayment)
}

func (b *buyer) stock(sku string) {
	b.call(b.ctx, call{kind: callStock, sku: sku}, http.MethodGet, "/estoque/"+sku, "", func(c *call, body []byte) error {
		var one item
		err := json.Unmarshal(body, &one)
		c.available = one.Available
		return err
	})
}

// meet finds the newest orders in the list, and reads or cancels one that is in flight.
func (b *buyer) meet() {
	time.Sleep(time.Duration(b.dice.IntN(8)) * time.Millisecond)
	orders, _, err := b.h.list(b.ctx, b.client, "limit=10")
	if err != nil {
		return
	}
	for _, c := range orders {
		if !final(c.shown.state) {
			if b.chance(50) {
				b.cancel(c.id)
			}
			b.read(c.id)
			b.payment(c.id)
			return
		}
	}
}

// list reads a page of the orders, newest first, and records a read of each.
func (h *history) list(ctx context.Context, client int, query string) (orders []call, cursor string, err error) {
	begin := time.Since(h.began)
	status, body, err := h.send(ctx, http.MethodGet, "/pedidos?"+query, "")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET /pedidos = %d %s", status, body)
	}
	var page struct {
		Items      []json.RawMessage
		NextCursor *string `json:"next_cursor"`
	}
	if err == nil {
		err = json.Unmarshal(body, &page)
	}
	if err != nil {
		return nil, "", err
	}
	for _, one := range page.Items {
		c := call{client: client, kind: callRead, begin: begin, end: time.Since(h.began), status: status}
		if err := setOrder(&c, one); err != nil {
			c.failure = err.Error()
		}
		orders = append(orders, c)
	}
	h.record(orders...)
	if page.NextCursor != nil {
		cursor = *page.NextCursor
	}
	return orders, cursor, nil
}

var answers = maphash.MakeSeed()

// setOrder reads an order and checks that it does not contradict itself.
func setOrder(c *call, body []byte) error {
	var o struct {
		ID, State   string
		Total       money
		Transitions []struct{ From, To, At, Reason string }
	}
	if err := json.Unmarshal(body, &o); err != nil {
		return err
	}
	if c.id != "" && c.id != o.ID {
		return fmt.Errorf("it is the order %s, not %s", o.ID, c.id)
	}
	before, lines := "", make([]string, 0, len(o.Transitions))
	for _, step := range o.Transitions {
		if step.From != before || !slices.Contains(next[before], step.To) {
			return fmt.Errorf("%q cannot become %s", before, step.To)
		}
		before = step.To
		lines = append(lines, step.To+" "+step.At+" "+step.Reason)
	}
	if before != o.State {
		return fmt.Errorf("the transitions lead to %q, not to %s", before, o.State)
	}
	if c.kind != callRead && final(o.State) == (c.status == http.StatusAccepted) {
		return fmt.Errorf("the status is %d and the order %s", c.status, o.State)
	}
	c.id = o.ID
	c.shown = shownOrder{o.State, path(strings.Join(lines, "\n")), o.Total.Amount, maphash.Bytes(answers, body)}
	return nil
}

// setPayment reads a payment and checks that it does not contradict itself.
func setPayment(c *call, body []byte) error {
	var p struct {
		OrderID          string `json:"order_id"`
		State            string
		Amount, Refunded money
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return err
	}
	c.id, c.payment = p.OrderID, shownPayment{p.State, p.Amount.Amount, p.Refunded.Amount}
	refunded := int64(0)
	if p.State == "refunded" {
		refunded = p.Amount.Amount
	}
	if p.Refunded.Amount != refunded {
		return fmt.Errorf("%d of %d is refunded, and the payment %s", p.Refunded.Amount, p.Amount.Amount, p.State)
	}
	return nil
}

func final(state string) bool { return order{State: state}.final() }

// supply adds units to an item.
func (h *history) supply(t *testing.T, sku string, units int64) {
	t.Helper()
	body := fmt.Sprintf(`{"quantity":%d,"reason":"a drill"}`, units)
	at := h.URL("estoque") + "/admin/estoque/" + sku + "/top-ups"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", "history-"+sku)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		t.Fatalf("topping up %s: %s", sku, response.Status)
	}
}
