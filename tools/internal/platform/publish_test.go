package platform

import (
	"io"
	"testing"

	"github.com/loja-veloz/platform/tools/internal/settings"
)

// TestAWorkflowsKeySignsInBothForms: policy-controller takes a tag alone, and Image Updater looks for a bundle.
func TestAWorkflowsKeySignsInBothForms(t *testing.T) {
	w := workspaceOf(t, io.Discard)
	signers, err := w.signers(t.Context(), settings.Publish{Keyless: true, SecondKey: true, Signer: "^https://github.com/o/r/"})
	if err != nil {
		t.Fatal(err)
	}
	if len(signers) != 3 || signers[0].Key != nil || signers[0].Tagged || signers[1].Key == nil || signers[1].Tagged ||
		signers[2].Key == nil || !signers[2].Tagged {
		t.Errorf("the signers are %+v", signers)
	}
	if signers, err = w.signers(t.Context(), settings.Publish{Keyless: true}); err != nil || len(signers) != 1 {
		t.Errorf("without a key there are %d signers (%v)", len(signers), err)
	}
}
