package platform

import (
	"strings"
	"testing"
)

// TestAGroupIsWhatShips: what ships nothing keeps the group that it has.
func TestAGroupIsWhatShips(t *testing.T) {
	services := []string{"estoque", "pagamentos", "pedidos"}
	for name, test := range map[string]struct {
		group    string
		programs []string
		shipped  string
		before   map[string]any
		members  string
		alone    string
		err      string
	}{
		"no group":       {shipped: "pedidos"},
		"all that ships": {group: "sale", shipped: "console estoque pedidos", members: "estoque pedidos"},
		"those named":    {group: "sale", programs: []string{"pedidos", "estoque"}, shipped: "pedidos", members: "estoque pedidos"},
		"out of a group": {
			shipped: "pedidos", before: map[string]any{"pedidos": "old", "estoque": "old"}, alone: "pedidos",
		},
		"alone": {group: "sale", shipped: "pedidos", members: "pedidos", err: `GROUP is "sale", and pedidos ships: a group has at least two`},
		"none":  {group: "sale", err: `GROUP is "sale", and nothing ships`},
		"a name that another has": {
			group: "sale", shipped: "pedidos", before: map[string]any{"estoque": "sale"},
			err: `GROUP is "sale", in which estoque has shipped, and it is not to ship now: use another name`,
		},
		"once more": {group: "sale", shipped: "estoque pedidos", before: map[string]any{"estoque": "sale"}, members: "estoque pedidos"},
	} {
		s := &shipment{
			group: test.group, programs: test.programs, shipped: strings.Fields(test.shipped),
			configured: map[string]any{"loja-veloz:groups": test.before},
		}
		alone, err := s.regroup(services)
		switch {
		case test.err != "":
			if err == nil || !strings.HasPrefix(err.Error(), test.err) {
				t.Errorf("%s: the error is %v, want %s", name, err, test.err)
			}
		case err != nil || strings.Join(s.members, " ") != test.members || strings.Join(alone, " ") != test.alone:
			t.Errorf("%s: the members are %v and alone is %v (%v), want %s and %s", name, s.members, alone, err, test.members, test.alone)
		}
	}
}

func TestServicesShippedAreThoseWhoseImageChanged(t *testing.T) {
	before := map[string]string{"a": "x@1", "b": "x@2"}
	after := map[string]string{"a": "x@1", "b": "x@3", "c": "x@4"}
	if got := strings.Join(changed(before, after), " "); got != "b c" {
		t.Errorf("shipped %q, want b c", got)
	}
}
