package main

import (
	"github.com/loja-veloz/platform/apps/estoque/httpapi"
	"github.com/loja-veloz/platform/apps/estoque/stock"
	contract "github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/server"
	"github.com/loja-veloz/platform/apps/internal/service"
)

func newServer(frame *service.Frame, goods *stock.Stock, counts *stock.Counts) (*server.Server, error) {
	srv, err := frame.NewServer(server.Options{
		BodyLimit: httpapi.BodyLimit, Explain: httpapi.Explain, Document: contract.Document,
	})
	if err != nil {
		return nil, err
	}
	srv.Metrics().MustRegister(counts, stock.NewUnits(goods))
	httpapi.Register(srv.Router(), goods, counts)
	return srv, nil
}
