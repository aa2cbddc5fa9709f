package plugin

import (
	"context"
	"errors"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/check"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

// Check refuses what the types, or AWS itself, would not accept, all errors at once, and
// fills in names and tags.
func (p *Provider) Check(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	urn := resource.URN(req.GetUrn())
	token := string(urn.Type())
	olds, err := value.Unmarshal("olds", req.GetOlds())
	if err != nil {
		return nil, err
	}
	news, err := value.Unmarshal("news", req.GetNews())
	if err != nil {
		return nil, err
	}
	known, err := p.known(token)
	if errors.Is(err, schema.ErrUnknown) {
		unknown := &pulumirpc.CheckFailure{Reason: err.Error()}
		return &pulumirpc.CheckResponse{Inputs: req.GetNews(), Failures: []*pulumirpc.CheckFailure{unknown}}, nil
	}
	if err != nil {
		return nil, err
	}
	var c check.Failures
	inputs, err := c.Properties("", token, news, known.Inputs, known.Required)
	if err != nil {
		return nil, err
	}
	if err := nameIt(urn, known, olds, inputs); err != nil {
		return nil, err
	}
	tagIt(p.configured().defaultTags, known, inputs)
	aws.Refuse(&c, token, inputs)
	on, err := world.Day()
	if err != nil {
		return nil, err
	}
	for _, refusal := range aws.RefuseEKS(aws.Situation{Type: token, Old: olds, Inputs: inputs, On: on}) {
		c.Add(refusal.Path, "%s", refusal.Reason)
	}
	for _, refusal := range aws.RefuseRDS(token, olds, inputs, on) {
		c.Add(refusal.Path, "%s", refusal.Reason)
	}
	checked, err := value.Marshal("inputs", inputs)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.CheckResponse{Inputs: checked, Failures: proto(c)}, nil
}

// nameIt names a resource that has no name. The name that the plugin chose before stays.
func nameIt(urn resource.URN, known *schema.Resource, olds, inputs resource.PropertyMap) error {
	property, ok := aws.NameProperty(known)
	if !ok {
		return nil
	}
	key := resource.PropertyKey(property)
	if _, given := inputs[key]; given {
		return nil
	}
	if _, given := inputs[key+"Prefix"]; given {
		return nil
	}
	inputs[aws.DefaultsKey] = value.List(resource.NewProperty(property))
	if old, ok := olds[key]; ok && aws.Chosen(olds, property) {
		inputs[key] = old
		return nil
	}
	taken, err := takenNames(known.Token, property)
	if err != nil {
		return err
	}
	// A replacement is created while the old resource exists: it needs another name.
	n := 0
	for taken[aws.GeneratedName(urn, n)] {
		n++
	}
	inputs[key] = resource.NewProperty(aws.GeneratedName(urn, n))
	return nil
}

// takenNames are the names that exist; in a preview without a world, none.
func takenNames(token, property string) (map[string]bool, error) {
	w, err := world.Open()
	if errors.Is(err, world.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return w.Names(token, property)
}

// tagIt adds tagsAll: the provider's default tags under the resource's own.
func tagIt(defaults map[string]string, known *schema.Resource, inputs resource.PropertyMap) {
	if _, has := known.Outputs["tagsAll"]; !has {
		return
	}
	own, given := inputs["tags"]
	if given && value.Unmarked(own).IsComputed() {
		inputs["tagsAll"] = own
		return
	}
	all := resource.PropertyMap{}
	for k, v := range defaults {
		all[resource.PropertyKey(k)] = resource.NewProperty(v)
	}
	if v := value.Unmarked(own); v.IsObject() {
		for k, tag := range v.ObjectValue() {
			all[k] = tag
		}
	}
	if len(all) == 0 {
		return
	}
	inputs["tagsAll"] = resource.NewProperty(all)
	if own.IsSecret() {
		inputs["tagsAll"] = resource.MakeSecret(inputs["tagsAll"])
	}
}
