package invariant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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

// Options say what an audit reads.
type Options struct {
	// WholeEvery is the age of the last whole audit from which the next one is whole. Until then, audits read what has
	// changed since the one before. 0: this audit is whole.
	WholeEvery time.Duration
	// Program identifies the version of the program: an audit does not go on from what another version has found.
	Program string

	recheckAfter time.Duration // the constant, if it is 0
	discard      bool          // the checkpoint
}

// Check audits the databases of a running shop. Its memory does not depend on the number
// of orders.
//
// Check reads each database in one snapshot, but no snapshot spans all three: an order
// that changed between the snapshots seems to break a rule. Such orders are suspects, and
// Check reads them again in later snapshots. The report contains the violations that both
// reads found. An order in flight breaks no rule until it is overdue.
//
// An audit that is not whole reads the orders that have changed since the last one, in the buckets in which sums are
// kept, and those that broke a rule then. If a sum does not fit, the audit becomes a whole one, which can say why.
func Check(ctx context.Context, databases Databases, o Options) (*Report, error) {
	report, misfit, err := check(ctx, databases, o, "")
	if errors.Is(err, errUnreadable) {
		misfit, err = errUnreadable.Error(), nil
	}
	if misfit != "" && err == nil {
		report, _, err = check(ctx, databases, Options{Program: o.Program, recheckAfter: o.recheckAfter}, misfit)
	}
	return report, err
}

// audit is one audit.
type audit struct {
	databases Databases
	snapshots snapshots
	report    *Report
	settled   settled
	units     string // which old reservations have sold, in SQL
	next      checkpoint
	recheck   rechecker
}

// check audits once. It returns why the audit has to be whole, if it is not, and cannot find what is wrong.
func check(ctx context.Context, databases Databases, o Options, why string) (report *Report, misfit string, err error) {
	a := &audit{databases: databases, report: newReport()}
	a.recheck = rechecker{
		audit: a, due: time.Now().Add(cmp.Or(o.recheckAfter, recheckAfter)),
		rules: map[uuid.UUID][]Invariant{}, open: map[string]bool{}, books: map[string]int64{},
	}
	if a.snapshots, err = databases.begin(ctx, o.WholeEvery > 0); err != nil {
		return nil, "", err
	}
	defer func() { a.snapshots.end(ctx) }()
	if a.settled, a.units, err = a.snapshots.settled(ctx); err != nil {
		return nil, "", err
	}
	marks, now, err := a.snapshots.marks(ctx)
	if err != nil {
		return nil, "", err
	}
	a.next = checkpoint{run: uuid.New(), Program: o.Program, Marks: marks, WholeAt: now, Total: newSums()}
	if o.discard {
		a.next.Marks = nil
	}
	if o.WholeEvery <= 0 {
		return a.report, "", a.whole(ctx, cmp.Or(why, "as asked for"))
	}
	if marks == nil {
		return nil, "the databases do not say what has changed", nil
	}
	last, err := a.snapshots.checkpoint(ctx)
	if err != nil {
		return nil, "", err
	}
	if misfit = last.unusable(marks, now, o); misfit != "" {
		return nil, misfit, nil
	}
	a.report.WholeAge = now.Sub(last.WholeAt)
	misfit, err = a.incremental(ctx, last)
	return a.report, misfit, err
}

// whole reads everything.
func (a *audit) whole(ctx context.Context, why string) error {
	a.report.Whole = why
	if err := a.snapshots.items(ctx, a.units, a.report); err != nil {
		return err
	}
	var stored int64
	var failed error // to store the parts
	var full []part
	store := func() {
		if failed == nil && len(full) > 0 && a.next.Marks != nil {
			failed = writeParts(ctx, a.databases.Pedidos, a.next.run, full)
		}
		stored += int64(len(full))
		full = full[:0]
	}
	if err := a.read(ctx, nil, func(p part) {
		if full = append(full, p); len(full) == batch {
			store()
		}
	}); err != nil {
		return err
	}
	store()
	if err := a.end(ctx); err != nil {
		return err
	}
	// Nobody changes orders of that age, so no recheck is needed.
	if a.next.Total.Unreserved != a.settled.orders {
		a.report.add(StockMatchesOrder, "orders up to "+a.settled.newest.String(), fmt.Sprintf(
			"%d confirmed orders have no reservation, and %d reservations of sold units have left by their age",
			a.next.Total.Unreserved, a.settled.orders))
	}
	if a.next.Marks == nil {
		return nil
	}
	if failed == nil {
		failed = a.save(ctx, func() error { return a.next.replace(ctx, a.databases.Pedidos, stored) })
	}
	a.report.Unsaved = failed
	return ctx.Err()
}

