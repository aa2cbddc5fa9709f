package invariant

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

const (
	// recheckAfter is the time from the start of the audit to the recheck of a suspect. It
	// is longer than a request, without retries, of which the first read may have seen only
	// a part.
	recheckAfter = 3 * time.Second
	// maxSuspects is how many suspects are kept in memory and rechecked together.
	maxSuspects = 1000
)

// Check audits the databases of a running shop. Its memory does not depend on the number
// of orders.
//
// Check reads each database in one snapshot, but no snapshot spans all three: an order
// that changed between the snapshots seems to break a rule. Such orders are suspects, and
// Check reads them again in later snapshots. The report contains the violations that both
// reads found. An order in flight breaks no rule until it is overdue.
func Check(ctx context.Context, databases Databases) (*Report, error) {
	report := newReport()
	began := time.Now()
	s, err := databases.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.end(ctx)
	settled, units, err := s.settled(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.items(ctx, units, report); err != nil {
		return nil, err
	}
	var unreserved int64
	l := rechecker{
		databases: databases, report: report, settled: settled.newest, due: began.Add(recheckAfter),
		rules: map[uuid.UUID][]Invariant{}, books: map[string]int64{},
	}
	if err := s.records(ctx, nil, func(r *record) error {
		report.count(r)
		if r.settled = r.mayBeSettled(settled.newest); r.settled {
			unreserved++
		}
		r.violated(func(rule Invariant, _ string) { l.suspect(r.id, rule) })
		if r.imbalance() != nil {
			l.suspect(r.id, BooksBalance)
		}
		if len(l.rules) < maxSuspects {
			return nil
		}
		return l.recheck(ctx)
	}); err != nil {
		return nil, err
	}
	if err := l.recheck(ctx); err != nil {
		return nil, err
	}
	// Nobody changes orders of that age, so no recheck is needed.
	if unreserved != settled.orders {
		report.add(StockMatchesOrder, "orders up to "+settled.newest.String(), fmt.Sprintf(
			"%d confirmed orders have no reservation, and %d reservations of sold units have left by their age", unreserved, settled.orders))
	}
	for currency, difference := range l.books {
		if difference != 0 {
			report.add(BooksBalance, currency, fmt.Sprintf("captured minus refunded differs from the confirmed orders by %d", difference))
		}
	}
	return report, nil
}

func (r *Report) count(record *record) {
	if record.order.state != "" {
		r.Orders++
	}
	if record.inFlight() {
		r.InFlight++
	}
	if value := record.order.confirmed(); value != 0 {
		r.Confirmed[record.order.currency] += value
	}
	if value := record.payment.kept(); value != 0 {
		r.Held[record.payment.currency] += value
	}
}

// rechecker collects suspects and reads them again when they are due.
type rechecker struct {
	databases Databases
	report    *Report
	settled   uuid.UUID // the newest order whose reservation of sold units has left
	due       time.Time
	rules     map[uuid.UUID][]Invariant // the rules that an order broke at the first read
	books     map[string]int64          // the imbalance by currency that both reads found
}

func (l *rechecker) suspect(id uuid.UUID, rule Invariant) { l.rules[id] = append(l.rules[id], rule) }

// recheck reports the suspects that break the same rule again, and removes all suspects.
func (l *rechecker) recheck(ctx context.Context) error {
	if len(l.rules) == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(l.due)):
	}
	s, err := l.databases.begin(ctx)
	if err != nil {
		return err
	}
	defer s.end(ctx)
	ids := make([]uuid.UUID, 0, len(l.rules))
	for id := range l.rules {
		ids = append(ids, id)
	}
	err = s.records(ctx, ids, func(r *record) error {
		before := l.rules[r.id]
		r.settled = r.mayBeSettled(l.settled)
		r.violated(func(rule Invariant, detail string) {
			if slices.Contains(before, rule) {
				l.report.add(rule, r.id.String(), detail)
			}
		})
		if slices.Contains(before, BooksBalance) {
			for currency, difference := range r.imbalance() {
				l.books[currency] += difference
			}
		}
		return nil
	})
	clear(l.rules)
	return err
}
