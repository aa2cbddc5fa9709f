//go:build e2e

package drill

import (
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

// story returns the path through the states.
func story(states string) path {
	var lines []string
	for i, state := range strings.Fields(states) {
		line := state + " at " + string(rune('a'+i))
		if state == "refunding" {
			line += " cancelled_by_client"
		}
		lines = append(lines, line)
	}
	return path(strings.Join(lines, "\n"))
}

const confirmed = "pending reserved paid confirmed"

// TestModel gives the model histories that the shop may have, and such that it must not have.
func TestModel(t *testing.T) {
	const end = 100
	at := func(call, end int64, e event) porcupine.Operation {
		return porcupine.Operation{Call: call, Return: end, Input: e}
	}
	// then is a call that begins when all others have ended.
	then := func(e event) porcupine.Operation { return at(50, 51, e) }
	place := func(states string, answer uint64) event {
		return event{kind: placeAnswered, id: "1", path: story(states), answer: answer}
	}
	reads := func(states string) event { return event{kind: read, id: "1", path: story(states)} }
	pays := func(state string) event { return event{kind: readPayment, id: "1", payment: state} }
	answer := func(states string) event { return event{kind: cancelAnswer, id: "1", path: story(states)} }
	var (
		cancel, open, refused = event{kind: cancelStored}, event{kind: cancelOpen}, event{kind: cancelRefused}
		sold, pending         = at(1, 2, place(confirmed, 7)), at(1, 2, place("pending", 7))
	)
	for name, c := range map[string]struct {
		possible bool
		history  []porcupine.Operation
	}{
		"confirmed, and read":            {true, []porcupine.Operation{sold, at(3, 4, reads(confirmed)), then(pays("captured"))}},
		"the first answer, repeated":     {true, []porcupine.Operation{pending, at(3, 4, reads(confirmed)), then(place("pending", 7))}},
		"another answer to the same key": {false, []porcupine.Operation{pending, then(place(confirmed, 8))}},
		"two orders of a key":            {false, []porcupine.Operation{sold, then(event{kind: placeAnswered, id: "2", answer: 7})}},
		"an older answer, nobody asked":  {false, []porcupine.Operation{at(1, 2, reads(confirmed)), then(place("pending", 7))}},
		"an older answer, of a lost call": {true, []porcupine.Operation{
			at(0, end, event{kind: placeOpen}), at(1, 2, reads(confirmed)), then(place("pending", 7)),
		}},
		"earlier than the answer": {false, []porcupine.Operation{sold, then(reads("pending reserved"))}},
		"a lost order":            {false, []porcupine.Operation{sold, then(event{kind: notFound})}},
		"a cancel": {true, []porcupine.Operation{
			sold, at(3, 8, cancel), at(3, 8, answer(confirmed+" refunding refunded")), at(4, 5, reads(confirmed)), then(pays("refunded")),
		}},
		"confirmed after a cancel": {false, []porcupine.Operation{
			pending, at(3, 4, cancel), at(3, 4, answer("pending")), then(reads(confirmed)),
		}},
		"confirmed during a cancel": {true, []porcupine.Operation{
			pending, at(3, 7, cancel), at(3, 7, answer(confirmed+" refunding")), at(5, 6, reads(confirmed)),
		}},
		"an open cancel takes effect later": {true, []porcupine.Operation{
			pending, at(3, end, open), at(5, 6, reads(confirmed)), then(reads(confirmed + " refunding")),
		}},
		"an open cancel of a failed order": {true, []porcupine.Operation{at(1, 2, place("pending failed", 7)), at(3, end, open), then(refused)}},
		"cancelled by nobody":              {false, []porcupine.Operation{sold, then(reads(confirmed + " refunding"))}},
		"reserved after a settled cancel": {false, []porcupine.Operation{
			pending, at(3, 4, cancel), at(3, 4, answer("pending")), then(reads("pending reserved")),
		}},
		"cancelled, then charged": {false, []porcupine.Operation{
			pending, at(3, 4, cancel), at(3, 4, answer("pending cancelled")), then(pays("captured")),
		}},
		"confirmed, not charged":           {false, []porcupine.Operation{sold, then(pays("authorising"))}},
		"refunded without a cancel":        {false, []porcupine.Operation{sold, then(pays("refunded"))}},
		"captured after its refund":        {false, []porcupine.Operation{at(1, 2, pays("refunded")), then(pays("captured"))}},
		"a refused cancel, then confirmed": {false, []porcupine.Operation{pending, at(3, 4, refused), then(reads(confirmed))}},
		"transitions replaced":             {false, []porcupine.Operation{at(1, 2, reads("pending reserved")), then(reads("pending failed"))}},
	} {
		if got := porcupine.CheckOperations(model, c.history); got != c.possible {
			t.Errorf("%s: possible %v, want %v", name, got, c.possible)
		}
	}
}
