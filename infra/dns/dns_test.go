package dns_test

import (
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/dns"
	"github.com/loja-veloz/platform/infra/infratest"
)

func TestANameGetsACertificateAndARecord(t *testing.T) {
	args := &dns.Spec{Host: "shop.example.com", ZoneID: "Z0123456789ABC", Region: "us-east-1"}
	// In a preview the certificate's validation options are unknown, so the mocks need not know AWS's.
	recorder, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		if _, err := dns.NewCertificate(ctx, "edge", args); err != nil {
			return err
		}
		_, err := dns.NewRecord(ctx, "shop", args, pulumi.String("nlb.example.com"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder.WellFormed(t)
	if c := recorder.Named(t, "edge-certificate").Inputs; c["domainName"] != "shop.example.com" || c["validationMethod"] != "DNS" {
		t.Errorf("the certificate is %v", c)
	}
	// Environments of older versions have a CNAME, beside which Route 53 accepts no alias.
	if r := recorder.Named(t, "shop-alias"); !slices.Equal(r.Aliases, []string{"shop-cname"}) {
		t.Errorf("the record was %v earlier", r.Aliases)
	}
	record := recorder.Named(t, "shop-alias").Inputs
	if record["name"] != "shop.example.com" || record["type"] != "A" || record["zoneId"] != "Z0123456789ABC" {
		t.Errorf("the record is %v", record)
	}
	alias := record["aliases"].([]any)[0].(map[string]any)
	if alias["name"] != "nlb.example.com" || alias["zoneId"] != "Z26RNL4JYFTOTI" || alias["evaluateTargetHealth"] != true {
		t.Errorf("the alias is %v", alias)
	}
}

func TestRefusals(t *testing.T) {
	err := (&dns.Spec{Host: "Shop", ZoneID: "example.com", Region: "mars"}).Validate()
	infratest.Refused(t, err, `Host is "Shop"`, `ZoneID is "example.com"`, `Region is "mars"`)
}
