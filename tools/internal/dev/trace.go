package dev

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
	Processes map[string]struct{ ServiceName string }
}

type span struct {
	SpanID, OperationName, ProcessID string
	StartTime, Duration              int64
	References                       []struct{ RefType, TraceID, SpanID string }
	Tags                             []struct {
		Key   string
		Value any
	}
}

var orderID = regexp.MustCompile(`^[0-9a-fA-F-]{1,64}$`)

var client = &http.Client{Timeout: 10 * time.Second}

// Trace prints the spans of an order's traces as trees.
func Trace(ctx context.Context, dir, order string, out *console.Console) error {
	if order == "" {
		return errors.New("ORDER is not set: set it to the id of an order, such as ORDER=0190...")
	}
	if !orderID.MatchString(order) {
		return fmt.Errorf("ORDER=%s is not the id of an order, which has only hexadecimal digits and hyphens", order)
	}
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	st, err := readState(dir)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(st.Programs, func(p running) bool { return p.Name == Jaeger })
	if i < 0 {
		return errors.New("make dev runs with DEV_TELEMETRY=off, so that there are no traces: start it with DEV_TELEMETRY=on")
	}
	traces, err := query(ctx, fmt.Sprintf("http://127.0.0.1:%d", st.Programs[i].Port), order)
	if err != nil {
		return fmt.Errorf("asking Jaeger: %w", err)
	}
	if len(traces) == 0 {
		return fmt.Errorf("jaeger has no trace of order %s: it keeps the last 20000 traces in memory, and receives "+
			"a new one after some seconds; check the id, or try again", order)
	}
	for _, t := range traces {
		out.Plain("%s", t.tree())
	}
	return nil
}

func query(ctx context.Context, jaeger, order string) ([]trace, error) {
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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, jaeger+"/api/traces?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET /api/traces = %s", resp.Status)
	}
	var answer struct{ Data []trace }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	slices.SortFunc(answer.Data, func(a, b trace) int { return cmp.Compare(a.start(), b.start()) })
	return answer.Data, nil
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
				strings.Repeat("  ", depth), t.Processes[s.ProcessID].ServiceName, s.OperationName, s.outcome())
			show(s.SpanID, depth+1)
		}
	}
	show("", 0)
	return b.String()
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
