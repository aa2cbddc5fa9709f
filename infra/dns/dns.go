// Package dns creates the public name of a gateway: a certificate that is validated by DNS, and
// the record that points to the load balancer.
package dns

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/acm"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/route53"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/component"
	"github.com/loja-veloz/platform/infra/validate"
)

// Spec describes a name and its zone.
type Spec struct {
	// Host is the full name, for example shop.example.com: the zone's own or one below it.
	Host string
	// ZoneID is the Route 53 hosted zone that contains Host.
	ZoneID string
	// Region is the region of the load balancer.
	Region string
}

// balancerZones are the hosted zones of Network Load Balancers by region, which an alias record
// names (AWS General Reference, "Elastic Load Balancing endpoints and quotas").
var balancerZones = map[string]string{
	"us-east-1": "Z26RNL4JYFTOTI", "us-east-2": "ZLMOA37VPKANP", "us-west-1": "Z24FKFUX50B4VW", "us-west-2": "Z18D5FSROUN65G",
	"ca-central-1": "Z2EPGBW3API2WT", "sa-east-1": "ZTK26PT1VY4CU",
	"eu-central-1": "Z3F0SRJ5LGBH90", "eu-north-1": "Z1UDT6IFJ4EJM", "eu-south-1": "Z23146JA1KNAFP", "eu-west-1": "Z2IFOLAFXWLO4F",
	"eu-west-2": "ZD4D7Y8KGAS4G", "eu-west-3": "Z1CMS0P5QUZ6D5",
	"ap-east-1": "Z12Y7K3UBGUAD1", "ap-northeast-1": "Z31USIVHYNEOWT", "ap-northeast-2": "ZIBE1TIR4HY56", "ap-northeast-3": "Z1GWIQ4HH19I5X",
	"ap-south-1": "ZVDDRBQ08TROA", "ap-southeast-1": "ZKVM4W9LS7TM", "ap-southeast-2": "ZCT6FZBF4DROD",
}

// recordTTL is in seconds.
const recordTTL = 60

var zoneID = regexp.MustCompile(`^Z[A-Z0-9]{1,31}$`)

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *Spec) Validate() error {
	var errs validate.Errors
	if !validate.HostName(s.Host) {
		errs.Add("Host", "is %q: use a full DNS name such as shop.example.com", s.Host)
	}
	if !zoneID.MatchString(s.ZoneID) {
		errs.Add("ZoneID", "is %q: use the id of a Route 53 hosted zone, which begins with Z", s.ZoneID)
	}
	if balancerZones[s.Region] == "" {
		errs.Add("Region", "is %q: the hosted zone of its Network Load Balancers is not in balancerZones; known are %s", s.Region,
			strings.Join(slices.Sorted(maps.Keys(balancerZones)), ", "))
	}
	return errs.Err()
}

// Certificate is a validated certificate for the name.
type Certificate struct {
	pulumi.ResourceState

	// ARN is the certificate's ARN, known once AWS has issued the certificate.
	ARN pulumi.StringOutput
}

// NewCertificate requests a certificate, proves by a DNS record that the name is ours, and
// waits until AWS has issued it. AWS renews it as long as the record exists.
func NewCertificate(ctx *pulumi.Context, name string, spec *Spec, opts ...pulumi.ResourceOption) (*Certificate, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	c := &Certificate{}
	return c, component.Register(ctx, "certificate", "loja-veloz:dns:Certificate", name, c, opts, func() (pulumi.Map, error) {
		certificate, err := acm.NewCertificate(ctx, name+"-certificate", &acm.CertificateArgs{
			DomainName:       pulumi.String(spec.Host),
			ValidationMethod: pulumi.String("DNS"),
			Tags:             pulumi.StringMap{"Name": pulumi.String(spec.Host)},
		}, pulumi.Parent(c))
		if err != nil {
			return nil, fmt.Errorf("requesting the certificate: %w", err)
		}
		proof := certificate.DomainValidationOptions.Index(pulumi.Int(0))
		recordType := proof.ResourceRecordType().Elem().ApplyT(func(t string) route53.RecordType {
			return route53.RecordType(t)
		}).(route53.RecordTypeOutput)
		record, err := route53.NewRecord(ctx, name+"-proof", &route53.RecordArgs{
			ZoneId:  pulumi.String(spec.ZoneID),
			Name:    proof.ResourceRecordName().Elem(),
			Type:    recordType,
			Records: pulumi.StringArray{proof.ResourceRecordValue().Elem()},
			Ttl:     pulumi.Int(recordTTL),
		}, pulumi.Parent(c))
		if err != nil {
			return nil, fmt.Errorf("registering the validation record: %w", err)
		}
		issued, err := acm.NewCertificateValidation(ctx, name+"-issued", &acm.CertificateValidationArgs{
			CertificateArn:        certificate.Arn,
			ValidationRecordFqdns: pulumi.StringArray{record.Fqdn},
		}, pulumi.Parent(c))
		if err != nil {
			return nil, fmt.Errorf("registering the validation: %w", err)
		}
		c.ARN = issued.CertificateArn
		return pulumi.Map{"arn": c.ARN}, nil
	})
}

// Record is the name's record.
type Record struct{ pulumi.ResourceState }

// NewRecord points the name to target, the host name of a Network Load Balancer. An alias may have
// the zone's own name, which a CNAME may not, and costs nothing for each query. Route 53 answers
// with the addresses of zones that have healthy targets.
func NewRecord(ctx *pulumi.Context, name string, spec *Spec, target pulumi.StringInput, opts ...pulumi.ResourceOption) (*Record, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	r := &Record{}
	return r, component.Register(ctx, "record", "loja-veloz:dns:Record", name, r, opts, func() (pulumi.Map, error) {
		if _, err := route53.NewRecord(ctx, name+"-alias", &route53.RecordArgs{
			ZoneId: pulumi.String(spec.ZoneID), Name: pulumi.String(spec.Host), Type: route53.RecordTypeA,
			Aliases: route53.RecordAliasArray{route53.RecordAliasArgs{
				Name: target, ZoneId: pulumi.String(balancerZones[spec.Region]), EvaluateTargetHealth: pulumi.Bool(true),
			}},
		}, pulumi.Parent(r), pulumi.Aliases([]pulumi.Alias{
			// The record was a CNAME, beside which Route 53 accepts no other of its name. The provider
			// changes a record's type in one batch of changes, without a replacement.
			{Name: pulumi.String(name + "-cname")},
		})); err != nil {
			return nil, fmt.Errorf("registering the alias: %w", err)
		}
		return pulumi.Map{}, nil
	})
}
