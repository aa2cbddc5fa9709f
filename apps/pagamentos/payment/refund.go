package payment

import (
	"time"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/internal/money"
)

// PartialRefund is a refund of a part of a payment, or of the rest of one that was undone after a
// part had been refunded.
type PartialRefund struct {
	ID        uuid.UUID
	OrderID   uuid.UUID
	Amount    money.Money
	Reason    string // shown to the client
	State     RefundState
	Reference string // the acquirer's id of the refund, or a person's note; "" before
	// Problem is why the acquirer has refused the refund, and Refusals how often it has.
	Problem     string
	Refusals    int32
	Asked       bool          // a call with the present key may have been made, of which the outcome is not stored
	NeedsPerson bool          // it does not finish by itself
	DueIn       time.Duration // until the resolver takes the refund up, if it is pending
	// Age is the time since the first call with the present key can have been made.
	Age       time.Duration
	Acquirer  string
	Charge    string // the acquirer's reference of the charge
	CreatedAt time.Time
	UpdatedAt time.Time
}

// RefundState is the state of a partial refund.
type RefundState string

// The states. A refund that has succeeded is pending again if the acquirer says later that it failed.
const (
	RefundPending   RefundState = "pending"
	RefundSucceeded RefundState = "succeeded"
	RefundFailed    RefundState = "failed" // given up by a person: its amount can be refunded otherwise
)

// Wait returns how long the acquirer is not to be called: it has refused the refund, or carries it out.
func (r PartialRefund) Wait() time.Duration {
	if r.State != RefundPending || r.Problem == "" && r.Reference == "" {
		return 0
	}
	return max(r.DueIn, 0)
}
