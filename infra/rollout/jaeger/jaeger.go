// Package jaeger asks Jaeger's query API for traces, and reads its answers. How a request is
// sent is the caller's affair.
package jaeger

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Path is where the query API lists traces; a trace's id below it names one.
const Path = "/api/traces"

// Query returns the parameters for at most limit traces of the last hours that have a span of
// the service with all tags.
func Query(service string, tags map[string]string, last time.Duration, limit int) (url.Values, error) {
	encoded, err := json.Marshal(tags)
	if err != nil {
		return nil, fmt.Errorf("encoding the tags of a trace: %w", err)
	}
	now := time.Now()
	return url.Values{
		"service": {service}, "tags": {string(encoded)}, "limit": {strconv.Itoa(limit)},
		"start": {strconv.FormatInt(now.Add(-last).UnixMicro(), 10)},
		"end":   {strconv.FormatInt(now.Add(time.Minute).UnixMicro(), 10)}, // clocks differ
	}, nil
}

// OfOrder returns the parameters for the traces of an order. pedidos marks the trace of the
// request that placed the order, and jobs continue it.
func OfOrder(id string) (url.Values, error) {
	return Query("pedidos", map[string]string{"order.id": id}, 48*time.Hour, 20)
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
	Parent                 string // the id of the span that caused it, which the trace of a root does not have; or ""
	Began                  time.Time
	Took                   time.Duration
	Failed                 bool
	Status                 string // of the answer, or what the error is called
	Children               []*Span
}

// Walk calls visit for each span of the tree, parents before their children.
func (t Trace) Walk(visit func(s *Span, depth int)) {
	var walk func(spans []*Span, depth int)
	walk = func(spans []*Span, depth int) {
		for _, s := range spans {
			visit(s, depth)
			walk(s.Children, depth+1)
		}
	}
	walk(t.Roots, 0)
}

// The JSON of the query API; times are in microseconds.
type (
	trace struct {
		TraceID   string
		Spans     []span
		Processes map[string]struct {
			ServiceName string
			Tags        []tag
		}
	}
	span struct {
		SpanID, OperationName, ProcessID string
		StartTime, Duration              int64
		References                       []struct{ TraceID, SpanID string }
		Tags                             []tag
	}
	tag struct {
		Key   string
		Value any
	}
)

// Parse returns the traces of an answer, the oldest first.
func Parse(answer []byte) ([]Trace, error) {
	var list struct{ Data []trace }
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, fmt.Errorf("reading Jaeger's answer: %w", err)
	}
	var traces []Trace
	for _, t := range list.Data {
		if len(t.Spans) > 0 {
			traces = append(traces, t.tree())
		}
	}
	slices.SortFunc(traces, func(a, b Trace) int { return a.Began.Compare(b.Began) })
	return traces, nil
}

// tree puts every span below its parent. Spans whose parents form a circle, which only a broken
// exporter sends, are in Count but not in the tree.
func (t trace) tree() Trace {
	slices.SortStableFunc(t.Spans, func(a, b span) int { return cmp.Compare(a.StartTime, b.StartTime) })
	tree := Trace{ID: t.TraceID, Began: time.UnixMicro(t.Spans[0].StartTime), Count: len(t.Spans)}
	spans, byID := make([]*Span, len(t.Spans)), map[string]*Span{}
	for i, s := range t.Spans {
		spans[i] = t.span(s)
		if byID[s.SpanID] == nil {
			byID[s.SpanID] = spans[i]
		}
	}
	for i, s := range t.Spans {
		var parent *Span
		for _, r := range s.References {
			if r.TraceID == t.TraceID && r.SpanID != s.SpanID && parent == nil {
				spans[i].Parent, parent = r.SpanID, byID[r.SpanID]
			}
		}
		if parent == nil {
			tree.Roots = append(tree.Roots, spans[i])
		} else {
			parent.Children = append(parent.Children, spans[i])
		}
	}
	return tree
}

func (t trace) span(s span) *Span {
	process := t.Processes[s.ProcessID]
	read := &Span{
		Service: process.ServiceName, Name: s.OperationName,
		Began: time.UnixMicro(s.StartTime), Took: time.Duration(s.Duration) * time.Microsecond,
	}
	for _, tag := range process.Tags {
		if tag.Key == "service.version" {
			read.Version = fmt.Sprint(tag.Value)
		}
	}
	for _, tag := range s.Tags {
		switch tag.Key {
		case "error":
			read.Failed = tag.Value == true
		case "http.response.status_code", "error.type":
			read.Status = fmt.Sprint(tag.Value)
		}
	}
	return read
}
