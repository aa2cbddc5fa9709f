package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/loja-veloz/platform/apps/internal/config"
)

const (
	// healthCached is how long a deep answer serves everyone who asks, so that
	// asking the gateway is no way to have it ask everyone else.
	healthCached = time.Second
	// healthTimeout bounds how long one upstream is waited for.
	healthTimeout = time.Second
)

// deepHealth asks the upstreams how they are.
type deepHealth struct {
	identity  config.Identity
	upstreams map[string]*upstream
	now       func() time.Time

	mu    sync.Mutex // held while asking: those who ask meanwhile get the same answer
	asked time.Time
	last  healthReport
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
	Circuit string `json:"circuit"` // closed, half-open or open
}

func newDeepHealth(identity config.Identity, upstreams map[string]*upstream) *deepHealth {
	return &deepHealth{identity: identity, upstreams: upstreams, now: time.Now}
}

// serve answers /health: 200 while the process lives or, with ?deep=1, 200 if
// every upstream is well and else 503.
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
	if !h.asked.IsZero() && h.now().Sub(h.asked) < healthCached {
		return h.last
	}
	// The answer is everyone's, so it does not depend on who asked staying on.
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
			}{up.name, upstreamHealth{up.health(ctx), up.breaker.State().String()}}
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
	h.last, h.asked = report, h.now()
	return report
}

// health asks the upstream's own /health, past circuit and bulkhead.
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
