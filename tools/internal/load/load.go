// Package load drives a steady, bounded load at a service and counts what
// comes back, by the version that answered.
package load

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// VersionHeader is the response header by which every service names its version.
const VersionHeader = "Service-Version"

// A Target is what to call, how often and how many times in all.
type Target struct {
	URL       string
	PerSecond int
	Most      int // requests in all
	Header    map[string]string
	// Observe, if set, is told each answer as it comes: when its request was
	// sent, and the version that answered ("" where it failed).
	Observe func(sent time.Time, version string)
}

// A Report sums up a run. A request has failed unless its answer is 2xx or 3xx.
type Report struct {
	Requests, Failed int
	Versions         map[string]int // answers by Service-Version
	P50, P99         time.Duration
	Errors           []string // distinct ones
}

func (r Report) String() string {
	s := fmt.Sprintf("%d requests, %d failed, p50 %s, p99 %s", r.Requests, r.Failed, r.P50.Round(100*time.Microsecond), r.P99.Round(100*time.Microsecond))
	for _, v := range slices.Sorted(maps.Keys(r.Versions)) {
		s += fmt.Sprintf(", version %s %d (%.1f %%)", v, r.Versions[v], 100*float64(r.Versions[v])/float64(max(1, r.Requests)))
	}
	if len(r.Errors) > 0 {
		s += "; " + strings.Join(r.Errors, "; ")
	}
	return s
}

// Run drives the load until Most requests were sent or ctx ends, and returns
// when the last answer is in.
func Run(ctx context.Context, t Target) Report {
	target := vegeta.Target{Method: "GET", URL: t.URL, Header: map[string][]string{}}
	for k, v := range t.Header {
		target.Header.Set(k, v)
	}
	// Connections are not kept: each request is balanced anew, as those of
	// many shoppers are.
	attacker := vegeta.NewAttacker(vegeta.KeepAlive(false), vegeta.Timeout(10*time.Second), vegeta.Redirects(vegeta.NoFollow))
	rate := vegeta.Rate{Freq: t.PerSecond, Per: time.Second}
	results := attacker.Attack(vegeta.NewStaticTargeter(target), rate, time.Duration(t.Most)*time.Second/time.Duration(t.PerSecond), "load")
	var once sync.Once
	stop := context.AfterFunc(ctx, func() { once.Do(func() { attacker.Stop() }) })
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
	report.P50, report.P99, report.Errors = m.Latencies.P50, m.Latencies.P99, m.Errors
	return report
}
