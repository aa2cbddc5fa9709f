package load

import (
	"slices"
	"testing"
)

func TestErrorsOfManyConnectionsAreOne(t *testing.T) {
	got := distinct([]string{
		`Get "http://localhost:30080/": read tcp 127.0.0.1:36055->127.0.0.1:30080: read: connection reset by peer`,
		"503 Service Unavailable",
		`Get "http://localhost:30080/": read tcp 127.0.0.1:37235->127.0.0.1:30080: read: connection reset by peer`,
	})
	want := []string{
		"503 Service Unavailable",
		`Get "http://localhost:30080/": read tcp 127.0.0.1->127.0.0.1:30080: read: connection reset by peer`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("the errors are %q, want %q", got, want)
	}
}
