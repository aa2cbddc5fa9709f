// Package stock keeps items and what orders hold of them. Every change is one
// statement, and so one round trip and one commit; more is only asked where there
// was nothing to change. The database's locks and constraints see to it that
// nothing is sold twice, and its clock alone decides what has expired.
package stock

import (
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
	"github.com/loja-veloz/platform/apps/internal/money"
)

// State of a reservation.
type State string

// The states. A released reservation stays released.
const (
	Reserved  State = "reserved"  // the units are kept for the order
	Confirmed State = "confirmed" // the units have left the stock
	Released  State = "released"  // the units are back, for good
	Expired   State = "expired"   // the units are back; they may be taken once more
)

// Item is an article and how much there is of it.
type Item struct {
	SKU, Name, Description string
	Price                  money.Money
	Available              int64 // units that can still be reserved
}

// Line is what an order wants of one item.
type Line struct {
	SKU      string
	Quantity int64
}

// PricedLine is a line with the item's price when it was reserved first, for one unit.
type PricedLine struct {
	Line
	Price money.Money
}

// Reservation is what an order holds. Its lines are in the order of their SKUs;
// one that was released before it was made has none.
type Reservation struct {
	OrderID   uuid.UUID
	State     State
	Lines     []PricedLine
	ExpiresAt time.Time // by the database's clock
	due       bool      // to expire with the next sweep
}

