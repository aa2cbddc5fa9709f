package simulator_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/acquirertest"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
)

func TestItBehavesLikeAnAcquirer(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	acquirertest.Run(t, simulator.New(database.Pool), acquirertest.Cards{
		Approved:      simulator.Approved,
		Declined:      simulator.DeclinedFunds,
		DeclineReason: "insufficient_funds",
		Unknown:       "tok_of_nobody",
		Silent:        simulator.Timeout,
		Unavailable:   simulator.Unavailable,
	})
}

func TestTokensDoWhatTheySay(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	a := simulator.New(database.Pool)
	newCharge := func(token string) acquirer.Charge {
		order := uuid.New()
		return acquirer.Charge{Key: order.String(), OrderID: order, Amount: money.BRL(100), CardToken: token, Capture: true}
	}
	inBooks := func(c acquirer.Charge) (state string, tries int) {
		err := database.Pool.QueryRow(t.Context(), `SELECT state, tries FROM simulator_charges WHERE key = $1`, c.Key).Scan(&state, &tries)
		if err != nil {
			t.Fatal(err)
		}
		return state, tries
	}

	if result, err := a.Authorise(t.Context(), newCharge(simulator.LostCard)); err != nil || result.DeclineReason != "lost_card" {
		t.Errorf("%s: %+v, %v", simulator.LostCard, result, err)
	}

	slow := newCharge(simulator.Slow)
	start := time.Now()
	if result, err := a.Authorise(t.Context(), slow); err != nil || result.State != acquirer.Captured || time.Since(start) < 3*time.Second {
		t.Errorf("%s: %+v, %v after %s", simulator.Slow, result, err, time.Since(start))
	}

	for token, want := range map[string]acquirer.State{simulator.Timeout: acquirer.Captured, simulator.TimeoutDeclined: acquirer.Declined} {
		c := newCharge(token)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := a.Authorise(ctx, c); !errors.Is(err, acquirer.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", token, err)
		}
		cancel()
		if state, _ := inBooks(c); state != string(want) {
			t.Errorf("%s is %s in the books before anybody asks again, want %s", token, state, want)
		}
		if result, err := a.Authorise(t.Context(), c); err != nil || result.State != want {
			t.Errorf("%s again: %+v, %v", token, result, err)
		}
	}

	away := newCharge(simulator.Unavailable)
	for range 2 {
		if _, err := a.Authorise(t.Context(), away); !errors.Is(err, acquirer.ErrUnknown) {
			t.Errorf("%s: %v", simulator.Unavailable, err)
		}
		if state, _ := inBooks(away); state != "pending" {
			t.Errorf("%s was charged while it was unavailable: %s", simulator.Unavailable, state)
		}
	}
	if result, err := a.Authorise(t.Context(), away); err != nil || result.State != acquirer.Captured {
		t.Errorf("%s the third time: %+v, %v", simulator.Unavailable, result, err)
	}

	fails := newCharge(simulator.RefundFailsOnce)
	result, err := a.Authorise(t.Context(), fails)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Refund(t.Context(), "r1", result.Reference, fails.Amount); !errors.Is(err, acquirer.ErrUnknown) {
		t.Errorf("the first refund of %s: %v", simulator.RefundFailsOnce, err)
	}
	if err := a.Refund(t.Context(), "r1", result.Reference, fails.Amount); err != nil {
		t.Errorf("the second refund of %s: %v", simulator.RefundFailsOnce, err)
	}
	if err := a.Refund(t.Context(), "r2", result.Reference, money.BRL(1)); !errors.Is(err, acquirer.ErrRefused) {
		t.Errorf("more was refunded than charged: %v", err)
	}
}
