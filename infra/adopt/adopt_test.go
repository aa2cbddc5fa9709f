package adopt_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/adopt"
)

// imports records the ids with which resources are imported.
type imports struct {
	mutex sync.Mutex
	ids   map[string]string
}

func (m *imports) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.ids[args.Name] = args.ID
	return args.Name, args.Inputs, nil
}

func (m *imports) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

// run registers the log groups a and b, adopts some, and returns the ids of imports.
func run(ids map[string]string) (map[string]string, error) {
	recorded := &imports{ids: map[string]string{}}
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		adopted, err := adopt.Existing(ctx, "loja-veloz:cloud.adopt", ids)
		if err != nil {
			return err
		}
		for _, name := range []string{"a", "b"} {
			if _, err := cloudwatch.NewLogGroup(ctx, name, &cloudwatch.LogGroupArgs{}); err != nil {
				return err
			}
		}
		return adopted.Unmatched()
	}, pulumi.WithMocks("project", "stack", recorded))
	return recorded.ids, err
}

func TestANamedResourceIsImported(t *testing.T) {
	ids, err := run(map[string]string{"a": "/aws/eks/loja-veloz-dev/cluster"})
	if err != nil || ids["a"] != "/aws/eks/loja-veloz-dev/cluster" || ids["b"] != "" {
		t.Errorf("imported %v, %v", ids, err)
	}
}

func TestWhatCannotBeAdoptedIsRefused(t *testing.T) {
	for _, tc := range []struct {
		ids  map[string]string
		want string
	}{
		{map[string]string{"c": "x"},
			"loja-veloz:cloud.adopt.c: no AWS resource of this program has this name; pulumi preview prints the names"},
		{map[string]string{"a": ""}, "loja-veloz:cloud.adopt.a is empty: use the id in AWS, as pulumi import does"},
	} {
		if _, err := run(tc.ids); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v", tc.ids, err)
		}
	}
}
