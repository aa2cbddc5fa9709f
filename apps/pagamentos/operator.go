package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/loja-veloz/platform/apps/internal/config"
	"github.com/loja-veloz/platform/apps/internal/postgres"
	"github.com/loja-veloz/platform/apps/pagamentos/charging"
	"github.com/loja-veloz/platform/apps/pagamentos/migrations"
	"github.com/loja-veloz/platform/apps/pagamentos/payment"
)

// operate runs one command of an operator on the payments in the service's database.
func operate(ctx context.Context, env *config.Reader, command func(*charging.Payments) error) error {
	settings, database := readSettings(env), postgres.ReadSettings(env)
	if err := env.Err(); err != nil {
		return err
	}
	provider, logger := noop.NewTracerProvider(), slog.New(slog.DiscardHandler)
	pool, err := postgres.Connect(ctx, database, migrations.Files, logger, provider)
	if err != nil {
		return err
	}
	defer pool.Close()
	metrics := charging.NewMetrics(prometheus.NewRegistry()) // nobody reads them
	return command(charging.New(pool, newAcquirer(settings, pool, provider), settings.timeout, metrics, logger, provider))
}

// listLimit is the most payments that one call of needing-person lists.
const listLimit = 1000

func listNeedingPerson(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	return operate(ctx, env, func(payments *charging.Payments) error {
		found, err := payments.NeedingPerson(ctx, uuid.Max, listLimit)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			fmt.Fprintln(stdout, "No payment needs a person.")
			return nil
		}
		table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ORDER OR REFUND\tSTATE\tAMOUNT\tSINCE\tREFUSALS\tNEXT CALL IN\tCHARGE\tREASON")
		for _, p := range found {
			if !p.Partly {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", p.OrderID, p.State, p.Amount,
					p.UpdatedAt.UTC().Format(time.RFC3339), p.Refusals, max(p.DueIn, 0), orDash(p.AcquirerReference), orDash(p.Problem))
				continue
			}
			refunds, err := payments.Refunds(ctx, p.OrderID)
			if err != nil {
				return err
			}
			for _, r := range refunds {
				if r.NeedsPerson {
					fmt.Fprintf(table, "%s\trefund of order %s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.ID, r.OrderID, r.Amount,
						r.UpdatedAt.UTC().Format(time.RFC3339), r.Refusals, max(r.DueIn, 0), orDash(r.Charge), orDash(r.Problem))
				}
			}
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("printing the payments: %w", err)
		}
		fmt.Fprint(stdout, "\nOnce the reason is gone:        pagamentos retry ID\n"+
			"After a refund by other means:  pagamentos refunded ID REFERENCE\n"+
			"Only a refund of a part:        pagamentos give-up REFUND_ID\n")
		return nil
	})
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func retry(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	order := readOrder(env)
	return operate(ctx, env, func(payments *charging.Payments) error {
		if err := payments.Retry(ctx, order); err != nil {
			return fmt.Errorf("order or refund %s: %w", order, err)
		}
		fmt.Fprintf(stdout, "The service repeats the next step of order or refund %s within half a minute.\n", order)
		return nil
	})
}

func recordRefund(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	order, reference := readOrder(env), env.Argument("REFERENCE")
	return operate(ctx, env, func(payments *charging.Payments) error {
		err := payments.RefundedElsewhere(ctx, order, reference)
		if impossible := (*payment.NotPossibleError)(nil); errors.As(err, &impossible) {
			return fmt.Errorf("order or refund %s: only a payment that is refunding, or a partial refund that the acquirer has refused, "+
				"can be recorded as refunded, and not by the id of an order with partial refunds, while the acquirer carries it out, "+
				"or, for a partial refund, while the outcome of the last call is not known; this one is %s", order, impossible.State)
		}
		if err != nil {
			return fmt.Errorf("order or refund %s: %w", order, err)
		}
		fmt.Fprintf(stdout, "Order or refund %s is refunded, by %s. The order follows within a minute.\n", order, reference)
		return nil
	})
}

func giveUpRefund(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	refund := readID(env, "REFUND_ID", "a refund")
	return operate(ctx, env, func(payments *charging.Payments) error {
		err := payments.GiveUpRefund(ctx, refund)
		if impossible := (*payment.NotPossibleError)(nil); errors.As(err, &impossible) {
			return fmt.Errorf("refund %s: only a partial refund that the acquirer has refused can be given up, "+
				"unless it was asked again since and has not answered, or the order is cancelled; this one is %s", refund, impossible.State)
		}
		if err != nil {
			return fmt.Errorf("refund %s: %w", refund, err)
		}
		fmt.Fprintf(stdout, "The refund %s has failed. Its amount can be refunded again.\n", refund)
		return nil
	})
}

func readOrder(env *config.Reader) uuid.UUID {
	return readID(env, "ORDER_ID", "an order or a partial refund")
}

func readID(env *config.Reader, name, of string) uuid.UUID {
	raw := env.Argument(name)
	id, err := uuid.Parse(raw)
	if raw != "" && err != nil {
		env.Reject(name, "%q is not the id of %s", raw, of)
	}
	return id
}
