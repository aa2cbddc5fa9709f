//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/loja-veloz/platform/tools/internal/browsertest"
)

// TestStorefrontElsewhere browses the shop at STOREFRONT_URL, such as make dev's
// http://localhost:8084. To leave the cluster as it is, run this file without the others: go
// test -tags e2e ./e2e/storefront_test.go
func TestStorefrontElsewhere(t *testing.T) {
	base := os.Getenv("STOREFRONT_URL")
	if base == "" {
		t.Skip("STOREFRONT_URL is not set: TestStorefront browses the shop of the cluster")
	}
	browse(t, strings.TrimSuffix(base, "/"))
}

// browse uses the shop at base in Chromium: by keyboard alone, without JavaScript, on a small
// screen, and through the accessibility tree that screen readers use. The shop must have items
// in stock and use the payment simulator.
func browse(t *testing.T, base string) {
	t.Helper()
	ctx := browsertest.Start(t)
	t.Run("an order by keyboard, and its refund", func(t *testing.T) { orderByKeyboard(newTab(ctx, t), base) })
	t.Run("a declined card, without JavaScript", func(t *testing.T) { declined(newTab(ctx, t), base) })
	t.Run("a slow card, without JavaScript", func(t *testing.T) { slowly(newTab(ctx, t), base) })
	t.Run("the page of a slow order updates itself", func(t *testing.T) { followed(newTab(ctx, t), base) })
	t.Run("errors in the form are shown", func(t *testing.T) { mistakes(newTab(ctx, t), base) })
	t.Run("going back does not order twice", func(t *testing.T) { goingBack(newTab(ctx, t), base) })
	t.Run("360 px wide", func(t *testing.T) { smallScreen(newTab(ctx, t), base) })
}

func orderByKeyboard(p *tab, base string) {
	p.open(base + "/")
	p.accessible()
	p.press(kb.Tab)
	if !p.focused("a.skip") {
		p.t.Errorf("the first Tab leads to %s, want the link to the content", p.focus())
	}
	p.press(kb.Enter)
	p.tabTo("input[inputmode=numeric]")
	p.press("1")
	p.tabTo("#card")
	if card := p.text(`document.querySelector("#card").value`); card != "tok_approved" {
		p.t.Errorf("the selected card is %s, want tok_approved", card)
	}
	p.tabTo("button[value=total]")
	p.follow(kb.Enter)
	if !p.focused(".total") || !strings.Contains(p.text(`document.querySelector(".total").innerText`), "1 thing, in total R$") {
		p.t.Errorf("the total is not shown, focus is on %s:\n%s", p.focus(), p.body())
	}
	p.accessible()
	p.tabTo("button[value=order]")
	p.follow(kb.Enter)
	p.accessible()
	p.until("Your order is confirmed")
	p.accessible()
	if steps := p.text(`document.querySelector(".steps").innerText`); !strings.Contains(steps, "Your card was charged.") {
		p.t.Errorf("the order's steps are %s", steps)
	}
	if p.text(`String(document.querySelector("[data-follow]:not([hidden])"))`) != "null" {
		p.t.Error("the page of a confirmed order still follows it")
	}
	p.tabTo("form[action$='/cancel'] button")
	p.follow(kb.Enter)
	p.until("Your money is back")
	p.accessible()
	if steps := p.body(); !strings.Contains(steps, "You cancelled the order.") || strings.Contains(steps, "Cancel and refund") {
		p.t.Errorf("the refunded order's page:\n%s", steps)
	}
}

// fill opens the shop without scripts, and chooses a quantity and a card by typing.
func (p *tab) fill(base, quantity, card string) {
	p.t.Helper()
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	p.choose(base, quantity, card)
}

// choose opens the shop, and chooses a quantity and a card by typing.
func (p *tab) choose(base, quantity, card string) {
	p.t.Helper()
	p.open(base + "/")
	p.tabTo("input[inputmode=numeric]")
	p.press(quantity)
	p.tabTo("#card")
	p.press(card)
}

