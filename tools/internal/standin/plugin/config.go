package plugin

import (
	"context"
	"encoding/json"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/loja-veloz/platform/tools/internal/standin/check"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// providerType is the token of the provider's own configuration.
const providerType = "pulumi:providers:aws"

// decodeConfig turns what SDKs send as JSON in a string back into values.
func decodeConfig(props resource.PropertyMap, fields map[string]schema.Field) resource.PropertyMap {
	decoded := resource.PropertyMap{}
	for k, v := range props {
		if field, known := fields[string(k)]; known && field.Type.Kind != schema.String {
			v = decode(v)
		}
		decoded[k] = v
	}
	return decoded
}

// decode reads a string of JSON; any other value stays.
func decode(v resource.PropertyValue) resource.PropertyValue {
	text := value.Plain(v)
	if !text.IsString() {
		return v
	}
	var content any
	if json.Unmarshal([]byte(text.StringValue()), &content) != nil {
		return v
	}
	decoded := resource.NewPropertyValue(content)
	if v.IsSecret() {
		decoded = resource.MakeSecret(decoded)
	}
	return decoded
}

// CheckConfig checks the provider's own configuration.
func (p *Provider) CheckConfig(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	news, err := value.Unmarshal("config", req.GetNews())
	if err != nil {
		return nil, err
	}
	known, err := p.known(providerType)
	if err != nil {
		return nil, err
	}
	var c check.Failures
	values := decodeConfig(news, known.Inputs)
	delete(values, "version")
	delete(values, "pluginDownloadURL")
	if _, err := c.Properties("", "the provider aws", values, known.Inputs, nil); err != nil {
		return nil, err
	}
	if value.Text(values, "region") == "" && !values["region"].ContainsUnknowns() {
		c.Add("region", "no region: set the configuration aws:region, or AWS_REGION")
	}
	return &pulumirpc.CheckResponse{Inputs: req.GetNews(), Failures: proto(c)}, nil
}

// DiffConfig plans every change of the configuration as an update in place.
func (p *Provider) DiffConfig(_ context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	olds, news, err := changedInputs(req)
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.DiffResponse{Changes: pulumirpc.DiffResponse_DIFF_NONE}
	if d := olds.Diff(news); d != nil {
		response.Changes = pulumirpc.DiffResponse_DIFF_SOME
		for _, k := range d.ChangedKeys() {
			response.Diffs = append(response.Diffs, string(k))
		}
	}
	return response, nil
}

// changedInputs are the inputs before and after a change.
func changedInputs(req *pulumirpc.DiffRequest) (olds, news resource.PropertyMap, err error) {
	if olds, err = value.Unmarshal("olds", firstStruct(req.GetOldInputs(), req.GetOlds())); err != nil {
		return nil, nil, err
	}
	news, err = value.Unmarshal("news", req.GetNews())
	return olds, news, err
}

func firstStruct(all ...*structpb.Struct) *structpb.Struct {
	for _, s := range all {
		if s != nil {
			return s
		}
	}
	return nil
}

// Configure takes the region, the account and the default tags.
func (p *Provider) Configure(ctx context.Context, req *pulumirpc.ConfigureRequest) (*pulumirpc.ConfigureResponse, error) {
	args, err := value.Unmarshal("config", req.GetArgs())
	if err != nil {
		return nil, err
	}
	known, err := p.known(providerType)
	if err != nil {
		return nil, err
	}
	p.configure(decodeConfig(args, known.Inputs))
	p.info(ctx, req.GetUrn(), Notice)
	return &pulumirpc.ConfigureResponse{AcceptSecrets: true, SupportsPreview: true}, nil
}

func (p *Provider) configure(args resource.PropertyMap) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if region := value.Text(args, "region"); region != "" {
		p.settings.region = region
	}
	if accounts := value.Texts(args, "allowedAccountIds"); len(accounts) > 0 {
		p.settings.account = accounts[0]
	}
	p.settings.defaultTags = map[string]string{}
	defaults := value.Plain(args["defaultTags"])
	if !defaults.IsObject() {
		return
	}
	tags := value.Plain(defaults.ObjectValue()["tags"])
	if !tags.IsObject() {
		return
	}
	for k, v := range tags.ObjectValue() {
		if v.IsString() {
			p.settings.defaultTags[string(k)] = v.StringValue()
		}
	}
}
