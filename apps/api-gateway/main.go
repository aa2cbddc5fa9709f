// Command api-gateway is the only entry of Loja Veloz's API. It forwards the requests
// that clients may make and refuses all others, tells services who the client is, limits
// each client's rate, and keeps a failing service from affecting the others.
package main

import (
	"context"
	"io"
	"os"
	"runtime/debug"

	"github.com/loja-veloz/platform/apps/internal/config"
	contract "github.com/loja-veloz/platform/apps/internal/contract/gateway"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

const name = "api-gateway"

var run = service.Commands{"": serve}.Run

func main() { service.Main(name, run) }

// collectAt is the growth of the heap in percent at which garbage is collected, unless GOGC says
// otherwise. Little outlives a request, so at Go's default of 100 a heap of a few MiB is collected
// many times a second under load, which takes a fifth of the processor time (docs/performance.md).
// GOMEMLIMIT bounds the heap in a pod.
const collectAt = 400

func collectLess(gogc string) {
	if gogc == "" {
		debug.SetGCPercent(collectAt)
	}
}

func serve(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	collectLess(os.Getenv("GOGC"))
	settings := readSettings(env)
	frame, err := service.Start(ctx, name, env, stdout)
	if err != nil {
		return err
	}
	defer frame.Close()
	srv, err := newServer(frame, settings)
	if err != nil {
		return err
	}
	return frame.Serve(ctx, srv)
}

// newServer returns the server with the gateway's routes.
func newServer(frame *service.Frame, settings settings) (*server.Server, error) {
	g := newGateway(frame, settings)
	srv, err := frame.NewServer(server.Options{
		BodyLimit: settings.bodyLimit, Health: g.health.serve, Document: contract.Document,
	})
	if err != nil {
		return nil, err
	}
	if err := g.register(srv); err != nil {
		return nil, err
	}
	return srv, nil
}
