// Package validate collects everything that is wrong with a component's arguments, and checks
// names against the forms that Kubernetes and AWS accept.
package validate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Errors collects errors that begin with the name of a field. The zero value is empty.
type Errors struct {
	// Prefix is put before every field, for example "service pedidos: " or "Nodes."; empty adds
	// nothing.
	Prefix string

	list []error
}

// Add records an error of a field. The text continues the field's name, for example "is 0: at
// least 1 is needed".
func (e *Errors) Add(field, format string, args ...any) {
	e.list = append(e.list, fmt.Errorf("%s%s %s", e.Prefix, field, fmt.Sprintf(format, args...)))
}

// Join records the lines of err, which name their fields themselves, each with the prefix; nil
// adds nothing.
func (e *Errors) Join(err error) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		e.list = append(e.list, errors.New(e.Prefix+line))
	}
}

// Required records an error if value is empty.
func (e *Errors) Required(field, value string) {
	if value == "" {
		e.Add(field, "is empty")
	}
}

// Input records an error if value, an output of another resource, is nil.
func (e *Errors) Input(field string, value pulumi.Input) {
	if value == nil {
		e.Add(field, "is missing")
	}
}

// Err returns every recorded error, one per line, or nil.
func (e *Errors) Err() error { return errors.Join(e.list...) }

// Name records an error if value is not a valid name of a Kubernetes object.
func (e *Errors) Name(field, value string) {
	if value == "" {
		e.Add(field, "is empty")
	} else if !DNSLabel(value) {
		e.Add(field, "is %q: use lower-case letters, digits and dashes, beginning with a letter", value)
	}
}

// Replicas records an error if value is below 1.
func (e *Errors) Replicas(field string, value int32) {
	if value < 1 {
		e.Add(field, "is %d: at least 1 is needed", value)
	}
}

// Port records an error if value is not a port number.
func (e *Errors) Port(field string, value int32) {
	if value < 1 || value > 65535 {
		e.Add(field, "is %d: use 1 to 65535", value)
	}
}

// Account records an error for each of account and region that does not have the form of AWS.
func (e *Errors) Account(accountField, account, regionField, region string) {
	if !Account(account) {
		e.Add(accountField, "is %q: an account has 12 digits", account)
	}
	if !Region(region) {
		e.Add(regionField, "is %q: use the name of a region, such as us-east-1", region)
	}
}

// Boundary records an error if arn is not the ARN of a policy of an account.
func (e *Errors) Boundary(field, arn string) {
	if !Boundary(arn) {
		e.Add(field, "is %q, which is not the ARN of a policy", arn)
	}
}

// Image records an error if image is not named by digest: a tag can move. An empty image is
// reported by the configuration instead.
func (e *Errors) Image(field, image string) {
	if image != "" && !ByDigest(image) {
		e.Add(field, "is %q: name it by digest (registry/name@sha256:...)", image)
	}
}
