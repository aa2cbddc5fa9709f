// Package validate collects everything that is wrong with a component's arguments, and knows the forms of the
// names that Kubernetes and AWS accept.
package validate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Errors collects what is wrong, each error beginning with the field that it is about. The zero value is empty.
type Errors struct {
	// Prefix is put in front of every field, for example "service pedidos: " or "Nodes."; empty adds nothing.
	Prefix string

	list []error
}

// Add records that a field is wrong. The text continues the field's name: "is 0: at least 1 is needed".
func (e *Errors) Add(field, format string, args ...any) {
	e.list = append(e.list, fmt.Errorf("%s%s %s", e.Prefix, field, fmt.Sprintf(format, args...)))
}

// Join records errors that name their fields themselves, each line with the prefix; nil adds nothing.
func (e *Errors) Join(err error) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		e.list = append(e.list, errors.New(e.Prefix+line))
	}
}

// Required records a field that is empty.
func (e *Errors) Required(field, value string) {
	if value == "" {
		e.Add(field, "is empty")
	}
}

// Input records an output of another resource that was not given.
func (e *Errors) Input(field string, value pulumi.Input) {
	if value == nil {
		e.Add(field, "is missing")
	}
}

// Err is every recorded error, a line each, or nil.
func (e *Errors) Err() error { return errors.Join(e.list...) }

// Name records a name that no Kubernetes object can have.
func (e *Errors) Name(field, value string) {
	if value == "" {
		e.Add(field, "is empty")
	} else if !DNSLabel(value) {
		e.Add(field, "is %q: use lower-case letters, digits and dashes, beginning with a letter", value)
	}
}

// Replicas records a number of pods below 1.
func (e *Errors) Replicas(field string, value int32) {
	if value < 1 {
		e.Add(field, "is %d: at least 1 is needed", value)
	}
}

// Port records a number that no port has.
func (e *Errors) Port(field string, value int32) {
	if value < 1 || value > 65535 {
		e.Add(field, "is %d: use 1 to 65535", value)
	}
}

// Account records an account and a region that AWS cannot have.
func (e *Errors) Account(accountField, account, regionField, region string) {
	if !Account(account) {
		e.Add(accountField, "is %q: an account has 12 digits", account)
	}
	if !Region(region) {
		e.Add(regionField, "is %q: use the name of a region, such as us-east-1", region)
	}
}

// Boundary records a permissions boundary that is not the ARN of an account's own policy.
func (e *Errors) Boundary(field, arn string) {
	if !Boundary(arn) {
		e.Add(field, "is %q, which is not the ARN of a policy", arn)
	}
}

// Image records an image that a tag, which can move, names. An empty one is left to the reader of the configuration.
func (e *Errors) Image(field, image string) {
	if image != "" && !ByDigest(image) {
		e.Add(field, "is %q: name it by digest (registry/name@sha256:...)", image)
	}
}
