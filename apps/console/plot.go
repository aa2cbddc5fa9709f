package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/loja-veloz/platform/apps/console/sources"
	"github.com/loja-veloz/platform/infra/slo"
)

// The area of a plot within its SVG, in units of the view box 320 by 130.
const (
	plotLeft, plotRight = 4.0, 316.0
	plotTop, plotBottom = 18.0, 112.0
)

// plot is a picture of lines over the last half hour. What it shows is also in words: Summary
// and the lines' values.
type plot struct {
	ID, Title, Summary string
	Top                string // the value at the upper edge
	Lines              []line
	Limits             []limit
}

// line is one series that has values. Its name is also its class in the style sheet. Path is the
// d of an SVG path, with a gap where there are no values.
type line struct {
	Name, Path        string
	Last, Least, Most string
}

// limit is a promise, as a horizontal line.
type limit struct {
	Name string
	Y    string
}

// plots draws the rate of requests and their durations.
func plots(series []sources.Series, promised slo.Objectives, now time.Time) []plot {
	var rates, durations []sources.Series
	for _, s := range series {
		if s.Name == "rate" {
			s.Name = or(s.Role, "all")
			rates = append(rates, s)
		} else {
			durations = append(durations, s)
		}
	}
	perSecond := func(v float64) string { return significant(v) + "/s" }
	return []plot{
		draw("rate", "Requests per second", rates, nil, perSecond, now),
		draw("durations", "Duration of requests", durations, map[string]time.Duration{"p99 promise": promised.P99}, seconds, now),
	}
}

func draw(
	id, title string, series []sources.Series, promises map[string]time.Duration, format func(float64) string, now time.Time,
) plot {
	top := 0.0
	for _, s := range series {
		for _, p := range s.Points {
			top = max(top, p.Value)
		}
	}
	top = nice(top)
	p := plot{ID: id, Title: title, Top: format(top)}
	y := func(value float64) float64 { return plotBottom - (plotBottom-plotTop)*value/top }
	for name, promise := range promises {
		// A promise far above the lines would press them flat.
		if promise.Seconds() <= top {
			p.Limits = append(p.Limits, limit{name + " " + promise.String(), coordinate(y(promise.Seconds()))})
		}
	}
	var words []string
	for _, s := range series {
		if len(s.Points) == 0 {
			continue
		}
		least, most := math.Inf(1), math.Inf(-1)
		for _, point := range s.Points {
			least, most = min(least, point.Value), max(most, point.Value)
		}
		l := line{s.Name, path(s.Points, now, y), format(s.Points[len(s.Points)-1].Value), format(least), format(most)}
		words = append(words, fmt.Sprintf("%s is %s, and was between %s and %s", l.Name, l.Last, l.Least, l.Most))
		p.Lines = append(p.Lines, l)
	}
	if p.Summary = strings.Join(words, "; "); p.Summary == "" {
		p.Summary = "There were no requests"
	}
	p.Summary += ", in the last 30 minutes."
	return p
}

// path joins points that are at most two steps apart.
func path(points []sources.Point, now time.Time, y func(float64) float64) string {
	const gap = 75 * time.Second
	var b strings.Builder
	var before time.Time
	for _, p := range points {
		command := "L"
		if p.At.Sub(before) > gap {
			command = "M"
		}
		age := now.Sub(p.At).Seconds() / sources.PlotWindow.Seconds()
		x := plotRight - (plotRight-plotLeft)*max(0, min(1, age))
		b.WriteString(command + coordinate(x) + " " + coordinate(y(p.Value)))
		before = p.At
	}
	return b.String()
}

func coordinate(v float64) string { return fmt.Sprintf("%.1f", v) }

// nice is the next round number up; 1 for 0.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, factor := range []float64{1, 1.5, 2, 2.5, 3, 4, 5, 6, 8} {
		if v <= factor*unit {
			return factor * unit
		}
	}
	return 10 * unit
}
