package charging

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
	"github.com/loja-veloz/platform/apps/internal/value"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer"
	"github.com/loja-veloz/platform/apps/pagamentos/acquirer/simulator"
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
	"github.com/loja-veloz/platform/apps/pagamentos/store"
)

// The SQL statements change a payment exactly as the state machine does.
func TestTheStoreAgreesWithTheStateMachine(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	queries := store.New(database.Pool)
	put := func(s payment.Standing) uuid.UUID {
		order := uuid.Must(uuid.NewV7())
		_, err := database.Pool.Exec(t.Context(), `
			INSERT INTO pagamentos (order_id, state, amount, currency, refunded_amount, capture, undo, card_token, fingerprint,
				acquirer, acquirer_reference, decline_reason, due_at, prepares, client_secret)
			VALUES ($1, $2, 100, 'BRL', CASE $2 WHEN 'refunded' THEN 100 ELSE 0 END, $3, $4,
				CASE $2 WHEN 'authorising' THEN 'tok' END, '\x00', 'simulator', CASE WHEN $6 THEN 'r' END,
				CASE $2 WHEN 'declined' THEN 'd' END, CASE WHEN $5 THEN now() END, $7, CASE WHEN $8 THEN 'secret' END)`,
			order, string(s.State), s.Capture, s.Undo, s.Next() != payment.Nothing, s.Prepared, s.Prepares, s.Action)
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		return order
	}
	check := func(what string, before payment.Standing, order uuid.UUID, want payment.Standing) {
		t.Helper()
		got, err := queries.Payment(t.Context(), order)
		if err != nil || paymentOf(got).Standing != want {
			t.Errorf("%s of %+v: %+v, %v; want %+v", what, before, paymentOf(got).Standing, err, want)
		}
		if (got.DueAt != nil) != (want.Next() != payment.Nothing) {
			t.Errorf("%s of %+v: due at %v, though %q is next", what, before, got.DueAt, want.Next())
		}
	}
	for _, state := range payment.States {
		for flags := range 32 {
			before := payment.Standing{
				State: state, Capture: flags&1 > 0, Undo: flags&2 > 0, Prepared: flags&4 > 0, Prepares: flags&8 > 0,
				Action: flags&16 > 0,
			}
			final := state == payment.Declined || state == payment.Voided
			switch {
			case before.Action && (state != payment.Authorising || !before.Prepared):
				continue
			case !before.Prepared && !final && state != payment.Authorising: // has a reference
				continue
			case state == payment.Authorising && before.Prepares && !before.Prepared && before.Undo: // is voided at once
				continue
			}

			order := put(before)
			_, _ = queries.IntendUndo(t.Context(), store.IntendUndoParams{OrderID: order, Acquirer: simulator.Name}) // no row: no change
			check("undo", before, order, before.AskUndo())

			order = put(before)
			_, _ = queries.IntendCapture(t.Context(), order) // likewise
			after, err := before.AskCapture()
			if err != nil {
				after = before
			}
			check("capture", before, order, after)

			for _, to := range payment.States {
				after, err := before.Settle(to)
				if err != nil {
					continue
				}
				reason, reference, secret := "", "", ""
				if after.Action {
					secret = "secret"
				}
				if to == payment.Declined {
					reason = "d"
				}
				if after.Prepared {
					reference = "r"
				}
				var called *string
				if before.Prepared {
					called = new("r")
				}
				order := put(before)
				_, err = queries.Settle(t.Context(), store.SettleParams{
					OrderID: order, FromState: string(state), ToState: string(to), DeclineReason: optional(reason),
					AcquirerReference: optional(reference), CalledReference: called, ClientSecret: optional(secret),
				})
				if err != nil {
					t.Errorf("%+v to %s: %v", before, to, err)
				}
				check(fmt.Sprintf("settling to %s", to), before, order, after)
			}
		}
	}
}

