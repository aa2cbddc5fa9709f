package fault

// Bug is a mistake that a careless engineer could have made. Programs built with the tag
// planted make the one that the variable PLANTED names, so that a drill shows that its
// checks find it. Other builds contain none.
type Bug string

// The bugs, by what goes wrong.
const (
	KeyForgotten      Bug = "key-forgotten"      // pedidos: another process does not know an idempotency key
	AnswerUnsaved     Bug = "answer-unsaved"     // pedidos: answers first, and lets a job save the order
	CancelLost        Bug = "cancel-lost"        // pedidos: forgets a cancel of an order that another process has just changed
	SavedOver         Bug = "saved-over"         // pedidos: overwrites what another process has saved
	StaleRead         Bug = "stale-read"         // pedidos: reads orders from a cache
	ConfirmUnreserved Bug = "confirm-unreserved" // pedidos: sells what was perhaps never reserved
	RefundIgnored     Bug = "refund-ignored"     // pedidos: takes a refund that failed for one that is not needed
	RunUnfenced       Bug = "run-unfenced"       // pedidos: saves what PostgreSQL has perhaps lost since it was answered
	TakeoverUnfenced  Bug = "takeover-unfenced"  // pedidos: lets the previous holder of an order save
	ChargedAgain      Bug = "charged-again"      // pagamentos: charges with another key after a lost answer
	RefundUnstored    Bug = "refund-unstored"    // pagamentos: does not store that an order must not be charged
	ReleasedTwice     Bug = "released-twice"     // estoque: returns the units again when a release is repeated
)
