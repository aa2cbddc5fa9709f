// Package acquirer is what the service needs of the company that charges cards.
// Its subpackages are the ones there are, acquirertest what they have in common.
package acquirer

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
)

// Charge is what a card is to be charged with.
type Charge struct {
	Key       string // idempotency key
	OrderID   uuid.UUID
	Amount    money.Money
	CardToken string // a secret: neither logged nor put into errors
	Capture   bool   // at once
	// Age is how long ago it was first asked for; an acquirer forgets keys.
	Age time.Duration
}

// State is what became of a charge.
type State string

// The states of a charge.
const (
	Authorised State = "authorised"
	Captured   State = "captured"
	Declined   State = "declined"
)

// Result is what the acquirer said of a charge.
type Result struct {
	Reference     string // the acquirer's own name for it; "" if there is none
	State         State
	DeclineReason string // short, for machines: insufficient_funds
}

// Acquirer charges cards. Every call carries an idempotency key: the same call
// again is carried out once, and answered alike. An error that is neither
// ErrRefused nor one of the others here says that the outcome is not known: the
// same call has to be made again.
type Acquirer interface {
	// Name is as in a payment's member acquirer.
	Name() string
	// Authorise charges a card. A declined card is a result.
	Authorise(ctx context.Context, charge Charge) (Result, error)
	// Capture takes what is authorised. It fails with ErrVoided if that is gone.
	Capture(ctx context.Context, key, reference string) error
	// Refund gives a captured amount back.
	Refund(ctx context.Context, key, reference string, amount money.Money) error
	// Void lets an authorisation go. It fails with ErrCaptured if it was taken.
	Void(ctx context.Context, key, reference string) error
}

var (
	// ErrUnknown is in the chain of errors that say: it may have happened or not.
	ErrUnknown = errors.New("the outcome is not known")
	// ErrRefused says that the call itself is wrong, such as a key that was used
	// for another call. Nothing happened, and the same call will not succeed.
	ErrRefused = errors.New("refused")
	// ErrVoided says that the authorisation was let go or has run out.
	ErrVoided = errors.New("the authorisation is gone")
	// ErrCaptured says that the amount was captured already.
	ErrCaptured = errors.New("the amount is captured")
)

// Unknown tells whether err leaves open what happened.
func Unknown(err error) bool {
	return err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrVoided) && !errors.Is(err, ErrCaptured)
}
