package infratest

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Outputs are a stack's outputs as pulumi stack output --json prints them.
type Outputs struct{ resolved chan map[string]any }

// Collect keeps the values of the outputs. The program that exports them calls it.
func (o *Outputs) Collect(exports pulumi.Map) {
	o.resolved = make(chan map[string]any, 1)
	exports.ToMapOutput().ApplyT(func(all map[string]any) any {
		shown := map[string]any{}
		for name, value := range all {
			if shown[name] = value; pulumi.IsSecret(pulumi.ToOutput(exports[name])) {
				shown[name] = "[secret]" // in Pulumi's words
			}
		}
		o.resolved <- shown
		return nil
	})
}

// Golden compares the outputs with testdata/<name>.json; with -update it writes the file. It fails if one of
// them does not become known.
func (o *Outputs) Golden(t testing.TB, name string) {
	t.Helper()
	select {
	case resolved := <-o.resolved:
		text, err := json.MarshalIndent(resolved, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("testdata", name+".json"), string(text)+"\n")
	case <-time.After(time.Minute):
		t.Errorf("%s: an output is not known after the program has ended", name)
	}
}
