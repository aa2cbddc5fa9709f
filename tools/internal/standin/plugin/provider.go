// Package plugin is a Pulumi plugin that stands in for pulumi-aws where the released plugin
// is not available. It reaches no cloud.
package plugin

import (
	"context"
	"fmt"
	"maps"
	"os"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/check"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

// Environment variables that put a real Kubernetes API behind EKS clusters: its address,
// and the certificate authority that signed it, PEM in base64.
const (
	EndpointVariable  = "LOJA_STANDIN_EKS_ENDPOINT"
	AuthorityVariable = "LOJA_STANDIN_EKS_CA"
)

// Notice is what the plugin says of itself when it is configured.
const Notice = "stand-in for pulumi-aws " + schema.Version + ": no cloud is reached"

// A Provider serves Pulumi's protocol for resource plugins.
type Provider struct {
	pulumirpc.UnimplementedResourceProviderServer

	source func() (*schema.Source, error)
	// permissions are read once: a process serves one command, which does not change its own role.
	permissions func() (*world.Permit, error)

	mutex    sync.Mutex // guards what follows
	engine   pulumirpc.EngineClient
	settings settings
}

// settings are what a program configures.
type settings struct {
	region, account string
	defaultTags     map[string]string
}

// New returns a provider that logs to the engine at an address; if that is empty, nothing
// is logged. The provider looks for the SDK's sources when a type is first asked for.
func New(engine string) (*Provider, error) {
	p := &Provider{
		source: sync.OnceValues(func() (*schema.Source, error) {
			dir, err := schema.SourceDir(context.Background())
			if err != nil {
				return nil, err
			}
			return schema.NewSource(dir), nil
		}),
		permissions: sync.OnceValues(func() (*world.Permit, error) {
			w, err := world.Open()
			if err != nil {
				return nil, err
			}
			return w.Permit()
		}),
		settings: settings{account: "000000000000", region: "us-east-1"},
	}
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

// info logs a line about a resource.
func (p *Provider) info(ctx context.Context, urn, format string, args ...any) {
	p.mutex.Lock()
	engine := p.engine
	p.mutex.Unlock()
	if engine == nil {
		return
	}
	// Do not fail because a line is not shown.
	_, _ = engine.Log(ctx, &pulumirpc.LogRequest{
		Severity: pulumirpc.LogSeverity_INFO, Message: fmt.Sprintf(format, args...), Urn: urn,
	})
}

// configured returns a copy of the settings.
func (p *Provider) configured() settings {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	s := p.settings
	s.defaultTags = maps.Clone(s.defaultTags)
	return s
}

// place is where the settings put resources.
func (s settings) place() aws.Place {
	return aws.Place{
		Region: s.region, Account: s.account,
		ClusterEndpoint: os.Getenv(EndpointVariable), ClusterAuthority: os.Getenv(AuthorityVariable),
	}
}

// known is what the SDK says of a resource type.
func (p *Provider) known(token string) (*schema.Resource, error) {
	source, err := p.source()
	if err != nil {
		return nil, err
	}
	return source.Resource(token)
}

func proto(c check.Failures) []*pulumirpc.CheckFailure {
	var all []*pulumirpc.CheckFailure
	for _, f := range c {
		all = append(all, &pulumirpc.CheckFailure{Property: f.Path, Reason: f.Path + ": " + f.Reason})
	}
	return all
}

// Attach lets the engine change its address.
func (p *Provider) Attach(_ context.Context, req *pulumirpc.PluginAttach) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, p.attach(req.GetAddress())
}

// GetPluginInfo returns the version of the plugin that this one stands in for.
func (p *Provider) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: schema.Version}, nil
}

// GetSchema returns the name and version only: programs bring their own types.
func (p *Provider) GetSchema(context.Context, *pulumirpc.GetSchemaRequest) (*pulumirpc.GetSchemaResponse, error) {
	return &pulumirpc.GetSchemaResponse{
		Schema: `{"name":"aws","version":"` + schema.Version + `","description":"` + Notice + `"}`,
	}, nil
}

// Cancel has nothing to cancel: no call takes long.
func (p *Provider) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}
