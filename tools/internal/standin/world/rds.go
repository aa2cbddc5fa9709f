package world

import (
	"errors"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// refuseRDS returns RDS's error for an instance as a whole or for a change of it, or nil.
func refuseRDS(token string, old, inputs resource.PropertyMap) error {
	on, err := Day()
	if err != nil {
		return err
	}
	var errs []error
	for _, refusal := range aws.RefuseRDS(token, old, inputs, on) {
		errs = append(errs, fmt.Errorf("InvalidParameterCombination: %s: %s", refusal.Path, refusal.Reason))
	}
	return errors.Join(errs...)
}

// refuseCopy returns RDS's error for a new instance with less storage than the snapshot or the instance
// of which it is a copy, or nil. An origin of unknown size fits.
//
// Source: ministryofjustice/cloud-platform-user-guide, pull request 1911 (the error, of a snapshot);
// aws-cloudformation/aws-cloudformation-resource-providers-rds, pull request 241 (the storage is set by a
// later ModifyDBInstance, which does not shrink it); read in 2026-11.
func (w *World) refuseCopy(token string, inputs resource.PropertyMap) error {
	if !aws.Restored(token, inputs) {
		return nil
	}
	origin, err := w.Get(aws.Snapshot, value.Text(inputs, "snapshotIdentifier"))
	if restore := value.Plain(inputs["restoreToPointInTime"]); restore.IsObject() {
		origin, err = w.instance(value.Text(restore.ObjectValue(), "sourceDbInstanceIdentifier"))
	}
	if err != nil || origin == nil {
		return err
	}
	had, wanted := value.Plain(origin.Outputs["allocatedStorage"]), value.Plain(inputs["allocatedStorage"])
	if !had.IsNumber() || !wanted.IsNumber() || wanted.NumberValue() >= had.NumberValue() {
		return nil
	}
	return fmt.Errorf("InvalidParameterCombination: allocatedStorage: invalid storage size for engine name postgres and storage type gp3: "+
		"%v: %s has %v", wanted.NumberValue(), origin.ID, had.NumberValue())
}

// finalSnapshot is the name of the snapshot with which the deletion of an instance begins, or "".
func finalSnapshot(o *Object) string {
	if value.Flag(o.Outputs, "skipFinalSnapshot") {
		return ""
	}
	return value.Text(o.Outputs, "finalSnapshotIdentifier")
}

// Source: Amazon RDS API, DeleteDBInstance: DeletionProtection, FinalDBSnapshotIdentifier,
// DBSnapshotAlreadyExists.
func (w *World) refuseInstanceDelete(o *Object) error {
	if value.Flag(o.Outputs, "deletionProtection") {
		return fmt.Errorf(
			"InvalidParameterCombination: cannot delete protected DB instance %s, disable deletionProtection first", o.ID)
	}
	name := finalSnapshot(o)
	if name == "" {
		if !value.Flag(o.Outputs, "skipFinalSnapshot") {
			return fmt.Errorf("finalSnapshotIdentifier is required of %s when skipFinalSnapshot is false", o.ID)
		}
		return nil
	}
	other, err := w.Get(aws.Snapshot, name)
	if err == nil && other != nil {
		err = fmt.Errorf("DBSnapshotAlreadyExists: finalSnapshotIdentifier: the snapshot %s of %s exists already: "+
			"copy it under another name, and delete it", name, value.Text(other.Inputs, "dbInstanceIdentifier"))
	}
	return err
}

// takeFinalSnapshot leaves the snapshot that the deletion of an instance begins with.
func (w *World) takeFinalSnapshot(o *Object) error {
	name := finalSnapshot(o)
	if name == "" {
		return nil
	}
	inputs := resource.PropertyMap{
		"dbSnapshotIdentifier": resource.NewProperty(name),
		"dbInstanceIdentifier": resource.NewProperty(value.Text(o.Outputs, "identifier")),
	}
	if size, has := o.Outputs["allocatedStorage"]; has {
		inputs["allocatedStorage"] = size
	}
	return w.put(&Object{Object: aws.Object{Type: aws.Snapshot, ID: name, Seed: o.Seed, Inputs: inputs}, URN: o.URN, Outputs: inputs})
}

// masterSecret is the ARN of the secret with the password that RDS manages, or "".
func masterSecret(o *Object) string {
	v := value.Plain(o.Outputs["masterUserSecrets"])
	if !v.IsArray() || len(v.ArrayValue()) == 0 || !v.ArrayValue()[0].IsObject() {
		return ""
	}
	return value.Text(v.ArrayValue()[0].ObjectValue(), "secretArn")
}

// putMasterSecret creates the secret of an instance. RDS copies the instance's tags to it if it
// creates both; a restored instance gets its secret by a later ModifyDBInstance, which does not.
//
// Source: hashicorp/terraform-provider-aws, pull request 33699 (the restore) and issue 41337 (the
// tags), read in 2026-11.
func (w *World) putMasterSecret(o *Object) error {
	arn := masterSecret(o)
	if o.Type != aws.Instance || arn == "" {
		return nil
	}
	outputs := resource.PropertyMap{"arn": resource.NewProperty(arn)}
	if tags, tagged := o.Outputs["tagsAll"]; tagged && !aws.Restored(o.Type, o.Inputs) {
		outputs["tagsAll"] = tags
	}
	return w.put(&Object{Object: aws.Object{Type: aws.Secret, ID: arn, Seed: o.Seed}, URN: o.URN, Outputs: outputs})
}

// instance returns the instance with an identifier.
func (w *World) instance(identifier string) (*Object, error) {
	all, err := w.All(aws.Instance)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if value.Text(o.Outputs, "identifier") == identifier {
			return o, nil
		}
	}
	return nil, fmt.Errorf("DBInstanceNotFound: DBInstance %s not found", identifier)
}

