package charging

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/internal/postgres/postgrestest"
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