func declined(p *tab, base string) {
	p.fill(base, "2", "tok_d")
	if card := p.text(`document.querySelector("#card").value`); card != "tok_declined" {
		p.t.Fatalf("the selected card is %s, want tok_declined", card)
	}
	p.tabTo("button[value=order]")
	p.follow(kb.Enter)
	p.until("Your order did not go through")
	p.accessible()
	if shown := p.body(); !strings.Contains(shown, "not enough money") || !strings.Contains(shown, "Nothing was charged.") {
		p.t.Errorf("the declined order's page does not say why:\n%s", shown)
	}
}

// slowly orders with a card that takes longer than the API lets a client wait.
func slowly(p *tab, base string) {
	p.fill(base, "1", "tok_s")
	p.tabTo("button[value=order]")
	p.follow(kb.Enter)
	if heading := p.text(`document.querySelector("h1").innerText`); heading != "We are working on your order" {
		p.t.Errorf("the order starts with %q", heading)
	}
	p.accessible()
	for end := time.Now().Add(time.Minute); !strings.Contains(p.body(), "Your order is confirmed"); {
		if time.Now().After(end) {
			p.t.Fatalf("the order is not confirmed:\n%s", p.body())
		}
		p.tabTo(".ways a") // Look again now
		p.follow(kb.Enter)
	}
}

// followed waits for an order on its page, which must not reload: that would take the focus away.
func followed(p *tab, base string) {
	p.choose(base, "1", "tok_s")
	p.tabTo("button[value=order]")
	p.follow(kb.Enter)
	if shown := p.body(); !strings.Contains(shown, "We are working on your order") || !strings.Contains(shown, "This page updates itself.") {
		p.t.Errorf("the order starts with\n%s", shown)
	}
	p.accessible()
	p.tabTo(".brand")
	p.text(`window.same = "the same page"`)
	p.until("Your order is confirmed")
	if same := p.text("String(window.same)"); same != "the same page" || !p.focused(".brand") {
		p.t.Errorf("the page was reloaded (%s), and the focus is on %s", same, p.focus())
	}
	p.accessible()
	if shown := p.body(); strings.Contains(shown, "This page updates itself.") || !strings.Contains(shown, "Cancel and refund") {
		p.t.Errorf("the confirmed order's page:\n%s", shown)
	}
}

func mistakes(p *tab, base string) {
	p.refused = 422
	p.open(base + "/")
	p.tabTo("button[value=order]")
	p.follow(kb.Enter)
	p.accessible()
	if !p.focused("[role=alert]") || !strings.Contains(p.body(), "Choose at least one thing") {
		p.t.Errorf("an empty order: focus is on %s\n%s", p.focus(), p.body())
	}
	p.tabTo("input[inputmode=numeric]")
	p.press("1x")
	p.follow(kb.Enter) // in a field, Enter asks for the total and does not order
	p.accessible()
	p.tabTo("[role=alert] a")
	p.press(kb.Enter)
	p.wait("the focus on the field that the error links to", `document.activeElement.matches("input[aria-invalid=true]")`)
	if value := p.text("document.activeElement.value"); value != "1x" {
		p.t.Errorf("the field has %q, want 1x, as typed", value)
	}
}

