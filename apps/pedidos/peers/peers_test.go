package peers

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/client"
	"github.com/loja-veloz/platform/apps/internal/money"
)

// The first call for a price gets no answer. The orders that wait for it are placed all the
// same.
func TestALostPriceIsAskedForAgain(t *testing.T) {
	var calls atomic.Int32
	estoque := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"sku":"SHOE-42","name":"Shoe","description":"","price":{"amount":100,"currency":"BRL"},"available":1}`))
	}))
	defer estoque.Close()
	stock, err := NewStock(estoque.URL, client.New(time.Minute, noop.NewTracerProvider()))
	if err != nil {
		t.Fatal(err)
	}
	// As long as pedidos waits for prices.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	price, err := stock.Price(ctx, "SHOE-42")
	if err != nil || price != money.BRL(100) || calls.Load() != 2 {
		t.Errorf("Price = %v, %v after %d calls", price, err, calls.Load())
	}
}