// incremental reads the buckets of orders that have changed since the last audit, or whose violations are open.
func (a *audit) incremental(ctx context.Context, last *checkpoint) (misfit string, err error) {
	changed, err := a.snapshots.changed(ctx, last.Marks, maxBuckets+1)
	if err != nil {
		return "", err
	}
	for _, bucket := range last.Open {
		changed[bucket] = true
	}
	if len(changed) > maxBuckets {
		return "much has changed", nil
	}
	a.next.run, a.next.generation, a.next.WholeAt, a.next.Total = last.run, last.generation, last.WholeAt, last.Total
	parts := make([]part, 0, len(changed))
	for buckets := range slices.Chunk(slices.Sorted(maps.Keys(changed)), batch) {
		before, err := a.snapshots.parts(ctx, last.run, buckets)
		if err != nil {
			return "", err
		}
		a.next.Total.add(before, -1)
		within, err := rangesOf(buckets)
		if err != nil {
			return "", err
		}
		if err := a.read(ctx, within, func(p part) { parts = append(parts, p) }); err != nil {
			return "", err
		}
	}
	fits, err := a.snapshots.stockFits(ctx, a.next.Total.Sold)
	if err != nil {
		return "", err
	}
	if !fits || a.next.Total.Unreserved != a.settled.orders {
		return "a sum did not fit", nil
	}
	if err := a.end(ctx); err != nil {
		return "", err
	}
	a.report.Unsaved = a.save(ctx, func() error { return a.next.advance(ctx, a.databases.Pedidos, parts) })
	return "", ctx.Err()
}

// read reads the orders in the ranges, collects suspects, adds to the sums, and calls found with the part of each bucket.
func (a *audit) read(ctx context.Context, within *ranges, found func(part)) error {
	bucket, sum := "", newSums()
	var failed error
	flush := func() {
		if bucket == "" {
			return
		}
		text, err := sum.encode()
		failed = errors.Join(failed, err)
		found(part{bucket, text})
		a.next.Total.add(sum, 1)
	}
	err := a.snapshots.records(ctx, within, func(r *record) error {
		if of := bucketOf(r.id); of != bucket {
			flush()
			bucket, sum = of, newSums()
		}
		a.report.Read++
		r.settled = r.mayBeSettled(a.settled.newest)
		sum.count(r)
		return a.recheck.first(ctx, r)
	})
	flush()
	return errors.Join(err, failed)
}

// end rechecks the last suspects, and completes the report but for violations that are not of single orders.
func (a *audit) end(ctx context.Context) error {
	if err := a.recheck.again(ctx); err != nil {
		return err
	}
	for currency, difference := range a.recheck.books {
		if difference != 0 {
			a.report.add(BooksBalance, currency, fmt.Sprintf("captured minus refunded differs from the confirmed orders by %d", difference))
		}
	}
	total := a.next.Total
	a.report.Orders, a.report.InFlight, a.report.Confirmed, a.report.Held = total.Orders, total.InFlight, total.Confirmed, total.Held
	return nil
}

// save stores the checkpoint, unless it would have to remember too much.
func (a *audit) save(ctx context.Context, store func() error) error {
	if len(a.recheck.open) > maxOpen {
		return forget(ctx, a.databases.Pedidos)
	}
	a.next.Open = slices.Sorted(maps.Keys(a.recheck.open))
	return store()
}

// rechecker collects suspects and reads them again when they are due.
type rechecker struct {
	audit *audit
	due   time.Time
	rules map[uuid.UUID][]Invariant // the rules that an order broke at the first read
	books map[string]int64          // the imbalance by currency that both reads found
	open  map[string]bool           // the buckets with violations that both reads found, at most maxOpen+1
}

func (l *rechecker) suspect(id uuid.UUID, rule Invariant) { l.rules[id] = append(l.rules[id], rule) }

// first collects a suspect of the first read.
func (l *rechecker) first(ctx context.Context, r *record) error {
	r.violated(func(rule Invariant, _ string) { l.suspect(r.id, rule) })
	if r.imbalance() != nil {
		l.suspect(r.id, BooksBalance)
	}
	if len(l.rules) < maxSuspects {
		return nil
	}
	return l.again(ctx)
}

// again reports the suspects that break the same rule again, and removes all suspects.
func (l *rechecker) again(ctx context.Context) error {
	if len(l.rules) == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(l.due)):
	}
	s, err := l.audit.databases.begin(ctx, true)
	if err != nil {
		return err
	}
	defer s.end(ctx)
	ids := slices.Collect(maps.Keys(l.rules))
	err = s.records(ctx, &ranges{low: ids, high: ids}, func(r *record) error {
		before := l.rules[r.id]
		r.settled = r.mayBeSettled(l.audit.settled.newest)
		r.violated(func(rule Invariant, detail string) {
			if slices.Contains(before, rule) {
				l.audit.report.add(rule, r.id.String(), detail)
				l.keepOpen(r.id)
			}
		})
		if imbalance := r.imbalance(); imbalance != nil && slices.Contains(before, BooksBalance) {
			for currency, difference := range imbalance {
				l.books[currency] += difference
			}
			l.keepOpen(r.id)
		}
		return nil
	})
	clear(l.rules)
	return err
}

func (l *rechecker) keepOpen(id uuid.UUID) {
	if len(l.open) <= maxOpen {
		l.open[bucketOf(id)] = true
	}
}
