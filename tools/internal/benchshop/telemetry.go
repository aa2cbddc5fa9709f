package benchshop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/traces"
)

const (
	// pairs is how often each load runs with telemetry and without. Each pair begins with the
	// other than the pair before, so that a machine that becomes slower favours neither.
	pairs = 6
	// observedClients are the connections of each load.
	observedClients = 16
	// tracedOrders are placed to see whether all their traces are whole.
	tracedOrders = 10_000
)

// observed measures a shop that runs with Prometheus and Jaeger.
func (b *bench) observed(ctx context.Context, shop *dev.Shop) error {
	buyers, err := newBuyers(ctx, shop)
	if err != nil {
		return err
	}
	o := &observation{bench: b, shop: shop, buyers: buyers}
	if b.wants("telemetry") {
		if err := errors.Join(o.compareTelemetry(ctx), o.wholeTraces(ctx)); err != nil {
			return err
		}
	}
	if b.wants("objectives") {
		return o.indicators(ctx)
	}
	return nil
}

type observation struct {
	*bench
	shop   *dev.Shop
	buyers *buyers
}

// An observedLoad is measured with telemetry (true) and without (false).
type observedLoad struct {
	name   string
	target target
	length time.Duration
	rate   map[bool][]float64                // requests per second, by round
	used   map[bool]map[string]time.Duration // CPU time by process
	count  map[bool]int
}

func (o *observation) loads(ctx context.Context) ([]*observedLoad, error) {
	var order struct{ ID string }
	key, body := o.buyers.order(o.buyers.items[0])
	header := map[string]string{"Idempotency-Key": key}
	if err := call(ctx, http.MethodPost, o.shop.URL(gatewayName)+"/pedidos", body, header, &order); err != nil {
		return nil, err
	}
	paths := []string{"/estoque/" + o.buyers.items[0].SKU, "/pedidos/" + order.ID, "/pagamentos/" + order.ID}
	loads := []*observedLoad{
		{name: "orders", target: o.buyers.target(), length: o.length(8 * time.Second)},
		{name: "reads of items, orders and payments", target: get(o.shop.URL(gatewayName), paths...), length: o.length(4 * time.Second)},
		{name: "pages of sample-web-app", target: get(o.shop.URL("sample-web-app"), "/"), length: o.length(4 * time.Second)},
	}
	for _, l := range loads {
		l.rate, l.count = map[bool][]float64{}, map[bool]int{}
		l.used = map[bool]map[string]time.Duration{true: {}, false: {}}
	}
	return loads, nil
}

// get returns a target that gets one of the paths at random.
func get(url string, paths ...string) target {
	address := strings.TrimPrefix(url, "http://")
	return target{
		address: address,
		request: func() []byte {
			return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", paths[rand.IntN(len(paths))], address)
		},
		good: func(status int, _ []byte) bool { return status == http.StatusOK },
	}
}

// compareTelemetry measures each load with telemetry and without, in turns.
func (o *observation) compareTelemetry(ctx context.Context) error {
	loads, err := o.loads(ctx)
	if err != nil {
		return err
	}
	for i := range pairs {
		for _, on := range []bool{i%2 == 1, i%2 == 0} {
			if err := o.turn(ctx, on); err != nil {
				return err
			}
			for _, l := range loads {
				if err := o.measureLoad(ctx, l, on); err != nil {
					return err
				}
			}
		}
		o.Out.Step("telemetry, pair %d of %d: %s", i+1, pairs, lastOf(loads))
	}
	o.table.head("Telemetry: traces of all requests to Jaeger on the same machine, against OTEL_SDK_DISABLED=true")
	for _, l := range loads {
		o.costs(l)
	}
	return nil
}

// turn restarts the services with telemetry on or off, and warms them up.
func (o *observation) turn(ctx context.Context, on bool) error {
	for _, name := range o.services() {
		if err := o.shop.Restart(ctx, name, fmt.Sprint("OTEL_SDK_DISABLED=", !on)); err != nil {
			return err
		}
	}
	closed(ctx, o.buyers.target(), observedClients, o.length(2*time.Second))
	return context.Cause(ctx)
}

func (o *observation) measureLoad(ctx context.Context, l *observedLoad, on bool) error {
	before, err := o.usage(o.shop, dev.PostgreSQL, dev.Jaeger)
	if err != nil {
		return err
	}
	r := closed(ctx, l.target, observedClients, l.length)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if r.bad > 0 {
		return fmt.Errorf("%s: %d of %d requests failed, such as: %s", l.name, r.bad, r.bad+len(r.latencies), r.why)
	}
	after, err := o.usage(o.shop, dev.PostgreSQL, dev.Jaeger)
	if err != nil {
		return err
	}
	for name := range after {
		l.used[on][name] += after[name] - before[name]
	}
	l.rate[on] = append(l.rate[on], r.perSecond())
	l.count[on] += len(r.latencies)
	return nil
}

