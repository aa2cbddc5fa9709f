package main

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/console/sources"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/infra/slo"
)

// card is a service on the page of all services.
type card struct {
	Name      string
	Known     bool // Kubernetes answered
	State     state
	Metrics   bool // Prometheus answered
	Objective *objective
}

// overview is the page of all services.
type overview struct {
	Cards  []card
	Alarms []alarm
	Heard  bool // Prometheus said which alarms fire
	// Needing are the payments that need a person.
	Needing needing
}

// alarm is an alarm that fires.
type alarm struct {
	slo.Alarm
	About []string // such as "task checkout"
}

// Advice is what the operator does, in parts of which every second one is code.
func (a alarm) Advice() []string { return strings.Split(a.Do, "`") }

// firing returns the alarms that fire, in their order of definition.
func firing(found []sources.Firing) (alarms []alarm) {
	for _, known := range slo.Alarms(true) {
		for _, one := range found {
			if one.Name != known.Name {
				continue
			}
			fires := alarm{Alarm: known}
			for _, label := range slices.Sorted(maps.Keys(one.Labels)) {
				fires.About = append(fires.About, label+" "+one.Labels[label])
			}
			alarms = append(alarms, fires)
		}
	}
	return alarms
}

// showServices answers with the alarms that fire, the number of payments that need a person, and a
// card for each service.
func (c *console) showServices(ctx *gin.Context) error {
	var (
		reads  sync.WaitGroup
		found  []sources.Firing
		unsaid error
		owed   sources.NeedingPerson
		untold error
	)
	reads.Go(func() { owed, untold = c.readPayments(ctx) })
	if c.metrics != nil {
		reads.Go(func() { found, unsaid = c.metrics.Firing(ctx.Request.Context(), slo.Alarms(true)) })
	}
	cluster, budgets, outages := c.readAll(ctx)
	reads.Wait()
	page := overview{
		Alarms: firing(found), Heard: outages.add(unsaid) && c.metrics != nil,
		Needing: c.needing(owed, untold, &outages),
	}
	for _, name := range c.settings.services() {
		card := card{Name: name, Known: cluster != nil, Metrics: budgets != nil}
		if cluster != nil {
			card.State = stateOf(cluster.Service(name))
		}
		card.Objective = tightest(objectives(name, c.settings.objectives[name], budgets))
		page.Cards = append(page.Cards, card)
	}
	return c.pages.render(ctx, http.StatusOK, "services", outages, page)
}

// readAll reads what both pages of services show. What a source does not answer is nil.
func (c *console) readAll(ctx *gin.Context) (*sources.Cluster, map[sources.Objective]sources.Budget, outages) {
	var (
		reads      sync.WaitGroup
		cluster    *sources.Cluster
		budgets    map[sources.Objective]sources.Budget
		unread     error
		unmeasured error
	)
	reads.Go(func() { cluster, unread = c.cluster.Read(ctx.Request.Context()) })
	if c.metrics != nil {
		reads.Go(func() { budgets, unmeasured = c.metrics.Budgets(ctx.Request.Context()) })
	}
	reads.Wait()
	var o outages
	o.add(unread)
	o.add(unmeasured)
	return cluster, budgets, o
}

// objective is a service's objective and what is left of its budget.
type objective struct {
	Name, Target, Budget string
	// Left is the share of the budget, nil without a value; Spent is what the rest is as time.
	Left     *float64
	LeftTime string
	// Now and Window are burn rates; "" without a value.
	Now, Window string
	// Fast says that the budget now burns faster than it lasts.
	Fast bool
}

// Overspent tells whether more than the budget is used.
func (o objective) Overspent() bool { return o.Left != nil && *o.Left < 0 }

// Over is the share of the budget that was used and not there.
func (o objective) Over() float64 { return -*o.Left }

// Bar is the width of what is left, in percent.
func (o objective) Bar() float64 { return 100 * max(0, min(1, *o.Left)) }

