package server

import (
	"time"

	"github.com/loja-veloz/platform/apps/internal/config"
)

// Settings of a service's server.
type Settings struct {
	Identity        config.Identity
	BindAddress     string        // BIND_ADDRESS: IP address to listen on; "" (default) means all
	Port            int           // PORT: 8080 by default; 0 means any free port
	DrainPause      time.Duration // DRAIN_PAUSE: 3s by default; from unready until the listener closes
	Docs            bool          // ENABLE_DOCS: false by default; show the service's API at /docs
	ShutdownTimeout time.Duration // SHUTDOWN_TIMEOUT: 15s by default; for running requests after the pause
}

// ReadSettings reads the settings. service is the default of SERVICE_NAME.
//
// By default a shutdown takes up to 3 s + 15 s, and 5 s to send the last traces. That is
// less than the 30 s that Kubernetes allows by default, and leaves time for a preStop
// hook. The drain pause is the time that a gateway needs to learn that the pod is no
// longer ready.
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
