// Package infratest runs Pulumi programs against recording mocks and reports what Pulumi's
// mocks accept: resources outside their component, URNs that are used twice, objects that
// changed unnoticed.
//
// It is not internal, because the tests of the module stacks use it too.
package infratest

import (
	"bytes"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/kube"
)

const (
	project = "loja-veloz"
	stack   = "test"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Update says whether the tests rewrite what is generated, by the flag -update.
func Update() bool { return *update }

// Resource is what a program registered.
type Resource struct {
	URN, Parent, Type, Name string
	// Component is true for a component, which has no object in a cloud or cluster.
	Component bool
	// Protect is true if Pulumi refuses to delete or to replace the resource, and Retain if it leaves
	// the object where it is when the program no longer declares it.
	Protect, Retain bool
	Inputs          map[string]any
	// DependsOn are URNs.
	DependsOn     []string
	IgnoreChanges []string
	// Aliases are the names under which the resource was registered earlier.
	Aliases  []string
	Provider string
}

// Recorder keeps every registration of a program, in order.
type Recorder struct {
	mu        sync.Mutex
	resources []Resource
}

// Run runs a program, as a preview or as an update, and returns what it
// registered together with its error.
func Run(preview bool, program pulumi.RunFunc) (*Recorder, error) {
	r := &Recorder{}
	return r, RunWith(preview, r, program)
}

// RunWith runs a program against mocks that answer some calls themselves and pass the others to
// a Recorder.
func RunWith(preview bool, mocks pulumi.MockResourceMonitor, program pulumi.RunFunc) error {
	return pulumi.RunErr(program, pulumi.WithMocks(project, stack, mocks), func(info *pulumi.RunInfo) { info.DryRun = preview })
}

// Registered waits until a resource is registered: registration continues in the background,
// and a reference to a resource by its name does not wait for it.
func Registered(r pulumi.Resource) {
	done := make(chan struct{})
	r.URN().ApplyT(func(pulumi.URN) bool {
		close(done)
		return true
	})
	<-done
}

// NewResource records a registration. Pulumi calls it.
func (r *Recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	rpc := args.RegisterRPC
	parentType := tokens.Type("")
	if parent := resource.URN(rpc.GetParent()); parent != "" && parent.QualifiedType() != resource.RootStackType {
		parentType = parent.QualifiedType()
	}
	var aliases []string
	for _, alias := range rpc.GetAliases() {
		aliases = append(aliases, alias.GetSpec().GetName())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resources = append(r.resources, Resource{
		URN:    string(resource.NewURN(stack, project, parentType, tokens.Type(args.TypeToken), args.Name)),
		Parent: rpc.GetParent(), Type: args.TypeToken, Name: args.Name,
		Component: !args.Custom, Protect: rpc.GetProtect(), Retain: rpc.GetRetainOnDelete(),
		Inputs:    args.Inputs.Mappable(),
		DependsOn: rpc.GetDependencies(), IgnoreChanges: rpc.GetIgnoreChanges(), Provider: rpc.GetProvider(),
		Aliases: aliases,
	})
	return args.Name + "-id", args.Inputs, nil
}

// Call refuses every function: the platform's programs call none.
func (r *Recorder) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	return nil, fmt.Errorf("the program calls %s: its plan would depend on the answer", args.Token)
}

// Resources returns the registrations in order.
func (r *Recorder) Resources() []Resource {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.resources)
}

// Named returns the resource with this name. It fails the test if there is none.
func (r *Recorder) Named(t testing.TB, name string) Resource {
	t.Helper()
	var names []string
	for _, found := range r.Resources() {
		if found.Name == name {
			return found
		}
		names = append(names, found.Name)
	}
	t.Fatalf("no resource is called %s; there are %s", name, strings.Join(names, ", "))
	return Resource{}
}

// Waits tells whether the resource called name is created only after the one called before,
// directly or by a chain of dependencies.
func (r *Recorder) Waits(t testing.TB, name, before string) bool {
	t.Helper()
	dependsOn := map[string][]string{}
	for _, found := range r.Resources() {
		dependsOn[found.URN] = found.DependsOn
	}
	target, seen := r.Named(t, before).URN, map[string]bool{}
	next := r.Named(t, name).DependsOn
	for len(next) > 0 {
		urn := next[0]
		next = next[1:]
		if urn == target {
			return true
		}
		if !seen[urn] {
			seen[urn] = true
			next = append(next, dependsOn[urn]...)
		}
	}
	return false
}

