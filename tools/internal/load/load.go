// Package load sends a steady, bounded load to a service and counts the answers by the
// version that sent them.
package load

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// VersionHeader is the response header with which every service names its version.
const VersionHeader = "Service-Version"

// A Target says which URL to request, at which rate and how many times. URL, PerSecond and
// Max are required.
type Target struct {
	URL       string
	PerSecond int // requests per second
	Max       int // requests in all
	Header    map[string]string
	// Observe, if set, is called after each request with the time at which it was sent and
	// the version that answered, or "" if the request failed.
	Observe func(sent time.Time, version string)
}

// A Report sums up a run. A request counts as failed unless its answer's status is 2xx or
// 3xx.
type Report struct {
	Requests, Failed int
	Versions         map[string]int // answers by Service-Version
	P50, P99         time.Duration
	Errors           []string // without duplicates
}

func (r Report) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	s := fmt.Sprintf("%d requests, %d failed, p50 %s, p99 %s", r.Requests, r.Failed, round(r.P50), round(r.P99))
	for _, v := range slices.Sorted(maps.Keys(r.Versions)) {
		s += fmt.Sprintf(", version %s %d (%.1f %%)", v, r.Versions[v], 100*float64(r.Versions[v])/float64(max(1, r.Requests)))
	}
	if len(r.Errors) > 0 {
		s += "; " + strings.Join(r.Errors, "; ")
	}
	return s
}

// Run sends requests until Max were sent or ctx ends, and returns after the last answer.
func Run(ctx context.Context, t Target) Report {
	target := vegeta.Target{Method: "GET", URL: t.URL, Header: map[string][]string{}}
	for k, v := range t.Header {
		target.Header.Set(k, v)
	}
	// Connections are not reused, so that the gateway balances each request separately, as
	// it does those of many shoppers.
	attacker := vegeta.NewAttacker(vegeta.KeepAlive(false), vegeta.Timeout(10*time.Second), vegeta.Redirects(vegeta.NoFollow))
	length := time.Duration(t.Max) * time.Second / time.Duration(t.PerSecond)
	rate := vegeta.Rate{Freq: t.PerSecond, Per: time.Second}
	results := attacker.Attack(vegeta.NewStaticTargeter(target), rate, length, "load")
	stop := context.AfterFunc(ctx, func() { attacker.Stop() })
	defer stop()

	var m vegeta.Metrics
	report := Report{Versions: map[string]int{}}
	for r := range results {
		m.Add(r)
		version := r.Headers.Get(VersionHeader)
		if r.Code < 200 || r.Code >= 400 {
			version = ""
			report.Failed++
		} else {
			report.Versions[version]++
		}
		if t.Observe != nil {
			t.Observe(r.Timestamp, version)
		}
	}
	m.Close()
	report.Requests = int(m.Requests)
	report.P50, report.P99, report.Errors = m.Latencies.P50, m.Latencies.P99, distinct(m.Errors)
	return report
}

// ownPort is the part of an error that names the port of a connection's near end, which is
// another for each request.
var ownPort = regexp.MustCompile(`:\d+->`)

// distinct returns each error once, whichever connection met it.
func distinct(errs []string) []string {
	for i, err := range errs {
		errs[i] = ownPort.ReplaceAllString(err, "->")
	}
	slices.Sort(errs)
	return slices.Compact(errs)
}
