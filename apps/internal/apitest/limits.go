package apitest

import (
	"maps"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// Limit is the range of a property: a number from Min to Max, a text of Min to Max
// characters, or a list of Min to Max entries. Default is that of a number; 0 is none.
type Limit struct{ Min, Max, Default int64 }

// CheckLimits fails the test unless want holds the limits of exactly those properties,
// as Schema.property, that have a maximum in the document's schemas.
func CheckLimits(t *testing.T, document []byte, want map[string]Limit) {
	t.Helper()
	spec, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Limit{}
	for name, schema := range spec.Components.Schemas {
		for property, ref := range schema.Value.Properties {
			if limit := limitOf(ref.Value); limit.Max != 0 {
				got[name+"."+property] = limit
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the document's limits are %+v, the code's %+v", got, want)
	}
}

func limitOf(s *openapi3.Schema) Limit {
	limit := Limit{Min: int64(s.MinLength + s.MinItems)}
	for _, max := range []*uint64{s.MaxLength, s.MaxItems} {
		if max != nil {
			limit.Max = int64(*max)
		}
	}
	if s.Min != nil && s.Max != nil {
		limit.Min, limit.Max = int64(*s.Min), int64(*s.Max)
	}
	if number, ok := s.Default.(float64); ok {
		limit.Default = int64(number)
	}
	return limit
}
