package plugin

import (
	"context"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

// Create creates an object in the world; a preview returns what it would look like.
func (p *Provider) Create(_ context.Context, req *pulumirpc.CreateRequest) (*pulumirpc.CreateResponse, error) {
	urn := resource.URN(req.GetUrn())
	known, err := p.known(string(urn.Type()))
	if err != nil {
		return nil, err
	}
	inputs, err := value.Unmarshal("inputs", req.GetProperties())
	if err != nil {
		return nil, err
	}
	place := p.configured().place()
	operation := aws.Create
	if aws.Restored(known.Token, inputs) {
		operation = aws.Restore
	}
	if err := p.permit(aws.Request{Type: known.Token, Operation: operation, Inputs: inputs}, ""); err != nil {
		return nil, err
	}
	if req.GetPreview() {
		planned := aws.Planned(place, aws.Object{Type: known.Token, Inputs: inputs}, known)
		outputs, err := value.Marshal("outputs", planned)
		return &pulumirpc.CreateResponse{Properties: outputs}, err
	}
	w, err := world.Open()
	if err != nil {
		return nil, err
	}
	o, err := w.Create(place, urn, known, inputs)
	if err != nil {
		return nil, err
	}
	outputs, err := value.Marshal("outputs", o.Outputs)
	return &pulumirpc.CreateResponse{Id: o.ID, Properties: outputs}, err
}

// Update changes an object of the world; a preview returns what it would look like.
func (p *Provider) Update(_ context.Context, req *pulumirpc.UpdateRequest) (*pulumirpc.UpdateResponse, error) {
	urn := resource.URN(req.GetUrn())
	known, err := p.known(string(urn.Type()))
	if err != nil {
		return nil, err
	}
	olds, err := value.Unmarshal("olds", req.GetOlds())
	if err != nil {
		return nil, err
	}
	news, err := value.Unmarshal("news", req.GetNews())
	if err != nil {
		return nil, err
	}
	if err := p.permit(aws.Request{Type: known.Token, Operation: aws.Update, Inputs: news}, req.GetId()); err != nil {
		return nil, err
	}
	if req.GetPreview() {
		outputs, err := value.Marshal("outputs", aws.PlannedUpdate(known, olds, news))
		return &pulumirpc.UpdateResponse{Properties: outputs}, err
	}
	w, err := world.Open()
	if err != nil {
		return nil, err
	}
	o, err := w.Update(p.configured().place(), urn, req.GetId(), known, olds, news)
	if err != nil {
		return nil, err
	}
	outputs, err := value.Marshal("outputs", o.Outputs)
	return &pulumirpc.UpdateResponse{Properties: outputs}, err
}

// Delete removes an object from the world, unless AWS would refuse it.
func (p *Provider) Delete(_ context.Context, req *pulumirpc.DeleteRequest) (*emptypb.Empty, error) {
	w, err := world.Open()
	if err != nil {
		return nil, err
	}
	token := string(resource.URN(req.GetUrn()).Type())
	olds, err := value.Unmarshal("olds", firstStruct(req.GetOldInputs(), req.GetProperties()))
	if err != nil {
		return nil, err
	}
	if err := p.permit(aws.Request{Type: token, Operation: aws.Delete, Inputs: olds}, req.GetId()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, w.Delete(token, req.GetId())
}

// Read finds an object of the world; the response for one that is gone has no id.
func (p *Provider) Read(_ context.Context, req *pulumirpc.ReadRequest) (*pulumirpc.ReadResponse, error) {
	token := string(resource.URN(req.GetUrn()).Type())
	if _, err := p.known(token); err != nil {
		return nil, err
	}
	w, err := world.Open()
	if err != nil {
		return nil, err
	}
	if err := p.permit(aws.Request{Type: token, Operation: aws.Read}, req.GetId()); err != nil {
		return nil, err
	}
	o, err := w.Get(token, req.GetId())
	if err != nil {
		return nil, err
	}
	if o == nil {
		return &pulumirpc.ReadResponse{}, nil
	}
	inputs, err := value.Marshal("inputs", o.Inputs)
	if err != nil {
		return nil, err
	}
	outputs, err := value.Marshal("outputs", o.Outputs)
	return &pulumirpc.ReadResponse{Id: o.ID, Inputs: inputs, Properties: outputs}, err
}

// permit refuses an operation that the calling role may not perform, in a preview too. The id is that
// of the object, if it exists.
func (p *Provider) permit(r aws.Request, id string) error {
	if world.Caller() == "" {
		return nil
	}
	permit, err := p.permissions()
	if err != nil {
		return err
	}
	w, err := world.Open()
	if err != nil {
		return err
	}
	r.Place, r.Find = p.configured().place(), w.Find
	if id != "" {
		r.Before = w.Outputs(r.Type, id)
	}
	return permit.Refuse(r)
}
