package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/config"
)

const (
	// healthCached is how long a deep report is reused, so that clients cannot load
	// the upstreams by requesting it often.
	healthCached = time.Second
	// healthTimeout limits the check of all upstreams, which run in parallel.
	healthTimeout = time.Second
)

// deepHealth checks the health of the upstreams.
type deepHealth struct {
	identity  config.Identity
	upstreams map[string]*upstream
	now       func() time.Time

	mu      sync.Mutex // held during a check: concurrent requests share its report
	checked time.Time
	last    healthReport
}

type healthReport struct {
	Status    string                    `json:"status"` // ok or degraded
	Service   string                    `json:"service"`
	Version   string                    `json:"version"`
	Pod       string                    `json:"pod"`
	Upstreams map[string]upstreamHealth `json:"upstreams,omitempty"`
}

type upstreamHealth struct {
	Status  string `json:"status"`  // ok, failing or unreachable
	Circuit string `json:"circuit"` // closed, half-open or open: the worst of its operations
}

func newDeepHealth(identity config.Identity, upstreams map[string]*upstream) *deepHealth {
	return &deepHealth{identity: identity, upstreams: upstreams, now: time.Now}
}

// serve answers /health with 200. With ?deep=1 it answers 200 if every upstream is
// healthy, and 503 otherwise.
func (h *deepHealth) serve(c *gin.Context) error {
	c.Header("Cache-Control", "no-store")
	if c.Query("deep") != "1" {
		c.JSON(http.StatusOK, h.alive())
		return nil
	}
	report := h.report(c.Request.Context())
	status := http.StatusOK
	if report.Status != "ok" {
		status = http.StatusServiceUnavailable
	}
	c.JSON(status, report)
	return nil
}

func (h *deepHealth) alive() healthReport {
	return healthReport{Status: "ok", Service: h.identity.Service, Version: h.identity.Version, Pod: h.identity.Pod}
}

func (h *deepHealth) report(ctx context.Context) healthReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.checked.IsZero() && h.now().Sub(h.checked) < healthCached {
		return h.last
	}
	// Other requests share the report, so it must survive the end of this one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
	defer cancel()

	states := make(chan struct {
		name  string
		state upstreamHealth
	})
	for _, up := range h.upstreams {
		go func() {
			states <- struct {
				name  string
				state upstreamHealth
			}{up.name, upstreamHealth{up.health(ctx), up.circuit().String()}}
		}()
	}
	report := h.alive()
	report.Upstreams = map[string]upstreamHealth{}
	for range h.upstreams {
		answer := <-states
		report.Upstreams[answer.name] = answer.state
		if answer.state.Status != "ok" {
			report.Status = "degraded"
		}
	}
	h.last, h.checked = report, h.now()
	return report
}

// circuit returns the worst state of the upstream's circuits.
func (u *upstream) circuit() circuitbreaker.State {
	worst := circuitbreaker.ClosedState
	for _, guard := range u.guards {
		if state := guard.breaker.State(); badness(state) > badness(worst) {
			worst = state
		}
	}
	return worst
}

// health requests the upstream's /health. It bypasses the circuit and the bulkhead.
func (u *upstream) health(ctx context.Context) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.base.JoinPath("/health").String(), nil)
	if err != nil {
		return "unreachable"
	}
	answer, err := u.transport.RoundTrip(request)
	if err != nil {
		return "unreachable"
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "failing"
	}
	return "ok"
}
