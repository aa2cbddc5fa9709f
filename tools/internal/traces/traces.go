// Package traces reads traces from Jaeger.
package traces

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/console"
)

// A trace as Jaeger's query API returns it; times are in microseconds.
type trace struct {
	TraceID string
	Spans   []span
	// Processes are the services by the key in ProcessID of a span.
	Processes map[string]process
}

type process struct {
	ServiceName string
	Tags        []tag
}

type tag struct {
	Key   string
	Value any
}

type span struct {
	SpanID, OperationName, ProcessID string
	StartTime, Duration              int64
	References                       []struct{ RefType, TraceID, SpanID string }
	Tags                             []tag
}

var orderID = regexp.MustCompile(`^[0-9a-fA-F-]{1,64}$`)

var client = &http.Client{Timeout: 10 * time.Second}

// Jaeger is a Jaeger at an address such as http://localhost:16686.
type Jaeger struct {
	URL string
	// Keeps says which traces it has, as in "the last 20000 traces".
	Keeps string
}

// Order prints the spans of an order's traces as trees.
func (j Jaeger) Order(ctx context.Context, order string, out *console.Console) error {
	if err := CheckOrder(order); err != nil {
		return err
	}
	traces, err := j.query(ctx, order)
	if err != nil {
		return err
	}
	if len(traces) == 0 {
		return fmt.Errorf("jaeger has no trace of order %s: it keeps %s, and receives a new one after some seconds; "+
			"check the id, or try again", order, j.Keeps)
	}
	for _, t := range traces {
		out.Plain("%s", t.tree())
	}
	return nil
}

// CheckOrder refuses what is not the id of an order, and names the setting.
func CheckOrder(order string) error {
	if order == "" {
		return errors.New("ORDER is not set: set it to the id of an order, such as ORDER=0190...")
	}
	if !orderID.MatchString(order) {
		return fmt.Errorf("ORDER=%s is not the id of an order, which has only hexadecimal digits and hyphens", order)
	}
	return nil
}

// query returns the traces of an order, oldest first.
func (j Jaeger) query(ctx context.Context, order string) ([]trace, error) {
	tags, err := json.Marshal(map[string]string{"order.id": order})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	q := url.Values{
		"service": {"pedidos"}, "tags": {string(tags)}, "limit": {"50"},
		"start": {strconv.FormatInt(now.Add(-48*time.Hour).UnixMicro(), 10)},
		"end":   {strconv.FormatInt(now.Add(time.Minute).UnixMicro(), 10)},
	}
	return j.get(ctx, "/api/traces?"+q.Encode())
}

// get returns the traces in the answer of a path, oldest first; none if Jaeger does not know it.
func (j Jaeger) get(ctx context.Context, path string) ([]trace, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.URL+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking Jaeger: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking Jaeger: GET /api/traces = %s", resp.Status)
	}
	var answer struct{ Data []trace }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	slices.SortFunc(answer.Data, func(a, b trace) int { return cmp.Compare(a.start(), b.start()) })
	return answer.Data, nil
}

// Whole returns how many spans a trace has, and what it lacks: a service of which it has no
// span, or the parent of a span. It is whole if that is "". Only the span caller, which the
// client said to be in, may be missing.
func (j Jaeger) Whole(ctx context.Context, id, caller string, services []string) (spans int, missing string, err error) {
	found, err := j.get(ctx, "/api/traces/"+id)
	if err != nil || len(found) == 0 {
		return 0, "it has no spans", err
	}
	return len(found[0].Spans), found[0].missing(caller, services), nil
}

func (t trace) missing(caller string, services []string) string {
	spans, taking := map[string]bool{caller: true}, map[string]bool{}
	for _, s := range t.Spans {
		spans[s.SpanID], taking[t.Processes[s.ProcessID].ServiceName] = true, true
	}
	for _, name := range services {
		if !taking[name] {
			return "it has no span of " + name
		}
	}
	for _, s := range t.Spans {
		if len(s.References) == 0 {
			return fmt.Sprintf("the span %q has no parent", s.OperationName)
		}
		for _, r := range s.References {
			if r.TraceID != t.TraceID || !spans[r.SpanID] {
				return fmt.Sprintf("the parent of the span %q is not there", s.OperationName)
			}
		}
	}
	return ""
}

func (t trace) start() int64 {
	var first int64
	for _, s := range t.Spans {
		if first == 0 || s.StartTime < first {
			first = s.StartTime
		}
	}
	return first
}

// tree renders the trace with a line for each span, below the span that caused it: when the
// span began and how long it took, in milliseconds, its service, its name, and its outcome.
func (t trace) tree() string {
	byID, children := map[string]bool{}, map[string][]span{}
	for _, s := range t.Spans {
		byID[s.SpanID] = true
	}
	services := map[string]bool{}
	for _, s := range t.Spans {
		parent := ""
		for _, r := range s.References {
			// A caller that exports no spans leaves its callee's span without a
			// parent in Jaeger: such a span is a root.
			if r.TraceID == t.TraceID && byID[r.SpanID] && r.SpanID != s.SpanID {
				parent = r.SpanID
				break
			}
		}
		children[parent] = append(children[parent], s)
		services[t.Processes[s.ProcessID].ServiceName] = true
	}
	began := t.start()
	var b strings.Builder
	at := time.UnixMicro(began).UTC().Format(time.DateTime)
	fmt.Fprintf(&b, "trace %s, %s, %d spans of %d services\n", t.TraceID, at, len(t.Spans), len(services))
	fmt.Fprintf(&b, "%10s %10s\n", "at ms", "took ms")
	var show func(parent string, depth int)
	show = func(parent string, depth int) {
		below := children[parent]
		slices.SortStableFunc(below, func(a, b span) int { return cmp.Compare(a.StartTime, b.StartTime) })
		for _, s := range below {
			fmt.Fprintf(&b, "%10.1f %10.1f  %s%s: %s%s\n", float64(s.StartTime-began)/1000, float64(s.Duration)/1000,
				strings.Repeat("  ", depth), t.Processes[s.ProcessID], s.OperationName, s.outcome())
			show(s.SpanID, depth+1)
		}
	}
	show("", 0)
	return b.String()
}

// String is the service with its version, which tells a canary from the stable pods.
func (p process) String() string {
	for _, t := range p.Tags {
		if t.Key == "service.version" {
			return fmt.Sprintf("%s@%v", p.ServiceName, t.Value)
		}
	}
	return p.ServiceName
}

// outcome renders the tags that say how the span ended.
func (s span) outcome() string {
	text := ""
	for _, tag := range s.Tags {
		switch tag.Key {
		case "http.response.status_code", "error.type", "otel.status_description":
			text += fmt.Sprintf(" [%v]", tag.Value)
		case "error":
			if tag.Value == true {
				text += " ERROR"
			}
		}
	}
	return text
}
