package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	transactTries = 6
	firstBackoff  = 5 * time.Millisecond
)

// Beginner is a *pgxpool.Pool, a *pgx.Conn or what else begins transactions.
type Beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Transact runs fn in a transaction of the default isolation, read committed.
// See TransactWith.
func Transact(ctx context.Context, db Beginner, fn func(pgx.Tx) error) error {
	return TransactWith(ctx, db, pgx.TxOptions{}, fn)
}

// TransactWith runs fn in a transaction and commits it, or rolls it back if fn
// fails. A transaction that the server ended in favour of another one (a
// serialization failure or a deadlock) is run again, so fn may run up to six
// times and must not keep anything from the time before. The last error is
// returned as fn or the server gave it, for errors.As and the like.
func TransactWith(ctx context.Context, db Beginner, options pgx.TxOptions, fn func(pgx.Tx) error) error {
	backoff := firstBackoff
	for try := 1; ; try++ {
		err := pgx.BeginTxFunc(ctx, db, options, fn)
		if code := Code(err); code != serializationFailed && code != deadlockDetected {
			return err
		}
		if try == transactTries {
			return fmt.Errorf("giving up after %d tries: %w", try, err)
		}
		// Two that met must not come back at the same moment.
		pause := time.NewTimer(backoff/2 + rand.N(backoff))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(ctx.Err(), err)
		}
		backoff *= 2
	}
}
