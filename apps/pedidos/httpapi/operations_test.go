package httpapi

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/loja-veloz/platform/apps/internal/api"
	"github.com/loja-veloz/platform/apps/internal/apitest"
	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

const oneShoe = `{"lines":[{"sku":"SHOE-42","quantity":1}],"total":{"amount":34990,"currency":"BRL"},"card_token":"tok_approved"}`

func FuzzPlaceOrder(f *testing.F) {
	f.Add(oneShoe)
	f.Add(`{"lines":[{"sku":"SHOE-42","quantity":1e9}],"total":{"amount":-1,"currency":"BRL"},"card_token":""}`)
	f.Fuzz(func(t *testing.T, body string) {
		request := httptest.NewRequest("POST", "/", strings.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		var decoded contract.OrderRequest
		err := api.Decode(request, &decoded)
		if err == nil {
			_, err = readOrder(&decoded)
		}
		if err == nil {
			if decoded.Total.Amount < 1 || len(decoded.Lines) == 0 || len(decoded.Lines) > maxLines || decoded.CardToken == "" {
				t.Errorf("accepted %s", body)
			}
		} else if known := new(problem.Error); !errors.As(err, &known) || known.Status() >= 500 {
			t.Errorf("%q = %v", body, err)
		}
	})
}

func FuzzCursor(f *testing.F) {
	at := position{Position: checkout.Position{Number: 1}}
	f.Add(orderList.Cursor(at))
	at.Created, at.filter = time.Now(), markOf(checkout.Filter{States: order.States})
	f.Add(orderList.Cursor(at))
	f.Add("MQ")
	f.Fuzz(func(t *testing.T, cursor string) {
		if asked, err := orderList.Request(nil, &cursor); err == nil && orderList.Cursor(asked.After) != cursor {
			t.Errorf("%q is a second cursor for %+v", cursor, asked.After)
		}
	})
}

func TestTheDocumentHasTheSameLimits(t *testing.T) {
	apitest.CheckLimits(t, contract.Document, map[string]apitest.Limit{
		"OrderRequest.lines":        {Min: 1, Max: maxLines},
		"OrderLineRequest.quantity": {Min: 1, Max: maxQuantity},
		"ShipmentRequest.shipment":  {Min: 1, Max: maxShipment},
		"RefundRequest.lines":       {Min: 0, Max: maxLines},
		"RefundRequest.reason":      {Min: 1, Max: value.MaxReason},
	})
}