// add adds a line, which may come in any order, where it belongs.
func (r *Reservation) add(sku string, quantity, amount int64, currency string) {
	at, _ := slices.BinarySearchFunc(r.Lines, sku, func(line PricedLine, sku string) int { return strings.Compare(line.SKU, sku) })
	r.Lines = slices.Insert(r.Lines, at, PricedLine{Line{sku, quantity}, money.Money{Amount: amount, Currency: currency}})
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

// The refusals. Nothing has been stored when one of them is returned.
var (
	ErrNotFound   = errors.New("not found")
	ErrReleased   = errors.New("the reservation was released")
	ErrMismatch   = errors.New("the order has other lines reserved")
	ErrCurrencies = errors.New("the items are priced in different currencies")
	ErrKeyReused  = errors.New("the key was used for another top-up")
)

// UnknownError says which SKUs are no item's.
type UnknownError struct{ SKUs []string }

func (e *UnknownError) Error() string { return "unknown SKU " + strings.Join(e.SKUs, ", ") }

// ShortError says which items there is too little of, and how much there is.
type ShortError struct{ Available map[string]int64 }

func (e *ShortError) Error() string {
	return "too little of " + strings.Join(slices.Sorted(maps.Keys(e.Available)), ", ")
}

// errUnsettled says that a reservation changed under every try to move it.
var errUnsettled = errors.New("the reservation is changed by others all the time")

// tries bounds how often an operation begins anew because what was in its way is
// gone when it looks for the reason.
const tries = 10

// Stock is the items and reservations in a database.
type Stock struct{ queries *store.Queries }

// New returns the stock in db, a pool.
func New(db store.DBTX) *Stock { return &Stock{store.New(db)} }

// Reserve takes all the lines, of which no two have the same SKU, for the order,
// or none. made is false if the order had them already. A reservation that has
// expired is made again, at its first prices.
//
// It returns an *UnknownError, a *ShortError, ErrCurrencies, ErrMismatch if the
// order has reserved something else, and ErrReleased.
func (s *Stock) Reserve(ctx context.Context, order uuid.UUID, lines []Line, keep time.Duration) (r Reservation, made bool, err error) {
	lines = slices.SortedFunc(slices.Values(lines), func(a, b Line) int { return strings.Compare(a.SKU, b.SKU) })
	wanted := store.ReserveParams{OrderID: order, Seconds: int32(keep / time.Second)}
	for _, line := range lines {
		wanted.SKUs = append(wanted.SKUs, line.SKU)
		wanted.Quantities = append(wanted.Quantities, line.Quantity)
	}
	for range tries {
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
		// Nothing has been done. Why not is found out at leisure.
		r, made, err := s.again(ctx, order, lines, keep)
		if errors.Is(err, ErrNotFound) {
			err = s.shortage(ctx, lines)
			if err == nil {
				continue // what was short has come back
			}
		}
		return r, made, err
	}
	return Reservation{}, false, fmt.Errorf("reserving for order %s: %w", order, errUnsettled)
}

// again is Reserve for an order that is known; ErrNotFound says that it is not.
func (s *Stock) again(ctx context.Context, order uuid.UUID, lines []Line, keep time.Duration) (r Reservation, made bool, err error) {
	// The lines never change: they are compared before what has expired is
	// reserved again.
	r, err = s.read(ctx, order)
	switch {
	case err != nil:
		return Reservation{}, false, err
	case r.State != Released && !slices.EqualFunc(lines, r.Lines, func(l Line, p PricedLine) bool { return l == p.Line }):
		return Reservation{}, false, ErrMismatch
	case r.due, r.State == Expired:
		r, made, err = s.move(ctx, order, Reserved, keep, Reserved, Expired)
	}
	switch {
	case err != nil:
		return Reservation{}, false, fmt.Errorf("reserving again for order %s: %w", order, err)
	case r.State == Released:
		return Reservation{}, false, ErrReleased
	}
	return r, made, nil
}

// shortage says why the lines cannot be reserved, or nil if now they can.
func (s *Stock) shortage(ctx context.Context, lines []Line) error {
	var skus []string
	for _, line := range lines {
		skus = append(skus, line.SKU)
	}
	rows, err := s.queries.ItemsBySKU(ctx, skus)
	if err != nil {
		return fmt.Errorf("reading what is short: %w", err)
	}
	items, currencies := map[string]Item{}, map[string]bool{}
	for _, row := range rows {
		items[row.SKU] = itemOf(row)
		currencies[row.PriceCurrency] = true
	}
	var unknown []string
	short := map[string]int64{}
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

// Confirm takes what is reserved out of the stock. What has expired is taken if
// it is still there, else the error is a *ShortError. moved is false if it was
// confirmed before. It returns ErrReleased and ErrNotFound.
func (s *Stock) Confirm(ctx context.Context, order uuid.UUID) (r Reservation, moved bool, err error) {
	r, moved, err = s.move(ctx, order, Confirmed, 0, Reserved, Expired)
	switch {
	case err != nil:
		return Reservation{}, false, fmt.Errorf("confirming order %s: %w", order, err)
	case r.State == Released:
		return Reservation{}, false, ErrReleased
	}
	return r, moved, nil
}

// Release gives back whatever the order holds, and lets it reserve nothing any
// more. moved is false if it was released before.
func (s *Stock) Release(ctx context.Context, order uuid.UUID) (r Reservation, moved bool, err error) {
	for range tries {
		r, moved, err = s.move(ctx, order, Released, 0, Reserved, Confirmed, Expired)
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
		err = errUnsettled // reserved just now: look again
	}
	return Reservation{}, false, fmt.Errorf("releasing order %s: %w", order, err)
}

// move takes a reservation that is in one of the states from to another one, and
// returns what it is then; moved is false if it is in none of them. It returns
// ErrNotFound, and a *ShortError where the stock is short.
func (s *Stock) move(ctx context.Context, order uuid.UUID, to State, keep time.Duration, from ...State) (r Reservation, moved bool, err error) {
	params := store.MoveParams{OrderID: order, ToState: string(to), Seconds: int32(keep / time.Second)}
	for _, state := range from {
		params.FromStates = append(params.FromStates, string(state))
	}
	for range tries {
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
		// Nothing has been done. Why not is found out at leisure.
		r, err := s.read(ctx, order)
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
		// It came to this state, or the stock came back, in between.
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

// Expire gives back what at most that many of the reservations hold that have
// expired, and returns how many they were.
func (s *Stock) Expire(ctx context.Context, most int32) (int64, error) {
	expired, err := s.queries.Expire(ctx, most)
	if err != nil {
		return 0, fmt.Errorf("expiring reservations: %w", err)
	}
	return expired, nil
}

// Put sets what is said of an item and what it costs from now on; reservations
// keep their prices. made says that there was no such item.
func (s *Stock) Put(ctx context.Context, item Item) (now Item, made bool, err error) {
	row, err := s.queries.PutItem(ctx, store.PutItemParams{
		SKU: item.SKU, Name: item.Name, Description: item.Description,
		PriceAmount: item.Price.Amount, PriceCurrency: item.Price.Currency,
	})
	if err != nil {
		return Item{}, false, fmt.Errorf("putting %s: %w", item.SKU, err)
	}
	return itemOf(row.Item), row.Made, nil
}

// TopUp adds to an item's stock, once per key. made is false if this key has
// done so before. It returns ErrKeyReused if it did something else then, and
// ErrNotFound for an item that is not known.
func (s *Stock) TopUp(ctx context.Context, key string, line Line, reason string) (item Item, made bool, err error) {
	row, err := s.queries.TopUp(ctx, store.TopUpParams{Key: key, SKU: line.SKU, Quantity: line.Quantity, Reason: reason})
	if err == nil {
		return itemOf(row), true, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return Item{}, false, fmt.Errorf("topping up %s: %w", line.SKU, err)
	}
	before, err := s.queries.TopUpByKey(ctx, key)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Item{}, false, ErrNotFound
	case err != nil:
		return Item{}, false, fmt.Errorf("reading the top-up of before: %w", err)
	case before.SKU != line.SKU || before.Quantity != line.Quantity || before.Reason != reason:
		return Item{}, false, ErrKeyReused
	}
	item, err = s.Item(ctx, line.SKU)
	return item, false, err
}

// Item returns one item, or ErrNotFound.
func (s *Stock) Item(ctx context.Context, sku string) (Item, error) {
	row, err := s.queries.ItemBySKU(ctx, sku)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Item{}, ErrNotFound
	case err != nil:
		return Item{}, fmt.Errorf("reading item %s: %w", sku, err)
	}
	return itemOf(row), nil
}

// Items returns at most that many items whose SKU comes after the given one.
func (s *Stock) Items(ctx context.Context, after string, most int32) ([]Item, error) {
	rows, err := s.queries.ItemsAfter(ctx, store.ItemsAfterParams{After: after, Most: most})
	if err != nil {
		return nil, fmt.Errorf("listing items: %w", err)
	}
	items := make([]Item, len(rows))
	for i, row := range rows {
		items[i] = itemOf(row)
	}
	return items, nil
}

// Units is how much of an item can be had, and how much is kept for orders.
type Units struct {
	SKU                 string
	Available, Reserved int64
}

// Units returns the units of at most that many items.
func (s *Stock) Units(ctx context.Context, most int32) ([]Units, error) {
	rows, err := s.queries.Units(ctx, most)
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
		SKU: row.SKU, Name: row.Name, Description: row.Description,
		Price:     money.Money{Amount: row.PriceAmount, Currency: row.PriceCurrency},
		Available: row.OnHand - row.Reserved,
	}
}
