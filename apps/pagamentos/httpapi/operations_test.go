package httpapi

import (
	"testing"

	"github.com/google/uuid"
)

func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add(paymentList.Cursor(uuid.Max))
	f.Fuzz(func(t *testing.T, text string) {
		if asked, err := paymentList.Request(nil, &text); err == nil && paymentList.Cursor(asked.After) != text {
			t.Errorf("the cursor %q is read as that of %s", text, asked.After)
		}
	})
}