// MasterSecret returns the ARN of the secret with the password of an instance.
func (w *World) MasterSecret(identifier string) (string, error) {
	o, err := w.instance(identifier)
	if err != nil {
		return "", err
	}
	return masterSecret(o), nil
}

// RenameInstance gives an instance another identifier. Its id, ARN of the secret and data stay.
func (w *World) RenameInstance(from, to string) error {
	return w.locked(func() error {
		o, err := w.instance(from)
		if err != nil {
			return err
		}
		if _, err := w.instance(to); err == nil {
			return fmt.Errorf("DBInstanceAlreadyExists: DB instance %s already exists", to)
		}
		for _, m := range []resource.PropertyMap{o.Inputs, o.Outputs} {
			m["identifier"] = resource.NewProperty(to)
		}
		o.Unique = to
		return w.put(o)
	})
}

// DeleteInstance deletes an instance by its identifier, without a final snapshot.
func (w *World) DeleteInstance(identifier string) error {
	o, err := w.instance(identifier)
	if err != nil {
		return err
	}
	o.Outputs["skipFinalSnapshot"] = resource.NewProperty(true)
	if err := w.locked(func() error { return w.put(o) }); err != nil {
		return err
	}
	return w.Delete(aws.Instance, o.ID)
}

// TagSecret adds a tag to a secret, as a person does.
func (w *World) TagSecret(arn, key, tag string) error {
	return w.locked(func() error {
		o, err := w.Get(aws.Secret, arn)
		if err != nil {
			return err
		}
		if o == nil {
			return fmt.Errorf("ResourceNotFoundException: Secrets Manager can't find the specified secret %s", arn)
		}
		tags := resource.PropertyMap{}
		if v := value.Plain(o.Outputs["tagsAll"]); v.IsObject() {
			tags = v.ObjectValue()
		}
		tags[resource.PropertyKey(key)] = resource.NewProperty(tag)
		o.Outputs["tagsAll"] = resource.NewProperty(tags)
		return w.put(o)
	})
}
