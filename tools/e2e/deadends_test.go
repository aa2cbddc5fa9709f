//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/loja-veloz/platform/tools/internal/dev"
)

// walkDeadEnds takes the ways on which shoppers get stuck elsewhere. Each has to lead to an order, or to
// a page that says what to do.
func walkDeadEnds(ctx context.Context, t *testing.T, shop *dev.Shop) {
	base, stock := shop.URL("sample-web-app"), shop.URL("estoque")
	t.Run("a double click", func(t *testing.T) { doubleClick(newTab(ctx, t), base) })
	t.Run("a second tab", func(t *testing.T) { secondTab(newTab(ctx, t), newTab(ctx, t), base) })
	t.Run("a price that changed meanwhile", func(t *testing.T) {
		putItem(t, stock, "PIN-A", 5000, 3)
		priceChanged(newTab(ctx, t), base, func() { putItem(t, stock, "PIN-A", 6000, 0) })
	})
	t.Run("an article that sold out meanwhile", func(t *testing.T) {
		putItem(t, stock, "PIN-B", 5000, 1)
		soldOut(newTab(ctx, t), newTab(ctx, t), base)
	})
	t.Run("a page that waits for days", func(t *testing.T) { expired(newTab(ctx, t), base) })
}

// putItem creates or changes an item and adds units to its stock.
func putItem(t *testing.T, stock, sku string, price, units int) {
	t.Helper()
	send := func(method, path, body string) {
		request, err := http.NewRequestWithContext(t.Context(), method, stock+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", fmt.Sprintf("%s-%d-%d", sku, price, units))
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if answer, _ := io.ReadAll(response.Body); response.StatusCode >= http.StatusBadRequest {
			t.Fatalf("%s %s = %d %s", method, path, response.StatusCode, answer)
		}
	}
	send(http.MethodPut, "/admin/estoque/"+sku, fmt.Sprintf(`{"name":"Pin","description":"Tin.","price":{"amount":%d,"currency":"BRL"}}`, price))
	if units > 0 {
		send(http.MethodPost, "/admin/estoque/"+sku+"/top-ups", fmt.Sprintf(`{"quantity":%d,"reason":"test"}`, units))
	}
}

// ready opens the shop, with one of the item chosen and a good card entered.
func (p *tab) ready(base, sku string) {
	p.t.Helper()
	eventually(p.t, time.Minute, "the page has the item "+sku, func() error { // its list is up to a second old
		p.open(base + "/")
		if !evaluate[bool](p, fmt.Sprintf(`document.getElementById("quantity-%s") !== null`, sku)) {
			return errors.New("it has not")
		}
		return nil
	})
	p.wait("the element for the card", `document.querySelector("[data-element] iframe") !== null`)
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.getElementById("quantity-%s").focus()`, sku)))
	p.press("1")
	p.enter(goodCard)
}

// click presses the button that orders, times times at once.
func (p *tab) click(times int) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`for (let i = 0; i < %d; i++) document.querySelector("button[value=order]").click()`, times)))
}

func doubleClick(p *tab, base string) {
	p.chooseOne(base)
	p.enter(goodCard)
	p.click(3)
	p.until("Your order is confirmed")
	if steps := p.text(`document.querySelector(".steps").innerText`); strings.Count(steps, "Your card was charged.") != 1 {
		p.t.Errorf("the steps are %s", steps)
	}
}

// secondTab orders in two tabs of a browser: these are two orders, and both are the shopper's.
func secondTab(first, second *tab, base string) {
	for _, p := range []*tab{first, second} {
		p.chooseOne(base)
		p.enter(goodCard)
	}
	var orders []string
	for _, p := range []*tab{first, second} {
		p.order()
		p.until("Your order is confirmed")
		orders = append(orders, p.text("location.pathname"))
	}
	if orders[0] == orders[1] {
		first.t.Error("both tabs have the same order")
	}
	first.open(base + orders[1])
	first.until("Your order is confirmed")
}

func priceChanged(p *tab, base string, change func()) {
	p.refused = 422
	p.ready(base, "PIN-A")
	change()
	// pedidos may know a price for two seconds: either it refuses the old one, or the order fails.
	p.order()
	p.wait("an answer", `document.activeElement.matches(".summary") || document.querySelector(".status.failed") !== null`)
	p.has("price")
	if strings.HasPrefix(p.text("location.pathname"), "/orders/") {
		p.has("A price changed while you were ordering.", "Nothing was charged.")
		p.tabTo("form[action='/checkout'] button")
		p.follow(kb.Enter)
		p.wait("the element for the card", `document.querySelector("[data-element] iframe") !== null`)
		p.enter(goodCard)
	}
	p.has("R$\u00a060,00")
	p.order()
	p.until("Your order is confirmed")
}

func soldOut(p, faster *tab, base string) {
	p.refused = 422
	p.ready(base, "PIN-B")
	faster.ready(base, "PIN-B")
	faster.order()
	faster.until("Your order is confirmed")
	p.order()
	p.until("Your order did not go through")
	p.has("Somebody was faster", "Nothing was charged.")
	eventually(p.t, time.Minute, "the shop shows that the item is sold out", func() error { // its list is up to a second old
		if faster.open(base + "/"); evaluate[bool](faster, `document.getElementById("quantity-PIN-B") !== null`) {
			return errors.New("it does not")
		}
		return nil
	})
	p.tabTo("form[action='/checkout'] button")
	p.follow(kb.Enter)
	p.has("This is sold out. Enter 0.")
	p.do(chromedp.Evaluate[chromedp.Void](`document.getElementById("quantity-PIN-B").focus()`))
	p.press(kb.End + kb.Backspace + "0")
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("input[inputmode=numeric]").focus()`))
	p.press("1")
	p.enter(goodCard)
	p.order()
	p.until("Your order is confirmed")
}

// expired sends a form whose key and prices are missing, as after a browser restored a page in part.
func expired(p *tab, base string) {
	p.refused = 422
	p.chooseOne(base)
	p.enter(goodCard)
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("[name=key]").value = ""`))
	p.order()
	p.wait("the form again", `document.activeElement.matches(".summary")`)
	p.has("The page was incomplete.", "Your card: visa")
	p.order()
	p.until("Your order is confirmed")
}
