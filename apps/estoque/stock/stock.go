// Package stock keeps items and the units that orders hold. Every change is a single
// statement, and therefore one round trip and one commit. Only if it changed nothing,
// further statements find out why. The database's locks and constraints prevent selling
// a unit twice, and only the database's clock decides which reservations have expired.
package stock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/loja-veloz/platform/apps/estoque/store"
	"github.com/loja-veloz/platform/apps/internal/fault"
	"github.com/loja-veloz/platform/apps/internal/money"
	"github.com/loja-veloz/platform/apps/internal/retention"
	"github.com/loja-veloz/platform/apps/internal/value"
)

// State of a reservation.
type State string

// The states. A reservation never leaves the state Released.
const (
	Reserved  State = "reserved"  // the units are held for the order
	Confirmed State = "confirmed" // the units have left the stock
	Released  State = "released"  // the units are back in stock, and the order cannot reserve again
	Expired   State = "expired"   // the units are back in stock, and the order may reserve again
)

// Item is an item on sale and its stock.
type Item struct {
	SKU               value.SKU
	Name, Description string
	Price             money.Money
	Available         int64 // units that can still be reserved
}

// Line is a SKU and the quantity that an order needs of it.
type Line struct {
	SKU      value.SKU
	Quantity int64
}

// PricedLine is a line with the price of one unit at the time of the first reservation.
type PricedLine struct {
	Line
	Price money.Money
}

// Reservation is the stock that an order holds. Its lines are sorted by SKU. The
// tombstone of an order that was released before it reserved anything has no lines.
type Reservation struct {
	OrderID   uuid.UUID
	State     State
	Lines     []PricedLine
	ExpiresAt time.Time // by the database's clock
	due       bool      // still reserved, but ExpiresAt has passed: the next sweep expires it
}

// add inserts a line so that the lines stay sorted by SKU.
func (r *Reservation) add(sku string, quantity, amount int64, currency string) {
	line := PricedLine{Line{value.SKU(sku), quantity}, money.Money{Amount: amount, Currency: currency}}
	at, _ := slices.BinarySearchFunc(r.Lines, line, func(a, b PricedLine) int { return cmp.Compare(a.SKU, b.SKU) })
	r.Lines = slices.Insert(r.Lines, at, line)
}

// Total is the price of all lines, or nil if there are none.
func (r Reservation) Total() (*money.Money, error) {
	var total *money.Money
	for _, line := range r.Lines {
		price, err := line.Price.Times(line.Quantity)
		if err == nil && total != nil {
			price, err = total.Plus(price)
		}
		if err != nil {
			return nil, fmt.Errorf("adding up reservation %s: %w", r.OrderID, err)
		}
		total = &price
	}
	return total, nil
}

// The refusals. A method that returns one of these has changed nothing.
var (
	ErrNotFound   = errors.New("not found")
	ErrReleased   = errors.New("the reservation was released")
	ErrMismatch   = errors.New("the order has other lines reserved")
	ErrCurrencies = errors.New("the items are priced in different currencies")
	ErrKeyReused  = errors.New("the key was used for another top-up")
)

// UnknownError lists the SKUs that do not exist.
type UnknownError struct{ SKUs []value.SKU }

func (e *UnknownError) Error() string { return "unknown SKU " + join(e.SKUs) }

// Has tells whether sku is one of the unknown SKUs.
func (e *UnknownError) Has(sku value.SKU) bool { return slices.Contains(e.SKUs, sku) }

func join(skus []value.SKU) string {
	return strings.Trim(fmt.Sprint(skus), "[]")
}

// ShortError lists the items with too little stock, and how many units are available.
type ShortError struct{ Available map[value.SKU]int64 }

func (e *ShortError) Error() string {
	return "too little stock of " + join(slices.Sorted(maps.Keys(e.Available)))
}

// errUnsettled says that an operation gave up after maxTries.
var errUnsettled = errors.New("other requests keep changing the reservation")

// maxTries limits how often an operation starts again: a statement changed nothing, but
// when the operation looked for the reason, another request had removed it.
const maxTries = 10

// Stock stores items and reservations in a database.
type Stock struct{ queries *store.Queries }

// New returns the stock in db, a pool.
func New(db store.DBTX) *Stock { return &Stock{store.New(db)} }

