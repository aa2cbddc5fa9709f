package aws

import (
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

func TestOutputsThatNameOthers(t *testing.T) {
	place := Place{Region: "sa-east-1", Account: "123456789012"}
	subnet, instance := known(t, Subnet), known(t, Instance)
	// Often enough that an order by chance fails.
	for range 100 {
		out := Created(place, Object{Type: Subnet, ID: "subnet-1", Seed: "s"}, subnet)
		if got := value.Text(out, "availabilityZoneId"); got != "sae1-az1" {
			t.Fatalf("availabilityZoneId %q, want sae1-az1", got)
		}
		// The program no longer sets the port: the default is back in both outputs.
		old := resource.PropertyMap{"port": resource.NewProperty(5433.0)}
		o := Object{Type: Instance, ID: "db-1", Seed: "s", Inputs: resource.PropertyMap{"identifier": resource.NewProperty("loja")}}
		out = Updated(place, o, old, instance)
		if got, want := value.Text(out, "endpoint"), value.Text(out, "address")+":5432"; got != want {
			t.Fatalf("endpoint %q, want %q", got, want)
		}
	}
}
