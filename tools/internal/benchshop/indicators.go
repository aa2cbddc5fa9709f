package benchshop

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/loja-veloz/platform/apps/catalogue"
)

// aboveBaseline is how much more than its baselineRPS a service sustains, as
// docs/slo.md promises.
const aboveBaseline = 1.2

// indicators sends orders and pages at the rates that the services promise to sustain, and
// reads from the services' own histograms how fast they answered.
func (o *observation) indicators(ctx context.Context) error {
	promised := map[string]catalogue.Objectives{}
	orders := 0.0
	for _, s := range o.catalogue.Services() {
		promised[s.Name] = *s.Objectives
		if s.Name != "sample-web-app" {
			orders = max(orders, aboveBaseline*s.Objectives.BaselineRPS)
		}
	}
	pages := aboveBaseline * promised["sample-web-app"].BaselineRPS
	length := o.length(30 * time.Second)
	o.Out.Step("the services' indicators: %.0f orders/s and %.0f pages/s for %s", orders, pages, length)
	closed(ctx, o.buyers.target(), observedClients, o.length(2*time.Second)) // warms up
	before, err := o.histograms(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	var all sync.WaitGroup
	all.Go(func() { open(ctx, o.buyers.target(), orders, length) })
	all.Go(func() { open(ctx, get(o.shop.URL("sample-web-app"), "/"), pages, length) })
	all.Wait()
	elapsed := time.Since(began).Seconds()
	after, err := o.histograms(ctx)
	if err != nil {
		return err
	}
	o.table.head(fmt.Sprintf("Indicators at %v times baselineRPS, as each service measures itself", aboveBaseline))
	for _, name := range o.services() {
		o.indicator(name, promised[name], after[name].minus(before[name]), elapsed)
	}
	return context.Cause(ctx)
}

// indicator adds a service's row. Half of the requests within p50 means that the median is.
func (o *observation) indicator(name string, want catalogue.Objectives, m metrics, seconds float64) {
	const ok = `outcome="ok"`
	all := m.sum("sli_request_duration_seconds_count", ok)
	bad := m.sum("sli_request_duration_seconds_count", `outcome="error"`)
	within := func(d time.Duration) float64 {
		edge := fmt.Sprintf("le=%q", strconv.FormatFloat(d.Seconds(), 'g', -1, 64))
		return 100 * m.sum("sli_request_duration_seconds_bucket", ok, edge) / max(1, all)
	}
	p50, p99, rate := within(want.P50), within(want.P99), all/seconds
	// A hundredth less, since the load ends with the last answer and not after its last request.
	met := rate >= 0.99*aboveBaseline*want.BaselineRPS && bad == 0 && p50 >= 50 && p99 >= 99
	o.table.row(name+": answers per second; within p50; within p99; errors", fmt.Sprintf("%.1f; %.1f %%; %.2f %%; %.0f", rate, p50, p99, bad),
		fmt.Sprintf(">= %.0f/s, p50 %s, p99 %s", aboveBaseline*want.BaselineRPS, want.P50, want.P99), met)
}

// metrics are a program's samples: values by name and labels.
type metrics map[string]float64

func (o *observation) histograms(ctx context.Context) (map[string]metrics, error) {
	all := map[string]metrics{}
	for _, name := range o.services() {
		m, err := scrape(ctx, o.shop.URL(name))
		if err != nil {
			return nil, err
		}
		all[name] = m
	}
	return all, nil
}

func (m metrics) minus(before metrics) metrics {
	change := metrics{}
	for sample, value := range m {
		change[sample] = value - before[sample]
	}
	return change
}

// sum adds the samples of a name that have all labels, each written as name="value".
func (m metrics) sum(name string, labels ...string) float64 {
	sum := 0.0
	for sample, value := range m {
		if strings.HasPrefix(sample, name+"{") && !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(sample, l) }) {
			sum += value
		}
	}
	return sum
}

// scrape reads a program's metrics in the text format.
func scrape(ctx context.Context, url string) (metrics, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s/metrics = %s", url, response.Status)
	}
	return readMetrics(response.Body)
}

func readMetrics(from io.Reader) (metrics, error) {
	m := metrics{}
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		line := lines.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("a line of the metrics is %q: %w", line, err)
		}
		m[line[:at]] = value
	}
	return m, lines.Err()
}