// The commit of a settled charge does not wait for the disk in the run that the caller names, and only then.
func TestOnlyTheSameRunDoesNotWait(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	var run string
	if err := database.Pool.QueryRow(t.Context(), "SELECT server_run()").Scan(&run); err != nil {
		t.Fatal(err)
	}
	for named, want := range map[string]string{run: "off", "": "on", "another": "on"} {
		err := pgx.BeginFunc(t.Context(), database.Pool, func(tx pgx.Tx) error {
			queries, id := store.New(tx), uuid.Must(uuid.NewV7())
			_, err := queries.Intend(t.Context(), store.IntendParams{
				OrderID: id, Amount: 100, Currency: "BRL", Capture: true, CardToken: "tok", Fingerprint: []byte{0},
				Acquirer: simulator.Name, AcquirerReference: new("r"),
			})
			if err != nil {
				return err
			}
			_, err = queries.Settle(t.Context(), store.SettleParams{
				Run: named, OrderID: id, FromState: string(payment.Authorising), ToState: string(payment.Captured), CalledReference: new("r"),
			})
			if err != nil {
				return err
			}
			var waits string
			err = tx.QueryRow(t.Context(), "SELECT current_setting('synchronous_commit')").Scan(&waits)
			if waits != want {
				t.Errorf("with the run %q synchronous_commit is %s, want %s", named, waits, want)
			}
			return err
		})
		if err != nil {
			t.Errorf("with the run %q: %v", named, err)
		}
	}
}

// What another request has settled, perhaps without waiting, is on disk when it is answered: its row is locked, which is a
// commit of its own.
func TestAnAnswerAboutASettledPaymentLeavesACommit(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	payments := New(database.Pool, simulator.New(database.Pool), time.Second, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler),
		noop.NewTracerProvider())
	for what, tc := range map[string]struct {
		card string
		ask  func(r Request) error
	}{
		"pay":     {simulator.Approved, func(r Request) error { _, _, err := payments.Pay(t.Context(), r); return err }},
		"capture": {simulator.Approved, func(r Request) error { _, err := payments.Capture(t.Context(), r.OrderID); return err }},
		"refund of a declined one": {simulator.LostCard, func(r Request) error {
			_, err := payments.Refund(t.Context(), r.OrderID, "")
			return err
		}},
	} {
		r := Request{
			OrderID: uuid.Must(uuid.NewV7()), Amount: money.Money{Amount: 100, Currency: "BRL"}, CardToken: value.CardToken(tc.card), Capture: true,
		}
		// locker is the last transaction that has locked the row.
		locker := func() (xid string) {
			err := database.Pool.QueryRow(t.Context(), "SELECT xmax::text FROM pagamentos WHERE order_id = $1", r.OrderID).Scan(&xid)
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			return xid
		}
		if _, _, err := payments.Pay(t.Context(), r); err != nil {
			t.Fatalf("%s: the first request: %v", what, err)
		}
		before := locker()
		if err := tc.ask(r); err != nil || locker() == before {
			t.Errorf("%s: %v; nothing is written, so that no commit waits", what, err)
		}
	}
}

// Two requests with different runs do not share a call: what the one has committed without waiting would be answered to the other.
func TestRequestsOfDifferentRunsShareNoCall(t *testing.T) {
	database := postgrestest.New(t, migrations.Files)
	both := make(chan struct{}, 2)
	payments := New(database.Pool, meeting{simulator.New(database.Pool), both}, 5*time.Second, NewMetrics(prometheus.NewRegistry()),
		slog.New(slog.DiscardHandler), noop.NewTracerProvider())
	id := uuid.Must(uuid.NewV7())
	var all sync.WaitGroup
	for _, run := range []string{"one", "another"} {
		all.Go(func() {
			_, _, err := payments.Pay(t.Context(), Request{
				OrderID: id, Amount: money.Money{Amount: 100, Currency: "BRL"}, CardToken: simulator.Approved, Capture: true, Run: run,
			})
			if err != nil {
				t.Errorf("%s: %v", run, err)
			}
		})
	}
	all.Wait()
}

// meeting is an acquirer of which a call goes on when another one has begun.
type meeting struct {
	acquirer.Acquirer
	begun chan struct{}
}

func (m meeting) Authorise(ctx context.Context, key string, charge acquirer.Charge) (acquirer.Result, error) {
	m.begun <- struct{}{}
	for len(m.begun) < 2 {
		if err := ctx.Err(); err != nil {
			return acquirer.Result{}, fmt.Errorf("no second call: %w", err)
		}
		time.Sleep(time.Millisecond)
	}
	return m.Acquirer.Authorise(ctx, key, charge)
}
