//go:build e2e

package drill

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// next lists the states that may follow each state of an order (docs/checkout.md); the first
// is pending.
var next = map[string][]string{
	"":          {"pending"},
	"pending":   {"reserved", "cancelled", "failed", "refunding"},
	"reserved":  {"paid", "cancelled", "failed", "refunding"},
	"paid":      {"confirmed", "refunding"},
	"confirmed": {"refunding"},
	"refunding": {"refunded"},
}

// later lists the states in which a payment may be read after each state (docs/payments.md).
// none is a payment that does not exist, and "" one that nobody has asked for. A crash of the database can take the
// outcome of a charge back, until the order says so: the commit does not wait for the disk.
var later = map[string][]string{
	"":            {none, "authorising", "captured", "declined", "refunding", "refunded", "voided"},
	none:          {none, "authorising", "captured", "declined", "refunding", "refunded", "voided"},
	"authorising": {"authorising", "captured", "declined", "refunding", "refunded", "voided"},
	"captured":    {"authorising", "captured", "refunding", "refunded"},
	"declined":    {"authorising", "declined", "voided"},
	"refunding":   {"refunding", "refunded"},
	"refunded":    {"refunded"},
	"voided":      {"voided"},
}

const none = "none"

// A path is an order's transitions as an answer shows them, one a line.
type path string

func (p path) extends(earlier path) bool {
	return p == earlier || earlier == "" || strings.HasPrefix(string(p), string(earlier)+"\n")
}

func (p path) states() []string {
	var states []string
	for line := range strings.Lines(string(p)) {
		state, _, _ := strings.Cut(line, " ")
		states = append(states, state)
	}
	return states
}

// last returns the state that the path leads to; "" if there is no path.
func (p path) last() string {
	line := string(p[strings.LastIndexByte(string(p), '\n')+1:])
	state, _, _ := strings.Cut(line, " ")
	return state
}

func (p path) length() int {
	if p == "" {
		return 0
	}
	return strings.Count(string(p), "\n") + 1
}

// byClient tells whether the path says that the client cancelled the order.
func (p path) byClient() bool {
	return slices.Contains(p.states(), "cancelled") || strings.Contains(string(p), "cancelled_by_client")
}

// What the operations of the model are. A call is one of them, but an answered cancel is two: its
// effect, and the state that it answers with. Both are in the call's interval.
const (
	placeAnswered = "place"
	placeOpen     = "place, no answer"
	read          = "read"
	cancelStored  = "cancel"
	cancelOpen    = "cancel, no answer"
	cancelAnswer  = "cancel's answer"
	cancelRefused = "cancel refused"
	notFound      = "not found"
	readPayment   = "payment"
)

// An event is an operation of the model.
type event struct {
	kind    string
	id      string
	path    path
	answer  uint64 // a hash of the answer's body
	payment string
}

// A known is what the answers so far have shown of an order and its payment. The shop moves an order on
// between the operations of clients, so that the state of the model is a bound: the
// order is at least as far, and every answer must be reachable from it.
type known struct {
	id      string // that the key names
	path    path
	answer  uint64 // the first answer, which the shop repeats; 0: none is known
	open    bool   // a place without an answer may have stored the first answer when ...
	early   int    // ... the order had this many transitions
	cancel  bool   // a cancel has taken effect
	settled bool   // an answer after that shows where the order was
	failed  bool   // a cancel was refused because the order has failed
	payment string
}

// step returns the state after an event, and whether the event is possible.
func (k known) step(e event) (bool, known) {
	switch e.kind {
	case placeOpen:
		if !k.open {
			k.open, k.early = true, k.path.length()
		}
		return true, k
	case placeAnswered:
		return k.placed(e)
	case read, cancelAnswer:
		if e.kind == cancelAnswer && !k.cancel {
			return false, k
		}
		return k.shown(e.path)
	case cancelOpen, cancelStored:
		if k.failed || k.path.last() == "failed" {
			return e.kind == cancelOpen, k
		}
		k.cancel = true
		return true, k
	case cancelRefused:
		if k.cancel || !slices.Contains([]string{"", "pending", "reserved", "failed"}, k.path.last()) ||
			slices.Contains([]string{"captured", "refunding", "refunded"}, k.payment) {
			return false, k
		}
		k.failed = true
		return true, k
	case readPayment:
		return k.paid(e.payment)
	}
	return false, k // an order that is known is not found
}

// placed is the answer to a POST: the order as it was when its first answer was stored.
func (k known) placed(e event) (bool, known) {
	if k.id != "" && k.id != e.id {
		return false, k
	}
	k.id = e.id
	if k.answer != 0 {
		return k.answer == e.answer, k
	}
	k.answer = e.answer
	if k.open && k.path.extends(e.path) && e.path.length() >= k.early {
		return true, k
	}
	return k.shown(e.path)
}

// shown is an answer that shows the order's present state.
func (k known) shown(p path) (bool, known) {
	last, moved := p.last(), p.states()[min(k.path.length(), p.length()):]
	switch {
	case !p.extends(k.path),
		k.failed && last != "failed",
		p.byClient() && !k.cancel,
		k.cancel && slices.Contains([]string{"paid", "confirmed", "failed"}, last):
		return false, k
	case k.settled && slices.ContainsFunc(moved, func(s string) bool { return s != "cancelled" && s != "refunding" && s != "refunded" }):
		return false, k // a cancelled order is only undone
	}
	switch seen := k.payment; last {
	case "paid", "confirmed":
		if seen != "" && seen != none && seen != "authorising" && seen != "captured" {
			return false, k
		}
	case "failed", "cancelled":
		if seen == "captured" || seen == "refunding" || seen == "refunded" {
			return false, k
		}
	case "refunding", "refunded":
		if seen == "declined" || seen == "voided" {
			return false, k
		}
	}
	k.path, k.settled = p, k.cancel
	return true, k
}

// paid is an answer that shows the payment's present state.
func (k known) paid(state string) (bool, known) {
	if !slices.Contains(later[k.payment], state) {
		return false, k
	}
	possible := true
	switch last := k.path.last(); {
	case k.failed, last == "failed", last == "cancelled":
		possible = state == none || state == "declined" || state == "voided"
	case last == "refunded":
		possible = state == "refunded"
	case last == "confirmed" && !k.cancel:
		possible = state == "captured"
	case last == "paid", last == "confirmed", last == "refunding":
		possible = state == "captured" || state == "refunding" || state == "refunded"
	}
	if state != "authorising" || k.payment != "captured" && k.payment != "declined" { // what was taken back comes again
		k.payment = state
	}
	return possible, k
}

// model is the sequential specification of one order. The events of a history are those of one
// idempotency key.
var model = porcupine.Model{
	Init: func() any { return known{} },
	Step: func(state, input, _ any) (bool, any) {
		possible, after := state.(known).step(input.(event))
		return possible, after
	},
	DescribeOperation: func(input, _ any) string { return input.(event).String() },
	DescribeState: func(state any) string {
		k := state.(known)
		return fmt.Sprintf("order %s: %s; payment %q, cancelled %v", k.id, strings.Join(k.path.states(), ", "), k.payment, k.cancel)
	},
}

func (e event) String() string {
	switch e.kind {
	case placeAnswered, read, cancelAnswer:
		return fmt.Sprintf("%s: %s, %s", e.kind, e.id, strings.Join(e.path.states(), ", "))
	case readPayment:
		return e.kind + ": " + e.payment
	}
	return e.kind
}
