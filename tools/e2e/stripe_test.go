//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/loja-veloz/platform/tools/internal/browsertest"
	"github.com/loja-veloz/platform/tools/internal/console"
	"github.com/loja-veloz/platform/tools/internal/dev"
	"github.com/loja-veloz/platform/tools/internal/process"
	"github.com/loja-veloz/platform/tools/internal/toolchain"
)

// Keys of the stand-in for Stripe.
const (
	stripeSecretKey      = "sk_test_e2e"
	stripePublishableKey = "pk_test_e2e"
	stripeWebhookSecret  = "whsec_e2e"
)

// Stripe's test cards: https://docs.stripe.com/testing
const (
	goodCard   = "4242424242424242"
	poorCard   = "4000000000009995" // insufficient_funds
	askingCard = "4000002760003184" // its bank asks the shopper each time
)

// TestStorefrontOnStripe buys in Chromium, with Stripe as the acquirer: its script, its API and its
// webhooks are the stand-in's (apps/pagamentos/acquirer/stripe/stripetest). The shop runs on the host.
func TestStorefrontOnStripe(t *testing.T) {
	port, err := process.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	standIn := startStandIn(t, fmt.Sprintf("http://127.0.0.1:%d/webhooks/stripe", port))
	shop, err := dev.Start(t.Context(), dev.Options{
		Dir: filepath.Join(t.TempDir(), "dev"), Out: console.New(t.Output()), Ports: map[string]int{"pagamentos": port},
		Programs: []string{"sample-web-app", "api-gateway", "pedidos", "pagamentos", "estoque"},
		Env: map[string][]string{
			"pagamentos": {
				"ACQUIRER=stripe", "STRIPE_API_KEY=" + stripeSecretKey, "STRIPE_API_BASE=" + standIn, "STRIPE_WEBHOOK_SECRET=" + stripeWebhookSecret,
			},
			"sample-web-app": {
				"ACQUIRER=stripe", "STRIPE_PUBLISHABLE_KEY=" + stripePublishableKey, "STRIPE_JS_URL=" + standIn + "/clover/stripe.js",
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shop.StopNow(); err != nil {
			t.Error(err)
		}
	})
	base := shop.URL("sample-web-app")
	axe := browsertest.Script(t, toolchain.Axe, "axe-core/axe.min.js")
	ctx := browsertest.Start(t)
	t.Run("a card by keyboard", func(t *testing.T) { cardByKeyboard(newTab(ctx, t), base, axe) })
	t.Run("a wrong card", func(t *testing.T) { wrongCard(newTab(ctx, t), base) })
	t.Run("a declined card, then another for the same things", func(t *testing.T) { anotherCard(newTab(ctx, t), base) })
	t.Run("the bank asks, and the shopper confirms", func(t *testing.T) { bankAsks(newTab(ctx, t), base, axe) })
	t.Run("the bank asks, and the shopper fails", func(t *testing.T) { bankRefuses(newTab(ctx, t), base) })
	t.Run("the bank asks, and the shopper cancels", func(t *testing.T) { cancelledWhileAsked(newTab(ctx, t), newTab(ctx, t), base) })
	t.Run("the form keeps the card", func(t *testing.T) { keptCard(newTab(ctx, t), base) })
	t.Run("360 px wide", func(t *testing.T) {
		p := newTab(ctx, t)
		p.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateScale(2), chromedp.EmulateMobile))
		p.chooseOne(base)
		p.fits()
		p.picture("stripe, narrow")
	})
	walkDeadEnds(ctx, t, shop)
	if out, err := shop.Audit(t.Context()); err != nil {
		t.Errorf("the audit: %v\n%s", err, out)
	}
}

// startStandIn builds and starts the stand-in for Stripe, which ends with the test, and returns its URL.
func startStandIn(t *testing.T, webhook string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "stripe-stand-in")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./pagamentos/acquirer/stripe/stripetest/standin")
	build.Dir, build.Env = filepath.Join("..", "..", "apps"), append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the stand-in for Stripe: %v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), program, "-api-key", stripeSecretKey, "-publishable-key", stripePublishableKey,
		"-webhook-url", webhook, "-webhook-secret", stripeWebhookSecret)
	run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := run.StdoutPipe()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Process.Kill(); _ = run.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the stand-in for Stripe does not start: %v", err)
	}
	return strings.TrimSpace(line)
}

// chooseOne opens the shop and chooses one of the first item.
func (p *tab) chooseOne(base string) {
	p.t.Helper()
	p.open(base + "/")
	p.wait("the element for the card", `document.querySelector("[data-element] iframe") !== null`)
	p.tabTo("input[inputmode=numeric]")
	p.press("1")
}

