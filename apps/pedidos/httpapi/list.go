package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	contract "github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/page"
	"github.com/loja-veloz/platform/apps/internal/problem"
	"github.com/loja-veloz/platform/apps/pedidos/checkout"
	"github.com/loja-veloz/platform/apps/pedidos/order"
)

// parameters are the parameters in the query of each list. Others are refused there: a filter with
// a misspelled name would otherwise select everything.
var parameters = map[string][]string{
	"/pedidos":                         {"limit", "cursor", "state", "shipped", "created_from", "created_to"},
	"/webhooks/:webhook_id/deliveries": {"limit", "cursor"},
}

func refuseUnknownParameters(c *gin.Context) {
	known, list := parameters[c.FullPath()]
	if !list || c.Request.Method == http.MethodPost {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(c.Request.URL.Query())) {
		if !slices.Contains(known, name) {
			shown := strings.ToValidUTF8(name[:min(len(name), 64)], "")
			_ = c.Error(problem.At(problem.Invalid, problem.Field{ // returns its argument
				Name: shown, Detail: "is not a parameter of this list: use " + strings.Join(known, ", "),
			}))
			c.Abort()
			return
		}
	}
}

// ListOrders implements GET /pedidos.
func (o operations) ListOrders(ctx context.Context, request contract.ListOrdersRequestObject) (contract.ListOrdersResponseObject, error) {
	client, err := clientID(request.Params.ClientID)
	if err != nil {
		return nil, err
	}
	filter, err := readFilter(request.Params)
	if err != nil {
		return nil, err
	}
	asked, err := orderList.Request(request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	mark := markOf(filter)
	if request.Params.Cursor != nil && asked.After.filter != mark {
		return nil, problem.At(problem.InvalidValue, problem.Field{
			Name: "cursor", Detail: "belongs to a list with other filters: repeat the filters with which you got it",
		})
	}
	orders, err := o.orders.List(ctx, client, filter, asked.After.Position, asked.Limit+1)
	if err != nil {
		return nil, err
	}
	orders, next := page.Cut(orderList, asked, orders, func(o order.Order) position {
		return position{checkout.Position{Number: o.Number, Created: o.CreatedAt}, mark}
	})
	answer := contract.ListOrders200JSONResponse{Items: []contract.Order{}, NextCursor: next}
	view := o.view
	for _, o := range orders {
		answer.Items = append(answer.Items, view.of(&o))
	}
	return answer, nil
}

// readFilter reads the filters of GET /pedidos.
func readFilter(params contract.ListOrdersParams) (checkout.Filter, error) {
	var errs problem.Fields
	f := checkout.Filter{Shipped: params.Shipped}
	if params.State != nil {
		for _, text := range *params.State {
			state := order.State(text)
			if !slices.Contains(order.States, state) {
				errs.Add("state", "must be one of "+join(order.States)+"; repeat the parameter for several")
				break
			}
			if !slices.Contains(f.States, state) {
				f.States = append(f.States, state)
			}
		}
	}
	for _, limit := range []struct {
		name string
		text *string
		to   *time.Time
	}{{"created_from", params.CreatedFrom, &f.From}, {"created_to", params.CreatedTo, &f.To}} {
		if limit.text == nil {
			continue
		}
		at, err := time.Parse(time.RFC3339, *limit.text)
		if err != nil || at.Year() < 1 {
			errs.Add(limit.name, "must be a time such as 2026-11-29T09:00:00Z or 2026-11-29T06:00:00-03:00 (RFC 3339; write + as %2B)")
		}
		*limit.to = at
	}
	if len(errs) == 0 && !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		errs.Add("created_to", "must be after created_from")
	}
	return f, errs.Err(problem.InvalidValue)
}

func join(states []order.State) string {
	texts := make([]string, 0, len(states))
	for _, state := range states {
		texts = append(texts, string(state))
	}
	return strings.Join(texts, ", ")
}

// markOf returns a short text that tells filters apart; "" for none.
func markOf(f checkout.Filter) string {
	if f.All() {
		return ""
	}
	slices.Sort(f.States)
	shipped := "both"
	if f.Shipped != nil {
		shipped = strconv.FormatBool(*f.Shipped)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%v %s %d %d", f.States, shipped, f.From.UnixMicro(), f.To.UnixMicro()))
	return hex.EncodeToString(sum[:markBytes])
}

const markBytes = 8

// position is what a cursor holds: where the page ended, and the mark of the list's filters.
type position struct {
	checkout.Position
	filter string
}

// orderList is sorted by the orders' numbers or, with filters, by their times; newest first. A cursor
// without filters has the number alone, as in versions without filters, which run at the same time
// during a canary.
var orderList = page.List[position]{
	First: position{Position: checkout.Position{Number: math.MaxInt64}},
	Format: func(p position) string {
		number := strconv.FormatInt(p.Number, 36)
		if p.filter == "" {
			return number
		}
		return number + "." + strconv.FormatInt(p.Created.UnixMicro(), 36) + "." + p.filter
	},
	Parse: func(text string) (p position, err error) {
		number, rest, filtered := strings.Cut(text, ".")
		if p.Number, err = strconv.ParseInt(number, 36, 64); err == nil && p.Number < 1 {
			err = strconv.ErrRange
		}
		if err != nil || !filtered {
			return p, err
		}
		created, filter, _ := strings.Cut(rest, ".")
		micros, err := strconv.ParseInt(created, 36, 64)
		if mark, hexErr := hex.DecodeString(filter); err == nil && (hexErr != nil || len(mark) != markBytes) {
			err = strconv.ErrSyntax
		}
		p.Created, p.filter = time.UnixMicro(micros).UTC(), filter
		if err == nil && (p.Created.Year() < 1 || p.Created.Year() > 9999) {
			err = strconv.ErrRange
		}
		return p, err
	},
}
