package policy_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/policy/policytest"
)

// inputs carries raw properties to a registration.
type inputs map[string]any

func (inputs) ElementType() reflect.Type { return reflect.TypeFor[map[string]any]() }

type anything struct{ pulumi.CustomResourceState }

func register(ctx *pulumi.Context, token, name string, in inputs, opts ...pulumi.ResourceOption) error {
	return ctx.RegisterResource(token, name, in, &anything{}, opts...)
}

func database() inputs {
	return inputs{"storageEncrypted": true, "kmsKeyId": "arn:aws:kms:us-east-1:111122223333:key/k"}
}

// provided registers an AWS provider as the platform's stacks do.
func provided(ctx *pulumi.Context, o policy.Options) (pulumi.ResourceOption, error) {
	if err := policy.Enforce(ctx, o); err != nil {
		return nil, err
	}
	provider := &pulumi.ProviderResourceState{}
	err := ctx.RegisterResource("pulumi:providers:aws", "aws",
		inputs{"defaultTags": `{"tags":{"Project":"p","Environment":"e","ManagedBy":"pulumi"}}`}, provider)
	return pulumi.Provider(provider), err
}

func TestEnforceFailsTheDeploymentWithASentence(t *testing.T) {
	for _, preview := range []bool{true, false} {
		result, err := policytest.Run(preview, func(ctx *pulumi.Context) error {
			aws, err := provided(ctx, policy.Options{})
			if err != nil {
				return err
			}
			return register(ctx, "aws:rds/instance:Instance", "db", inputs{"storageEncrypted": false, "password": "hunter2", "kmsKeyId": "k"}, aws)
		})
		if err == nil {
			t.Fatalf("preview %v: the deployment succeeded", preview)
		}
		want := `policy encryption: aws:rds/instance:Instance "db": storageEncrypted is not true: encrypt databases` + "\n" +
			`policy plain-secret: aws:rds/instance:Instance "db": password is named password and not marked secret: state and diffs would show it`
		if got := policy.Sentences(err); got != want {
			t.Errorf("preview %v: the error %q says\n%s\nwant\n%s", preview, err, got, want)
		}
		if len(result.Errors) != 1 || result.Errors[0] != want {
			t.Errorf("preview %v: the diagnostics are %q", preview, result.Errors)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("preview %v: the error shows the password", preview)
		}
	}
}

func TestEnforceSeesSecretsAndUnknowns(t *testing.T) {
	result, err := policytest.Run(true, func(ctx *pulumi.Context) error {
		aws, err := provided(ctx, policy.Options{})
		if err != nil {
			return err
		}
		key := &anything{}
		if err := ctx.RegisterResource("aws:kms/key:Key", "key", inputs{"enableKeyRotation": true}, key, aws); err != nil {
			return err
		}
		in := database()
		in["kmsKeyId"], in["password"] = key.ID(), pulumi.ToSecret(pulumi.String("hunter2"))
		if err := register(ctx, "aws:rds/instance:Instance", "db", in, aws); err != nil {
			return err
		}
		// The preview does not know this policy.
		return register(ctx, "aws:iam/policy:Policy", "policy",
			inputs{"policy": pulumi.Sprintf(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"%s"}}`, key.ID())}, aws)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Resources) != 4 {
		t.Errorf("%d resources were registered, want 4", len(result.Resources))
	}
}

func TestTheUpdateChecksWhatAPreviewDoesNotKnow(t *testing.T) {
	_, err := policytest.Run(false, func(ctx *pulumi.Context) error {
		aws, err := provided(ctx, policy.Options{})
		if err != nil {
			return err
		}
		key := &anything{}
		if err := ctx.RegisterResource("aws:kms/key:Key", "key", inputs{"enableKeyRotation": true}, key, aws); err != nil {
			return err
		}
		return register(ctx, "aws:iam/policy:Policy", "policy",
			inputs{"policy": pulumi.Sprintf(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"%s"}}`, key.ID())}, aws)
	})
	if !strings.Contains(policy.Sentences(err), "allows the Action *") {
		t.Errorf("the error is %v", err)
	}
}