func objectives(service string, promised slo.Objectives, budgets map[sources.Objective]sources.Budget) []objective {
	var all []objective
	for _, promise := range promised.List() {
		what := "without a server error"
		if limit := promise.Indicator.SlowerThan; limit > 0 {
			what = "within " + limit.String()
		}
		o := objective{
			Name: promise.Name, Budget: span(promise.Budget()),
			Target: strconv.FormatFloat(promise.Target(), 'f', -1, 64) + " % " + what + ", in " + days(promise.Window),
		}
		b := budgets[sources.Objective{Service: service, Name: promise.Name}]
		if o.Left = b.Left; b.Left != nil {
			o.LeftTime = span(time.Duration(*b.Left * float64(promise.Budget())))
		}
		if b.Now != nil {
			o.Now, o.Fast = significant(*b.Now), *b.Now > 1
		}
		if b.Window != nil {
			o.Window = significant(*b.Window)
		}
		all = append(all, o)
	}
	return all
}

// tightest is the objective with the smallest share left; nil if no objective has a value.
func tightest(all []objective) *objective {
	var found *objective
	for i := range all {
		if all[i].Left != nil && (found == nil || *all[i].Left < *found.Left) {
			found = &all[i]
		}
	}
	return found
}

// servicePage is all that is known about a service.
type servicePage struct {
	Service  string
	Known    bool // Kubernetes answered
	State    state
	Criteria []criterion
	// Metrics says that metrics are collected, Measured that Prometheus answered.
	Metrics, Measured bool
	Objectives        []objective
	Plots             []plot
	Releases          []release
}

// criterion is one thing that a canary is judged by.
type criterion struct {
	Name, Tolerated   string
	Seen, Bad, Needed float64
	Verdict           string // good, bad or open
	Known             bool   // Prometheus has evidence
}

// showService answers with a service's canary, objectives, plots and releases.
func (c *console) showService(ctx *gin.Context) error {
	name := ctx.Param("name")
	promised, known := c.settings.objectives[name]
	if !known {
		return problem.New(problem.NotFound, "There is no service of this name.")
	}
	var reads sync.WaitGroup
	var traffic []sources.Series
	var unplotted error
	if c.metrics != nil {
		reads.Go(func() { traffic, unplotted = c.metrics.Traffic(ctx.Request.Context(), name) })
	}
	cluster, budgets, outages := c.readAll(ctx)
	page := servicePage{Service: name, Known: cluster != nil, Metrics: c.metrics != nil, Measured: budgets != nil}
	if cluster != nil {
		s := cluster.Service(name)
		page.State, page.Releases = stateOf(s), releases(s)
		if page.State.judged() && c.metrics != nil {
			evidence, err := c.metrics.Evidence(ctx.Request.Context(), name, s.Rollout.Status.CurrentPodHash, promised.Criteria())
			if outages.add(err) {
				page.Criteria = criteria(promised, evidence)
			}
		}
	}
	reads.Wait()
	page.Objectives = objectives(name, promised, budgets)
	if outages.add(unplotted) && c.metrics != nil {
		page.Plots = plots(traffic, promised, time.Now())
	}
	return c.pages.render(ctx, http.StatusOK, "service", outages, page)
}

// criteria says what the canary's requests say so far, with the limits of infra/slo.
func criteria(promised slo.Objectives, evidence map[string]sources.Evidence) []criterion {
	var all []criterion
	for _, c := range promised.Criteria() {
		e := evidence[c.Name]
		row := criterion{Name: c.Name, Tolerated: c.Describe(), Seen: e.Total, Bad: e.Bad, Known: e.Against != nil}
		if row.Known {
			row.Needed = max(0, c.Needed(*e.Against))
			switch {
			case *e.Against >= slo.Bad:
				row.Verdict = "bad"
			case row.Needed == 0:
				row.Verdict = "good"
			default:
				row.Verdict = "open"
			}
		}
		all = append(all, row)
	}
	return all
}
