package server

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

const (
	healthPath  = "/health"
	readyPath   = "/ready"
	metricsPath = "/metrics"
)

// isProbe tells whether a path is one that machines request every few seconds. Such
// requests are counted, but neither traced nor logged above the level debug.
func isProbe(path string) bool {
	return path == healthPath || path == readyPath || path == metricsPath
}

type probe struct {
	Status  string `json:"status"`
	Service string `json:"service"`
	Version string `json:"version"`
	Pod     string `json:"pod"`
}

// addProbes serves /health, which is ok as long as the process answers, /ready, which
// tells whether the process accepts traffic, and /metrics.
func (s *Server) addProbes() {
	identity := s.settings.Identity
	say := func(c *gin.Context, code int, status string) {
		c.Header("Cache-Control", "no-store")
		c.JSON(code, probe{status, identity.Service, identity.Version, identity.Pod})
	}
	health := s.options.Health
	if health == nil {
		health = func(c *gin.Context) error {
			say(c, http.StatusOK, "ok")
			return nil
		}
	}
	s.Handle("health", healthPath, health, http.MethodGet)
	s.Handle("ready", readyPath, func(c *gin.Context) error {
		if s.draining.Load() {
			say(c, http.StatusServiceUnavailable, "draining")
			return nil
		}
		say(c, http.StatusOK, "ready")
		return nil
	}, http.MethodGet)
	metrics := s.metrics.handler(s.logger)
	s.Handle("metrics", metricsPath, func(c *gin.Context) error {
		metrics.ServeHTTP(c.Writer, c.Request)
		return nil
	}, http.MethodGet)
}
