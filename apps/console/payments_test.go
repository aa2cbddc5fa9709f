package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
)

// rows counts the payments in the list.
func rows(page string) int {
	_, body, _ := strings.Cut(page, "<tbody>")
	return strings.Count(body, "<tr>")
}

func TestPaymentsAreListedWithTheirCommands(t *testing.T) {
	s := shop(t)
	page := newApp(t, s.settings()).get("/payments").Body.String()
	ids := make([]string, len(s.payments))
	for i, one := range s.payments {
		ids[i] = one.OrderID.String()
		if !strings.Contains(page, `<a href="/orders?id=`+ids[i]+`">`+ids[i]+`</a>`) {
			t.Errorf("there is no link to order %s:\n%s", ids[i], page)
		}
	}
	const run = "kubectl -n shop exec service/pagamentos-stable -- /ko-app/pagamentos "
	wantIn(t, page, "3 payments need a person.",
		"Order State Amount in minor units Since Refusals Charge Reason To go on",
		ids[0]+" refunding 12990 BRL 27 November 08:30:00 UTC 5 sim_charge_0 simulator refuses the step: charge_disputed "+
			run+"retry "+ids[0]+" "+run+"refunded "+ids[0]+" REFERENCE",
		// The acquirer carries this refund out: pagamentos would refuse to record another one.
		ids[1]+" refunding 12991 BRL 27 November 08:30:00 UTC 0 sim_charge_1 none "+run+"retry "+ids[1]+" "+ids[2],
		ids[2]+" authorising 12992 BRL 27 November 08:30:00 UTC 0 sim_charge_2 none "+run+"retry "+ids[2])
	if rows(page) != 3 || strings.Contains(page, "are shown") || strings.Contains(page, "00000000-0000") {
		t.Errorf("%d payments are listed, want the 3 that need a person:\n%s", rows(page), page)
	}
	for _, part := range []string{`<caption>`, `<th scope="row">`, `<a href="/payments" aria-current="page">`} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %s", part)
		}
	}
}

// TestPartialRefundsAreLeftToTheList: their commands take ids that the page does not have, and those with the
// order's id would fail.
func TestPartialRefundsAreLeftToTheList(t *testing.T) {
	s := newStandins(t)
	s.payments = owed(2)
	s.payments[0].State, s.payments[0].Problem, s.payments[0].Refusals = contract.Captured, nil, nil
	s.payments[1].RefundReference = nil // undone after a part was refunded
	page := newApp(t, s.settings()).get("/payments").Body.String()
	const run = "kubectl -n shop exec service/pagamentos-stable -- /ko-app/pagamentos "
	for i, state := range []string{"captured", "refunding"} {
		wantIn(t, page, fmt.Sprintf("%s %s 1299%d BRL 27 November 08:30:00 UTC listed sim_charge_%d listed by the command %sneeding-person",
			s.payments[i].OrderID, state, i, i, run))
	}
	for _, wrong := range []string{"retry 0", "refunded 0"} {
		if strings.Contains(words(page), wrong) {
			t.Errorf("the page offers %s:\n%s", wrong, page)
		}
	}
}

// TestCommandsAreThoseOfTheDocs: the page and the document for operators show the same command.
func TestCommandsAreThoseOfTheDocs(t *testing.T) {
	document, err := os.ReadFile("../../docs/payments.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"`" + fmt.Sprintf(operate, "shop") + "...`", "`pagamentos needing-person`", "`pagamentos retry ORDER_ID`", "`pagamentos refunded ORDER_ID REFERENCE`",
		"`pagamentos give-up REFUND_ID`",
	} {
		if !strings.Contains(string(document), want) {
			t.Errorf("docs/payments.md lacks %s", want)
		}
	}
}

func TestTheNumberOfPaymentsIsOnBothPages(t *testing.T) {
	for _, c := range []struct {
		payments, listed, pages int
		sentence                string
	}{
		{0, 0, 1, "No payment needs a person."},
		{1, 1, 1, "1 payment needs a person."},
		{3, 3, 1, "3 payments need a person."},
		{100, 100, 1, "100 payments need a person."},
		{150, 100, 2, "150 payments need a person."},
		{1000, 100, 10, "1,000 payments need a person."},
		{1001, 100, 10, "More than 1,000 payments need a person."},
	} {
		s := newStandins(t)
		s.payments = owed(c.payments)
		a := newApp(t, s.settings())
		began := time.Now()
		overview, list := a.get("/").Body.String(), a.get("/payments").Body.String()
		rounds := 1 + int(time.Since(began)/(2*time.Second)) // answers are reused for 2 s
		wantIn(t, overview, c.sentence)
		wantIn(t, list, c.sentence)
		if !strings.Contains(overview, `<a href="/payments">`+c.sentence) {
			t.Errorf("%d payments: the first page has no link to them:\n%s", c.payments, overview)
		}
		if got := rows(list); got != c.listed {
			t.Errorf("%d payments: %d are listed, want %d", c.payments, got, c.listed)
		}
		cut := "Only 100 of them are shown. kubectl -n shop exec service/pagamentos-stable -- /ko-app/pagamentos needing-person lists up to 1,000."
		if got := strings.Contains(words(list), cut); got != (c.payments > c.listed) {
			t.Errorf("%d payments: the page says that the list is cut: %v", c.payments, got)
		}
		if got := s.asked["payments"]; got < c.pages || got > c.pages*rounds {
			t.Errorf("%d payments: %d requests, want %d for each of %d rounds", c.payments, got, c.pages, rounds)
		}
	}
}

func TestWithoutPagamentosTheRestIsShown(t *testing.T) {
	s := shop(t)
	s.pagamentos.Close()
	a := newApp(t, s.settings())
	for _, path := range []string{"/", "/payments"} {
		response := a.get(path)
		wantIn(t, response.Body.String(), "pagamentos does not answer since", "connection refused",
			"It is not known whether a payment needs a person: pagamentos does not answer.")
		if response.Code != http.StatusOK || strings.Contains(response.Body.String(), "No payment needs") || strings.Contains(response.Body.String(), s.pagamentos.URL) {
			t.Errorf("%s: status %d, and the page says that no payment needs a person, or shows the address:\n%s", path, response.Code, response.Body)
		}
	}
	wantIn(t, a.get("/").Body.String(), "estoque canary weight 40 %", "PaymentsNeedPerson")

	none := shop(t).settings()
	none.payments = ""
	a = newApp(t, none)
	wantIn(t, a.get("/payments").Body.String(), "Payments are not read here: PAYMENTS_URL is not set.")
	overview := a.get("/").Body.String()
	wantIn(t, overview, "estoque canary weight 40 %")
	if strings.Contains(words(overview), "a person:") || strings.Contains(overview, `id="needing"`) {
		t.Errorf("without PAYMENTS_URL the first page speaks of payments:\n%s", overview)
	}
}

// TestARefusalOfPagamentosIsAnOutage: here the base URL leads to a path that pagamentos does not have.
func TestARefusalOfPagamentosIsAnOutage(t *testing.T) {
	wrong := shop(t).settings()
	wrong.payments += "/elsewhere"
	wantIn(t, newApp(t, wrong).get("/payments").Body.String(), "pagamentos does not answer since", "it answers 404 Not Found")
}
