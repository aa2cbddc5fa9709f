package infratest

import (
	"encoding/json"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Outputs are a stack's outputs as pulumi stack output --json prints them.
type Outputs struct {
	mu       sync.Mutex
	resolved map[string]any
	asked    []string
}

// Collect keeps the values of the outputs as they become known. The program that exports them calls it.
func (o *Outputs) Collect(exports pulumi.Map) {
	o.resolved = map[string]any{}
	for name, value := range exports {
		o.asked = append(o.asked, name)
		output := pulumi.ToOutput(value)
		output.ApplyT(func(resolved any) any {
			o.mu.Lock()
			defer o.mu.Unlock()
			if pulumi.IsSecret(output) {
				resolved = "[secret]" // in Pulumi's words
			}
			o.resolved[name] = resolved
			return nil
		})
	}
}

// Golden compares the outputs with testdata/<name>.json; with -update it writes the file. Call it after
// the program has ended. An output that is not known then is an error.
func (o *Outputs) Golden(t testing.TB, name string) {
	t.Helper()
	for _, asked := range o.asked {
		if _, known := o.resolved[asked]; !known {
			t.Errorf("the output %s is not known after the program has ended", asked)
		}
	}
	text, err := json.MarshalIndent(o.resolved, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", name+".json"), string(text)+"\n")
}