// Reserve reserves all lines for the order, or none, for the time keep. No two lines may
// have the same SKU. created is false if the order had already reserved them. If that
// reservation has expired, Reserve reserves the lines again, at the original prices.
//
// It returns an *UnknownError, a *ShortError, ErrCurrencies, ErrMismatch if the
// order has reserved other lines, or ErrReleased.
func (s *Stock) Reserve(ctx context.Context, order uuid.UUID, lines []Line, keep time.Duration) (r Reservation, created bool, err error) {
	lines = slices.SortedFunc(slices.Values(lines), func(a, b Line) int { return cmp.Compare(a.SKU, b.SKU) })
	wanted := store.ReserveParams{OrderID: order, Seconds: int32(keep / time.Second)}
	for _, line := range lines {
		wanted.SKUs = append(wanted.SKUs, string(line.SKU))
		wanted.Quantities = append(wanted.Quantities, line.Quantity)
	}
	for range maxTries {
		rows, err := s.queries.Reserve(ctx, wanted)
		if err != nil {
			return Reservation{}, false, fmt.Errorf("reserving for order %s: %w", order, err)
		}
		if len(rows) > 0 {
			r := Reservation{OrderID: order, State: Reserved, ExpiresAt: rows[0].ExpiresAt}
			for _, row := range rows {
				r.add(row.SKU, row.Quantity, row.PriceAmount, row.PriceCurrency)
			}
			return r, true, nil
		}
		// No row changed. Find out why, outside the hot path.
		r, created, err := s.again(ctx, order, lines, keep)
		if errors.Is(err, ErrNotFound) {
			err = s.shortage(ctx, lines)
			if err == nil {
				continue // the missing units have been returned meanwhile
			}
		}
		return r, created, err
	}
	return Reservation{}, false, fmt.Errorf("reserving for order %s: %w", order, errUnsettled)
}

// again is Reserve for an order that already has a reservation. If it has none, again
// returns ErrNotFound.
func (s *Stock) again(ctx context.Context, order uuid.UUID, lines []Line, keep time.Duration) (r Reservation, created bool, err error) {
	// Compare the lines before reserving them again. They never change, so no lock is needed.
	r, err = s.read(ctx, order)
	switch {
	case err != nil:
		return Reservation{}, false, err
	case r.State != Released && !slices.EqualFunc(lines, r.Lines, func(l Line, p PricedLine) bool { return l == p.Line }):
		return Reservation{}, false, ErrMismatch
	case r.due, r.State == Expired:
		r, created, err = s.move(ctx, order, Reserved, "", keep, Reserved, Expired)
	}
	switch {
	case err != nil:
		return Reservation{}, false, fmt.Errorf("reserving again for order %s: %w", order, err)
	case r.State == Released:
		return Reservation{}, false, ErrReleased
	}
	return r, created, nil
}

// shortage returns why the lines cannot be reserved, or nil if they now can.
func (s *Stock) shortage(ctx context.Context, lines []Line) error {
	var skus []string
	for _, line := range lines {
		skus = append(skus, string(line.SKU))
	}
	rows, err := s.queries.ItemsBySKU(ctx, skus)
	if err != nil {
		return fmt.Errorf("reading the available stock: %w", err)
	}
	items, currencies := map[value.SKU]Item{}, map[string]bool{}
	for _, row := range rows {
		items[value.SKU(row.SKU)] = itemOf(row)
		currencies[row.PriceCurrency] = true
	}
	var unknown []value.SKU
	short := map[value.SKU]int64{}
	for _, line := range lines {
		switch item, known := items[line.SKU]; {
		case !known:
			unknown = append(unknown, line.SKU)
		case item.Available < line.Quantity:
			short[line.SKU] = item.Available
		}
	}
	switch {
	case len(unknown) > 0:
		return &UnknownError{unknown}
	case len(currencies) > 1:
		return ErrCurrencies
	case len(short) > 0:
		return &ShortError{short}
	}
	return nil
}