func TestStatefulResourcesAreProtectedUnlessNamed(t *testing.T) {
	program := func(o policy.Options, opts ...pulumi.ResourceOption) pulumi.RunFunc {
		return func(ctx *pulumi.Context) error {
			aws, err := provided(ctx, o)
			if err != nil {
				return err
			}
			for _, name := range []string{"kept", "moved"} {
				if err := register(ctx, "aws:rds/instance:Instance", name, database(), append(opts, aws)...); err != nil {
					return err
				}
			}
			return register(ctx, "aws:sns/topic:Topic", "topic", inputs{}, aws)
		}
	}
	cases := []struct {
		name    string
		options policy.Options
		opts    []pulumi.ResourceOption
		want    map[string]bool
		refused string
	}{
		{"policy protects where the program does not", policy.Options{}, nil, map[string]bool{"kept": true, "moved": true}, ""},
		{"the flag lifts it", policy.Options{AllowReplace: []string{"moved"}}, nil, map[string]bool{"kept": true, "moved": false}, ""},
		{"also what the program set", policy.Options{AllowReplace: []string{"moved"}}, []pulumi.ResourceOption{pulumi.Protect(true)},
			map[string]bool{"kept": true, "moved": false}, ""},
		{"for all", policy.Options{AllowReplace: []string{"*"}}, nil, map[string]bool{"kept": false, "moved": false}, ""},
		{"a protected environment says so itself", policy.Options{Protected: true}, []pulumi.ResourceOption{pulumi.Protect(true)},
			map[string]bool{"kept": true, "moved": true}, ""},
		{"or is refused", policy.Options{Protected: true}, nil, nil, "protect is not set"},
		{"and names what it replaces", policy.Options{Protected: true, AllowReplace: []string{"*"}}, nil, nil,
			"a protected environment names each resource"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			result, err := policytest.Run(false, program(c.options, c.opts...))
			if c.refused != "" {
				infratest.Refused(t, err, c.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range result.Resources {
				if r.Name == "aws" {
					continue
				}
				if r.Protect != c.want[r.Name] {
					t.Errorf("%s: protect is %v", r.Name, r.Protect)
				}
				if r.Name != "topic" && (!r.Inputs["storageEncrypted"].BoolValue() || len(r.Inputs) != 2) {
					t.Errorf("%s: the inputs are %v", r.Name, r.Inputs)
				}
			}
		})
	}
}

func TestExportRefusesAPlainCredential(t *testing.T) {
	token := "ghp_" + strings.Repeat("a1B2", 9)
	export := func(name string, value pulumi.Input) error {
		_, err := policytest.Run(false, func(ctx *pulumi.Context) error {
			policy.Export(ctx, name, value)
			return nil
		})
		return err
	}
	if err := export("deploy", pulumi.Map{"url": pulumi.String(token)}); !strings.Contains(policy.Sentences(err),
		"deploy.url is a GitHub token and not marked secret") {
		t.Errorf("the error is %v", err)
	}
	if err := export("adminPassword", pulumi.String("x")); err == nil {
		t.Error("a plain password was exported")
	}
	for _, fine := range []pulumi.Input{pulumi.ToSecret(pulumi.String(token)), pulumi.String("plain")} {
		if err := export("deploy", fine); err != nil {
			t.Error(err)
		}
	}
}

// mocks record resources for Audit.
type mocks struct{ resources []policy.Resource }

func (m *mocks) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	m.resources = append(m.resources, policy.Recorded(args))
	return args.Name + "-id", args.Inputs, nil
}

func (m *mocks) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

func TestMocksRunOnlyTheProtection(t *testing.T) {
	audited := &mocks{}
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		aws, err := provided(ctx, policy.Options{})
		if err != nil {
			return err
		}
		return register(ctx, "aws:rds/instance:Instance", "db", inputs{"storageEncrypted": false, "kmsKeyId": "k"}, aws)
	}, pulumi.WithMocks("loja-veloz", "test", audited))
	if err != nil {
		t.Fatal(err)
	}
	err = policy.Audit(&policy.Options{}, audited.resources)
	if err == nil || !strings.Contains(err.Error(), `"db": storageEncrypted is not true`) || strings.Contains(err.Error(), "\n") {
		t.Errorf("the audit says %v", err)
	}
	if db := audited.resources[len(audited.resources)-1]; !db.Protect {
		t.Error("the database is not protected")
	}
}

func TestWhatTheRecorderKeptIsAudited(t *testing.T) {
	recorder, err := infratest.Run(false, func(ctx *pulumi.Context) error {
		aws, err := provided(ctx, policy.Options{})
		if err != nil {
			return err
		}
		in := database()
		in["password"] = pulumi.ToSecret(pulumi.String("hunter2"))
		if err := register(ctx, "aws:rds/instance:Instance", "marked", in, aws); err != nil {
			return err
		}
		in = database()
		in["password"] = "hunter2"
		return register(ctx, "aws:rds/instance:Instance", "plain", in, aws)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = policy.Audit(&policy.Options{}, policytest.Recorded(recorder))
	if err == nil || strings.Contains(err.Error(), `"marked": password`) || !strings.Contains(err.Error(),
		`"plain": password is named password`) {
		t.Errorf("the audit says %v", err)
	}
}
