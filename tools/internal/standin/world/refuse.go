package world

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
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
			if r.Given(name) || find(targets, r, name) != nil {
				continue
			}
			maker, err := w.maker(r.To, name)
			if err != nil {
				return err
			}
			if maker == nil {
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

// maker returns the object along with which AWS has made one of a type with a name, or that is another
// name of it, or nil.
func (w *World) maker(token, name string) (*Object, error) {
	for _, p := range aws.ByProducts {
		if p.Is != token {
			continue
		}
		all, err := w.All(p.Of)
		if err != nil {
			return nil, err
		}
		for _, o := range all {
			if slices.Contains(aws.TextsAt(o.Outputs, p.Output), name) {
				return o, nil
			}
		}
	}
	return nil, nil
}

// DayVariable names the environment variable with the day, such as 2026-11-29, by which EKS judges the
// support of versions, and RDS the moments that it restores; without it, now.
const DayVariable = "LOJA_STANDIN_DAY"

// Day is that day.
func Day() (time.Time, error) {
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
	on, err := Day()
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

// refusePlacement returns AWS's error for an object whose subnets are in zones that it does not take,
// or nil.
func (w *World) refusePlacement(token string, inputs resource.PropertyMap) error {
	for _, rule := range aws.PlacementRules {
		if rule.Type != token {
			continue
		}
		var zones []string
		for _, id := range aws.TextsAt(inputs, rule.Subnets) {
			zones = append(zones, value.Text(w.Outputs(aws.Subnet, id), "availabilityZoneId"))
		}
		if reason := rule.Refuse(zones); len(zones) > 0 && reason != "" {
			return fmt.Errorf("%s: %s: %s", rule.Error, rule.Subnets, reason)
		}
	}
	return nil
}

// QuotaVariable is the beginning of the names of the environment variables that raise a quota of the
// account; its code, with _ for -, follows: LOJA_STANDIN_QUOTA_L_1216C47A. Without it the account is new.
const QuotaVariable = "LOJA_STANDIN_QUOTA_"

// refuseQuotas returns AWS's error for an object beyond a quota of the account, or nil.
func (w *World) refuseQuotas(place aws.Place, id string, o aws.Object) error {
	for _, quota := range aws.Quotas {
		if quota.Type != o.Type {
			continue
		}
		limit, name := quota.New, QuotaVariable+strings.ReplaceAll(quota.Code, "-", "_")
		if text := os.Getenv(name); text != "" {
			var err error
			if limit, err = strconv.ParseFloat(text, 64); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		others, err := w.All(o.Type)
		if err != nil {
			return err
		}
		used := quota.Uses(o.Inputs)
		for _, other := range others {
			if arn := value.Text(other.Outputs, "arn"); other.ID != id && strings.Contains(arn, ":"+place.Region+":") {
				used += quota.Uses(other.Inputs)
			}
		}
		if used > limit {
			return fmt.Errorf("%s: the quota %s is %v in %s, and this makes %v", quota.Error, quota.Code, limit, place.Region, used)
		}
	}
	return nil
}

// refuseKeys returns AWS's error for a key whose policy does not admit those who use it, or nil.
func (w *World) refuseKeys(place aws.Place, o aws.Object) error {
	for _, use := range aws.KeyUses {
		if use.From != o.Type {
			continue
		}
		for _, name := range aws.TextsAt(o.Inputs, use.Property) {
			policy, err := w.keyPolicy(name)
			if err != nil {
				return err
			}
			if policy == nil {
				continue // AWS's own, or one that refuseReferences has refused
			}
			principal, keys := use.Fill(use.Principal, place, o), aws.Keys{}
			if use.Context != "" {
				keys["kms:EncryptionContext:"+use.Context] = []string{use.Fill(use.ContextValue, place, o)}
			}
			for _, action := range use.Actions {
				if !policy.For(principal).Allows(action, "", keys) {
					return fmt.Errorf("%s: %s: the policy of the key %s does not admit %s to %s", use.Error, use.Property, name, principal, action)
				}
			}
		}
	}
	return nil
}

// keyPolicy returns the policy of the key with an id, an ARN or an alias, nil if it does not exist. A key
// without one leaves everything to the account's IAM policies.
//
// Source: KMS Developer Guide, Default key policy, read in 2026-11.
func (w *World) keyPolicy(name string) (aws.Permissions, error) {
	keys, err := w.All(aws.Key)
	if err != nil {
		return nil, err
	}
	alias, err := w.maker(aws.Key, name)
	if err != nil {
		return nil, err
	}
	if alias != nil {
		name = value.Text(alias.Inputs, "targetKeyId")
	}
	key := find(keys, aws.Reference{To: aws.Key, By: "id or arn"}, name)
	if key == nil {
		return nil, nil
	}
	policies, err := w.All(aws.KeyPolicy)
	if err != nil {
		return nil, err
	}
	document := value.Text(key.Inputs, "policy")
	for _, p := range policies {
		if value.Text(p.Inputs, "keyId") == key.ID {
			document = value.Text(p.Inputs, "policy")
		}
	}
	if document == "" {
		root := "arn:aws:iam::" + accountOf(value.Text(key.Outputs, "arn")) + ":root"
		document = `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "` + root + `"}, "Action": "kms:*", "Resource": "*"}]}`
	}
	return aws.ParsePolicy(document)
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
	case aws.Subnet:
		if err := w.refuseSubnetDelete(o); err != nil {
			return err
		}
	case aws.InternetGateway:
		if err := w.refuseGatewayDelete(o); err != nil {
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

// refuseSubnetDelete returns EC2's error for a subnet in which a database has a network interface, or
// nil; References have the other users of subnets.
//
// Source: Amazon EC2 API, DeleteSubnet; VPC User Guide, Delete your VPC; read in 2026-11.
func (w *World) refuseSubnetDelete(o *Object) error {
	groups, err := w.All(aws.SubnetGroup)
	if err != nil {
		return err
	}
	databases, err := w.All(aws.Instance)
	if err != nil {
		return err
	}
	for _, group := range groups {
		if !slices.Contains(value.Texts(group.Inputs, "subnetIds"), o.ID) {
			continue
		}
		for _, db := range databases {
			if value.Text(db.Inputs, "dbSubnetGroupName") == group.ID {
				return fmt.Errorf("DependencyViolation: %s has a dependent object: a network interface of %s", o.ID, db.ID)
			}
		}
	}
	return nil
}

// refuseGatewayDelete returns EC2's error for an internet gateway while something in its VPC has a
// public address, or nil.
//
// Source: Amazon EC2 API, DetachInternetGateway; VPC User Guide, Delete your VPC; read in 2026-11.
func (w *World) refuseGatewayDelete(o *Object) error {
	vpc := value.Text(o.Inputs, "vpcId")
	for token, property := range map[string]string{aws.NATGateway: "subnetId", aws.LoadBalancer: "subnets"} {
		users, err := w.All(token)
		if err != nil {
			return err
		}
		for _, user := range users {
			for _, subnet := range aws.TextsAt(user.Inputs, property) {
				if w.vpcOf(subnet) == vpc && !value.Flag(user.Inputs, "internal") {
					return fmt.Errorf("DependencyViolation: network %s has some mapped public addresses: that of %s", vpc, user.ID)
				}
			}
		}
	}
	return nil
}
