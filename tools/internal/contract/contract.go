// Package contract selects from the outputs of a stack those that others build on, and checks them against
// the contract's schema.
package contract

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// SchemaVersion is the version of the contract.
const SchemaVersion = 1

// Schema is the contract's JSON Schema.
//
//go:embed outputs.schema.json
var Schema []byte

// A Kind is a kind of stack, and the name of its definition in the schema.
type Kind string

// The kinds of stacks.
const (
	Account Kind = "account" // stacks/bootstrap
	AWS     Kind = "aws"     // an environment in AWS
	Local   Kind = "local"   // the environment on this machine
)

// secret is what pulumi stack output prints in the place of a secret.
const secret = "[secret]"

// Outputs are the contract of one stack: names to values.
type Outputs map[string]json.RawMessage

// Select returns the contract of a stack from what pulumi stack output --json prints. update is the
// command that writes the outputs, for the error, which has a line for each output that is missing, secret
// or not what the schema says.
func Select(kind Kind, stack, update string, printed []byte) (Outputs, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(printed, &all); err != nil {
		return nil, fmt.Errorf("reading the outputs of the stack %s: %w", stack, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("the stack %s has no outputs, because no update has ended: run %s", stack, update)
	}
	var schema struct {
		Defs map[Kind]struct {
			Required   []string
			Properties map[string]json.RawMessage
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema, &schema); err != nil {
		return nil, fmt.Errorf("outputs.schema.json: %w", err)
	}
	selected := Outputs{"schemaVersion": encoded(SchemaVersion), "kind": encoded(kind), "stack": encoded(stack)}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(schema.Defs[kind].Properties)) {
		value, there := all[name]
		switch {
		case selected[name] != nil:
		case there && bytes.Contains(value, []byte(`"`+secret+`"`)):
			errs = append(errs, fmt.Errorf("the output %s of the stack %s is secret, and may not be printed: "+
				"remove the secret from what the program exports, and run %s", name, stack, update))
		case there:
			selected[name] = value
		case slices.Contains(schema.Defs[kind].Required, name):
			errs = append(errs, fmt.Errorf("the stack %s has no output %s, because its last update was of an earlier version: run %s",
				stack, name, update))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return selected, selected.validate(kind, update)
}

// encoded encodes a number or a text, which cannot fail.
func encoded(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (o Outputs) validate(kind Kind, update string) error {
	const address = "https://loja-veloz.example/outputs.schema.json"
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(address, bytes.NewReader(Schema)); err != nil {
		return fmt.Errorf("outputs.schema.json: %w", err)
	}
	schema, err := compiler.Compile(address + "#/$defs/" + string(kind))
	if err != nil {
		return fmt.Errorf("outputs.schema.json: %w", err)
	}
	var value any
	if err := json.Unmarshal(o.JSON(), &value); err != nil {
		return err
	}
	var invalid *jsonschema.ValidationError
	if err := schema.Validate(value); errors.As(err, &invalid) {
		var errs []error
		for _, leaf := range leaves(invalid) {
			errs = append(errs, fmt.Errorf("the output %s is not what outputs.schema.json says: %s; run %s",
				property.Replace(strings.TrimPrefix(leaf.InstanceLocation, "/")), leaf.Message, update))
		}
		return errors.Join(errs...)
	} else if err != nil {
		return err
	}
	return nil
}

// property turns a JSON pointer into the path of a property.
var property = strings.NewReplacer("/", ".", "~1", "/", "~0", "~")

// leaves are the errors that have no cause of their own.
func leaves(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(e.Causes) == 0 {
		return []*jsonschema.ValidationError{e}
	}
	var found []*jsonschema.ValidationError
	for _, cause := range e.Causes {
		found = append(found, leaves(cause)...)
	}
	return found
}

// Differences returns the names of the fields that an earlier contract lacks or has with another value. What
// changes with every release, services and images, is left out.
func (o Outputs) Differences(earlier []byte) ([]string, error) {
	var before Outputs
	if err := json.Unmarshal(earlier, &before); err != nil {
		return nil, fmt.Errorf("it is not what make outputs prints: %w", err)
	}
	var found []string
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if name != "services" && name != "images" && !same(o[name], before[name]) {
			found = append(found, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if o[name] == nil {
			found = append(found, name)
		}
	}
	return found, nil
}

// same compares values whatever their spaces and the order of their names.
func same(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// JSON returns the contract as one object, in the order of its names.
func (o Outputs) JSON() []byte {
	b, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		panic(err) // every value was read from JSON
	}
	return append(b, '\n')
}

// GitHub returns a line for each name, as GitHub's jobs read outputs of a step: texts as they are, and
// anything else as JSON on one line, for fromJSON.
func (o Outputs) GitHub() []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(o)) {
		var text string
		if json.Unmarshal(o[name], &text) != nil {
			var compact bytes.Buffer
			if err := json.Compact(&compact, o[name]); err != nil {
				panic(err) // every value was read from JSON
			}
			text = compact.String()
		}
		fmt.Fprintf(&b, "%s=%s\n", name, text)
	}
	return b.Bytes()
}
