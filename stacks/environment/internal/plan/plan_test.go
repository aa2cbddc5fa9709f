package plan

import (
	"maps"
	"testing"

	"github.com/loja-veloz/platform/apps/catalogue"
	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

func TestASettingWithoutAValueIsNotSet(t *testing.T) {
	cfg := config.Defaults(nil)
	got := variables(cfg, catalogue.Program{Name: "web", Settings: []catalogue.Setting{
		{Name: "ACQUIRER", Config: "shop.acquirer"}, {Name: "CONTEXT", Config: "kubeContext"}, {Name: "NONE"},
		{Name: "EMPTY", Default: new("")}, {Name: "DOCS", Config: "shop.docs"},
	}})
	if want := (map[string]string{"ACQUIRER": "simulator", "EMPTY": "", "DOCS": "true"}); !maps.Equal(got, want) {
		t.Errorf("the variables are %v, want %v", got, want)
	}
}
