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
		Unknown:       "tok_unknown",
		Silent:        simulator.Timeout,
		Unavailable:   simulator.Unavailable,
		RefundRefused: simulator.RefundRefused,
		RefundPending: simulator.RefundPending,
	})
}

// An earlier version charged an order with a reference of its own.
func TestAChargeOfAnEarlierVersionIsVoidedOrFound(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	a := simulator.New(database.Pool)
	for _, capture := range []bool{true, false} {
		order := uuid.New()
		old := acquirer.Charge{OrderID: order, Reference: "sim_old_" + order.String(), Amount: money.BRL(100), CardToken: simulator.Approved, Capture: capture}
		charged, err := a.Authorise(t.Context(), order.String()+":authorise", old)
		if err != nil {
			t.Fatal(err)
		}
		now := old
		now.MayExist = true
		if found, err := a.Prepare(t.Context(), "k", now); err != nil || found != charged {
			t.Errorf("Prepare = %+v, %v; want %+v", found, err, charged)
		}
		now.Reference = a.Reference(order) // stored before the charge was made
		want := map[bool]error{true: acquirer.ErrCaptured, false: nil}[capture]
		if err := a.Void(t.Context(), "v", now); !errors.Is(err, want) {
			t.Errorf("Void of a charge that is captured %t: %v, want %v", capture, err, want)
		}
	}
}

func TestEachTokenHasItsEffect(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	a := simulator.New(database.Pool)
	newCharge := func(token string) acquirer.Charge {
		order := uuid.New()
		return acquirer.Charge{OrderID: order, Reference: a.Reference(order), Amount: money.BRL(100), CardToken: token, Capture: true}
	}
	authorise := func(ctx context.Context, c acquirer.Charge) (acquirer.Result, error) {
		return a.Authorise(ctx, c.OrderID.String()+":authorise", c)
	}
	stored := func(c acquirer.Charge) (state string) { // "" if there is no such charge
		err := database.Pool.QueryRow(t.Context(), `SELECT coalesce(max(state), '') FROM simulator_charges WHERE reference = $1`, c.Reference).Scan(&state)
		if err != nil {
			t.Fatal(err)
		}
		return state
	}

	if result, err := authorise(t.Context(), newCharge(simulator.LostCard)); err != nil || result.DeclineReason != "lost_card" {
		t.Errorf("%s: %+v, %v", simulator.LostCard, result, err)
	}

	slow := newCharge(simulator.Slow)
	start := time.Now()
	if result, err := authorise(t.Context(), slow); err != nil || result.State != acquirer.Captured || time.Since(start) < 3*time.Second {
		t.Errorf("%s: %+v, %v after %s", simulator.Slow, result, err, time.Since(start))
	}

	for token, want := range map[string]acquirer.State{simulator.Timeout: acquirer.Captured, simulator.TimeoutDeclined: acquirer.Declined} {
		c := newCharge(token)
		ctx, cancel := context.WithCancel(t.Context())
		answered := make(chan error)
		go func() {
			_, err := authorise(ctx, c)
			answered <- err
		}()
		for end := time.Now().Add(time.Minute); stored(c) == "" && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		}
		if state := stored(c); state != string(want) {
			t.Errorf("%s is stored as %q before the call is repeated, want %s", token, state, want)
		}
		cancel()
		if err := <-answered; !errors.Is(err, acquirer.ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", token, err)
		}
		if result, err := authorise(t.Context(), c); err != nil || result.State != want {
			t.Errorf("%s, repeated: %+v, %v", token, result, err)
		}
	}

	unavailable := newCharge(simulator.Unavailable)
	for range 2 {
		if _, err := authorise(t.Context(), unavailable); !errors.Is(err, acquirer.ErrUnknown) {
			t.Errorf("%s: %v", simulator.Unavailable, err)
		}
		if state := stored(unavailable); state != "pending" {
			t.Errorf("%s was charged by a call that failed: %s", simulator.Unavailable, state)
		}
	}
	if result, err := authorise(t.Context(), unavailable); err != nil || result.State != acquirer.Captured {
		t.Errorf("%s, third call: %+v, %v", simulator.Unavailable, result, err)
	}

	fails := newCharge(simulator.RefundFailsOnce)
	result, err := authorise(t.Context(), fails)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Refund(t.Context(), "r1", result.Reference, fails.Amount); !errors.Is(err, acquirer.ErrUnknown) {
		t.Errorf("the first refund of %s: %v", simulator.RefundFailsOnce, err)
	}
	if _, err := a.Refund(t.Context(), "r1", result.Reference, fails.Amount); err != nil {
		t.Errorf("the second refund of %s: %v", simulator.RefundFailsOnce, err)
	}
	if _, err := a.Refund(t.Context(), "r2", result.Reference, money.BRL(1)); !errors.Is(err, acquirer.ErrRefused) {
		t.Errorf("refunding more than was charged: %v", err)
	}
}
