// Package schema knows what pulumi-aws's resource types and functions accept. It reads this
// from the Go sources of the SDK with which the program is compiled, so that the two cannot
// differ.
package schema

// A Kind is what a property's value must be.
type Kind int

// The kinds of the SDK's plain Go types.
const (
	Any Kind = iota // interface{}: a string, or an object that becomes JSON
	String
	Integer
	Number
	Boolean
	List
	Map
	Nested
	File // an asset or archive
)

func (k Kind) String() string {
	return [...]string{
		"any value", "a string", "a whole number", "a number", "a boolean", "a list", "a map", "an object", "an asset or archive",
	}[k]
}

// A Type is the type of a property. Fields of an object are read on demand,
// since objects refer to each other.
type Type struct {
	Kind   Kind
	Elem   *Type // of a list or map
	object *object
}

type object struct {
	source *Source
	pkg    string
	name   string
}

// A Field is one property of a resource, function or nested object.
type Field struct {
	Type     *Type
	Optional bool // for a nested object: the Go field is a pointer, list or map
	Computed bool // for a resource's output: always set, though it may not be an input
}

// Name of an object's type.
func (t *Type) Name() string { return t.object.name }

// Fields of an object, by property.
func (t *Type) Fields() (map[string]Field, error) {
	if t.object == nil {
		return nil, nil
	}
	return t.object.source.structOf(t.object.pkg, t.object.name)
}

// A Resource is what is known of a resource type.
type Resource struct {
	Token         string
	Inputs        map[string]Field
	Required      []string
	Outputs       map[string]Field // of the state, inputs among them
	SecretOutputs []string
}

// A Function is what is known of a function.
type Function struct {
	Token  string
	Inputs map[string]Field
}
