package benchshop

import (
	"bytes"
	"context"
	"encoding/json"
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

// gatewayName is the service through which buyers order.
const gatewayName = "api-gateway"

// jsonLog has the server log in a form that is parsed without guessing.
var jsonLog = []string{"logging_collector=on", "log_destination=jsonlog", "log_directory=log", "log_filename=bench.log"}

// serverLog is the path of that log below the shop's folder.
func serverLog(dir string) string { return filepath.Join(dir, "postgres", "log", "bench.json") }

func (b *bench) shopDir() string { return filepath.Join(b.dir, "shop") }

// startShop starts the shop with the durability of production: PostgreSQL's defaults.
func (b *bench) startShop(ctx context.Context) (*dev.Shop, error) {
	env := map[string][]string{}
	for _, s := range b.services() {
		env[s] = append([]string{"LOG_LEVEL=warn"}, b.Env...)
	}
	env[gatewayName] = append(env[gatewayName], "RATE_PER_SECOND=0")
	return dev.Start(ctx, dev.Options{Dir: b.shopDir(), Programs: b.services(), Env: env, Postgres: jsonLog, Out: b.Out})
}

type article struct {
	SKU   string `json:"sku"`
	Price struct {
		Amount   int64  `json:"amount"`
		Currency string `json:"currency"`
	} `json:"price"`
}

// buyers order one unit of a random article each time.
type buyers struct {
	shop     *dev.Shop
	articles []article
	run      string // in each key
	next     atomic.Int64
}

// plenty is added to the stock of each article.
const plenty = 1_000_000

func newBuyers(ctx context.Context, shop *dev.Shop) (*buyers, error) {
	b := &buyers{shop: shop, run: fmt.Sprint(time.Now().UnixMilli())}
	var page struct{ Items []article }
	if err := call(ctx, http.MethodGet, shop.URL(gatewayName)+"/estoque?limit=100", "", nil, &page); err != nil {
		return nil, err
	}
	if b.articles = page.Items; len(b.articles) == 0 {
		return nil, fmt.Errorf("the shop has no articles")
	}
	for _, a := range b.articles {
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

// order is the body of a new order and its key.
func (b *buyers) order(a article) (key, body string) {
	key = fmt.Sprintf("%s-%d", b.run, b.next.Add(1))
	return key, fmt.Sprintf(`{"lines":[{"sku":%q,"quantity":1}],"total":{"amount":%d,"currency":%q},"card_token":"tok_approved"}`,
		a.SKU, a.Price.Amount, a.Price.Currency)
}

// target places an order through api-gateway with each request. An answer is good if
// the order is confirmed in it.
func (b *buyers) target() target {
	address := strings.TrimPrefix(b.shop.URL(gatewayName), "http://")
	return target{
		address: address,
		request: func() []byte {
			key, body := b.order(b.articles[rand.IntN(len(b.articles))])
			return fmt.Appendf(nil, "POST /pedidos HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
				"Idempotency-Key: %s\r\nContent-Length: %d\r\n\r\n%s", address, key, len(body), body)
		},
		good: func(status int, body []byte) bool {
			return status == http.StatusCreated && bytes.Contains(body, []byte(`"state":"confirmed"`))
		},
	}
}

// place places an order, always of the same article, to be recorded.
func (b *buyers) place(ctx context.Context) (key, sku string, err error) {
	a := b.articles[0]
	key, body := b.order(a)
	var o struct{ State string }
	header := map[string]string{"Idempotency-Key": key}
	if err := call(ctx, http.MethodPost, b.shop.URL(gatewayName)+"/pedidos", body, header, &o); err != nil {
		return "", "", err
	}
	if o.State != "confirmed" {
		return "", "", fmt.Errorf("the order is %s when it is answered", o.State)
	}
	return key, a.SKU, nil
}

// usage is the CPU time of each process of the shop.
func (b *bench) usage(shop *dev.Shop) (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for _, name := range append([]string{dev.PostgreSQL}, b.services()...) {
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
