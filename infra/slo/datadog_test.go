package slo_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/infra/slo"
)

// TestEveryWindowHasATimeframeOfDatadog: an SLO has 7, 30 or 90 days, and a monitor at most 168
// hours. An SLO over another time than its objective says so.
func TestEveryWindowHasATimeframeOfDatadog(t *testing.T) {
	timeframes := map[string]string{"24h": "7d", "7d": "7d", "28d": "30d", "30d": "30d"}
	last := regexp.MustCompile(`^sum\(last_(\d+)(m|h)\):`)
	for _, window := range slo.Windows {
		o := promised()
		o.AvailabilityWindow, o.LatencyWindow, o.ErrorRateWindow = window, window, window
		for _, object := range o.Datadog("shop", slo.DatadogPlace{Environment: "dev", Cluster: "c", Namespace: "shop"}) {
			switch body := object.Spec.(type) {
			case slo.DatadogSLO:
				want := timeframes[slo.Period(window)]
				if got := body.Thresholds[0].Timeframe; got != want {
					t.Errorf("%s over %s has the timeframe %s, want %s", object.Name, slo.Period(window), got, want)
				}
				if said := strings.Contains(body.Description, "no such timeframe"); said != (want != slo.Period(window)) {
					t.Errorf("%s over %s is described as %q", object.Name, slo.Period(window), body.Description)
				}
			case slo.DatadogMonitor:
				match := last.FindStringSubmatch(body.Query)
				if match == nil {
					t.Errorf("%s has no window: %s", object.Name, body.Query)
					continue
				}
				if n, _ := strconv.Atoi(match[1]); n < 1 || n > 168 || match[2] == "m" && n >= 60 {
					t.Errorf("%s has the window %s", object.Name, match[0])
				}
			}
		}
	}
}
