// Package fault has the fault points: the places of a checkout at which the death of
// a process does the most harm. A drill builds the programs with the tag drill and
// kills a process at one point. A program that make deploy FAULT=... builds answers
// requests wrongly, so that a drill shows what a canary does with a bad version. Other
// builds do neither.
package fault

// Point is a place in the code between two steps that are not atomic together.
type Point string

// The points, in the order in which a checkout, a cancellation or a partial refund passes them.
const (
	OrderStored     Point = "order-stored"     // pedidos: the order is committed, nothing else has happened
	StockReserved   Point = "stock-reserved"   // estoque: committed, not answered
	OrderReserved   Point = "order-reserved"   // pedidos: knows that the stock is reserved
	PaymentIntended Point = "payment-intended" // pagamentos: the intention is committed, the acquirer not called
	AcquirerCharged Point = "acquirer-charged" // pagamentos: the acquirer has charged, nothing stored about it
	PaymentStored   Point = "payment-stored"   // pagamentos: committed, not answered
	OrderPaid       Point = "order-paid"       // pedidos: knows that the payment is captured
	StockConfirmed  Point = "stock-confirmed"  // estoque: committed, not answered
	OrderConfirmed  Point = "order-confirmed"  // pedidos: knows that the stock is confirmed, nothing stored
	OrderFinished   Point = "order-finished"   // pedidos: the end is committed, not answered

	CancelStored     Point = "cancel-stored"     // pedidos: the request to cancel is committed
	RefundIntended   Point = "refund-intended"   // pagamentos: the intention is committed
	AcquirerRefunded Point = "acquirer-refunded" // pagamentos: the acquirer has refunded, nothing stored about it
	RefundStored     Point = "refund-stored"     // pagamentos: committed, not answered
	OrderRefunded    Point = "order-refunded"    // pedidos: knows of the refund, nothing stored
	StockReleased    Point = "stock-released"    // estoque: committed, not answered

	WebhookSent Point = "webhook-sent" // pedidos: an endpoint has answered, nothing stored about it

	PartPlaced   Point = "part-placed"   // pedidos: a partial refund is committed, pagamentos not called
	PartIntended Point = "part-intended" // pagamentos: the intention is committed
	PartRefunded Point = "part-refunded" // pagamentos: the acquirer has refunded, nothing stored about it
	PartStored   Point = "part-stored"   // pagamentos: committed, not answered
	PartAnswered Point = "part-answered" // pedidos: knows of the refund, nothing stored
)

// Checkout are the points that an order passes until it is confirmed.
var Checkout = []Point{
	OrderStored, StockReserved, OrderReserved, PaymentIntended, AcquirerCharged, PaymentStored, OrderPaid,
	StockConfirmed, OrderConfirmed, OrderFinished,
}

// Undoing are the points that the cancellation of a confirmed order passes.
var Undoing = []Point{
	CancelStored, RefundIntended, AcquirerRefunded, RefundStored, OrderRefunded, StockReleased,
}

// Parts are the points that a partial refund passes.
var Parts = []Point{PartPlaced, PartIntended, PartRefunded, PartStored, PartAnswered}