// Confirm takes the reserved units out of the stock, and those of an expired
// reservation if they are still available. moved is false if it was confirmed before.
// If PostgreSQL is in the given run, it returns before its change is on disk. What it finds confirmed
// is on disk.
//
// It returns a *ShortError, ErrReleased or ErrNotFound.
func (s *Stock) Confirm(ctx context.Context, order uuid.UUID, run string) (r Reservation, moved bool, err error) {
	r, moved, err = s.move(ctx, order, Confirmed, run, 0, Reserved, Expired)
	switch {
	case err != nil:
		return Reservation{}, false, fmt.Errorf("confirming order %s: %w", order, err)
	case r.State == Released:
		return Reservation{}, false, ErrReleased
	}
	return r, moved, nil
}

// Release returns the order's units to the stock and prevents it from reserving again,
// also if it has reserved nothing yet. moved is false if it was released before.
func (s *Stock) Release(ctx context.Context, order uuid.UUID) (r Reservation, moved bool, err error) {
	for range maxTries {
		r, moved, err = s.move(ctx, order, Released, "", 0, Reserved, Confirmed, Expired)
		if err == nil && !moved && fault.Planted(fault.ReleasedTwice) {
			for i, line := range r.Lines {
				key := value.IdempotencyKey(fmt.Sprint(order, i, time.Now().UnixNano()))
				if _, _, err := s.TopUp(ctx, key, line.Line, "released"); err != nil {
					return Reservation{}, false, err
				}
			}
		}
		if err == nil {
			return r, moved, nil
		}
		if !errors.Is(err, ErrNotFound) {
			break
		}
		var refused int64
		if refused, err = s.queries.RefuseReservation(ctx, order); err != nil {
			break
		}
		if refused > 0 {
			return Reservation{OrderID: order, State: Released}, true, nil
		}
		err = errUnsettled // another request has just reserved: try again
	}
	return Reservation{}, false, fmt.Errorf("releasing order %s: %w", order, err)
}

// move moves a reservation from one of the states in from to the state to, and returns
// the reservation. moved is false if it was in none of the states in from. It returns
// ErrNotFound, or a *ShortError if there are too few units. run is that of Confirm.
func (s *Stock) move(
	ctx context.Context, order uuid.UUID, to State, run string, keep time.Duration, from ...State,
) (r Reservation, moved bool, err error) {
	params := store.MoveParams{OrderID: order, ToState: string(to), Run: run, Seconds: int32(keep / time.Second)}
	for _, state := range from {
		params.FromStates = append(params.FromStates, string(state))
	}
	for range maxTries {
		rows, err := s.queries.Move(ctx, params)
		if err != nil {
			return Reservation{}, false, err
		}
		if len(rows) > 0 {
			r := Reservation{OrderID: order, State: to, ExpiresAt: rows[0].ExpiresAt}
			for _, row := range rows {
				r.add(row.SKU, row.Quantity, row.PriceAmount, row.PriceCurrency)
			}
			return r, true, nil
		}
		// No row changed. Find out why, outside the hot path.
		r, err := s.read(ctx, order)
		if err == nil && r.State == Confirmed && to == Confirmed { // by another request, perhaps without waiting for the disk
			locked, err := s.queries.LockReservation(ctx, store.LockReservationParams{OrderID: order, State: string(Confirmed)})
			if err != nil {
				return Reservation{}, false, err
			}
			if locked == 0 {
				continue
			}
		}
		if err != nil || r.State == to || !slices.Contains(from, r.State) {
			return r, false, err
		}
		if r.State == Expired && to != Released {
			var lines []Line
			for _, line := range r.Lines {
				lines = append(lines, line.Line)
			}
			if err := s.shortage(ctx, lines); err != nil {
				return Reservation{}, false, err
			}
		}
		// Another request has just changed the reservation or returned units: try again.
	}
	return Reservation{}, false, errUnsettled
}

// read returns a reservation, or ErrNotFound.
func (s *Stock) read(ctx context.Context, order uuid.UUID) (Reservation, error) {
	rows, err := s.queries.ReservationByOrder(ctx, order)
	if err != nil {
		return Reservation{}, fmt.Errorf("reading the reservation of order %s: %w", order, err)
	}
	if len(rows) == 0 {
		return Reservation{}, ErrNotFound
	}
	r := Reservation{OrderID: order, State: State(rows[0].State), ExpiresAt: rows[0].ExpiresAt, due: rows[0].Due}
	for _, row := range rows {
		if row.SKU != "" {
			r.add(row.SKU, row.Quantity, row.PriceAmount, row.PriceCurrency)
		}
	}
	return r, nil
}