func goingBack(p *tab, base string) {
	p.open(base + "/")
	p.tabTo("input[inputmode=numeric]")
	p.press("1")
	key := p.text(`document.querySelector("[name=key]").value`)
	p.tabTo("button[value=order]")
	p.follow(kb.Enter)
	p.until("Your order is confirmed")
	order := p.text("location.pathname")
	p.do(chromedp.Evaluate[chromedp.Void]("history.back()")) // not follow: from its cache the browser shows the page without loading it
	p.until("Good things, delivered fast.")
	switch again := p.text(`document.querySelector("[name=key]").value`); {
	case again == key:
		p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("button[value=order]").click()`))
		p.until("Your order is confirmed")
		if p.text("location.pathname") != order {
			p.t.Error("the same form placed a second order")
		}
	case p.text(`[...document.querySelectorAll("input[inputmode=numeric]")].map(i => i.value).join("")`) != "":
		p.t.Error("the form has the old quantities but a new key, so that it would place a second order")
	}
}

func smallScreen(p *tab, base string) {
	p.refused = 422
	p.do(chromedp.EmulateViewport(360, 740, chromedp.EmulateScale(2), chromedp.EmulateMobile))
	p.open(base + "/")
	p.fits()
	p.tabTo("input[inputmode=numeric]")
	p.press("x1")
	p.tabTo("button[value=total]")
	p.follow(kb.Enter)
	p.fits()
	p.tabTo("input[inputmode=numeric]")
	p.press(kb.End + kb.Backspace + kb.Backspace + "1")
	p.tabTo("#card")
	p.press("tok_l")
	p.tabTo("button[value=order]")
	p.follow(kb.Enter)
	p.fits()
	p.until("Your order did not go through")
	p.fits()
}

// A tab is a tab of the browser. The test fails if the browser reports errors, issues or
// console output in it.
type tab struct {
	t       *testing.T
	ctx     context.Context
	refused int // status of answers that are expected in addition to successes; 0: none

	mu         sync.Mutex
	complaints []string
}

func newTab(browser context.Context, t *testing.T) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	p := &tab{t: t, ctx: ctx}
	complain := func(format string, args ...any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.complaints = append(p.complaints, fmt.Sprintf(format, args...))
	}
	err := chromedp.Listen(ctx, func(event any) {
		switch event := event.(type) {
		case *runtime.EventConsoleAPICalled:
			complain("console.%s", event.Type)
		case *runtime.EventExceptionThrown:
			complain("exception: %s", event.ExceptionDetails.Text)
		case *cdplog.EventEntryAdded:
			expected := p.refused != 0 && event.Entry.Source == cdplog.EntrySourceNetwork &&
				strings.Contains(event.Entry.Text, strconv.Itoa(p.refused))
			if !expected {
				complain("%s %s: %s", event.Entry.Source, event.Entry.Level, event.Entry.Text)
			}
		case *audits.EventIssueAdded:
			details, _ := json.Marshal(event.Issue.Details)
			if strings.Contains(string(details), "NavigationEntryMarkedSkippable") {
				return // expected: the browser skips pages on which the user did nothing
			}
			complain("issue %s: %s", event.Issue.Code, details)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.complaints) > 0 {
			t.Errorf("the browser complains:\n%s", strings.Join(p.complaints, "\n"))
		}
	})
	call(p, audits.Enable, cdp.Empty{})
	call(p, cdplog.Enable, cdp.Empty{})
	call(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}) // as if the tab were in front
	return p
}

// within bounds one action on a page.
func (p *tab) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, time.Minute)
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := p.within()
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := p.within()
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

func evaluate[T any](p *tab, script string) T {
	p.t.Helper()
	ctx, cancel := p.within()
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		p.t.Fatalf("%s: %v", script, err)
	}
	return value
}

func (p *tab) open(address string) {
	p.t.Helper()
	p.do(chromedp.Navigate(address), chromedp.WaitReady(chromedp.CSS("h1")))
}

// keys types as a keyboard does, with raw key presses: if the page handles a key press, the
// browser does not insert the key's character too.
func keys(text string) chromedp.Action[chromedp.Void] {
	return chromedp.KeyEvent(text, func(event *input.DispatchKeyEventParams) {
		if event.Type == input.DispatchKeyEventTypeKeyDown {
			event.Type = input.DispatchKeyEventTypeRawKeyDown
		}
	})
}

func (p *tab) press(text string) {
	p.t.Helper()
	p.do(keys(text))
}

// follow presses a key that leads to another page, and waits for it.
func (p *tab) follow(key string) {
	p.t.Helper()
	// The mark distinguishes the current page from the next one.
	p.do(chromedp.Evaluate[chromedp.Void]("document.documentElement.dataset.left = true"), keys(key))
	// The browser sets the focus with the first frame, which may be later than the load.
	p.wait("another page", `document.readyState === "complete" && !document.documentElement.dataset.left &&
		document.activeElement.matches(document.querySelector("[autofocus]") ? "[autofocus]" : "*")`)
}

// wait waits until a condition is true, even across pages.
func (p *tab) wait(what, condition string) {
	p.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		ctx, cancel := p.within()
		// Between two pages an evaluation fails, so try again.
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool](condition))
		cancel()
		if err == nil && is {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waiting for %s (%v): at %s, focus on %s\n%s", what, err, p.text("location.href"), p.focus(), p.body())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *tab) text(script string) string {
	p.t.Helper()
	return evaluate[string](p, script)
}

func (p *tab) body() string {
	p.t.Helper()
	return p.text("document.body.innerText")
}

func (p *tab) focus() string {
	p.t.Helper()
	return p.text("document.activeElement.cloneNode().outerHTML")
}

func (p *tab) focused(selector string) bool {
	p.t.Helper()
	return evaluate[bool](p, fmt.Sprintf("document.activeElement.matches(%q)", selector))
}

// tabTo presses Tab until the focus is on an element that the selector matches. It checks on
// the way that the focus is visible, except in a frame, of which another site is in charge.
func (p *tab) tabTo(selector string) {
	p.t.Helper()
	for range 80 {
		p.press(kb.Tab)
		if outline := p.text("getComputedStyle(document.activeElement).outlineStyle"); outline == "none" && !p.focused("body, iframe") {
			p.t.Errorf("the focus on %s is not visible", p.focus())
		}
		if p.focused(selector) {
			return
		}
	}
	p.t.Fatalf("80 times Tab did not lead to %s; the focus is on %s", selector, p.focus())
}

// until waits until the page has the heading. The page may reload itself meanwhile.
func (p *tab) until(heading string) {
	p.t.Helper()
	p.wait("the heading "+heading,
		fmt.Sprintf(`document.readyState === "complete" && document.querySelector("h1").innerText === %q`, heading))
}

// fits checks that nothing is wider than the screen.
func (p *tab) fits() {
	p.t.Helper()
	const wide = `(() => {
		const width = document.documentElement.clientWidth
		if (document.documentElement.scrollWidth <= width) return ""
		return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > width)
			.map(e => e.cloneNode().outerHTML).join(" ") || "something"
	})()`
	if found := p.text(wide); found != "" {
		p.t.Errorf("%s is wider than the screen because of %s", p.text("location.pathname"), found)
	}
}

// accessible checks the page's accessibility tree: it must have landmarks, one main heading, a
// name for every control, and a live region for changes.
func (p *tab) accessible() {
	p.t.Helper()
	nodes := call(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes
	count := map[string]int{}
	for _, n := range nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role, name := axText(n.Role), axText(n.Name)
		count[role]++
		switch role {
		case "button", "link", "textbox", "spinbutton", "combobox", "checkbox", "radio", "listbox", "menuitem",
			"form", "group", "region", "navigation", "alert":
			if name == "" {
				p.t.Errorf("%s: a %s has no name", p.text("location.pathname"), role)
			}
		case "heading":
			for _, property := range n.Properties {
				if property.Name == accessibility.PropertyNameLevel && axText(property.Value) == "1" {
					count["main heading"]++
				}
			}
		}
	}
	for _, role := range []string{"main", "banner", "navigation", "main heading"} {
		if count[role] != 1 {
			p.t.Errorf("%s: %d of %s, want 1", p.text("location.pathname"), count[role], role)
		}
	}
	if path := p.text("location.pathname"); path != "/" && count["status"]+count["alert"] == 0 {
		p.t.Errorf("%s has no live region", path)
	}
	if language := p.text("document.documentElement.lang"); language != "en" {
		p.t.Errorf("the page's language is %q", language)
	}
	if title := p.text("document.title"); !strings.HasSuffix(title, " · Loja Veloz") {
		p.t.Errorf("the title is %q", title)
	}
}

// axText returns a value of the accessibility tree as text.
func axText(value *accessibility.Value) string {
	if value == nil {
		return ""
	}
	return strings.Trim(string(value.Value), `"`)
}