// InOrder fails the test for every resource, a key of needed, that does not wait for each of the
// resources in its value.
func (r *Recorder) InOrder(t testing.TB, needed map[string][]string) {
	t.Helper()
	for name, all := range needed {
		for _, before := range all {
			if !r.Waits(t, name, before) {
				t.Errorf("%s does not wait for %s", name, before)
			}
		}
	}
}

// Deploy registers a program's resources as an update does, and returns them. It fails the test
// on an error, and if the resources are not well formed.
func Deploy(t testing.TB, program pulumi.RunFunc) *Recorder {
	t.Helper()
	recorder, err := Run(false, program)
	if err != nil {
		t.Fatal(err)
	}
	recorder.WellFormed(t)
	return recorder
}

// Refused fails the test for every text that err does not contain.
func Refused(t testing.TB, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("want %q in %v", text, err)
		}
	}
}

// Orphans returns every resource that no component contains. Components and providers may be at
// the root.
func (r *Recorder) Orphans() []string {
	all := r.Resources()
	components := map[string]bool{}
	for _, found := range all {
		components[found.URN] = found.Component
	}
	var orphans []string
	for _, found := range all {
		if found.Component || strings.HasPrefix(found.Type, "pulumi:providers:") || components[found.Parent] {
			continue
		}
		orphans = append(orphans, found.URN)
	}
	return orphans
}

// Duplicates returns every URN that was registered more than once.
func (r *Recorder) Duplicates() []string {
	seen := map[string]int{}
	for _, found := range r.Resources() {
		seen[found.URN]++
	}
	var duplicates []string
	for urn, times := range seen {
		if times > 1 {
			duplicates = append(duplicates, fmt.Sprintf("%s (%d times)", urn, times))
		}
	}
	slices.Sort(duplicates)
	return duplicates
}

// WellFormed fails the test with every orphan and every duplicate at once.
func (r *Recorder) WellFormed(t testing.TB) {
	t.Helper()
	if orphans := r.Orphans(); len(orphans) > 0 {
		t.Errorf("resources outside any component:\n  %s", strings.Join(orphans, "\n  "))
	}
	if duplicates := r.Duplicates(); len(duplicates) > 0 {
		t.Errorf("URNs registered more than once:\n  %s", strings.Join(duplicates, "\n  "))
	}
}

// Golden compares manifests, as YAML, with testdata/<name>.yaml; with -update it writes the
// file. CustomResourceDefinitions are omitted: they are files already.
func Golden(t testing.TB, name string, manifests []kube.Manifest) {
	t.Helper()
	var got bytes.Buffer
	for _, m := range manifests {
		fields, err := kube.Encode(m.Object)
		if err != nil {
			t.Fatalf("encoding %s: %v", m.Name, err)
		}
		if fields["kind"] == "CustomResourceDefinition" {
			continue
		}
		document, err := yaml.Marshal(fields)
		if err != nil {
			t.Fatalf("writing %s as YAML: %v", m.Name, err)
		}
		fmt.Fprintf(&got, "---\n# %s", m.Name)
		if len(m.IgnoreChanges) > 0 {
			fmt.Fprintf(&got, ", ignoring changes of %s", strings.Join(m.IgnoreChanges, ", "))
		}
		fmt.Fprintf(&got, "\n%s", document)
	}
	golden(t, filepath.Join("testdata", name+".yaml"), got.String())
}

// firstDifference returns the number of the first line that differs, or 0.
func firstDifference(want, got string) (line int, a, b string) {
	wantLines, gotLines := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(wantLines), len(gotLines)) {
		a, b = "", ""
		if i < len(wantLines) {
			a = wantLines[i]
		}
		if i < len(gotLines) {
			b = gotLines[i]
		}
		if a != b || i >= len(wantLines) || i >= len(gotLines) {
			return i + 1, a, b
		}
	}
	return 0, "", ""
}
