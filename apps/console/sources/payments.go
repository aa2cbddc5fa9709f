package sources

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/page"
)

// MaxPayments is how many payments are read at most: as many as `pagamentos needing-person` lists.
const MaxPayments = 1000

// Payments reads the payments that need a person.
type Payments struct {
	source
	cache cache[NeedingPerson]
}

// NeedingPerson are the payments that do not finish by themselves.
type NeedingPerson struct {
	Payments []pagamentos.Payment // of the newest order first
	More     bool                 // there are more than MaxPayments
}

// NewPayments returns a reader of pagamentos at base.
func NewPayments(base string, client *http.Client) *Payments {
	return &Payments{source: newSource("pagamentos", base, client)}
}

// NeedingPerson returns the payments that need a person, MaxPayments of them at most.
func (p *Payments) NeedingPerson(ctx context.Context) (NeedingPerson, error) {
	return p.cache.get(ctx, &p.source, "", func(ctx context.Context) (NeedingPerson, error) {
		var all NeedingPerson
		query := url.Values{"needing_person": {"true"}, "limit": {strconv.Itoa(page.MaxLimit)}}
		for range MaxPayments / page.MaxLimit {
			var answer pagamentos.PaymentPage
			if err := p.get(ctx, "/pagamentos", query, &answer); err != nil {
				return NeedingPerson{}, err
			}
			all.Payments = append(all.Payments, answer.Items...)
			if all.More = answer.NextCursor != nil; !all.More {
				break
			}
			query.Set("cursor", *answer.NextCursor)
		}
		return all, nil
	})
}
