// Package validate collects everything that is wrong with a component's arguments, and knows the forms of the
// names that Kubernetes and AWS accept.
package validate

import (
	"errors"
	"fmt"

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

// Join records errors that name their fields themselves; nil adds nothing.
func (e *Errors) Join(errs ...error) { e.list = append(e.list, errs...) }

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
