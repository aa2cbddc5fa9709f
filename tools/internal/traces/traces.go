// Package traces prints the traces of orders, and checks that a trace is whole.
package traces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/loja-veloz/platform/infra/rollout/jaeger"
	"github.com/loja-veloz/platform/tools/internal/console"
)

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
	query, err := jaeger.OfOrder(order)
	if err != nil {
		return err
	}
	traces, err := j.get(ctx, "?"+query.Encode())
	if err != nil {
		return err
	}
	if len(traces) == 0 {
		return fmt.Errorf("jaeger has no trace of order %s: it keeps %s, and receives a new one after some seconds; "+
			"check the id, or try again", order, j.Keeps)
	}
	for _, t := range traces {
		out.Plain("%s", tree(t))
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

// Whole returns how many spans a trace has, and what it lacks: a service of which it has no
// span, or the parent of a span. It is whole if that is "". Only the span caller, which the
// client said to be in, may be missing.
func (j Jaeger) Whole(ctx context.Context, id, caller string, services []string) (spans int, missing string, err error) {
	found, err := j.get(ctx, "/"+id)
	if err != nil || len(found) == 0 {
		return 0, "it has no spans", err
	}
	return found[0].Count, lacks(found[0], caller, services), nil
}

func lacks(t jaeger.Trace, caller string, services []string) string {
	taking := map[string]bool{}
	t.Walk(func(s *jaeger.Span, _ int) { taking[s.Service] = true })
	for _, name := range services {
		if !taking[name] {
			return "it has no span of " + name
		}
	}
	for _, s := range t.Roots {
		if s.Parent != caller {
			return fmt.Sprintf("the parent of the span %q of %s is not there", s.Name, s.Service)
		}
	}
	return ""
}

// get returns the traces in the answer of a path; none if Jaeger does not know it.
func (j Jaeger) get(ctx context.Context, path string) ([]jaeger.Trace, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.URL+jaeger.Path+path, nil)
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
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("asking Jaeger: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking Jaeger: GET %s = %s", jaeger.Path, resp.Status)
	}
	return jaeger.Parse(answer)
}

// tree renders the trace with a line for each span, below the span that caused it: when the
// span began and how long it took, in milliseconds, its service with its version, which tells a
// canary from the stable pods, its name, and its outcome.
func tree(t jaeger.Trace) string {
	services := map[string]bool{}
	var b strings.Builder
	t.Walk(func(s *jaeger.Span, depth int) {
		services[s.Service] = true
		name := s.Service
		if s.Version != "" {
			name += "@" + s.Version
		}
		fmt.Fprintf(&b, "%10.1f %10.1f  %s%s: %s%s\n",
			ms(s.Began.Sub(t.Began)), ms(s.Took), strings.Repeat("  ", depth), name, s.Name, outcome(s))
	})
	at := t.Began.UTC().Format(time.DateTime)
	head := fmt.Sprintf("trace %s, %s, %d spans of %d services\n%10s %10s\n", t.ID, at, t.Count, len(services), "at ms", "took ms")
	return head + b.String()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func outcome(s *jaeger.Span) string {
	text := ""
	if s.Status != "" {
		text = " [" + s.Status + "]"
	}
	if s.Failed {
		text += " ERROR"
	}
	return text
}