func lastOf(loads []*observedLoad) string {
	var texts []string
	for _, l := range loads {
		last := func(on bool) float64 { return l.rate[on][len(l.rate[on])-1] }
		texts = append(texts, fmt.Sprintf("%s %.0f/s with, %.0f/s without", l.name, last(true), last(false)))
	}
	return strings.Join(texts, "; ")
}

// maxCost is the throughput that telemetry may cost, in percent.
const maxCost = 15

// costs adds the rows of a load.
func (o *observation) costs(l *observedLoad) {
	var lost []float64
	for _, share := range percent(l.rate[true], l.rate[false]) {
		lost = append(lost, 100-share)
	}
	t := &o.table
	t.row(l.name+": throughput that telemetry costs", spread(lost)+" %", fmt.Sprintf("<= %d %%", maxCost), median(lost) <= maxCost)
	t.row(l.name+" per second, with; without", spread(l.rate[true])+"; "+spread(l.rate[false]), "", true)
	perRequest := func(on bool, names ...string) float64 {
		var sum time.Duration
		for _, name := range names {
			sum += l.used[on][name]
		}
		return float64(sum.Microseconds()) / float64(max(1, l.count[on]))
	}
	services := o.services()
	t.row(l.name+": CPU of the services per request, with; without",
		fmt.Sprintf("%.0f; %.0f µs", perRequest(true, services...), perRequest(false, services...)), "", true)
	t.row(l.name+": CPU of Jaeger; PostgreSQL with; without",
		fmt.Sprintf("%.0f; %.0f; %.0f µs",
			perRequest(true, dev.Jaeger), perRequest(true, dev.PostgreSQL), perRequest(false, dev.PostgreSQL)), "", true)
}

// wholeTraces places orders under load, and asks Jaeger for the trace of each.
func (o *observation) wholeTraces(ctx context.Context) error {
	if err := o.turn(ctx, true); err != nil {
		return err
	}
	count := tracedOrders
	if o.Short {
		count /= 20
	}
	o.Out.Step("placing %d orders to look at their traces", count)
	target, ids := traced(o.buyers.target())
	r := counted(ctx, target, observedClients, count)
	if r.bad > 0 {
		return fmt.Errorf("%d of %d orders were not confirmed when answered, such as: %s", r.bad, count, r.why)
	}
	lost, err := o.lostSpans(ctx)
	if err != nil {
		return err
	}
	for _, name := range o.services() { // a process that ends sends its last spans
		if err := o.shop.Restart(ctx, name); err != nil {
			return err
		}
	}
	w, err := o.look(ctx, ids())
	if err != nil {
		return err
	}
	o.table.row(fmt.Sprintf("whole traces of %d orders, at %.0f/s", count, r.perSecond()),
		fmt.Sprintf("%.2f %%", 100*float64(w.whole)/float64(count)), "100 %", w.whole == count)
	o.table.row("spans per order; spans that the services lost", fmt.Sprintf("%.1f; %.0f", float64(w.spans)/float64(count), lost), "", true)
	if w.why != "" {
		fmt.Fprintf(&o.table.after, "\nA trace that is not whole: %s\n", w.why)
	}
	return nil
}

// callersSpan is the span that buyers say to be in: the only parent that Jaeger does not have.
const callersSpan = "00000000000000b1"

// traced returns a target whose requests each continue a trace of their own, and a function
// that returns the ids of these traces.
func traced(t target) (target, func() []string) {
	var mu sync.Mutex
	var ids []string
	request := t.request
	t.request = func() []byte {
		id := fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()|1)
		mu.Lock()
		ids = append(ids, id)
		mu.Unlock()
		return bytes.Replace(request(), []byte("\r\nHost:"), fmt.Appendf(nil, "\r\nTraceparent: 00-%s-%s-01\r\nHost:", id, callersSpan), 1)
	}
	return t, func() []string { return ids }
}

type looked struct {
	whole, spans int
	why          string
}

// look asks Jaeger for each trace.
func (o *observation) look(ctx context.Context, ids []string) (looked, error) {
	jaeger := traces.Jaeger{URL: o.shop.URL(dev.Jaeger)}
	want := slices.DeleteFunc(o.services(), func(name string) bool { return name == "sample-web-app" })
	var w looked
	for i, id := range ids {
		spans, missing, err := jaeger.Whole(ctx, id, callersSpan, want)
		switch {
		case err != nil:
			return w, err
		case missing == "":
			w.whole++
		default:
			w.why = fmt.Sprintf("%s, order %d: %s", id, i+1, missing)
		}
		w.spans += spans
	}
	return w, nil
}

// lostSpans sums the spans that the services dropped or failed to send, by their metrics.
func (o *observation) lostSpans(ctx context.Context) (float64, error) {
	lost := 0.0
	for _, name := range o.services() {
		m, err := scrape(ctx, o.shop.URL(name))
		if err != nil {
			return 0, err
		}
		for _, outcome := range []string{"dropped", "failed"} {
			lost += m.sum("telemetry_spans_total", `outcome="`+outcome+`"`)
		}
	}
	return lost, nil
}
