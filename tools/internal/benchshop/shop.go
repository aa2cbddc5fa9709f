package benchshop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/loja-veloz/platform/tools/internal/dev"
)

// gatewayName is the service that buyers send their requests to.
const gatewayName = "api-gateway"

// jsonLog are settings with which the server logs in JSON, which is simple to parse.
var jsonLog = []string{"logging_collector=on", "log_destination=jsonlog", "log_directory=log", "log_filename=bench.log"}

// benchClient is the client of orders that do not pass api-gateway, which sets the header itself.
const benchClient = "bench-shop"

// serverLog returns the path of that log in the shop's folder.
func serverLog(dir string) string { return filepath.Join(dir, "postgres", "log", "bench.json") }

func (b *bench) shopDir() string { return filepath.Join(b.dir, "shop") }

// startShop starts a shop with PostgreSQL's default durability, as in production.
func (b *bench) startShop(ctx context.Context, o dev.Options) (*dev.Shop, error) {
	env := map[string][]string{}
	for _, s := range b.services() {
		env[s] = append([]string{"LOG_LEVEL=warn"}, b.Env...)
	}
	env[gatewayName] = append(env[gatewayName], "RATE_PER_SECOND=0")
	o.Programs, o.Env, o.Postgres.Settings, o.Out = b.services(), env, jsonLog, b.Out
	return dev.Start(ctx, o)
}

type item struct {
	SKU   string `json:"sku"`
	Price struct {
		Amount   int64  `json:"amount"`
		Currency string `json:"currency"`
	} `json:"price"`
}

// buyers order one unit of a random item each time.
type buyers struct {
	shop  *dev.Shop
	items []item
	run   string // part of each idempotency key
	next  atomic.Int64
}

// plenty is the quantity that is added to the stock of each item.
const plenty = 1_000_000

func newBuyers(ctx context.Context, shop *dev.Shop) (*buyers, error) {
	b := &buyers{shop: shop, run: fmt.Sprint(time.Now().UnixMilli())}
	var page struct{ Items []item }
	if err := call(ctx, http.MethodGet, shop.URL("estoque")+"/estoque?limit=100", "", nil, &page); err != nil {
		return nil, err
	}
	if b.items = page.Items; len(b.items) == 0 {
		return nil, errors.New("estoque lists no items: the migrations of estoque should have created some")
	}
	for _, a := range b.items {
		body := fmt.Sprintf(`{"quantity":%d,"reason":"bench-shop"}`, plenty)
		key := map[string]string{"Idempotency-Key": "bench-" + a.SKU}
		if err := call(ctx, http.MethodPost, shop.URL("estoque")+"/admin/estoque/"+a.SKU+"/top-ups", body, key, nil); err != nil {
			return nil, err
		}
	}
	return b, nil
}

var client = &http.Client{Timeout: 10 * time.Second}

func call(ctx context.Context, method, url, body string, header map[string]string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		request.Header.Set(k, v)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s = %s %.300s", method, url, response.Status, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// order returns the idempotency key and the body of a new order.
func (b *buyers) order(a item) (key, body string) {
	key = fmt.Sprintf("%s-%d", b.run, b.next.Add(1))
	return key, fmt.Sprintf(`{"lines":[{"sku":%q,"quantity":1}],"total":{"amount":%d,"currency":%q},"card_token":"tok_approved"}`,
		a.SKU, a.Price.Amount, a.Price.Currency)
}

// target returns api-gateway as a target that gets a new order with each request. An answer is
// good if it says that the order is confirmed.
func (b *buyers) target() target { return b.targetAt(b.shop.URL(gatewayName)) }

// targetAt is target for another URL, without api-gateway. Then the request names its client.
func (b *buyers) targetAt(url string) target {
	address := strings.TrimPrefix(url, "http://")
	return target{
		address: address,
		request: func() []byte {
			key, body := b.order(b.items[rand.IntN(len(b.items))])
			return post(address, key, body)
		},
		good: func(status int, body []byte) bool {
			return status == http.StatusCreated && bytes.Contains(body, []byte(`"state":"confirmed"`))
		},
	}
}

// post returns the request for an order.
func post(address, key, body string) []byte {
	return fmt.Appendf(nil, "POST /pedidos HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nClient-Id: %s\r\n"+
		"Idempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s", address, benchClient, key, len(body), body)
}

// place places an order of the first item, to be recorded.
func (b *buyers) place(ctx context.Context) (key, sku string, err error) {
	a := b.items[0]
	key, body := b.order(a)
	var o struct{ State string }
	header := map[string]string{"Idempotency-Key": key}
	if err := call(ctx, http.MethodPost, b.shop.URL(gatewayName)+"/pedidos", body, header, &o); err != nil {
		return "", "", err
	}
	if o.State != "confirmed" {
		return "", "", fmt.Errorf("POST /pedidos answered with an order in state %s, want confirmed", o.State)
	}
	return key, a.SKU, nil
}

// usage returns the CPU time of each service of the shop, and of the given programs.
func (b *bench) usage(shop *dev.Shop, programs ...string) (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for _, name := range append(programs, b.services()...) {
		pid, err := shop.PID(name)
		if err != nil {
			return nil, err
		}
		if used[name], err = cpu(pid); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return used, nil
}

// cpuDuring adds the CPU time that PostgreSQL and each service of the shop use during do.
func (b *bench) cpuDuring(shop *dev.Shop, into map[string]time.Duration, do func() error) error {
	before, err := b.usage(shop, dev.PostgreSQL)
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	after, err := b.usage(shop, dev.PostgreSQL)
	for name := range after {
		into[name] += after[name] - before[name]
	}
	return err
}
