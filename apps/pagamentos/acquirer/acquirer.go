// Package acquirer is the service's interface to the company that charges cards. Each
// subpackage is an acquirer, except acquirertest, the suite that all of them pass.
package acquirer

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
)

// Charge is a request to charge a card.
type Charge struct {
	OrderID   uuid.UUID
	Amount    money.Money
	CardToken string // secret: must not appear in logs or errors
	Capture   bool   // capture at once; otherwise only authorise
	Reference string // of the prepared charge; "" before Prepare
	// MayExist says that an earlier version of the service may have charged the order
	// without preparing the charge.
	MayExist bool
}

// State is the outcome of a charge.
type State string

// The states of a charge.
const (
	Prepared   State = "prepared" // nothing is charged
	Authorised State = "authorised"
	Captured   State = "captured"
	Declined   State = "declined"
	Voided     State = "voided" // before it was authorised: nothing is charged, nor can be
	// ActionRequired says that the shopper has to authenticate, by 3-D Secure. Nothing is
	// charged before that.
	ActionRequired State = "action_required"
)

// Result is the acquirer's answer to a charge.
type Result struct {
	Reference     string // the acquirer's id of the charge; "" if there is none
	State         State
	DeclineReason string // a code such as insufficient_funds; "" unless declined
	// ClientSecret is what the shop's page needs to let the shopper authenticate; "" unless an
	// action is required. Only the shopper may see it.
	ClientSecret string
}

// RefundState is how a refund stands.
type RefundState string

// The states of a refund.
const (
	RefundPending RefundState = "pending" // the acquirer carries it out, which can take days
	RefundDone    RefundState = "refunded"
	RefundFailed  RefundState = "failed" // the money is not refunded
)

// Refund is a refund at the acquirer.
type Refund struct {
	Reference string // the acquirer's id of the refund
	State     RefundState
	Reason    string // a code for why it failed; "" unless failed
}

// Acquirer charges cards, in two steps: a charge is prepared, and then authorised by its
// reference. So a charge whose outcome is not known can be voided, without a risk that a
// repeated or delayed call charges it. Every call that changes something carries an
// idempotency key: repeated calls with the same key take effect once and get the same
// answer, also if it is a refusal. Any error other than ErrRefused, ErrVoided and
// ErrCaptured means that the outcome is not known: repeat the call.
type Acquirer interface {
	// Name is the value of a payment's member acquirer.
	Name() string
	// Reference returns the reference of the order's charge if the service chooses it, and
	// "" if Prepare gets one from the acquirer. With a reference, a charge counts as prepared.
	Reference(order uuid.UUID) string
	// Prepare registers a charge. Nothing is charged. A card or amount that the acquirer
	// refuses is a result with the state Declined.
	Prepare(ctx context.Context, key string, charge Charge) (Result, error)
	// Authorise charges a prepared charge. A declined card is a result, as is a charge that
	// has been voided.
	Authorise(ctx context.Context, key string, charge Charge) (Result, error)
	// Find returns how a charge stands that required an action of the shopper. One that the
	// shopper failed is declined, and can never be charged again.
	Find(ctx context.Context, charge Charge) (Result, error)
	// Capture captures an authorised amount. It returns ErrVoided if the authorisation
	// was released or has expired.
	Capture(ctx context.Context, key, reference string) error
	// Void releases an authorisation, or prevents a prepared charge from being authorised.
	// It returns ErrCaptured if the amount was captured.
	Void(ctx context.Context, key string, charge Charge) error
	// Refund begins to refund a captured amount as a whole.
	Refund(ctx context.Context, key, reference string, amount money.Money) (Refund, error)
	// RefundPart begins to refund a part of a captured amount. More than is left of it is refused. old
	// says that a call with the key may have been made so long ago that the acquirer has dropped the
	// key: nothing is refunded before such a call is looked for.
	RefundPart(ctx context.Context, key, reference string, amount money.Money, old bool) (Refund, error)
	// FindRefund returns a refund as it stands.
	FindRefund(ctx context.Context, refund string) (Refund, error)
}

// Notice is what an acquirer says by itself: that a charge or a refund has changed. It does not
// say how, so that notices may be repeated, late, and out of order.
type Notice struct {
	OrderID   uuid.UUID // whose charge it is; uuid.Nil: not one of this service's
	Reference string    // of the charge
	Refund    string    // the acquirer's id of the refund; "": the notice is about the charge
}

// ErrNotGenuine says that a notice is not the acquirer's, or is too old.
var ErrNotGenuine = errors.New("the signature is wrong, or older than five minutes")

var (
	// ErrUnknown is in the chain of errors after which the call may or may not have
	// taken effect.
	ErrUnknown = errors.New("the outcome is not known")
	// ErrRefused says that the acquirer does not do what the call asks for, for example
	// because the charge is disputed. The call had no effect, and repeating it with the same
	// key will have none.
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
