// Package acquirer is the service's interface to the company that charges cards. Each
// subpackage is an acquirer, except acquirertest, the suite that all of them pass.
package acquirer

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
)

// Charge is a request to charge a card.
type Charge struct {
	Key       string // idempotency key
	OrderID   uuid.UUID
	Amount    money.Money
	CardToken string // secret: must not appear in logs or errors
	Capture   bool   // capture at once; otherwise only authorise
	// Age is the time since the first request: acquirers keep keys for a limited time.
	Age time.Duration
}

// State is the outcome of a charge.
type State string

// The states of a charge.
const (
	Authorised State = "authorised"
	Captured   State = "captured"
	Declined   State = "declined"
)

// Result is the acquirer's answer to a charge.
type Result struct {
	Reference     string // the acquirer's id of the charge; "" if there is none
	State         State
	DeclineReason string // a code such as insufficient_funds; "" unless declined
}

// Acquirer charges cards. Every call carries an idempotency key: repeated calls with the
// same key take effect once and get the same answer. Any error other than ErrRefused,
// ErrVoided and ErrCaptured means that the outcome is not known: repeat the call.
type Acquirer interface {
	// Name is the value of a payment's member acquirer.
	Name() string
	// Authorise charges a card. A declined card is a result.
	Authorise(ctx context.Context, charge Charge) (Result, error)
	// Capture captures an authorised amount. It returns ErrVoided if the authorisation
	// was released or has expired.
	Capture(ctx context.Context, key, reference string) error
	// Refund refunds a captured amount.
	Refund(ctx context.Context, key, reference string, amount money.Money) error
	// Void releases an authorisation. It returns ErrCaptured if the amount was captured.
	Void(ctx context.Context, key, reference string) error
}

var (
	// ErrUnknown is in the chain of errors after which the call may or may not have
	// taken effect.
	ErrUnknown = errors.New("the outcome is not known")
	// ErrRefused says that the call itself is wrong, for example because its key was used
	// for another call. It had no effect, and repeating it will have none.
	ErrRefused = errors.New("refused")
	// ErrVoided says that the authorisation was released or has expired.
	ErrVoided = errors.New("the authorisation was released or has expired")
	// ErrCaptured says that the amount has been captured.
	ErrCaptured = errors.New("the amount is captured")
)

// Unknown tells whether err leaves the outcome open.
func Unknown(err error) bool {
	return err != nil && !errors.Is(err, ErrRefused) && !errors.Is(err, ErrVoided) && !errors.Is(err, ErrCaptured)
}
