package sources

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Jaeger reads the traces of orders.
type Jaeger struct {
	source
	cache cache[[]Trace]
}

// NewJaeger returns a reader of the query API at base.
func NewJaeger(base string, client *http.Client) *Jaeger {
	return &Jaeger{source: newSource("Jaeger", base, client)}
}

// A Trace is a tree of spans, or several if a caller exported none.
type Trace struct {
	ID    string
	Began time.Time
	Count int // of spans
	Roots []*Span
}

// A Span is one piece of work. It is found below the span that caused it.
type Span struct {
	Service, Version, Name string
	Began                  time.Time
	Took                   time.Duration
	Failed                 bool
	Status                 string // of the answer, or what the error is called
	Children               []*Span
}

// The JSON of Jaeger's query API; times are in microseconds.
type (
	jaegerTrace struct {
		TraceID   string
		Spans     []jaegerSpan
		Processes map[string]struct {
			ServiceName string
			Tags        []jaegerTag
		}
	}
	jaegerSpan struct {
		SpanID, OperationName, ProcessID string
		StartTime, Duration              int64
		References                       []struct{ TraceID, SpanID string }
		Tags                             []jaegerTag
	}
	jaegerTag struct {
		Key   string
		Value any
	}
)

// Traces returns the traces of an order, the oldest first. pedidos marks the trace of the
// request that placed the order, and jobs continue it.
func (j *Jaeger) Traces(ctx context.Context, order string) ([]Trace, error) {
	return j.cache.get(ctx, &j.source, order, func(ctx context.Context) ([]Trace, error) {
		tags, err := json.Marshal(map[string]string{"order.id": order})
		if err != nil {
			return nil, err
		}
		now := time.Now()
		var answer struct{ Data []jaegerTrace }
		err = j.get(ctx, "/api/traces", url.Values{
			"service": {"pedidos"}, "tags": {string(tags)}, "limit": {"20"},
			"start": {strconv.FormatInt(now.Add(-48*time.Hour).UnixMicro(), 10)},
			"end":   {strconv.FormatInt(now.Add(time.Minute).UnixMicro(), 10)},
		}, &answer)
		if err != nil {
			return nil, err
		}
		var traces []Trace
		for _, t := range answer.Data {
			if len(t.Spans) > 0 {
				traces = append(traces, t.tree())
			}
		}
		slices.SortFunc(traces, func(a, b Trace) int { return a.Began.Compare(b.Began) })
		return traces, nil
	})
}

// tree puts every span below its parent. Spans whose parents form a circle, which only a broken
// exporter sends, are in Count but not in the tree.
func (t jaegerTrace) tree() Trace {
	slices.SortStableFunc(t.Spans, func(a, b jaegerSpan) int { return cmp.Compare(a.StartTime, b.StartTime) })
	trace := Trace{ID: t.TraceID, Began: time.UnixMicro(t.Spans[0].StartTime), Count: len(t.Spans)}
	spans, byID := make([]*Span, len(t.Spans)), map[string]*Span{}
	for i, s := range t.Spans {
		spans[i] = t.span(s)
		if byID[s.SpanID] == nil {
			byID[s.SpanID] = spans[i]
		}
	}
	for i, s := range t.Spans {
		span := spans[i]
		var parent *Span
		for _, r := range s.References {
			if r.TraceID == t.TraceID && r.SpanID != s.SpanID && parent == nil {
				parent = byID[r.SpanID]
			}
		}
		if parent == nil {
			trace.Roots = append(trace.Roots, span)
		} else {
			parent.Children = append(parent.Children, span)
		}
	}
	return trace
}

func (t jaegerTrace) span(s jaegerSpan) *Span {
	process := t.Processes[s.ProcessID]
	span := &Span{
		Service: process.ServiceName, Name: s.OperationName,
		Began: time.UnixMicro(s.StartTime), Took: time.Duration(s.Duration) * time.Microsecond,
	}
	for _, tag := range process.Tags {
		if tag.Key == "service.version" {
			span.Version = text(tag.Value)
		}
	}
	for _, tag := range s.Tags {
		switch tag.Key {
		case "error":
			span.Failed = tag.Value == true
		case "http.response.status_code", "error.type":
			span.Status = text(tag.Value)
		}
	}
	return span
}

// text writes the value of a tag, which JSON decodes as a string, a number or a boolean.
func text(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(raw)
}
