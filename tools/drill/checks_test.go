//go:build e2e

package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/tools/internal/repo"
)

// A finding is something that must not happen, and the check that found it.
type finding struct{ check, text string }

// The checks.
const (
	checkAnswers = "answers"          // an answer contradicts itself, or what was ordered
	checkEnds    = "orders end"       // an order does not become final
	checkKeys    = "keys"             // the shop has other orders than the keys name
	checkHistory = "history"          // porcupine finds no order of the operations
	checkStock   = "stock"            // an item's units are out of bounds during the run
	checkUnits   = "units at rest"    // an item's units do not add up afterwards
	checkBooks   = "acquirer's books" // a charge or a refund is there twice
	checkAudit   = "audit"            // the project's own
)

const (
	// shownFindings of a check are reported, maxPictures histories are drawn.
	shownFindings = 5
	maxPictures   = 3
	// checkLimit limits the check of one key. It usually takes microseconds.
	checkLimit = 30 * time.Second
)

// check checks the history when all clients have stopped.
func (h *history) check(t *testing.T) []finding {
	t.Helper()
	all := first(h.failed)
	ended, orders := h.settle(t)
	all = append(all, ended...)
	all = append(all, h.readEverything(t, orders)...)
	all = append(all, h.unitsAtRest(t, orders)...)
	all = append(all, h.books(t)...)
	if report, err := h.Audit(t.Context()); err != nil || report == "" {
		all = append(all, finding{checkAudit, fmt.Sprintf("%v\n%s", err, report)})
	} else {
		t.Logf("the audit:\n%s", report)
	}
	h.summary(t)
	all = append(all, h.answersFit()...)
	all = append(all, h.stockInBounds()...)
	return append(all, h.linearizable(t)...)
}

