package check

import (
	"reflect"
	"slices"
	"testing"
	"testing/fstest"
)

var tree = fstest.MapFS{
	"apps/go.mod":                      {Data: []byte("module apps\n\nreplace example.com/catalogue => ./catalogue\n")},
	"apps/catalogue/go.mod":            {Data: []byte("module catalogue\n")},
	"apps/catalogue/catalogue.go":      {},
	"apps/pedidos/main.go":             {Data: []byte("//go:generate sqlc generate\npackage main\n")},
	"apps/pedidos/store/store.go":      {},
	"apps/pedidos/store/queries.sql":   {},
	"apps/pedidos/order/order.go":      {},
	"apps/pedidos/order/testdata/x.go": {},
	"infra/go.mod":                     {Data: []byte("module infra\n")},
	"infra/network/network.go":         {},
	"stacks/go.mod": {Data: []byte("module stacks\n\nreplace (\n\texample.com/infra => ../infra\n" +
		"\texample.com/catalogue => ../apps/catalogue\n)\n")},
	"tools/go.mod":           {Data: []byte("module tools\n")},
	"tools/cmd/main.go":      {},
	"tools/pins/ko/go.mod":   {Data: []byte("module ko\n")},
	"tools/pins/ko/tools.go": {},
	"docs/style.md":          {},
}

func TestModules(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  []module
	}{
		"nothing of Go": {[]string{"README.md", "docs/style.md", "tools/pins/ko/tools.go"}, nil},
		"a statement, below the package whose line generates": {[]string{"apps/pedidos/store/queries.sql"},
			[]module{{Dir: "apps", Packages: []string{"./pedidos/store"}, Generate: []string{"./pedidos"}}}},
		"a folder without Go files": {[]string{"infra/network/testdata/plan.txt"}, []module{{Dir: "infra", Packages: []string{"./network"}}}},
		"Go files of test data": {[]string{"apps/pedidos/order/testdata/x.go"}, []module{
			{Dir: "apps", Packages: []string{"./pedidos/order"}, Generate: []string{"./pedidos"}}}},
		"a folder that is gone": {[]string{"apps/pedidos/order/old/old.go"}, []module{
			{Dir: "apps", Packages: []string{"./pedidos/order"}, Generate: []string{"./pedidos"}}}},
		"two modules, one below the other": {[]string{"apps/catalogue/catalogue.go", "apps/pedidos/order/order.go", "apps/pedidos/order/order_test.go"},
			[]module{
				{Dir: "apps", Packages: []string{"./pedidos/order"}, Generate: []string{"./pedidos"}},
				{Dir: "apps/catalogue", Packages: []string{"."}},
			}},
		"a module's requirements": {[]string{"tools/go.sum"}, []module{{Dir: "tools"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := modules(tree, c.files)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("modules(%v) = %+v, %v, want %+v", c.files, got, err, c.want)
			}
		})
	}
}

func TestDependents(t *testing.T) {
	got, err := dependents(tree, []string{"apps", "apps/catalogue", "infra", "stacks", "tools"}, []module{{Dir: "apps/catalogue"}})
	if want := []string{"apps", "apps/catalogue", "stacks"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("dependents of the catalogue: %v, %v, want %v", got, err, want)
	}
}
