package main

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/console/sources"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/infra/rollout/jaeger"
)

// maxSpans keeps the page below 100 KiB. An order that goes well has about a hundred.
const maxSpans = 200

// orderPage is the trace of an order.
type orderPage struct {
	ID string
	// Asked says that an id was given, Kept that traces are kept, Answered that Jaeger answered.
	Asked, Kept, Answered bool
	Wrong                 string // what is wrong with the id
	Traces                []traceView
}

type traceView struct {
	ID       string
	Began    time.Time
	Services int
	Spans    int
	Hidden   int // spans that are not shown
	Took     string
	Roots    []*spanView
}

type spanView struct {
	Service, Version, Origin, Name string
	At, Took                       string
	Bar                            bar
	Failed                         bool
	Status                         string
	Children                       []*spanView
}

// bar is where a span lies in its trace, in percent.
type bar struct{ From, Width string }

// showOrder answers with the trace of the order in the query, or with the form.
func (c *console) showOrder(ctx *gin.Context) error {
	raw := strings.TrimSpace(ctx.Query("id"))
	page := orderPage{ID: raw, Asked: raw != "", Kept: c.traces != nil}
	if !page.Asked {
		return c.pages.render(ctx, http.StatusOK, "order", outages{}, page)
	}
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != strings.ToLower(raw) {
		page.Wrong = "id must be the id of an order, such as 0190a7c5-6f5e-7c3a-9d55-2f1b8a4c7e10."
		return c.pages.render(ctx, problem.New(problem.Invalid, "").Status(), "order", outages{}, page)
	}
	page.ID = id.String()
	if c.traces == nil {
		return c.pages.render(ctx, http.StatusOK, "order", outages{}, page)
	}
	var (
		reads          sync.WaitGroup
		cluster        *sources.Cluster
		traces         []jaeger.Trace
		unread, silent error
		o              outages
	)
	reads.Go(func() { cluster, unread = c.cluster.Read(ctx.Request.Context()) })
	reads.Go(func() { traces, silent = c.traces.Traces(ctx.Request.Context(), page.ID) })
	reads.Wait()
	o.add(unread)
	page.Answered = o.add(silent)
	known := map[string]string{}
	if cluster != nil {
		known = origins(cluster, c.settings.services())
	}
	room := maxSpans
	for _, t := range traces {
		page.Traces = append(page.Traces, viewOf(t, known, &room))
	}
	return c.pages.render(ctx, http.StatusOK, "order", o, page)
}

// viewOf shows spans while there is room: parents before children.
func viewOf(t jaeger.Trace, origins map[string]string, room *int) traceView {
	ends := t.Began
	services := map[string]bool{}
	t.Walk(func(s *jaeger.Span, _ int) {
		services[s.Service] = true
		if end := s.Began.Add(s.Took); end.After(ends) {
			ends = end
		}
	})
	whole := max(ends.Sub(t.Began), 1)
	share := func(d time.Duration) float64 { return 100 * d.Seconds() / whole.Seconds() }
	shown := 0
	var show func([]*jaeger.Span) []*spanView
	show = func(spans []*jaeger.Span) []*spanView {
		var views []*spanView
		for _, s := range spans {
			if *room == 0 {
				return views
			}
			*room--
			shown++
			at := s.Began.Sub(t.Began)
			views = append(views, &spanView{
				Service: s.Service, Version: s.Version, Origin: origins[s.Service+" "+s.Version], Name: s.Name,
				At: seconds(at.Seconds()), Took: seconds(s.Took.Seconds()), Failed: s.Failed, Status: s.Status,
				Bar:      bar{coordinate(share(at)), coordinate(max(0.5, share(s.Took)))},
				Children: show(s.Children),
			})
		}
		return views
	}
	v := traceView{ID: t.ID, Began: t.Began, Services: len(services), Spans: t.Count, Took: seconds(whole.Seconds()), Roots: show(t.Roots)}
	v.Hidden = t.Count - shown
	return v
}
