package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/infra/slo"
)

// Docs replaces the tables of docs/slo.md that state objectives and alarms, between comments with their
// names.
func Docs(page string, defaults slo.Objectives, services []catalogue.Program) (string, error) {
	for _, table := range []struct{ name, content string }{
		{"defaults", defaultsTable(defaults)}, {"services", servicesTable(defaults, services)}, {"criteria", criteriaTable(defaults)},
		{"alarms", alarmsTable()},
	} {
		start, end := fmt.Sprintf("<!-- %s: written by make generate -->\n", table.name), fmt.Sprintf("<!-- end of %s -->\n", table.name)
		before, rest, opened := strings.Cut(page, start)
		_, after, closed := strings.Cut(rest, end)
		if !opened || !closed {
			return "", fmt.Errorf("the page has no lines %q and %q", strings.TrimSpace(start), strings.TrimSpace(end))
		}
		page = before + start + table.content + end + after
	}
	return page, nil
}

// defaultsTable is what a service promises that declares no objectives.
func defaultsTable(o slo.Objectives) string {
	budgets := map[string]string{}
	for _, objective := range o.List() {
		budgets[objective.Name] = words(objective.Budget())
	}
	return table([]string{"key", "default", "error budget", "promise"}, [][]string{
		{"`availability`", fmt.Sprintf("%v %% over %s", o.Availability, words(o.AvailabilityWindow)), budgets["availability"],
			"this share of the requests gets no server error (status 500 and above)"},
		{"`latency`", fmt.Sprintf("%v %% within %s over %s", o.Latency, words(o.LatencyThreshold), words(o.LatencyWindow)), budgets["latency"],
			"of the requests answered without any error, this share is answered within the threshold"},
		{"`errorRate`", fmt.Sprintf("%v %% over %s", o.ErrorRate, words(o.ErrorRateWindow)), budgets["error-rate"],
			"at most this share of the requests gets a server error"},
		{"`p50`, `p99`", words(o.P50) + ", " + words(o.P99), "",
			"half, and 99 of 100, of the requests answered without any error are faster"},
		{"`baselineRPS`", fmt.Sprint(o.BaselineRPS), "",
			"the usual load; the service sustains 1.2 times as much within its other objectives"},
	})
}

// servicesTable is what each service promises instead of the defaults.
func servicesTable(defaults slo.Objectives, services []catalogue.Program) string {
	var rows [][]string
	for _, service := range services {
		o, differs := slo.Objectives(*service.Objectives), []string(nil)
		add := func(key string, different bool, format string, values ...any) {
			if different {
				differs = append(differs, fmt.Sprintf("`%s` ", key)+fmt.Sprintf(format, values...))
			}
		}
		add("availability", o.Availability != defaults.Availability || o.AvailabilityWindow != defaults.AvailabilityWindow,
			"%v %% over %s", o.Availability, words(o.AvailabilityWindow))
		add("latency", o.Latency != defaults.Latency || o.LatencyThreshold != defaults.LatencyThreshold ||
			o.LatencyWindow != defaults.LatencyWindow, "%v %% within %s over %s", o.Latency, words(o.LatencyThreshold), words(o.LatencyWindow))
		add("errorRate", o.ErrorRate != defaults.ErrorRate || o.ErrorRateWindow != defaults.ErrorRateWindow,
			"%v %% over %s", o.ErrorRate, words(o.ErrorRateWindow))
		add("p50", o.P50 != defaults.P50, "%s", words(o.P50))
		add("p99", o.P99 != defaults.P99, "%s", words(o.P99))
		add("baselineRPS", o.BaselineRPS != defaults.BaselineRPS, "%v", o.BaselineRPS)
		if len(differs) == 0 {
			differs = []string{"nothing"}
		}
		rows = append(rows, []string{service.Name, strings.Join(differs, ", ")})
	}
	return table([]string{"service", "differs from the defaults in"}, rows)
}

// criteriaTable is what a canary is judged by, with the defaults.
func criteriaTable(o slo.Objectives) string {
	about := map[string][2]string{
		"errors":  {"it gets a server error", ": the stricter of `errorRate` and `availability`"},
		"latency": {"it takes longer than `latency.threshold`", ""},
		"p99":     {"it takes longer than `p99`", ""},
	}
	var rows [][]string
	for _, c := range o.Criteria() {
		rows = append(rows, []string{
			"`" + c.Name + "`", about[c.Name][0], fmt.Sprintf("%.4g %%", 100*c.Tolerated) + about[c.Name][1], fmt.Sprint(c.Needed(0)),
		})
	}
	return table([]string{"criterion", "a request is bad if", "tolerated", "requests"}, rows)
}

// alarmsTable is what an operator hears of besides budgets.
func alarmsTable() string {
	var rows [][]string
	for _, a := range slo.Alarms(true) {
		file, _, _ := strings.Cut(a.Page, "#")
		rows = append(rows, []string{"`" + a.Name + "`", a.Means, a.When, a.Severity, fmt.Sprintf("%s More: [%s](%s)", a.Do, file, a.Page)})
	}
	return table([]string{"alert", "means", "fires when", "severity", "what to do"}, rows)
}

func table(head []string, rows [][]string) string {
	var out strings.Builder
	line := func(cells []string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	out.WriteString("|" + strings.Repeat("---|", len(head)) + "\n")
	for _, row := range rows {
		line(row)
	}
	return out.String()
}

// words writes a duration as the documents do: 30 days, 8 h 24 min, 86.4 s, 200 ms. Windows of
// an objective are whole hours: 24 hours.
func words(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%v s", d.Seconds())
	case d > day && d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
}
