package value

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/loja-veloz/platform/apps/internal/contract/estoque"
	"github.com/loja-veloz/platform/apps/internal/contract/gateway"
	"github.com/loja-veloz/platform/apps/internal/contract/pagamentos"
	"github.com/loja-veloz/platform/apps/internal/contract/pedidos"
)

// patterns collects the patterns of the properties and parameters in a document,
// by name.
func patterns(tree any, into map[string][]string) {
	note := func(name, schema any) {
		if fields, ok := schema.(map[string]any); ok && fields["pattern"] != nil {
			into[fmt.Sprint(name)] = append(into[fmt.Sprint(name)], fmt.Sprint(fields["pattern"]))
		}
	}
	switch node := tree.(type) {
	case []any:
		for _, child := range node {
			patterns(child, into)
		}
	case map[string]any:
		note(node["name"], node["schema"])
		for key, child := range node {
			if properties, ok := child.(map[string]any); ok && key == "properties" {
				for name, schema := range properties {
					note(name, schema)
				}
			}
			patterns(child, into)
		}
	}
}

func TestTheDocumentsAndTheSchemaHaveTheSameForms(t *testing.T) {
	for name, document := range map[string]struct {
		text []byte
		want map[string]form
	}{
		"estoque":    {estoque.Document, map[string]form{"sku": skuForm, "Idempotency-Key": keyForm}},
		"pagamentos": {pagamentos.Document, map[string]form{"card_token": tokenForm, "Client-Id": clientForm}},
		"pedidos": {pedidos.Document, map[string]form{
			"sku": skuForm, "Idempotency-Key": keyForm, "card_token": tokenForm, "Client-Id": clientForm, "Shopper-Id": shopperForm,
		}},
		"gateway": {gateway.Document, map[string]form{
			"sku": skuForm, "Idempotency-Key": keyForm, "card_token": tokenForm, "Shopper-Id": shopperForm,
		}},
	} {
		spec, err := openapi3.NewLoader().LoadFromData(document.text)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := spec.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(encoded, &tree); err != nil {
			t.Fatal(err)
		}
		found := map[string][]string{}
		patterns(tree, found)
		for field, want := range document.want {
			if len(found[field]) == 0 {
				t.Errorf("%s has no pattern for %s", name, field)
			}
			orOperator := "^(" + strings.Trim(want.pattern.String(), "^$") + `|\*)$` // webhooks of all clients are the operator's, *
			for _, got := range found[field] {
				if got != want.pattern.String() && (field != "Client-Id" || got != orOperator) {
					t.Errorf("%s: the pattern of %s is %s, want %s", name, field, got, want.pattern)
				}
			}
		}
	}
	schema, err := os.ReadFile("../../estoque/migrations/00001_stock.sql")
	if err != nil {
		t.Fatal(err)
	}
	if check := "CHECK (sku ~ '" + skuForm.pattern.String() + "')"; !strings.Contains(string(schema), check) {
		t.Errorf("estoque's schema has no %s", check)
	}
}

func TestParseMatchesTheWholeText(t *testing.T) {
	long := strings.Repeat("A", 129)
	for _, test := range []struct {
		parse func(string) error
		good  []string
		bad   []string
	}{
		{func(s string) error { _, err := ParseSKU(s); return err },
			[]string{"A", "SHOE-42", "9", long[:32]}, []string{"", "-A", "shoe", "A\n", "A B", "É", long[:33]}},
		{func(s string) error { _, err := ParseIdempotencyKey(s); return err },
			[]string{"k", "a.B_9-", long[:64]}, []string{"", "a b", "k\"", "k\n", "ключ", long[:65]}},
		{func(s string) error { _, err := ParseClientID(s); return err },
			[]string{"maria@example.com", long[:128]}, []string{"", "a b", "a\n", long}},
		{func(s string) error { _, err := ParseCardToken(s); return err },
			[]string{"tok_approved", "pm_1NqLkX2eZvKYlo2C", long[:64]}, []string{"", "tok.x", "tok\n", "4111-1111-1111-1111", long[:65]}},
	} {
		for _, text := range test.good {
			if err := test.parse(text); err != nil {
				t.Errorf("%q was refused: it %v", text, err)
			}
		}
		for _, text := range test.bad {
			if err := test.parse(text); err == nil {
				t.Errorf("%q was accepted", text)
			}
		}
	}
}

func TestACardTokenIsNotPrinted(t *testing.T) {
	token := CardToken("tok_secret")
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("charging", "token", token)
	if text := fmt.Sprintf("%s %v %+v", token, token, struct{ Token CardToken }{token}) + log.String(); strings.Contains(text, "secret") {
		t.Errorf("the token is in %s", text)
	}
}
