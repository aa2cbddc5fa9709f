package page

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/contract/gateway"
	"github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
	"github.com/loja-veloz/platform/apps/internal/problem"
)

var numbers = List[int]{
	Format: strconv.Itoa,
	Parse:  strconv.Atoi,
}

func TestTheDocumentsHaveTheSameLimits(t *testing.T) {
	for name, document := range map[string][]byte{
		"estoque": estoque.Document, "gateway": gateway.Document, "pagamentos": pagamentos.Document, "pedidos": pedidos.Document,
	} {
		spec, err := openapi3.NewLoader().LoadFromData(document)
		if err != nil {
			t.Fatal(err)
		}
		limit := spec.Components.Parameters["Limit"].Value.Schema.Value
		if limit.Default != float64(DefaultLimit) || *limit.Min != 1 || *limit.Max != MaxLimit {
			t.Errorf("%s: the limit is %v by default, from %v to %v; want %d, from 1 to %d",
				name, limit.Default, *limit.Min, *limit.Max, DefaultLimit, MaxLimit)
		}
		if got := spec.Components.Parameters["Cursor"].Value.Schema.Value.MaxLength; got == nil || *got != maxCursor {
			t.Errorf("%s: the maximum length of a cursor differs from %d", name, maxCursor)
		}
	}
}

func TestEveryWrongParameterIsNamed(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, test := range []struct {
		limit  *int32
		cursor *string
		fields string
	}{
		{nil, nil, ""},
		{new(int32(100)), text(numbers.Cursor(7)), ""},
		{new(int32(0)), nil, "limit"},
		{new(int32(101)), text("!"), "limit cursor"},
		{nil, text(""), "cursor"},
		{nil, text(numbers.Cursor(7) + "="), "cursor"},
		{nil, text("KzA3"), "cursor"}, // +07, another way to write 7
		{nil, text(strings.Repeat("A", 300)), "cursor"},
	} {
		_, err := numbers.Request(test.limit, test.cursor)
		var refused *problem.Error
		var named []string
		if errors.As(err, &refused) {
			for _, field := range refused.Fields {
				named = append(named, field.Name)
			}
		}
		if got := strings.Join(named, " "); got != test.fields || err != nil && refused.Code != problem.InvalidValue {
			t.Errorf("limit %v, cursor %v: %v names %q, want %q", test.limit, test.cursor, err, got, test.fields)
		}
	}
}

func TestPagesFollowEachOther(t *testing.T) {
	list := []int{1, 2, 3, 4, 5, 6, 7}
	var seen []int
	var cursor *string
	for pages := 1; ; pages++ {
		asked, err := numbers.Request(new(int32(3)), cursor)
		if err != nil {
			t.Fatal(err)
		}
		rows := list[asked.After:min(asked.After+int(asked.Limit)+1, len(list))]
		shown, next := Cut(numbers, asked, rows, func(n int) int { return n })
		seen = append(seen, shown...)
		if next == nil {
			if pages != 3 || len(seen) != len(list) {
				t.Errorf("%d pages show %v", pages, seen)
			}
			return
		}
		cursor = next
	}
}
