// Package adopt takes over what exists in an account before Pulumi knows it, such as a log group
// that an earlier environment left behind.
package adopt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Adoption knows which of the named resources the program has registered.
type Adoption struct {
	key string
	ids map[string]string

	mutex sync.Mutex
	found map[string]bool
}

// Existing imports resources instead of creating them. ids maps the name of a resource of the
// program to its id in AWS; the engine reads the object and then updates it to what the program
// declares. For a resource that the state has already, the same id changes nothing, and another
// one replaces it. key is the configuration key of ids, for errors. Call Existing before the
// first resource. It reaches AWS resources of this process, not children of a packaged component.
func Existing(ctx *pulumi.Context, key string, ids map[string]string) (*Adoption, error) {
	a := &Adoption{key: key, ids: ids, found: map[string]bool{}}
	if len(ids) == 0 {
		return a, nil
	}
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		if ids[name] == "" {
			return nil, fmt.Errorf("%s.%s is empty: use the id in AWS, as pulumi import does", key, name)
		}
	}
	if err := ctx.RegisterStackTransformation(a.transform); err != nil {
		return nil, fmt.Errorf("registering %s: %w", key, err)
	}
	return a, nil
}

func (a *Adoption) transform(args *pulumi.ResourceTransformationArgs) *pulumi.ResourceTransformationResult {
	id := a.ids[args.Name]
	if id == "" || !strings.HasPrefix(args.Type, "aws:") {
		return nil
	}
	a.mutex.Lock()
	a.found[args.Name] = true
	a.mutex.Unlock()
	return &pulumi.ResourceTransformationResult{Props: args.Props, Opts: append(args.Opts, pulumi.Import(pulumi.ID(id)))}
}

// Unmatched returns an error for each name that no registered resource has. Call it after the
// last resource.
func (a *Adoption) Unmatched() error {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.ids)) {
		if !a.found[name] {
			errs = append(errs, fmt.Errorf("%s.%s: no AWS resource of this program has this name; pulumi preview prints the names", a.key, name))
		}
	}
	return errors.Join(errs...)
}
