package world

import (
	"os"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// CallerVariable names the environment variable with the ARN of the role that calls AWS. Without
// it the caller is an administrator, who may do everything.
const CallerVariable = "LOJA_STANDIN_CALLER"

// Caller returns the ARN of the role that calls AWS, "" for an administrator.
func Caller() string { return os.Getenv(CallerVariable) }

// A Permit is what the calling role may do.
type Permit struct {
	role   string            // "": everything
	limits []aws.Permissions // each of them has to admit an action
	// account is the role's: a provider that previews without an account does not know its own.
	account string
}

// Permit reads the caller's policies and its permissions boundary. Policies of AWS's own, which
// the world does not have, admit nothing.
func (w *World) Permit() (*Permit, error) {
	caller := Caller()
	if caller == "" {
		return &Permit{}, nil
	}
	name := caller[strings.LastIndex(caller, "/")+1:]
	role, err := w.Get(aws.Role, name)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return nil, status.Errorf(codes.PermissionDenied, "AccessDenied: the role that %s names, %s, does not exist", CallerVariable, caller)
	}
	p := &Permit{role: name, account: accountOf(value.Text(role.Outputs, "arn"))}
	var own aws.Permissions
	add := func(document string) error {
		parsed, err := aws.ParsePolicy(document)
		own = append(own, parsed...)
		return err
	}
	inline, err := w.All(aws.RolePolicy)
	if err != nil {
		return nil, err
	}
	for _, o := range inline {
		if value.Text(o.Inputs, "role") == role.ID {
			if err := add(value.Text(o.Inputs, "policy")); err != nil {
				return nil, err
			}
		}
	}
	attached, err := w.All(aws.RolePolicyAttachment)
	if err != nil {
		return nil, err
	}
	for _, o := range attached {
		if value.Text(o.Inputs, "role") != role.ID {
			continue
		}
		if policy, err := w.Get(aws.Policy, value.Text(o.Inputs, "policyArn")); err != nil {
			return nil, err
		} else if policy != nil {
			if err := add(value.Text(policy.Inputs, "policy")); err != nil {
				return nil, err
			}
		}
	}
	p.limits = append(p.limits, own)
	if boundary := value.Text(role.Inputs, "permissionsBoundary"); boundary != "" {
		policy, err := w.Get(aws.Policy, boundary)
		if err != nil || policy == nil {
			return nil, status.Errorf(codes.PermissionDenied, "AccessDenied: the boundary of %s, %s, does not exist (%v)", caller, boundary, err)
		}
		parsed, err := aws.ParsePolicy(value.Text(policy.Inputs, "policy"))
		if err != nil {
			return nil, err
		}
		p.limits = append(p.limits, parsed)
	}
	return p, nil
}

// Refuse returns AWS's error for a request whose actions the caller's role or its boundary lacks, or
// nil. A type that has no row in the table of actions is admitted.
func (p *Permit) Refuse(r aws.Request) error {
	if p.role == "" {
		return nil
	}
	r.Place.Account = p.account
	for _, limit := range p.limits {
		if missing, _ := limit.Missing(r); len(missing) > 0 {
			return status.Errorf(codes.PermissionDenied, "AccessDenied: the role %s is not authorized to perform %s, to %s %s",
				p.role, strings.Join(missing, ", "), r.Operation, r.Type)
		}
	}
	return nil
}

// Outputs returns the outputs of an object, nil if it does not exist.
func (w *World) Outputs(token, id string) resource.PropertyMap {
	o, err := w.Get(token, id)
	if err != nil || o == nil {
		return nil
	}
	return o.Outputs
}

// Find returns the outputs of the object that a reference names, nil if it does not exist. What AWS
// has made along with another object has none of the tags of that.
func (w *World) Find(r aws.Reference, name string) resource.PropertyMap {
	targets, err := w.All(r.To)
	if err != nil {
		return nil
	}
	if o := find(targets, r, name); o != nil {
		return o.Outputs
	}
	if maker, err := w.maker(r.To, name); err == nil && maker != nil {
		return resource.PropertyMap{}
	}
	return nil
}

// accountOf returns the account in an ARN.
func accountOf(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}
