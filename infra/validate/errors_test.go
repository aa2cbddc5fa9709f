package validate_test

import (
	"errors"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/validate"
)

func TestErrorsNameTheirFields(t *testing.T) {
	errs := validate.Errors{Prefix: "service stock: "}
	if err := errs.Err(); err != nil {
		t.Errorf("without errors, Err returns %v", err)
	}
	errs.Add("Port", "is %d", 0)
	errs.Join(nil)
	errs.Join(errors.Join(errors.New("A is empty"), errors.New("B is empty")))
	errs.Required("C", "")
	errs.Required("D", "d")
	errs.Input("E", nil)
	errs.Input("F", pulumi.String(""))
	var forgotten pulumi.StringInput
	errs.Input("G", forgotten)
	want := "service stock: Port is 0\nservice stock: A is empty\nservice stock: B is empty\n" +
		"service stock: C is empty\nservice stock: E is missing\nservice stock: G is missing"
	if err := errs.Err(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestForms(t *testing.T) {
	for _, c := range []struct {
		name      string
		valid     func(string) bool
		good, bad []string
	}{
		{"DNSLabel", validate.DNSLabel, []string{"a", "shop-1"}, []string{"", "1a", "A", "a-", "a.b"}},
		{"HostName", validate.HostName, []string{"shop.example.com"}, []string{"", "shop", "Shop.example.com", "shop..com"}},
		{"Account", validate.Account, []string{"123456789012"}, []string{"", "12", "12345678901a"}},
		{"Region", validate.Region, []string{"us-east-1", "us-gov-west-1"}, []string{"", "mars", "us-east"}},
		{"Boundary", validate.Boundary, []string{"arn:aws:iam::123456789012:policy/b"}, []string{"", "b", "arn:aws:iam::aws:policy/b"}},
		{"AWSPrefix", validate.AWSPrefix, []string{"loja-veloz-dev"}, []string{"", "a", "1a", "a-", "A1"}},
		{"CachePrefix", validate.CachePrefix, []string{"quay", "ecr-public"}, []string{"", "Quay", "quay/"}},
		{"ByDigest", validate.ByDigest, []string{"r/i@sha256:0123456789012345678901234567890123456789012345678901234567890123"},
			[]string{"", "r/i:1", "r/i@sha256:0"}},
	} {
		for _, name := range c.good {
			if !c.valid(name) {
				t.Errorf("%s refuses %q", c.name, name)
			}
		}
		for _, name := range c.bad {
			if c.valid(name) {
				t.Errorf("%s accepts %q", c.name, name)
			}
		}
	}
}
