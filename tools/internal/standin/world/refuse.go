package world

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// refuseReferences returns AWS's error for inputs that name what does not exist, or nil.
func (w *World) refuseReferences(references []aws.Reference, token string, inputs resource.PropertyMap) error {
	for _, r := range references {
		if r.From != token || r.Missing == "" {
			continue
		}
		targets, err := w.All(r.To)
		if err != nil {
			return err
		}
		for _, name := range r.Names(inputs) {
			if find(targets, r, name) == nil {
				return fmt.Errorf("%s: %s: %q does not exist", r.Missing, r.Property, name)
			}
		}
	}
	return nil
}

// find returns the object that a reference names, or nil.
func find(objects []*Object, r aws.Reference, name string) *Object {
	for _, o := range objects {
		if r.Fits(name, o.ID, o.Outputs) {
			return o
		}
	}
	return nil
}

// DayVariable names the environment variable with the day, such as 2026-11-29, by which EKS judges the
// support of versions; without it, today.
const DayVariable = "LOJA_STANDIN_DAY"

func day() (time.Time, error) {
	text := os.Getenv(DayVariable)
	if text == "" {
		return time.Now(), nil
	}
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", DayVariable, err)
	}
	return at, nil
}

// refuseEKS returns EKS's error for an object that its cluster does not admit, or nil.
func (w *World) refuseEKS(token string, old, inputs resource.PropertyMap) error {
	on, err := day()
	if err != nil {
		return err
	}
	s := aws.Situation{Type: token, Old: old, Inputs: inputs, On: on}
	if name := value.Text(inputs, "clusterName"); name != "" {
		cluster, err := w.Get(aws.Cluster, name)
		if err != nil {
			return err
		}
		if cluster != nil {
			s.Cluster = cluster.Inputs
		}
	}
	var errs []error
	for _, refusal := range aws.RefuseEKS(s) {
		errs = append(errs, fmt.Errorf("InvalidParameterException: %s: %s", refusal.Path, refusal.Reason))
	}
	return errors.Join(errs...)
}

// refuseSubnet returns AWS's error for a new subnet outside its VPC or that overlaps
// another one, or nil.
//
// Source: Amazon EC2 API, CreateSubnet: InvalidSubnet.Range, InvalidSubnet.Conflict.
func (w *World) refuseSubnet(inputs resource.PropertyMap) error {
	if value.Text(inputs, "cidrBlock") == "" {
		return nil // IPv6 only
	}
	block, err := netip.ParsePrefix(value.Text(inputs, "cidrBlock"))
	if err != nil {
		return fmt.Errorf("InvalidParameterValue: cidrBlock: %w", err)
	}
	vpc, err := w.Get(aws.VPC, value.Text(inputs, "vpcId"))
	if err != nil || vpc == nil {
		return err
	}
	whole, err := netip.ParsePrefix(value.Text(vpc.Inputs, "cidrBlock"))
	if err == nil && (!whole.Contains(block.Addr()) || whole.Bits() > block.Bits()) {
		return fmt.Errorf("InvalidSubnet.Range: cidrBlock: %s is outside its VPC's %s", block, whole)
	}
	others, err := w.All(aws.Subnet)
	if err != nil {
		return err
	}
	for _, o := range others {
		other, err := netip.ParsePrefix(value.Text(o.Inputs, "cidrBlock"))
		if err == nil && value.Text(o.Inputs, "vpcId") == vpc.ID && other.Overlaps(block) {
			return fmt.Errorf("InvalidSubnet.Conflict: cidrBlock: %s overlaps %s of %s", block, other, o.ID)
		}
	}
	return nil
}

// refuseRecord returns AWS's error for a new record outside its zone, or for a CNAME that is not
// alone with its name, or nil. A zone that the world does not have may hold any name.
//
// Source: Amazon Route 53 API, ChangeResourceRecordSets: InvalidChangeBatch; Developer Guide,
// "Supported DNS record types", CNAME.
func (w *World) refuseRecord(inputs resource.PropertyMap) error {
	name, kind, id := value.Text(inputs, "name"), value.Text(inputs, "type"), value.Text(inputs, "zoneId")
	zone, err := w.Get(aws.Zone, id)
	if err != nil || zone == nil {
		return err
	}
	apex := value.Text(zone.Inputs, "name")
	name, apex = strings.TrimSuffix(name, "."), strings.TrimSuffix(apex, ".")
	switch {
	case name != apex && !strings.HasSuffix(name, "."+apex):
		return fmt.Errorf("InvalidChangeBatch: name: RRSet with DNS name %s is not permitted in zone %s", name, apex)
	case name == apex && kind == "CNAME":
		return fmt.Errorf("InvalidChangeBatch: type: RRSet of type CNAME with DNS name %s is not permitted at apex in zone %s", name, apex)
	}
	records, err := w.All(aws.Record)
	if err != nil {
		return err
	}
	for _, o := range records {
		other := value.Text(o.Inputs, "type")
		same := value.Text(o.Inputs, "zoneId") == id && strings.TrimSuffix(value.Text(o.Inputs, "name"), ".") == name
		if same && kind != other && (kind == "CNAME" || other == "CNAME") {
			return fmt.Errorf("InvalidChangeBatch: type: RRSet of type %s with DNS name %s conflicts with that of type %s", kind, name, other)
		}
	}
	return nil
}

// refuseDelete returns AWS's error for the deletion of an object, or nil.
func (w *World) refuseDelete(o *Object) error {
	switch o.Type {
	case aws.Instance:
		if err := w.refuseInstanceDelete(o); err != nil {
			return err
		}
	case aws.Zone:
		if err := w.refuseZoneDelete(o); err != nil {
			return err
		}
	}
	for _, r := range aws.References {
		if r.To != o.Type || r.InUse == "" {
			continue
		}
		users, err := w.All(r.From)
		if err != nil {
			return err
		}
		for _, user := range users {
			for _, name := range r.Names(user.Inputs) {
				if r.Fits(name, o.ID, o.Outputs) {
					return fmt.Errorf("%s: %s has a dependent object: %s of %s", r.InUse, o.ID, r.Property, user.ID)
				}
			}
		}
	}
	return nil
}

// Source: Amazon Route 53 API, DeleteHostedZone: HostedZoneNotEmpty.
func (w *World) refuseZoneDelete(o *Object) error {
	records, err := w.All(aws.Record)
	if err != nil {
		return err
	}
	for _, r := range records {
		if value.Text(r.Inputs, "zoneId") == o.ID && !value.Flag(o.Outputs, "forceDestroy") {
			return fmt.Errorf("HostedZoneNotEmpty: %s still has %s", o.ID, r.ID)
		}
	}
	return nil
}
