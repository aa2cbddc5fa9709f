package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// Create creates an object, unless AWS would refuse it.
func (w *World) Create(place aws.Place, urn resource.URN, known *schema.Resource, inputs resource.PropertyMap) (*Object, error) {
	place.VPCOf = w.vpcOf
	o := &Object{Object: aws.Object{Type: known.Token, Inputs: inputs}, URN: string(urn)}
	return o, w.locked(func() error {
		if err := w.refuseReferences(slices.Concat(aws.References, aws.Origins), o.Type, inputs); err != nil {
			return err
		}
		if o.Type == aws.Subnet {
			if err := w.refuseSubnet(inputs); err != nil {
				return err
			}
		}
		if err := w.refuseEKS(o.Type, nil, inputs); err != nil {
			return err
		}
		if err := errors.Join(refuseRDS(o.Type, nil, inputs), w.refuseCopy(o.Type, inputs)); err != nil {
			return err
		}
		if err := w.refusePlacement(o.Type, inputs); err != nil {
			return err
		}
		if err := w.refuseKeys(place, o.Object); err != nil {
			return err
		}
		if err := w.refuseQuotas(place, o.ID, o.Object); err != nil {
			return err
		}
		if o.Type == aws.Record {
			if err := w.refuseRecord(inputs); err != nil {
				return err
			}
		}
		if err := w.identify(place, o); err != nil {
			return err
		}
		o.Outputs = aws.Created(place, o.Object, known)
		if err := w.putMasterSecret(o); err != nil {
			return err
		}
		return w.put(o)
	})
}

// maxTwins ends the search for a free id.
const maxTwins = 100

// identify gives a new object its id and seed. The seed derives from the URN, the inputs
// and the number of such objects that exist, so that a plan is the same on every run.
func (w *World) identify(place aws.Place, o *Object) error {
	ids, uniques, err := w.taken(o.Type)
	if err != nil {
		return err
	}
	inputs, err := canonical(o.Inputs)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		o.Seed = aws.Digest(o.URN, inputs, fmt.Sprint(n))
		if o.ID, o.Unique, err = aws.Identify(place, o.Object); err != nil {
			return err
		}
		if other := uniques[o.Unique]; o.Unique != "" && other != nil {
			return conflict(o.Type, o.Unique, other)
		}
		other := ids[o.ID]
		if other == nil {
			return nil
		}
		if !aws.GeneratesID(o.Type) || n > maxTwins {
			return conflict(o.Type, o.ID, other)
		}
	}
}

// taken are the objects of a type, by id and by what is unique.
func (w *World) taken(token string) (ids, uniques map[string]*Object, err error) {
	all, err := w.All(token)
	ids, uniques = map[string]*Object{}, map[string]*Object{}
	for _, o := range all {
		ids[o.ID], uniques[o.Unique] = o, o
	}
	return ids, uniques, err
}

// canonical is a text that equal inputs share.
func canonical(inputs resource.PropertyMap) (string, error) {
	s, err := value.Marshal("seed", value.PlainMap(value.Public(inputs)))
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(s.AsMap()) // sorts keys
	return string(b), err
}

func conflict(token, name string, other *Object) error {
	return status.Errorf(codes.AlreadyExists, "%s: %s exists already: %s (%s)", aws.ExistsError(token), name, other.ID, other.URN)
}

// Update changes the inputs of an object. The outputs in old are those of Pulumi's state.
func (w *World) Update(
	place aws.Place, urn resource.URN, id string, known *schema.Resource, old, inputs resource.PropertyMap,
) (*Object, error) {
	place.VPCOf = w.vpcOf
	o := &Object{Object: aws.Object{Type: known.Token, ID: id, Inputs: inputs}, URN: string(urn)}
	return o, w.locked(func() error {
		before, err := w.Get(o.Type, id)
		if err != nil {
			return err
		}
		if before == nil {
			return status.Errorf(codes.NotFound, "NotFound: %s %s does not exist any more: refresh", o.Type, id)
		}
		if err := w.refuseEKS(o.Type, before.Inputs, inputs); err != nil {
			return err
		}
		if err := refuseRDS(o.Type, before.Inputs, inputs); err != nil {
			return err
		}
		o.Seed = before.Seed
		o.Unique = aws.Unique(place, o.Object)
		_, uniques, err := w.taken(o.Type)
		if err != nil {
			return err
		}
		if other := uniques[o.Unique]; o.Unique != "" && other != nil && other.ID != id {
			return conflict(o.Type, o.Unique, other)
		}
		// A subnet's block cannot change, and would overlap itself.
		if o.Type != aws.Subnet {
			if err := w.refuseReferences(aws.References, o.Type, inputs); err != nil {
				return err
			}
		}
		if err := w.refuseKeys(place, o.Object); err != nil {
			return err
		}
		if err := w.refuseQuotas(place, o.ID, o.Object); err != nil {
			return err
		}
		o.Outputs = aws.Updated(place, o.Object, old, known)
		return w.put(o)
	})
}

// Delete removes an object, unless AWS would refuse it. One that does not exist is
// deleted already, as for pulumi-aws.
func (w *World) Delete(token, id string) error {
	return w.locked(func() error {
		o, err := w.Get(token, id)
		if err != nil || o == nil {
			return err
		}
		if err := w.refuseDelete(o); err != nil {
			return err
		}
		if o.Type == aws.Instance {
			if err := errors.Join(w.takeFinalSnapshot(o), w.remove(aws.Secret, masterSecret(o))); err != nil {
				return err
			}
		}
		return w.remove(token, o.ID)
	})
}

// vpcOf returns the VPC of an existing subnet, otherwise "".
func (w *World) vpcOf(subnet string) string {
	s, err := w.Get(aws.Subnet, subnet)
	if err != nil || s == nil {
		return ""
	}
	return value.Text(s.Inputs, "vpcId")
}

// Names returns the values that the objects of a type have in a property.
func (w *World) Names(token, property string) (map[string]bool, error) {
	all, err := w.All(token)
	names := map[string]bool{}
	for _, o := range all {
		names[value.Text(o.Inputs, property)] = true
	}
	return names, err
}
