package server

import (
	"time"

	"github.com/loja-veloz/platform/apps/internal/config"
)

// Settings of a service's server.
type Settings struct {
	Identity        config.Identity
	BindAddress     string        // BIND_ADDRESS: IP address to listen on; "" (default) is all of them
	Port            int           // PORT: 8080; 0 takes any free port
	DrainPause      time.Duration // DRAIN_PAUSE: 3s, from unready until the listener closes
	Docs            bool          // ENABLE_DOCS: false; show the service's API at /docs
	ShutdownTimeout time.Duration // SHUTDOWN_TIMEOUT: 15s, for requests that still run after that
}

// ReadSettings reads the settings; service is the default of SERVICE_NAME.
//
// The defaults of the shutdown (3 s + 15 s, and up to 5 s to flush traces) stay
// within the 30 s that Kubernetes grants by default, with room for a preStop
// pause. The drain pause is what a gateway needs to hear that the pod left.
func ReadSettings(env *config.Reader, service string) Settings {
	return Settings{
		Identity:        env.Identity(service),
		BindAddress:     env.IP("BIND_ADDRESS"),
		Port:            env.Int("PORT", 8080, 0, 65535),
		DrainPause:      env.Duration("DRAIN_PAUSE", 3*time.Second, 0, 5*time.Minute),
		Docs:            env.Choice("ENABLE_DOCS", "false", "true") == "true",
		ShutdownTimeout: env.Duration("SHUTDOWN_TIMEOUT", 15*time.Second, time.Second, 10*time.Minute),
	}
}
