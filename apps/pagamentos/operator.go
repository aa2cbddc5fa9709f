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
		fmt.Fprintln(table, "ORDER\tSTATE\tAMOUNT\tSINCE\tREFUSALS\tNEXT CALL IN\tCHARGE\tREASON")
		for _, p := range found {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", p.OrderID, p.State, p.Amount,
				p.UpdatedAt.UTC().Format(time.RFC3339), p.Refusals, max(p.DueIn, 0), orDash(p.AcquirerReference), orDash(p.Problem))
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("printing the payments: %w", err)
		}
		fmt.Fprint(stdout, "\nOnce the reason is gone:        pagamentos retry ORDER\n"+
			"After a refund by other means:  pagamentos refunded ORDER REFERENCE\n")
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
			return fmt.Errorf("order %s: %w", order, err)
		}
		fmt.Fprintf(stdout, "The service repeats the next step of order %s's payment within half a minute.\n", order)
		return nil
	})
}

func recordRefund(ctx context.Context, env *config.Reader, stdout io.Writer) error {
	order, reference := readOrder(env), env.Argument("REFERENCE")
	return operate(ctx, env, func(payments *charging.Payments) error {
		err := payments.RefundedElsewhere(ctx, order, reference)
		if impossible := (*payment.NotPossibleError)(nil); errors.As(err, &impossible) {
			return fmt.Errorf("order %s: only a payment that is refunding can be recorded as refunded; this one is %s", order, impossible.State)
		}
		if err != nil {
			return fmt.Errorf("order %s: %w", order, err)
		}
		fmt.Fprintf(stdout, "The payment of order %s is refunded, by %s. The order follows within a minute.\n", order, reference)
		return nil
	})
}

func readOrder(env *config.Reader) uuid.UUID {
	raw := env.Argument("ORDER_ID")
	order, err := uuid.Parse(raw)
	if raw != "" && err != nil {
		env.Reject("ORDER_ID", "%q is not the id of an order", raw)
	}
	return order
}
