package aws

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// rdsCases has what each rule accepts and what it refuses.
var rdsCases = map[string][]struct {
	old, inputs inputs
	want        string // "" is accepted
}{
	"storage of gp3": {
		{inputs: inputs{"allocatedStorage": 20}},
		{inputs: inputs{"allocatedStorage": 19}, want: "invalid storage size"},
	},
	"room to grow": {
		{inputs: inputs{"allocatedStorage": 50, "maxAllocatedStorage": 55}},
		{inputs: inputs{"allocatedStorage": 50, "maxAllocatedStorage": 0}},
		{inputs: inputs{"allocatedStorage": 50}},
		{inputs: inputs{"allocatedStorage": 50, "maxAllocatedStorage": 54}, want: "54 is not at least 10 % more than the allocated 50"},
	},
	"storage does not shrink": {
		{old: inputs{"allocatedStorage": 50}, inputs: inputs{"allocatedStorage": 60}},
		{old: inputs{"allocatedStorage": 50}, inputs: inputs{"allocatedStorage": 40}, want: "requested storage size (40) cannot be less than the current storage size (50)"},
	},
	"a version that RDS has": {
		{inputs: inputs{"engineVersion": "15"}},
		{inputs: inputs{"engineVersion": "16.13"}},
		{old: inputs{"engineVersion": "15.8"}, inputs: inputs{"engineVersion": "15.8"}},
		{inputs: inputs{"engineVersion": "15.8"}, want: "cannot find version 15.8 for postgres"},
		{inputs: inputs{"engineVersion": "17.99"}, want: "cannot find version 17.99"},
		{inputs: inputs{"engineVersion": "9.6"}, want: "cannot find version 9.6"},
	},
	"no downgrade": {
		{old: inputs{"engineVersion": "15.13"}, inputs: inputs{"engineVersion": "16.9"}},
		{old: inputs{"engineVersion": "15.13"}, inputs: inputs{"engineVersion": "15"}},
		{old: inputs{"engineVersion": "15.14"}, inputs: inputs{"engineVersion": "15.13"}, want: "cannot upgrade postgres from 15.14 to 15.13"},
		{old: inputs{"engineVersion": "16"}, inputs: inputs{"engineVersion": "15"}, want: "cannot upgrade postgres from 16 to 15"},
	},
	"the family of the version": {
		{inputs: inputs{"engineVersion": "15.17", "parameterGroupName": "loja-veloz-dev-postgres15"}},
		{inputs: inputs{"engineVersion": "16", "parameterGroupName": "ours"}},
		{inputs: inputs{"engineVersion": "16", "parameterGroupName": "loja-veloz-dev-postgres15"}, want: "loja-veloz-dev-postgres15 cannot be used for postgres 16"},
	},
	"a moment that can be restored": {
		{inputs: inputs{"restoreToPointInTime": inputs{"restoreTime": "2026-11-28T18:00:00Z"}}},
		{inputs: inputs{"restoreToPointInTime": inputs{"restoreTime": "2026-11-29T18:00:00Z"}}, want: "after the latest restorable time"},
		{inputs: inputs{"restoreToPointInTime": inputs{"restoreTime": "yesterday"}}, want: `"yesterday" is not a time`},
	},
}

func TestRDSRules(t *testing.T) {
	on := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	for _, rule := range rdsRules {
		accepted, refused := 0, 0
		if rule.source == "" || rule.read == "" || !hasInput(known(t, Instance), rule.path) {
			t.Errorf("%s: no source, no date, or no input %s", rule.name, rule.path)
		}
		for _, c := range rdsCases[rule.name] {
			c.inputs["engine"] = "postgres"
			got := ""
			for _, refusal := range RefuseRDS(Instance, resource.NewPropertyMapFromMap(c.old), resource.NewPropertyMapFromMap(c.inputs), on) {
				got += refusal.Path + ": " + refusal.Reason
			}
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("%s: %v after %v gives %q, want %q", rule.name, c.inputs, c.old, got, c.want)
			}
			if c.want == "" {
				accepted++
			} else {
				refused++
			}
		}
		if accepted == 0 || refused == 0 {
			t.Errorf("%s: %d inputs are accepted and %d refused", rule.name, accepted, refused)
		}
	}
	if len(rdsCases) != len(rdsRules) {
		t.Errorf("there are %d rules, and cases of %d", len(rdsRules), len(rdsCases))
	}
}

// The program warns of what the stand-in refuses: the table of infra, which is another module, is the same.
func TestTheProgramKnowsTheSameMinorVersions(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "infra", "database", "instance", "instance.go"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, major := range slices.Sorted(maps.Keys(minors)) {
		rows = append(rows, fmt.Sprintf("%q: {%d, %d}", major, minors[major][0], minors[major][1]))
	}
	if table := "var minors = map[string]span{" + strings.Join(rows, ", ") + "}\n"; !strings.Contains(string(text), table) {
		t.Errorf("infra/database/instance does not have the table %s", table)
	}
}
