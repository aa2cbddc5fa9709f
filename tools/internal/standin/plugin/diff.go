package plugin

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	sdkplugin "github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// Diff plans what a change of inputs does, by the tables of package aws.
func (p *Provider) Diff(ctx context.Context, req *pulumirpc.DiffRequest) (*pulumirpc.DiffResponse, error) {
	token := string(resource.URN(req.GetUrn()).Type())
	known, err := p.known(token)
	if err != nil {
		return nil, err
	}
	olds, news, err := changedInputs(req)
	if err != nil {
		return nil, err
	}
	d := value.Public(value.PlainMap(olds)).Diff(value.Public(value.PlainMap(news)))
	response, uncertain := planned(token, d, req.GetIgnoreChanges())
	response.DeleteBeforeReplace = len(response.Replaces) > 0 && aws.DeleteFirst(p.configured().place(), known, olds, news)
	if len(uncertain) > 0 {
		p.info(ctx, req.GetUrn(),
			"the stand-in does not know whether a change of %s replaces: planned as a replacement, it may be an update",
			strings.Join(uncertain, ", "))
	}
	return response, nil
}

// planned returns what a change does, and the paths of which no table says what they do.
func planned(token string, d *resource.ObjectDiff, ignore []string) (response *pulumirpc.DiffResponse, uncertain []string) {
	response = &pulumirpc.DiffResponse{
		Changes: pulumirpc.DiffResponse_DIFF_NONE, HasDetailedDiff: true, DetailedDiff: map[string]*pulumirpc.PropertyDiff{},
	}
	if d == nil {
		return response, nil
	}
	changed, replaced := map[string]bool{}, map[string]bool{}
	for path, change := range sdkplugin.NewDetailedDiffFromObjectDiff(d, true) {
		root := rootOf(path)
		if slices.Contains(ignore, path) || slices.Contains(ignore, root) {
			continue
		}
		changed[root] = true
		kind := change.Kind
		effect := aws.EffectOf(token, path)
		if effect != aws.Updates {
			kind = kind.AsReplace()
			replaced[root] = true
		}
		if effect == aws.MayReplace {
			uncertain = append(uncertain, path)
		}
		response.DetailedDiff[path] = &pulumirpc.PropertyDiff{Kind: protoKind(kind), InputDiff: true}
	}
	if len(changed) > 0 {
		response.Changes = pulumirpc.DiffResponse_DIFF_SOME
	}
	response.Diffs = slices.Sorted(maps.Keys(changed))
	response.Replaces = slices.Sorted(maps.Keys(replaced))
	slices.Sort(uncertain)
	return response, uncertain
}

func rootOf(path string) string {
	if i := strings.IndexAny(path, ".["); i > 0 {
		return path[:i]
	}
	return path
}

func protoKind(k sdkplugin.DiffKind) pulumirpc.PropertyDiff_Kind {
	switch k {
	case sdkplugin.DiffAdd:
		return pulumirpc.PropertyDiff_ADD
	case sdkplugin.DiffAddReplace:
		return pulumirpc.PropertyDiff_ADD_REPLACE
	case sdkplugin.DiffDelete:
		return pulumirpc.PropertyDiff_DELETE
	case sdkplugin.DiffDeleteReplace:
		return pulumirpc.PropertyDiff_DELETE_REPLACE
	case sdkplugin.DiffUpdateReplace:
		return pulumirpc.PropertyDiff_UPDATE_REPLACE
	}
	return pulumirpc.PropertyDiff_UPDATE
}
