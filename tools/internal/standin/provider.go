// Package standin is a Pulumi plugin that stands in for pulumi-aws where the
// released plugin cannot be had. It reaches no cloud. Its types come from package
// schema; what AWS itself would refuse, replace or answer is in tables with their
// sources.
package standin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/loja-veloz/platform/tools/internal/standin/check"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// Notice is what the plugin says of itself when it is configured.
const Notice = "stand-in for pulumi-aws " + schema.Version + ": no cloud is reached"

// A Provider serves Pulumi's protocol for resource plugins.
type Provider struct {
	pulumirpc.UnimplementedResourceProviderServer

	source func() (*schema.Source, error)

	mutex       sync.Mutex
	engine      pulumirpc.EngineClient
	region      string
	account     string
	defaultTags map[string]string
}

// NewProvider answers the engine at an address; none means that nothing is
// logged. The sources are looked for when the first type is asked for.
func NewProvider(engine string) (*Provider, error) {
	p := &Provider{source: sync.OnceValues(func() (*schema.Source, error) {
		dir, err := schema.SourceDir(context.Background())
		if err != nil {
			return nil, err
		}
		return schema.NewSource(dir), nil
	}), account: "000000000000", region: "us-east-1"}
	return p, p.attach(engine)
}

func (p *Provider) attach(engine string) error {
	if engine == "" {
		return nil
	}
	conn, err := grpc.NewClient(engine, grpc.WithTransportCredentials(insecure.NewCredentials()), rpcutil.GrpcChannelOptions())
	if err != nil {
		return fmt.Errorf("the engine at %s: %w", engine, err)
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.engine = pulumirpc.NewEngineClient(conn)
	return nil
}

func (p *Provider) log(ctx context.Context, severity pulumirpc.LogSeverity, urn, format string, args ...any) {
	p.mutex.Lock()
	engine := p.engine
	p.mutex.Unlock()
	if engine == nil {
		return
	}
	// A line that is not shown is no reason to fail.
	_, _ = engine.Log(ctx, &pulumirpc.LogRequest{Severity: severity, Message: fmt.Sprintf(format, args...), Urn: urn})
}

func (p *Provider) partition() string {
	switch {
	case strings.HasPrefix(p.region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(p.region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

func (p *Provider) dnsSuffix() string {
	if p.partition() == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// Attach lets the engine change where it is.
func (p *Provider) Attach(_ context.Context, req *pulumirpc.PluginAttach) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, p.attach(req.GetAddress())
}

// GetPluginInfo says which plugin is stood in for.
func (p *Provider) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: schema.Version}, nil
}

// GetSchema has the name and version only: programs bring their own types.
func (p *Provider) GetSchema(context.Context, *pulumirpc.GetSchemaRequest) (*pulumirpc.GetSchemaResponse, error) {
	return &pulumirpc.GetSchemaResponse{Schema: `{"name":"aws","version":"` + schema.Version + `","description":"` + Notice + `"}`}, nil
}

// Cancel has nothing to cancel: no call takes long.
func (p *Provider) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// providerType is the token of the provider's own configuration.
const providerType = "pulumi:providers:aws"

// decodeConfig turns what SDKs send as JSON in a string back into values.
func decodeConfig(props resource.PropertyMap, fields map[string]schema.Field) resource.PropertyMap {
	decoded := resource.PropertyMap{}
	for k, v := range props {
		f, known := fields[string(k)]
		secret := v.IsSecret()
		if inner := value.Plain(v); known && f.Type.Kind != schema.String && inner.IsString() {
			var value any
			if json.Unmarshal([]byte(inner.StringValue()), &value) == nil {
				v = resource.NewPropertyValue(value)
				if secret {
					v = resource.MakeSecret(v)
				}
			}
		}
		decoded[k] = v
	}
	return decoded
}

// CheckConfig checks the provider's own configuration.
func (p *Provider) CheckConfig(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	news, err := value.Unmarshal("config", req.GetNews())
	if err != nil {
		return nil, err
	}
	source, err := p.source()
	if err != nil {
		return nil, err
	}
	known, err := source.Resource(providerType)
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

// DiffConfig updates a provider in place, whatever changes.
func (p *Provider) DiffConfig(_ context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	olds, err := value.Unmarshal("olds", firstStruct(req.GetOldInputs(), req.GetOlds()))
	if err != nil {
		return nil, err
	}
	news, err := value.Unmarshal("news", req.GetNews())
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

// Configure takes the region, the account and the default tags.
func (p *Provider) Configure(ctx context.Context, req *pulumirpc.ConfigureRequest) (*pulumirpc.ConfigureResponse, error) {
	args, err := value.Unmarshal("config", req.GetArgs())
	if err != nil {
		return nil, err
	}
	source, err := p.source()
	if err != nil {
		return nil, err
	}
	known, err := source.Resource(providerType)
	if err != nil {
		return nil, err
	}
	args = decodeConfig(args, known.Inputs)
	p.mutex.Lock()
	if region := value.Text(args, "region"); region != "" {
		p.region = region
	}
	if accounts := value.Texts(args, "allowedAccountIds"); len(accounts) > 0 {
		p.account = accounts[0]
	}
	p.defaultTags = map[string]string{}
	if v := value.Plain(args["defaultTags"]); v.IsObject() {
		if tags := value.Plain(v.ObjectValue()["tags"]); tags.IsObject() {
			for k, v := range tags.ObjectValue() {
				if v.IsString() {
					p.defaultTags[string(k)] = v.StringValue()
				}
			}
		}
	}
	p.mutex.Unlock()
	p.log(ctx, pulumirpc.LogSeverity_INFO, req.GetUrn(), Notice)
	return &pulumirpc.ConfigureResponse{AcceptSecrets: true, SupportsPreview: true}, nil
}

// Check refuses what the types, or AWS itself, would not take, all faults at
// once, and fills in names and tags.
func (p *Provider) Check(_ context.Context, req *pulumirpc.CheckRequest) (*pulumirpc.CheckResponse, error) {
	urn := resource.URN(req.GetUrn())
	tok := string(urn.Type())
	olds, err := value.Unmarshal("olds", req.GetOlds())
	if err != nil {
		return nil, err
	}
	news, err := value.Unmarshal("news", req.GetNews())
	if err != nil {
		return nil, err
	}
	source, err := p.source()
	if err != nil {
		return nil, err
	}
	known, err := source.Resource(tok)
	if errors.Is(err, schema.ErrUnknown) {
		return &pulumirpc.CheckResponse{Inputs: req.GetNews(), Failures: []*pulumirpc.CheckFailure{{Reason: err.Error()}}}, nil
	}
	if err != nil {
		return nil, err
	}
	var c check.Failures
	inputs, err := c.Properties("", tok, news, known.Inputs, known.Required)
	if err != nil {
		return nil, err
	}
	if err := p.nameIt(urn, known, olds, inputs); err != nil {
		return nil, err
	}
	p.tagIt(known, inputs)
	refuse(&c, tok, inputs)
	checked, err := value.Marshal("inputs", inputs)
	if err != nil {
		return nil, err
	}
	return &pulumirpc.CheckResponse{Inputs: checked, Failures: proto(c)}, nil
}

// defaultsKey lists the inputs that the plugin chose, as pulumi-aws does.
const defaultsKey = "__defaults"

// nameIt names a resource that has no name, by its URN: the real plugin's
// suffix is random, but a plan must be the same on every run.
func (p *Provider) nameIt(urn resource.URN, known *schema.Resource, olds, inputs resource.PropertyMap) error {
	how := makes[known.Token]
	property := how.name
	if property == "" {
		property = "name"
	}
	key := resource.PropertyKey(property)
	field, has := known.Inputs[property]
	if !has || !field.Optional || field.Type.Kind != schema.String {
		return nil
	}
	if _, given := inputs[key]; given {
		return nil
	}
	if _, given := inputs[key+"Prefix"]; given {
		return nil
	}
	inputs[defaultsKey] = value.List(resource.NewProperty(property))
	if old, ok := olds[key]; ok && named(olds, property) {
		inputs[key] = old
		return nil
	}
	for n := 0; ; n++ {
		name := urn.Name()
		if how.lower {
			name = strings.ToLower(name)
		}
		if len(name) > 55 {
			name = name[:55]
		}
		name += "-" + digest(string(urn), fmt.Sprint(n))[:7]
		if known.Token == "aws:kms/alias:Alias" {
			name = "alias/" + name
		}
		inputs[key] = resource.NewProperty(name)
		// A replacement is made beside what it replaces.
		w, err := OpenWorld()
		if errors.Is(err, errNoWorld) {
			return nil // a preview
		}
		if err != nil {
			return err
		}
		all, err := w.All(known.Token)
		if err != nil {
			return err
		}
		taken := false
		for _, o := range all {
			taken = taken || value.Text(o.Inputs, property) == name
		}
		if !taken {
			return nil
		}
	}
}

// named tells whether the plugin itself chose a property.
func named(inputs resource.PropertyMap, property string) bool {
	for _, d := range value.Texts(inputs, defaultsKey) {
		if d == property {
			return true
		}
	}
	return false
}

// tagIt adds tagsAll: the provider's default tags under the resource's own.
func (p *Provider) tagIt(known *schema.Resource, inputs resource.PropertyMap) {
	if _, has := known.Outputs["tagsAll"]; !has {
		return
	}
	own, given := inputs["tags"]
	if given && value.Unmarked(own).IsComputed() {
		inputs["tagsAll"] = own
		return
	}
	all := resource.PropertyMap{}
	for k, v := range p.defaultTags {
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

// Diff says what a change of inputs does, by the table of replacements.
func (p *Provider) Diff(ctx context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	urn := resource.URN(req.GetUrn())
	tok := string(urn.Type())
	olds, err := value.Unmarshal("olds", firstStruct(req.GetOldInputs(), req.GetOlds()))
	if err != nil {
		return nil, err
	}
	news, err := value.Unmarshal("news", req.GetNews())
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.DiffResponse{Changes: pulumirpc.DiffResponse_DIFF_NONE, HasDetailedDiff: true, DetailedDiff: map[string]*pulumirpc.PropertyDiff{}}
	d := value.Public(value.PlainMap(olds)).Diff(value.Public(value.PlainMap(news)))
	if d == nil {
		return response, nil
	}
	detailed := plugin.NewDetailedDiffFromObjectDiff(d, true)
	ignored := map[string]bool{}
	for _, path := range req.GetIgnoreChanges() {
		ignored[path] = true
	}
	var uncertain []string
	replaced := map[string]bool{}
	for path, change := range detailed {
		root := rootOf(path)
		if ignored[path] || ignored[root] {
			continue
		}
		how := effectOf(tok, path)
		if how == mayReplace {
			uncertain = append(uncertain, path)
		}
		kind := change.Kind
		if how != updates {
			kind = kind.AsReplace()
			replaced[root] = true
		}
		response.DetailedDiff[path] = &pulumirpc.PropertyDiff{Kind: protoKind(kind), InputDiff: true}
	}
	if len(response.DetailedDiff) == 0 {
		return response, nil
	}
	response.Changes = pulumirpc.DiffResponse_DIFF_SOME
	roots := map[string]bool{}
	for path := range response.DetailedDiff {
		roots[rootOf(path)] = true
	}
	response.Diffs = keys(roots)
	response.Replaces = keys(replaced)
	response.DeleteBeforeReplace = len(replaced) > 0 && p.namesStay(tok, olds, news)
	if len(uncertain) > 0 {
		sort.Strings(uncertain)
		p.log(ctx, pulumirpc.LogSeverity_INFO, req.GetUrn(), "the stand-in does not know whether a change of %s replaces: planned as a replacement, it may be an update", strings.Join(uncertain, ", "))
	}
	return response, nil
}

// namesStay tells whether old and new would bear one name, so that the old one
// has to go first.
func (p *Provider) namesStay(tok string, olds, news resource.PropertyMap) bool {
	how, ok := makes[tok]
	if !ok || strings.Contains(how.id, "{hex") && how.unique == "" || strings.Contains(how.id, "{uuid}") && how.unique == "" {
		return false
	}
	property := how.name
	if property == "" {
		property = "name"
	}
	if named(news, property) {
		return false
	}
	before := &making{provider: p, object: &Object{Type: tok, Inputs: olds}}
	after := &making{provider: p, object: &Object{Type: tok, Inputs: news}}
	template := how.unique
	if template == "" {
		template = how.id
	}
	return before.expand(template) == after.expand(template)
}

// Create makes an object in the world, or says what it would look like.
func (p *Provider) Create(_ context.Context, req *pulumirpc.CreateRequest) (*pulumirpc.CreateResponse, error) {
	urn := resource.URN(req.GetUrn())
	tok := string(urn.Type())
	known, err := p.known(tok)
	if err != nil {
		return nil, err
	}
	inputs, err := value.Unmarshal("inputs", req.GetProperties())
	if err != nil {
		return nil, err
	}
	o := &Object{Type: tok, URN: string(urn), Inputs: inputs}
	m := &making{provider: p, object: o, preview: req.GetPreview(), out: resource.PropertyMap{}}
	if req.GetPreview() {
		outputs, err := value.Marshal("outputs", m.outputs(known))
		return &pulumirpc.CreateResponse{Properties: outputs}, err
	}
	w, err := OpenWorld()
	if err != nil {
		return nil, err
	}
	err = w.Do(func() error {
		if err := w.refuseCreate(tok, inputs); err != nil {
			return err
		}
		all, err := w.All(tok)
		if err != nil {
			return err
		}
		taken := map[string]*Object{}
		for _, other := range all {
			taken[other.ID] = other
			if other.Unique != "" {
				taken["unique "+other.Unique] = other
			}
		}
		marshaled, err := value.Marshal("seed", value.PlainMap(value.Public(inputs)))
		if err != nil {
			return err
		}
		canonical, err := json.Marshal(marshaled.AsMap()) // sorts keys
		if err != nil {
			return err
		}
		for n := 0; ; n++ {
			o.Seed = digest(string(urn), string(canonical), fmt.Sprint(n))
			if err := m.identify(known); err != nil {
				return err
			}
			if other := taken["unique "+o.Unique]; o.Unique != "" && other != nil {
				return conflict(tok, o.Unique, other)
			}
			other := taken[o.ID]
			if other == nil {
				break
			}
			if !strings.Contains(makes[tok].id, "{hex") && !strings.Contains(makes[tok].id, "{uuid}") && !strings.Contains(makes[tok].id, "{upper") && !strings.Contains(makes[tok].id, "{digits") || n > 100 {
				return conflict(tok, o.ID, other)
			}
		}
		o.Outputs = m.outputs(known)
		return w.Put(o)
	})
	if err != nil {
		return nil, err
	}
	outputs, err := value.Marshal("outputs", o.Outputs)
	return &pulumirpc.CreateResponse{Id: o.ID, Properties: outputs}, err
}

func conflict(tok, name string, other *Object) error {
	code := makes[tok].exists
	if code == "" {
		code = "ResourceConflict"
	}
	return status.Errorf(codes.AlreadyExists, "%s: %s exists already: %s (%s)", code, name, other.ID, other.URN)
}

// Update changes an object of the world.
func (p *Provider) Update(_ context.Context, req *pulumirpc.UpdateRequest) (*pulumirpc.UpdateResponse, error) {
	urn := resource.URN(req.GetUrn())
	tok := string(urn.Type())
	known, err := p.known(tok)
	if err != nil {
		return nil, err
	}
	olds, err := value.Unmarshal("olds", req.GetOlds())
	if err != nil {
		return nil, err
	}
	news, err := value.Unmarshal("news", req.GetNews())
	if err != nil {
		return nil, err
	}
	o := &Object{Type: tok, ID: req.GetId(), URN: string(urn), Inputs: news}
	m := &making{provider: p, object: o, preview: req.GetPreview(), update: true, old: olds}
	if req.GetPreview() {
		// Without the seed, what was made up stays as it was.
		m.preview = false
		out := m.kept(known)
		outputs, err := value.Marshal("outputs", out)
		return &pulumirpc.UpdateResponse{Properties: outputs}, err
	}
	w, err := OpenWorld()
	if err != nil {
		return nil, err
	}
	err = w.Do(func() error {
		before, err := w.Get(tok, req.GetId())
		if err != nil {
			return err
		}
		if before == nil {
			return status.Errorf(codes.NotFound, "NotFound: %s %s does not exist any more: refresh", tok, req.GetId())
		}
		o.Seed, o.Unique = before.Seed, m.expand(makes[tok].unique)
		all, err := w.All(tok)
		if err != nil {
			return err
		}
		for _, other := range all {
			if o.Unique != "" && other.ID != o.ID && other.Unique == o.Unique {
				return conflict(tok, o.Unique, other)
			}
		}
		if tok != "aws:ec2/subnet:Subnet" { // its block cannot change, and would overlap itself
			if err := w.refuseCreate(tok, news); err != nil {
				return err
			}
		}
		o.Seed = before.Seed
		o.Outputs = m.outputs(known)
		return w.Put(o)
	})
	if err != nil {
		return nil, err
	}
	outputs, err := value.Marshal("outputs", o.Outputs)
	return &pulumirpc.UpdateResponse{Properties: outputs}, err
}

// kept are the outputs of an update in a preview: new inputs over old outputs.
func (m *making) kept(known *schema.Resource) resource.PropertyMap {
	out := m.old.Copy()
	for name, f := range known.Inputs {
		if _, given := m.object.Inputs[resource.PropertyKey(name)]; !given && !known.Outputs[name].Computed && f.Type != nil {
			delete(out, resource.PropertyKey(name))
		}
	}
	for k, v := range m.object.Inputs {
		if strings.HasPrefix(string(k), "__") {
			continue
		}
		// What AWS adds to an object stays.
		if was := value.Unmarked(out[k]); was.IsObject() && value.Unmarked(v).IsObject() && !v.IsSecret() && k != "tags" && k != "tagsAll" {
			merged := was.ObjectValue().Copy()
			for key, value := range v.ObjectValue() {
				merged[key] = value
			}
			v = resource.NewProperty(merged)
		}
		out[k] = v
	}
	if m.object.Type == "aws:ec2/launchTemplate:LaunchTemplate" {
		out["latestVersion"] = value.Unknown()
	}
	return out
}

// Delete removes an object from the world, unless AWS would not.
func (p *Provider) Delete(_ context.Context, req *pulumirpc.DeleteRequest) (*emptypb.Empty, error) {
	tok := string(resource.URN(req.GetUrn()).Type())
	w, err := OpenWorld()
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, w.Do(func() error {
		o, err := w.Get(tok, req.GetId())
		if err != nil || o == nil {
			return err // gone already, as the real plugin takes it
		}
		if err := w.refuseDelete(o); err != nil {
			return err
		}
		return w.Remove(tok, o.ID)
	})
}

// Read finds an object of the world; one that is gone has no id.
func (p *Provider) Read(_ context.Context, req *pulumirpc.ReadRequest) (*pulumirpc.ReadResponse, error) {
	tok := string(resource.URN(req.GetUrn()).Type())
	if _, err := p.known(tok); err != nil {
		return nil, err
	}
	w, err := OpenWorld()
	if err != nil {
		return nil, err
	}
	o, err := w.Get(tok, req.GetId())
	if err != nil {
		return nil, err
	}
	if o == nil {
		return &pulumirpc.ReadResponse{}, nil
	}
	inputs, err := value.Marshal("inputs", o.Inputs)
	if err != nil {
		return nil, err
	}
	outputs, err := value.Marshal("outputs", o.Outputs)
	return &pulumirpc.ReadResponse{Id: o.ID, Inputs: inputs, Properties: outputs}, err
}

func (p *Provider) known(tok string) (*schema.Resource, error) {
	source, err := p.source()
	if err != nil {
		return nil, err
	}
	return source.Resource(tok)
}

func proto(c check.Failures) []*pulumirpc.CheckFailure {
	var all []*pulumirpc.CheckFailure
	for _, f := range c {
		all = append(all, &pulumirpc.CheckFailure{Property: f.Path, Reason: f.Path + ": " + f.Reason})
	}
	return all
}

func firstStruct(all ...*structpb.Struct) *structpb.Struct {
	for _, s := range all {
		if s != nil {
			return s
		}
	}
	return nil
}

func rootOf(path string) string {
	if i := strings.IndexAny(path, ".["); i > 0 {
		return path[:i]
	}
	return path
}

func keys(m map[string]bool) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	sort.Strings(all)
	return all
}

func protoKind(k plugin.DiffKind) pulumirpc.PropertyDiff_Kind {
	switch k {
	case plugin.DiffAdd:
		return pulumirpc.PropertyDiff_ADD
	case plugin.DiffAddReplace:
		return pulumirpc.PropertyDiff_ADD_REPLACE
	case plugin.DiffDelete:
		return pulumirpc.PropertyDiff_DELETE
	case plugin.DiffDeleteReplace:
		return pulumirpc.PropertyDiff_DELETE_REPLACE
	case plugin.DiffUpdateReplace:
		return pulumirpc.PropertyDiff_UPDATE_REPLACE
	}
	return pulumirpc.PropertyDiff_UPDATE
}
