package invariant

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"

	"github.com/google/uuid"

	"github.com/loja-veloz/platform/apps/estoque/stock"
)

// sums are over orders: those of a bucket, or all.
type sums struct {
	Orders     int64            `json:"orders"`
	InFlight   int64            `json:"in_flight,omitempty"`
	Unreserved int64            `json:"unreserved,omitempty"` // confirmed orders whose reservation may have left
	Sold       uint64           `json:"sold"`                 // units, as in reservationRow
	Confirmed  map[string]int64 `json:"confirmed,omitempty"`  // as in Report
	Held       map[string]int64 `json:"held,omitempty"`       // as in Report
}

func newSums() sums { return sums{Confirmed: map[string]int64{}, Held: map[string]int64{}} }

func (s *sums) count(r *record) {
	if r.order.state != "" {
		s.Orders++
	}
	if r.inFlight() {
		s.InFlight++
	}
	if r.settled {
		s.Unreserved++
	}
	s.Sold += r.reservation.sold()
	if value := r.order.confirmed(); value != 0 {
		s.Confirmed[r.order.currency] += value
	}
	if value := r.payment.kept(); value != 0 {
		s.Held[r.payment.currency] += value
	}
}

// add adds other, or subtracts it if sign is -1. A sum of 0 leaves no entry.
func (s *sums) add(other sums, sign int64) {
	s.Orders += sign * other.Orders
	s.InFlight += sign * other.InFlight
	s.Unreserved += sign * other.Unreserved
	s.Sold += uint64(sign) * other.Sold
	for _, money := range []struct{ to, from map[string]int64 }{{s.Confirmed, other.Confirmed}, {s.Held, other.Held}} {
		for currency, value := range money.from {
			if money.to[currency] += sign * value; money.to[currency] == 0 {
				delete(money.to, currency)
			}
		}
	}
}

// bucketLength is how many digits of an order's id are its bucket. They are the first 28 of the 48 bits of its time in
// milliseconds (RFC 9562, section 5.7): 17.5 minutes. With more digits a changed order would let fewer others be
// read, and there would be more buckets to store: 82 a day.
const bucketLength = 7

func bucketOf(id uuid.UUID) string { return id.String()[:bucketLength] }

// bucketSQL is the bucket of an id, in SQL.
func bucketSQL(id string) string { return fmt.Sprintf("left(%s::text, %d)", id, bucketLength) }

// rangesOf returns the ids of buckets.
func rangesOf(buckets []string) (*ranges, error) {
	r := &ranges{}
	for _, bucket := range buckets {
		for digit, ids := range map[string]*[]uuid.UUID{"0": &r.low, "f": &r.high} {
			id, err := uuid.Parse(bucket + strings.Repeat(digit, 32-bucketLength))
			if err != nil {
				return nil, fmt.Errorf("the bucket %q of orders: %w", bucket, err)
			}
			*ids = append(*ids, id)
		}
	}
	return r, nil
}

// stockSQL reads what itemsSQL does, without the reservations that hold nothing: whether an item contradicts those that
// hold units, and the units of all items that must have been sold. Each item's units are multiplied with the 64 bits
// of its SKU's hash, so that the one sum differs if an item's does.
var stockSQL = fmt.Sprintf(`
	SELECT coalesce(bool_or(on_hand < 0 OR reserved < 0 OR reserved > on_hand OR reserved <> coalesce(held, 0)), false),
		coalesce(sum(hashtextextended(sku, 0)::numeric * (coalesce(added, 0) - on_hand - coalesce(units, 0))), 0)::text
	FROM estoque LEFT JOIN (
		SELECT l.sku, sum(l.quantity) AS held FROM estoque_reservations AS r JOIN estoque_reservation_lines AS l USING (order_id)
		WHERE r.state = %s GROUP BY l.sku
	) AS h USING (sku) LEFT JOIN (
		SELECT sku, sum(quantity) AS added FROM estoque_top_ups GROUP BY sku
	) AS t USING (sku) LEFT JOIN estoque_settled_units AS s USING (sku)`, quote(stock.Reserved))

// stockFits tells whether the stock agrees with the reservations, which have sold the units sold.
func (s snapshots) stockFits(ctx context.Context, sold uint64) (bool, error) {
	var broken bool
	var text string
	if err := s.estoque.QueryRow(ctx, stockSQL).Scan(&broken, &text); err != nil {
		return false, fmt.Errorf("reading the stock: %w", err)
	}
	exact, valid := new(big.Int).SetString(text, 10)
	if !valid {
		return false, fmt.Errorf("reading the stock: %q is not a number", text)
	}
	// And is that of two's complement, also for a negative number.
	return !broken && exact.And(exact, new(big.Int).SetUint64(1<<64-1)).Uint64() == sold, nil
}

func (s sums) encode() (string, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encoding the sums of orders: %w", err)
	}
	return string(text), nil
}

func quote[T ~string](text T) string { return "'" + string(text) + "'" }
