package main

import (
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/trace"

	"github.com/loja-veloz/platform/apps/estoque/httpapi"
	"github.com/loja-veloz/platform/apps/estoque/stock"
	contract "github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/server"
)

func newServer(
	settings server.Settings, logger *slog.Logger, provider trace.TracerProvider, goods *stock.Stock, counts *stock.Counts,
) (*server.Server, error) {
	srv, err := server.New(settings, logger, provider, server.Options{
		BodyLimit: httpapi.BodyLimit, Explain: httpapi.Explain, Document: contract.Document,
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the server: %w", err)
	}
	srv.Metrics().MustRegister(counts, stock.NewUnits(goods))
	httpapi.Register(srv.Router(), goods, counts)
	return srv, nil
}