// Expire expires at most max overdue reservations, returns their units to the stock, and
// returns their number.
func (s *Stock) Expire(ctx context.Context, max int32) (int64, error) {
	expired, err := s.queries.Expire(ctx, max)
	if err != nil {
		return 0, fmt.Errorf("expiring reservations: %w", err)
	}
	return expired, nil
}

// Prune deletes the reservations of at most max orders that were placed before a time, unless they
// hold units or have changed since. It returns their number. What they sold stays on record for the audit.
func (s *Stock) Prune(ctx context.Context, before time.Time, max int32) (int64, error) {
	pruned, err := s.queries.PruneReservations(ctx, store.PruneReservationsParams{
		Before: retention.FirstID(before), ChangedBefore: before, MaxRows: max,
	})
	if err != nil {
		return 0, fmt.Errorf("deleting old reservations: %w", err)
	}
	return pruned, nil
}

// Put creates or changes an item. A new price applies to future reservations only.
func (s *Stock) Put(ctx context.Context, item Item) (now Item, created bool, err error) {
	row, err := s.queries.PutItem(ctx, store.PutItemParams{
		SKU: string(item.SKU), Name: item.Name, Description: item.Description,
		PriceAmount: item.Price.Amount, PriceCurrency: item.Price.Currency,
	})
	if err != nil {
		return Item{}, false, fmt.Errorf("putting %s: %w", item.SKU, err)
	}
	return itemOf(row.Item), row.Created, nil
}

// TopUp adds to an item's stock, once per key. created is false if the same top-up was
// stored before. It returns ErrKeyReused if the key was used for a different top-up, or
// ErrNotFound if there is no such item.
func (s *Stock) TopUp(
	ctx context.Context, key value.IdempotencyKey, line Line, reason string,
) (item Item, created bool, err error) {
	row, err := s.queries.TopUp(ctx, store.TopUpParams{
		Key: string(key), SKU: string(line.SKU), Quantity: line.Quantity, Reason: reason,
	})
	if err == nil {
		return itemOf(row), true, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return Item{}, false, fmt.Errorf("topping up %s: %w", line.SKU, err)
	}
	before, err := s.queries.TopUpByKey(ctx, string(key))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Item{}, false, ErrNotFound
	case err != nil:
		return Item{}, false, fmt.Errorf("reading the earlier top-up: %w", err)
	case before.SKU != string(line.SKU) || before.Quantity != line.Quantity || before.Reason != reason:
		return Item{}, false, ErrKeyReused
	}
	item, err = s.Item(ctx, line.SKU)
	return item, false, err
}

// Item returns one item, or ErrNotFound.
func (s *Stock) Item(ctx context.Context, sku value.SKU) (Item, error) {
	row, err := s.queries.ItemBySKU(ctx, string(sku))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Item{}, ErrNotFound
	case err != nil:
		return Item{}, fmt.Errorf("reading item %s: %w", sku, err)
	}
	return itemOf(row), nil
}

// Items returns at most max items whose SKUs come after the given one.
func (s *Stock) Items(ctx context.Context, after value.SKU, max int32) ([]Item, error) {
	rows, err := s.queries.ItemsAfter(ctx, store.ItemsAfterParams{After: string(after), MaxRows: max})
	if err != nil {
		return nil, fmt.Errorf("listing items: %w", err)
	}
	items := make([]Item, len(rows))
	for i, row := range rows {
		items[i] = itemOf(row)
	}
	return items, nil
}

// Units counts an item's units by whether an order holds them.
type Units struct {
	SKU                 string
	Available, Reserved int64
}

// Units returns the units of at most max items.
func (s *Stock) Units(ctx context.Context, max int32) ([]Units, error) {
	rows, err := s.queries.Units(ctx, max)
	if err != nil {
		return nil, fmt.Errorf("counting the stock: %w", err)
	}
	units := make([]Units, len(rows))
	for i, row := range rows {
		units[i] = Units(row)
	}
	return units, nil
}

func itemOf(row store.Item) Item {
	return Item{
		SKU: value.SKU(row.SKU), Name: row.Name, Description: row.Description,
		Price:     money.Money{Amount: row.PriceAmount, Currency: row.PriceCurrency},
		Available: row.OnHand - row.Reserved,
	}
}