// enter types a card into Stripe's element, which is in another site's frame.
func (p *tab) enter(number string) {
	p.t.Helper()
	p.tabTo("iframe")
	p.press(number)
	p.press(kb.Tab)
	p.press("1240")
	p.press(kb.Tab)
	p.press("123")
}

// buy chooses an item, enters a card and places the order.
func (p *tab) buy(base, number string) {
	p.t.Helper()
	p.chooseOne(base)
	p.enter(number)
	p.order()
}

func (p *tab) order() {
	p.t.Helper()
	p.tabTo("button[value=order]")
	p.press(kb.Enter)
}

func (p *tab) has(parts ...string) {
	p.t.Helper()
	shown := p.body()
	for _, part := range parts {
		if !strings.Contains(shown, part) {
			p.t.Errorf("the page lacks %q:\n%s", part, shown)
		}
	}
}

func cardByKeyboard(p *tab, base, axe string) {
	p.chooseOne(base)
	p.accessible()
	p.passes(axe)
	p.picture("stripe, form")
	if shown := p.body(); strings.Contains(shown, "tok_") || strings.Contains(strings.ToLower(shown), "test card") {
		p.t.Errorf("the page speaks of test cards:\n%s", shown)
	}
	p.enter(goodCard)
	p.picture("stripe, card")
	p.order()
	p.until("Your order is confirmed")
	p.accessible()
	p.tabTo("form[action$='/cancel'] button")
	p.follow(kb.Enter)
	p.until("Your money is back")
}

func wrongCard(p *tab, base string) {
	p.chooseOne(base)
	p.enter("4242424242424241")
	p.order()
	p.wait("the error of the card", `document.querySelector("[data-problem]").innerText !== ""`)
	if path := p.text("location.pathname"); path != "/" || !p.focused("iframe, #card") {
		p.t.Errorf("at %s, and the focus is on %s", path, p.focus())
	}
	p.fits()
}

func anotherCard(p *tab, base string) {
	p.buy(base, poorCard)
	p.until("Your order did not go through")
	p.has("not enough money", "Nothing was charged.")
	p.tabTo("form[action='/checkout'] button")
	p.follow(kb.Enter)
	p.has("1 thing, in total")
	p.wait("the element for the card", `document.querySelector("[data-element] iframe") !== null`)
	p.enter(goodCard)
	p.order()
	p.until("Your order is confirmed")
}

// challenged waits until the bank asks.
func (p *tab) challenged() {
	p.t.Helper()
	p.until("Confirm the payment with your bank")
	p.wait("the bank's page", `document.activeElement.matches("iframe")`)
}

func bankAsks(p *tab, base, axe string) {
	p.buy(base, askingCard)
	p.challenged()
	p.passes(axe)
	p.picture("stripe, bank")
	p.do(chromedp.Evaluate[chromedp.Void]("window.before = true; location.reload()")) // the bank asks again
	p.wait("the page again", `document.readyState === "complete" && window.before === undefined`)
	p.challenged()
	p.press(kb.Enter) // Complete authentication
	p.until("Your order is confirmed")
	p.accessible()
}

func bankRefuses(p *tab, base string) {
	p.buy(base, askingCard)
	p.challenged()
	p.press(kb.Tab)
	p.press(kb.Enter) // Fail authentication
	p.until("Your order did not go through")
	p.has("Your bank did not confirm that it is you who pays.", "Nothing was charged.", "Choose the same things again")
}

// cancelledWhileAsked cancels in another tab, without scripts. The first tab, in which the bank still asks,
// shows that.
func cancelledWhileAsked(p, other *tab, base string) {
	p.buy(base, askingCard)
	p.challenged()
	call(other, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	other.open(p.text("location.href"))
	other.has("Confirm the payment with your bank", "Your browser runs no scripts")
	other.tabTo("form[action$='/cancel'] button")
	other.follow(kb.Enter)
	other.until("Your order is cancelled")
	other.has("Nothing was charged.")
	p.until("Your order is cancelled")
}

// keptCard sends a form that comes back: the card need not be entered again.
func keptCard(p *tab, base string) {
	p.refused = 422
	p.buy(base, goodCard)
	p.until("Your order is confirmed")
	p.open(base + "/")
	p.wait("the element for the card", `document.querySelector("[data-element] iframe") !== null`)
	p.tabTo("input[inputmode=numeric]")
	p.press("x")
	p.enter(goodCard)
	p.order()
	p.wait("the form again", `document.activeElement.matches(".summary")`)
	p.has("Your card: visa •••• 4242")
	p.accessible()
	p.tabTo("input[aria-invalid=true]")
	p.press(kb.End + kb.Backspace + "1")
	p.order()
	p.until("Your order is confirmed")
}
