package aws

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// Created returns the outputs of a new object.
func Created(place Place, o Object, known *schema.Resource) resource.PropertyMap {
	return (&rendering{place: place, object: o}).outputs(known)
}

// Planned returns the outputs of an object that a preview would create: what AWS assigns
// is unknown.
func Planned(place Place, o Object, known *schema.Resource) resource.PropertyMap {
	return (&rendering{place: place, object: o, preview: true}).outputs(known)
}

// Updated returns the outputs of an object that had others before its inputs changed.
func Updated(place Place, o Object, old resource.PropertyMap, known *schema.Resource) resource.PropertyMap {
	return (&rendering{place: place, object: o, update: true, old: old}).outputs(known)
}

// PlannedUpdate returns the outputs that a preview of an update shows: new inputs over old
// outputs.
func PlannedUpdate(known *schema.Resource, old, inputs resource.PropertyMap) resource.PropertyMap {
	out := old.Copy()
	for name := range known.Inputs {
		key := resource.PropertyKey(name)
		if _, given := inputs[key]; !given && !known.Outputs[name].Computed {
			delete(out, key)
		}
	}
	for k, v := range value.Public(inputs) {
		// What AWS adds to a nested object stays.
		was := value.Unmarked(out[k])
		if was.IsObject() && value.Unmarked(v).IsObject() && !v.IsSecret() && k != "tags" && k != "tagsAll" {
			merged := was.ObjectValue().Copy()
			maps.Copy(merged, v.ObjectValue())
			v = resource.NewProperty(merged)
		}
		out[k] = v
	}
	if known.Token == LaunchTemplate {
		out["latestVersion"] = value.Unknown()
	}
	return out
}

func (r *rendering) outputs(known *schema.Resource) resource.PropertyMap {
	t := types[r.object.Type]
	r.out = r.carriedOver(known)
	if r.preview {
		for name := range known.Outputs {
			if r.assigned(known, name) {
				r.out[resource.PropertyKey(name)] = value.Unknown()
			}
		}
	} else {
		r.renderARN(known)
		r.renderOutputs(known)
		for name, field := range known.Outputs {
			if v, ok := zero(field.Type); ok && r.assigned(known, name) {
				r.out[resource.PropertyKey(name)] = v
			}
		}
	}
	if t.answer != nil {
		t.answer(r)
	}
	for _, name := range known.SecretOutputs {
		key := resource.PropertyKey(name)
		if v, ok := r.out[key]; ok && !v.IsSecret() && !v.IsNull() {
			r.out[key] = resource.MakeSecret(v)
		}
	}
	return r.out
}

// carriedOver are the inputs, over the old outputs that an update keeps: those that the
// program cannot set, or did not set and AWS assigned.
func (r *rendering) carriedOver(known *schema.Resource) resource.PropertyMap {
	out := resource.PropertyMap{}
	for k, v := range r.old {
		if _, input := known.Inputs[string(k)]; !input || known.Outputs[string(k)].Computed {
			out[k] = v
		}
	}
	maps.Copy(out, value.Public(r.object.Inputs))
	return out
}

// assigned reports whether AWS assigns an output, and it has no value yet.
func (r *rendering) assigned(known *schema.Resource, name string) bool {
	_, set := r.out[resource.PropertyKey(name)]
	_, input := known.Inputs[name]
	return !set && (!input || known.Outputs[name].Computed)
}

func (r *rendering) renderARN(known *schema.Resource) {
	t, ok := types[r.object.Type]
	arn := t.arn
	if !ok {
		arn = "arn:{partition}:" + module(r.object.Type) + ":{region}:{account}:" + lowerName(r.object.Type) + "/{id}"
	}
	_, has := known.Outputs["arn"]
	if _, given := r.object.Inputs["arn"]; has && !given && arn != "" {
		r.out["arn"] = r.text(arn)
	}
}

// module of a token: ec2 of aws:ec2/vpc:Vpc.
func module(token string) string {
	module, _, _ := strings.Cut(strings.Split(token, ":")[1], "/")
	return module
}

// lowerName is a token's last part in lower case: vpc of aws:ec2/vpc:Vpc.
func lowerName(token string) string { return strings.ToLower(token[strings.LastIndex(token, ":")+1:]) }

// renderOutputs fills the templates of the outputs that the program did not set.
func (r *rendering) renderOutputs(known *schema.Resource) {
	templates := types[r.object.Type].outputs
	for _, name := range renderOrder(templates) {
		key := resource.PropertyKey(name)
		if _, given := r.object.Inputs[key]; !given {
			r.out[key] = typed(r.expand(templates[name]), known.Outputs[name].Type)
		}
	}
}

var templateName = regexp.MustCompile(`\{([A-Za-z0-9]+)`)

// renderOrder sorts outputs so that each comes after those that its template names, and
// otherwise by name.
func renderOrder(templates map[string]string) []string {
	var order []string
	visited := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if _, ok := templates[name]; !ok || visited[name] {
			return
		}
		visited[name] = true
		for _, match := range templateName.FindAllStringSubmatch(templates[name], -1) {
			visit(match[1])
		}
		order = append(order, name)
	}
	for _, name := range slices.Sorted(maps.Keys(templates)) {
		visit(name)
	}
	return order
}

// typed gives a template's result the type of its property.
func typed(s string, t *schema.Type) resource.PropertyValue {
	if t != nil {
		switch t.Kind {
		case schema.Integer, schema.Number:
			if n, err := strconv.ParseFloat(s, 64); err == nil {
				return resource.NewProperty(n)
			}
		case schema.Boolean:
			return resource.NewProperty(s == "true")
		}
	}
	return resource.NewProperty(s)
}

// zero is the empty value of a property of which nothing is known. Objects have none.
func zero(t *schema.Type) (resource.PropertyValue, bool) {
	switch t.Kind {
	case schema.String:
		return resource.NewProperty(""), true
	case schema.Integer, schema.Number:
		return resource.NewProperty(0.0), true
	case schema.Boolean:
		return resource.NewProperty(false), true
	case schema.List:
		return value.List(), true
	case schema.Map:
		return resource.NewProperty(resource.PropertyMap{}), true
	}
	return resource.PropertyValue{}, false
}
