package platform

import (
	"strings"
	"testing"
)

func TestServicesShippedAreThoseWhoseImageChanged(t *testing.T) {
	before := map[string]string{"a": "x@1", "b": "x@2"}
	after := map[string]string{"a": "x@1", "b": "x@3", "c": "x@4"}
	if got := strings.Join(changed(before, after), " "); got != "b c" {
		t.Errorf("shipped %q, want b c", got)
	}
}
