// Package policytest runs a Pulumi program against a fake of the engine's resource monitor that
// runs transforms as the engine does. Pulumi's own mocks run none.
package policytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/policy"
)

const (
	project = "loja-veloz"
	stack   = "test"
)

// Result is what a program registered and reported.
type Result struct {
	// Resources are the accepted resources, as the transforms changed them.
	Resources []policy.Resource
	// Errors are the diagnostics that Pulumi shows.
	Errors []string
}

// Recorded converts what mocks recorded for policy.Audit.
func Recorded(recorder *infratest.Recorder) []policy.Resource {
	var resources []policy.Resource
	for _, r := range recorder.Resources() {
		resources = append(resources, policy.Resource{
			Type: r.Type, Name: r.Name, Custom: !r.Component, Provider: r.Provider, Protect: r.Protect,
			Inputs: resource.NewPropertyMapFromMap(r.Inputs),
		})
	}
	return resources
}

// Run runs a program, as a preview or as an update.
func Run(preview bool, program pulumi.RunFunc) (*Result, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	e := &engine{preview: preview, clients: map[string]*grpc.ClientConn{}}
	server := grpc.NewServer()
	pulumirpc.RegisterResourceMonitorServer(server, e)
	pulumirpc.RegisterEngineServer(server, &diagnostics{engine: e})
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	defer e.close()
	address := listener.Addr().String()
	err = pulumi.RunErr(program, func(info *pulumi.RunInfo) {
		*info = pulumi.RunInfo{Project: project, Stack: stack, DryRun: preview, Parallel: 4, MonitorAddr: address, EngineAddr: address}
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	return &Result{Resources: e.resources, Errors: e.errors}, err
}

type engine struct {
	pulumirpc.UnimplementedResourceMonitorServer

	preview bool

	mu         sync.Mutex
	clients    map[string]*grpc.ClientConn
	transforms []*pulumirpc.Callback
	resources  []policy.Resource
	errors     []string
}

func (e *engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, client := range e.clients {
		_ = client.Close()
	}
}

// SupportsFeature answers as the engine of Pulumi 3.258 does, for the features that programs
// without a remote component query.
func (e *engine) SupportsFeature(context.Context, *pulumirpc.SupportsFeatureRequest) (*pulumirpc.SupportsFeatureResponse, error) {
	return &pulumirpc.SupportsFeatureResponse{HasSupport: true}, nil
}

func (e *engine) SignalAndWaitForShutdown(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (e *engine) RegisterPackage(context.Context, *pulumirpc.RegisterPackageRequest) (*pulumirpc.RegisterPackageResponse, error) {
	return &pulumirpc.RegisterPackageResponse{Ref: "package"}, nil
}

func (e *engine) RegisterStackTransform(_ context.Context, callback *pulumirpc.Callback) (*emptypb.Empty, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.transforms = append(e.transforms, callback)
	return &emptypb.Empty{}, nil
}

func (e *engine) RegisterResourceOutputs(context.Context, *pulumirpc.RegisterResourceOutputsRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

var marshal = plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true, KeepResources: true}

func (e *engine) RegisterResource(ctx context.Context, in *pulumirpc.RegisterResourceRequest) (*pulumirpc.RegisterResourceResponse, error) {
	urn := string(resource.NewURN(stack, project, "", "x:x:x", in.GetName()))
	if in.GetType() == string(resource.RootStackType) {
		return &pulumirpc.RegisterResourceResponse{Urn: urn}, nil
	}
	object, protect := in.GetObject(), in.GetProtect()
	e.mu.Lock()
	transforms := e.transforms
	e.mu.Unlock()
	for _, callback := range transforms {
		request, err := proto.Marshal(&pulumirpc.TransformRequest{
			Type: in.GetType(), Name: in.GetName(), Custom: in.GetCustom(), Parent: in.GetParent(), Properties: object,
			Options: &pulumirpc.TransformResourceOptions{Protect: &protect, Provider: in.GetProvider(), DependsOn: in.GetDependencies()},
		})
		if err != nil {
			return nil, err
		}
		answer, err := e.invoke(ctx, callback, request)
		if err != nil {
			return nil, fmt.Errorf("invoke transform: %w", err)
		}
		if answer.Properties != nil {
			object = answer.Properties
		}
		if answer.Options != nil {
			protect = answer.Options.GetProtect()
		}
	}
	inputs, err := plugin.UnmarshalProperties(object, plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true, KeepResources: true,
		KeepOutputValues: true})
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.resources = append(e.resources, policy.Resource{
		Type: in.GetType(), Name: in.GetName(), Custom: in.GetCustom(), Provider: in.GetProvider(), Protect: protect, Inputs: inputs,
	})
	e.mu.Unlock()
	outputs, err := plugin.MarshalProperties(inputs, marshal)
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.RegisterResourceResponse{Urn: urn, Object: outputs}
	if in.GetCustom() {
		if response.Id = in.GetName() + "-id"; e.preview {
			response.Id = ""
		}
	}
	return response, nil
}

func (e *engine) invoke(ctx context.Context, callback *pulumirpc.Callback, request []byte) (*pulumirpc.TransformResponse, error) {
	e.mu.Lock()
	client := e.clients[callback.Target]
	if client == nil {
		var err error
		if client, err = grpc.NewClient(callback.Target, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			e.mu.Unlock()
			return nil, err
		}
		e.clients[callback.Target] = client
	}
	e.mu.Unlock()
	answer, err := pulumirpc.NewCallbacksClient(client).Invoke(ctx, &pulumirpc.CallbackInvokeRequest{Token: callback.Token, Request: request})
	if err != nil {
		return nil, err
	}
	response := &pulumirpc.TransformResponse{}
	return response, proto.Unmarshal(answer.Response, response)
}

type diagnostics struct {
	pulumirpc.UnimplementedEngineServer

	engine *engine
	root   string
}

func (d *diagnostics) Log(_ context.Context, in *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	if in.GetSeverity() == pulumirpc.LogSeverity_ERROR {
		d.engine.mu.Lock()
		defer d.engine.mu.Unlock()
		d.engine.errors = append(d.engine.errors, in.GetMessage())
	}
	return &emptypb.Empty{}, nil
}

func (d *diagnostics) GetRootResource(context.Context, *pulumirpc.GetRootResourceRequest) (*pulumirpc.GetRootResourceResponse, error) {
	return &pulumirpc.GetRootResourceResponse{Urn: d.root}, nil
}

func (d *diagnostics) SetRootResource(_ context.Context, in *pulumirpc.SetRootResourceRequest) (*pulumirpc.SetRootResourceResponse, error) {
	if in.GetUrn() == "" {
		return nil, errors.New("the root resource has no URN")
	}
	d.root = in.GetUrn()
	return &pulumirpc.SetRootResourceResponse{}, nil
}