// settle waits until all orders are final, and returns those that the shop lists, by id.
func (h *history) settle(t *testing.T) ([]finding, map[string]call) {
	t.Helper()
	began, end := time.Now(), time.Now().Add(h.patience)
	orders, err := h.everyOrder(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &buyer{h: h, ctx: t.Context(), client: rest}
	var open []string
	for id, one := range orders {
		for one.shown.state == "" || !final(one.shown.state) {
			if time.Now().After(end) {
				open = append(open, id+" "+one.shown.state)
				break
			}
			if one = b.read(id); one.shown.state == "" || !final(one.shown.state) {
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	t.Logf("%d orders, %d not final after %s", len(orders), len(open), time.Since(began).Round(time.Millisecond))
	var found []finding
	if len(open) > 0 {
		some := strings.Join(open[:min(len(open), shownFindings)], ", ")
		found = []finding{{checkEnds, fmt.Sprintf("%d orders are not final: %s", len(open), some)}}
	}
	if orders, err = h.everyOrder(t.Context()); err != nil {
		t.Fatal(err)
	}
	return found, orders
}

// everyOrder reads all orders from the list.
func (h *history) everyOrder(ctx context.Context) (map[string]call, error) {
	all := map[string]call{}
	for query := "limit=100"; ; {
		page, cursor, err := h.list(ctx, rest, query)
		if err != nil {
			return all, err
		}
		for _, one := range page {
			all[one.id] = one
		}
		if cursor == "" {
			return all, nil
		}
		query = "limit=100&cursor=" + url.QueryEscape(cursor)
	}
}

// readEverything reads all payments, and compares the orders with the keys.
func (h *history) readEverything(t *testing.T, orders map[string]call) []finding {
	t.Helper()
	var found []finding
	keys := map[string]string{}
	for _, one := range h.baskets {
		if other, twice := keys[one.id]; twice && one.id != "" {
			found = append(found, finding{checkKeys, fmt.Sprintf("the keys %s and %s name the order %s", one.key, other, one.id)})
		}
		keys[one.id] = one.key
		if _, there := orders[one.id]; !there {
			found = append(found, finding{checkKeys, fmt.Sprintf("the order %s of the key %s is not listed", one.id, one.key)})
		}
	}
	for id := range orders {
		if keys[id] == "" {
			found = append(found, finding{checkKeys, fmt.Sprintf("no key names the order %s: %s", id, h.history(t, id))})
		}
	}
	if err := h.everyPayment(t.Context(), orders); err != nil {
		t.Fatal(err)
	}
	return first(found)
}

// everyPayment reads all payments from the service's list, which the gateway does not serve. It records
// a read of each order's payment, also if there is none.
func (h *history) everyPayment(ctx context.Context, orders map[string]call) error {
	begin, seen := time.Since(h.began), map[string]bool{}
	for query := "limit=100"; query != ""; {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL("pagamentos")+"/pagamentos?"+query, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		var page struct {
			Items      []json.RawMessage
			NextCursor string `json:"next_cursor"`
		}
		err = json.NewDecoder(response.Body).Decode(&page)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET /pagamentos = %s, %w", response.Status, err)
		}
		for _, one := range page.Items {
			c := call{client: 3 * clients, kind: callPayment, begin: begin, end: time.Since(h.began), status: http.StatusOK}
			if err := setPayment(&c, one); err != nil {
				c.failure = err.Error()
			}
			seen[c.id] = true
			h.record(c)
		}
		query = ""
		if page.NextCursor != "" {
			query = "limit=100&cursor=" + url.QueryEscape(page.NextCursor)
		}
	}
	for id := range orders {
		if !seen[id] {
			h.record(call{client: 3 * clients, kind: callPayment, id: id, begin: begin, end: time.Since(h.began), status: http.StatusNotFound})
		}
	}
	return nil
}

// unitsAtRest compares each item's units with the confirmed orders.
func (h *history) unitsAtRest(t *testing.T, orders map[string]call) []finding {
	t.Helper()
	sold := map[string]int64{}
	for _, one := range h.baskets {
		if orders[one.id].shown.state == "confirmed" {
			for sku, units := range one.units {
				sold[sku] += units
			}
		}
	}
	var found []finding
	for _, one := range h.items(t) {
		if want := h.initial[one.SKU] - sold[one.SKU]; one.Available != want {
			found = append(found, finding{checkUnits, fmt.Sprintf("%d units of %s are available; of %d at first, %d belong to confirmed orders",
				one.Available, one.SKU, h.initial[one.SKU], sold[one.SKU])})
		}
	}
	return found
}

// books reads the books of the simulated acquirer.
func (h *history) books(t *testing.T) []finding {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), h.DatabaseURL("pagamentos"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var found []finding
	for what, sql := range map[string]string{
		"was captured more than once": `SELECT order_id::text FROM simulator_charges
			WHERE state = 'captured' GROUP BY order_id HAVING count(*) > 1`,
		"was refunded more than once": `SELECT order_id::text FROM simulator_charges JOIN simulator_refunds AS r USING (reference)
			WHERE r.state = 'refunded' GROUP BY order_id HAVING count(*) > 1`,
		"was refunded and not captured": `SELECT order_id::text FROM simulator_charges AS c JOIN simulator_refunds AS r USING (reference)
			WHERE r.state = 'refunded' AND c.state <> 'captured'`,
	} {
		for _, id := range query(t, conn, sql) {
			found = append(found, finding{checkBooks, fmt.Sprintf("the order %s %s", id, what)})
		}
	}
	return first(found)
}

// first returns at most shownFindings findings, and the number of the others.
func first(found []finding) []finding {
	if len(found) <= shownFindings {
		return found
	}
	more := fmt.Sprintf("and %d more", len(found)-shownFindings)
	return append(found[:shownFindings:shownFindings], finding{found[0].check, more})
}

// summary prints what was called and answered.
func (h *history) summary(t *testing.T) {
	t.Helper()
	type count struct{ calls, answers, open, pending int }
	kinds, total := map[string]*count{}, count{}
	for _, c := range h.calls {
		if kinds[c.kind] == nil {
			kinds[c.kind] = &count{}
		}
		for _, n := range []*count{kinds[c.kind], &total} {
			n.calls++
			switch {
			case c.status == 0:
				n.pending++
			case c.open():
				n.open++
			default:
				n.answers++
			}
		}
	}
	codes := map[string]int{}
	for _, c := range h.calls {
		if c.open() && c.status != 0 {
			codes[fmt.Sprint(c.status, " ", c.code)]++
		}
	}
	t.Logf("answers that leave it open: %v", codes)
	kinds["all"] = &total
	for _, kind := range []string{callPlace, callRead, callCancel, callPayment, callStock, "all"} {
		if n := kinds[kind]; n != nil {
			t.Logf("%-8s %7d calls: %7d answers, %5d answers that leave it open (5xx), %5d without an answer",
				kind, n.calls, n.answers, n.open, n.pending)
		}
	}
}

// answersFit checks every answer by itself.
func (h *history) answersFit() []finding {
	totals := map[string]int64{}
	for _, one := range h.baskets {
		totals[one.id] = one.total
	}
	var found []finding
	for _, c := range h.calls {
		total, known := totals[c.id]
		switch {
		case c.status != 0 && c.failure != "" && c.status < 300:
			found = append(found, finding{checkAnswers, c.String()})
		case c.shown.path != "" && known && c.shown.total != total,
			c.payment.amount != 0 && known && c.payment.amount != total:
			found = append(found, finding{checkAnswers, fmt.Sprintf("the order costs %d: %s", total, c)})
		case c.status >= 400 && c.status < 500 && !c.expected():
			found = append(found, finding{checkAnswers, c.String()})
		}
	}
	return first(found)
}

// open tells whether a call may have taken effect or not, now or later.
func (c call) open() bool {
	return c.status == 0 || c.status >= 500 || c.status == http.StatusTooManyRequests
}

// expected tells whether an order that exists can be answered so.
func (c call) expected() bool {
	return c.kind == callPayment && c.status == http.StatusNotFound || c.kind == callCancel && c.code == "order_state" ||
		c.status == http.StatusTooManyRequests
}

func (c call) String() string {
	what := c.kind + " " + c.key + c.sku
	if c.kind != callPlace {
		what += c.id
	}
	text := fmt.Sprintf("client %d, from %.6f s", c.client, c.begin.Seconds())
	switch {
	case c.status == 0:
		return fmt.Sprintf("%s: %s has no answer: %s", text, what, c.failure)
	case c.failure != "":
		return fmt.Sprintf("%s to %.6f s: %s is answered %s", text, c.end.Seconds(), what, c.failure)
	}
	text = fmt.Sprintf("%s to %.6f s: %s is answered %d %s", text, c.end.Seconds(), what, c.status, c.code)
	switch {
	case c.shown.path != "":
		text += fmt.Sprintf("order %s: %s", c.id, strings.ReplaceAll(string(c.shown.path), "\n", ", "))
	case c.payment.state != "":
		text += c.payment.state
	case c.kind == callStock:
		text += fmt.Sprintf("%d units", c.available)
	}
	return text
}

// linearizable checks the history of each key.
func (h *history) linearizable(t *testing.T) []finding {
	t.Helper()
	began, keys := time.Now(), map[string]string{}
	for _, c := range h.calls {
		if c.kind == callPlace && c.id != "" {
			keys[c.id] = c.key
		}
	}
	calls := map[string][]call{}
	for _, c := range h.calls {
		key := c.key
		if key == "" {
			key = keys[c.id]
		}
		if key != "" && (c.failure == "" || c.open()) {
			calls[key] = append(calls[key], c)
		}
	}
	var found []finding
	operations, longest, pictures := 0, 0, 0
	for key, all := range calls {
		history := historyOf(all)
		operations, longest = operations+len(history), max(longest, len(history))
		result := porcupine.CheckOperationsTimeout(model, history, checkLimit)
		if result == porcupine.Ok {
			continue
		}
		text := fmt.Sprintf("the operations of the key %s are %s\n%s", key, result, inWords(all))
		if pictures++; pictures <= maxPictures && result == porcupine.Illegal {
			text += "see " + draw(t, key, history)
		}
		found = append(found, finding{checkHistory, text})
	}
	t.Logf("checked %d operations of %d keys, at most %d of one, in %s: %d keys are wrong",
		operations, len(calls), longest, time.Since(began).Round(time.Millisecond), len(found))
	return first(found)
}

// forever is the end of an operation that may take effect at any time, or never.
const forever = int64(1) << 62

// historyOf returns the operations of one key. Of the calls that leave their effect open, the first place
// and the first cancel stand for all: whatever a later one can explain, the first can.
func historyOf(calls []call) []porcupine.Operation {
	calls = slices.SortedFunc(slices.Values(calls), func(a, b call) int { return cmp.Compare(a.begin, b.begin) })
	var history []porcupine.Operation
	open := map[string]bool{}
	for _, c := range calls {
		add := func(kind string, end int64) {
			history = append(history, porcupine.Operation{ClientId: c.client, Call: int64(c.begin), Return: end, Input: event{
				kind: kind, id: c.id, path: c.shown.path, answer: c.shown.answer, payment: c.payment.state,
			}})
		}
		end := int64(c.end)
		switch {
		case c.open() && open[c.kind]:
		case c.open() && c.kind == callPlace:
			open[c.kind] = true
			add(placeOpen, forever)
		case c.open() && c.kind == callCancel:
			open[c.kind] = true
			add(cancelOpen, forever)
		case c.open():
		case c.kind == callPayment && c.status == http.StatusNotFound:
			c.payment.state = none
			add(readPayment, end)
		case c.kind == callPayment:
			add(readPayment, end)
		case c.kind == callCancel && c.status < 300:
			add(cancelStored, end)
			add(cancelAnswer, end)
		case c.code == "order_state":
			add(cancelRefused, end)
		case c.status == http.StatusNotFound:
			add(notFound, end)
		case c.kind == callPlace:
			add(placeAnswered, end)
		case c.kind == callRead:
			add(read, end)
		}
	}
	return history
}

// inWords lists calls in the order in which they began.
func inWords(calls []call) string {
	var text strings.Builder
	for _, c := range slices.SortedFunc(slices.Values(calls), func(a, b call) int { return cmp.Compare(a.begin, b.begin) }) {
		fmt.Fprintf(&text, "  %s\n", c)
	}
	return text.String()
}

// draw writes porcupine's picture of a history that is not linearizable, and returns the file's path.
func draw(t *testing.T, key string, history []porcupine.Operation) string {
	t.Helper()
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, ".local", "drill")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	end := int64(0)
	for _, operation := range history {
		if operation.Return != forever {
			end = max(end, operation.Return)
		}
	}
	for i := range history { // so that the picture has a readable scale
		history[i].Return = min(history[i].Return, end+1)
	}
	_, info := porcupine.CheckOperationsVerbose(model, history, checkLimit)
	file := filepath.Join(folder, key+".html")
	if err := porcupine.VisualizePath(model, info, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// A span is the time in which an order can hold units, or in which it certainly does.
type span struct {
	from, to time.Duration
	units    int64
}

// stockInBounds compares each read of an item's units with the orders that could hold some at that time,
// and with those that certainly had bought some all the time.
func (h *history) stockInBounds() []finding {
	const always = time.Duration(forever)
	type times struct{ placed, sold, undone, over time.Duration }
	orders, keys := map[string]*times{}, map[string]string{}
	for _, one := range h.baskets {
		orders[one.key] = &times{always, always, always, always}
		keys[one.id] = one.key
	}
	for _, c := range h.calls {
		one := orders[cmp.Or(c.key, keys[c.id])]
		if one == nil {
			continue
		}
		switch c.kind {
		case callPlace:
			one.placed = min(one.placed, c.begin)
		case callCancel:
			one.undone = min(one.undone, c.begin)
		}
		if c.failure != "" || c.end == 0 {
			continue
		}
		switch c.shown.state {
		case "confirmed":
			one.sold = min(one.sold, c.end)
		case "failed", "cancelled", "refunded":
			one.over = min(one.over, c.end)
		}
	}
	held, sold := map[string][]span{}, map[string][]span{}
	for _, one := range h.baskets {
		at := orders[one.key]
		for sku, units := range one.units {
			held[sku] = append(held[sku], span{at.placed, at.over, units})
			if at.sold < at.undone {
				sold[sku] = append(sold[sku], span{at.sold, at.undone, units})
			}
		}
	}
	var found []finding
	for sku, initial := range h.initial {
		beganHolding, endedHolding := totals(held[sku], false), totals(held[sku], true)
		beganSold, endedSold := totals(sold[sku], false), totals(sold[sku], true)
		for _, c := range h.calls {
			if c.sku != sku || c.status != http.StatusOK {
				continue
			}
			atMost := initial - (beganSold.until(c.begin) - endedSold.until(c.end))
			atLeast := initial - (beganHolding.until(c.end) - endedHolding.until(c.begin-1))
			if c.available < 0 || c.available > atMost || c.available < atLeast {
				found = append(found, finding{checkStock, fmt.Sprintf("%s; it must be from %d to %d", c, max(0, atLeast), atMost)})
			}
		}
	}
	return first(found)
}

// A sum is how many units had begun or ended at a time.
type sum struct {
	at    []time.Duration
	units []int64
}

func totals(spans []span, ends bool) sum {
	of := func(s span) time.Duration {
		if ends {
			return s.to
		}
		return s.from
	}
	var s sum
	total := int64(0)
	for _, one := range slices.SortedFunc(slices.Values(spans), func(a, b span) int { return cmp.Compare(of(a), of(b)) }) {
		total += one.units
		s.at, s.units = append(s.at, of(one)), append(s.units, total)
	}
	return s
}

// until returns the units up to a time.
func (s sum) until(at time.Duration) int64 {
	i, _ := slices.BinarySearch(s.at, at+1)
	if i == 0 {
		return 0
	}
	return s.units[i-1]
}
