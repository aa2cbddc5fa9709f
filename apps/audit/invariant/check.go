package invariant

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

const (
	// recheckAfter is how much later a suspect is read again. It is longer than any
	// request of which the first look may have seen a part, retries apart.
	recheckAfter = 3 * time.Second
	// maxSuspects is how many suspects are held in memory and read again at once.
	maxSuspects = 1000
)

// Check audits the databases while the shop goes on. Its memory does not depend on the
// number of orders.
//
// Each database is read in one snapshot, but no snapshot spans the three of them: an
// order that moved in between contradicts itself. So each order that breaks a rule is a
// suspect, and is read again in later snapshots. The report has what both looks find.
// An order in flight breaks no rule until it is overdue.
func Check(ctx context.Context, databases Databases) (*Report, error) {
	report := newReport()
	began := time.Now()
	s, err := databases.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer s.end(ctx)
	if err := s.items(ctx, report); err != nil {
		return nil, err
	}
	l := later{
		databases: databases, report: report, due: began.Add(recheckAfter),
		rules: map[uuid.UUID][]Invariant{}, books: map[string]int64{},
	}
	if err := s.records(ctx, nil, func(r *record) error {
		report.count(r)
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
	if value := record.payment.held(); value != 0 {
		r.Held[record.payment.currency] += value
	}
}

// later collects suspects and reads them again when they are due.
type later struct {
	databases Databases
	report    *Report
	due       time.Time
	rules     map[uuid.UUID][]Invariant // that an order broke at the first look
	books     map[string]int64          // imbalance by currency that both looks found
}

func (l *later) suspect(id uuid.UUID, rule Invariant) { l.rules[id] = append(l.rules[id], rule) }

// recheck reports the suspects that break the same rule again, and forgets all.
func (l *later) recheck(ctx context.Context) error {
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
