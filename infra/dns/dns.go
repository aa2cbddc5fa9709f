// Package dns gives a gateway its public name: a certificate that is validated
// over DNS, and the record that leads to the load balancer.
package dns

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/acm"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/route53"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Spec say which name, in which zone.
type Spec struct {
	// Host is the full name, for example shop.example.com. It has to be below the
	// zone's apex: its record is a CNAME, which an apex cannot be.
	Host string
	// ZoneID is that of the Route 53 hosted zone that Host belongs to.
	ZoneID string
}

// recordTTL is in seconds: short, so that a load balancer that was replaced is
// found again within a minute.
const recordTTL = 60

var (
	hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$`)
	zoneID   = regexp.MustCompile(`^Z[A-Z0-9]{1,31}$`)
)

// Validate reports everything that is wrong with the arguments, one fault per line.
func (s *Spec) Validate() error {
	var faults []error
	if !hostName.MatchString(s.Host) || len(s.Host) > 253 {
		faults = append(faults, fmt.Errorf("Host is %q: a full DNS name such as shop.example.com is expected", s.Host))
	}
	if !zoneID.MatchString(s.ZoneID) {
		faults = append(faults, fmt.Errorf("ZoneID is %q: the id of a Route 53 hosted zone begins with Z", s.ZoneID))
	}
	return errors.Join(faults...)
}

// Certificate is a validated certificate for the name.
type Certificate struct {
	pulumi.ResourceState

	// ARN is known once the certificate is issued.
	ARN pulumi.StringOutput
}

// NewCertificate orders a certificate, proves over DNS that the name is ours, and
// is done when it is issued. AWS renews it as long as the record stands.
func NewCertificate(ctx *pulumi.Context, name string, spec *Spec, opts ...pulumi.ResourceOption) (*Certificate, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	c := &Certificate{}
	if err := ctx.RegisterComponentResource("loja-veloz:dns:Certificate", name, c, opts...); err != nil {
		return nil, fmt.Errorf("registering certificate %s: %w", name, err)
	}
	certificate, err := acm.NewCertificate(ctx, name+"-certificate", &acm.CertificateArgs{
		DomainName:       pulumi.String(spec.Host),
		ValidationMethod: pulumi.String("DNS"),
		Tags:             pulumi.StringMap{"Name": pulumi.String(spec.Host)},
	}, pulumi.Parent(c))
	if err != nil {
		return nil, fmt.Errorf("registering certificate %s: %w", name, err)
	}
	proof := certificate.DomainValidationOptions.Index(pulumi.Int(0))
	record, err := route53.NewRecord(ctx, name+"-proof", &route53.RecordArgs{
		ZoneId:  pulumi.String(spec.ZoneID),
		Name:    proof.ResourceRecordName().Elem(),
		Type:    proof.ResourceRecordType().Elem().ApplyT(func(t string) route53.RecordType { return route53.RecordType(t) }).(route53.RecordTypeOutput),
		Records: pulumi.StringArray{proof.ResourceRecordValue().Elem()},
		Ttl:     pulumi.Int(recordTTL),
	}, pulumi.Parent(c))
	if err != nil {
		return nil, fmt.Errorf("registering the proof of certificate %s: %w", name, err)
	}
	issued, err := acm.NewCertificateValidation(ctx, name+"-issued", &acm.CertificateValidationArgs{
		CertificateArn:        certificate.Arn,
		ValidationRecordFqdns: pulumi.StringArray{record.Fqdn},
	}, pulumi.Parent(c))
	if err != nil {
		return nil, fmt.Errorf("registering the validation of certificate %s: %w", name, err)
	}
	c.ARN = issued.CertificateArn
	if err := ctx.RegisterResourceOutputs(c, pulumi.Map{"arn": c.ARN}); err != nil {
		return nil, fmt.Errorf("registering the outputs of certificate %s: %w", name, err)
	}
	return c, nil
}

// Record is the name's record.
type Record struct{ pulumi.ResourceState }

// NewRecord leads the name to target, the host name of a load balancer.
func NewRecord(ctx *pulumi.Context, name string, spec *Spec, target pulumi.StringInput, opts ...pulumi.ResourceOption) (*Record, error) {
	if err := spec.Validate(); err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	r := &Record{}
	if err := ctx.RegisterComponentResource("loja-veloz:dns:Record", name, r, opts...); err != nil {
		return nil, fmt.Errorf("registering record %s: %w", name, err)
	}
	if _, err := route53.NewRecord(ctx, name+"-cname", &route53.RecordArgs{
		ZoneId: pulumi.String(spec.ZoneID), Name: pulumi.String(spec.Host), Type: route53.RecordTypeCNAME,
		Records: pulumi.StringArray{target}, Ttl: pulumi.Int(recordTTL),
	}, pulumi.Parent(r)); err != nil {
		return nil, fmt.Errorf("registering record %s: %w", name, err)
	}
	if err := ctx.RegisterResourceOutputs(r, pulumi.Map{}); err != nil {
		return nil, fmt.Errorf("registering the outputs of record %s: %w", name, err)
	}
	return r, nil
}
