package kube

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	corev1 "k8s.io/api/core/v1"

	"github.com/loja-veloz/platform/infra/charts"
	"github.com/loja-veloz/platform/infra/component"

	"github.com/loja-veloz/platform/infra/validate"
)

// releaseToken is the type of pulumi-kubernetes' Helm Release. Its Go package is not imported:
// with all API groups it takes 600 CPU seconds to compile.
const releaseToken = "kubernetes:helm.sh/v3:Release"

// Release is one installation of a chart. The properties are those of
// pulumi-kubernetes' kubernetes:helm.sh/v3:Release.
type Release struct {
	// Name and Namespace are those of the release. Charts name their objects after it.
	Name, Namespace string
	Chart           charts.Chart
	// Repository replaces the chart's own: the URL of a mirror (https:// or oci://), or a folder
	// with <chart>-<version>.tgz files. Empty uses the chart's own.
	Repository string
	// Values is a struct with JSON tags; its fields are all that is sent. It must not contain
	// secrets: Helm stores values in plain text in the cluster.
	Values any
	// Overlays set values to Inputs, for outputs of other resources. Paths begin below values.
	Overlays []Overlay
	// Atomic rolls a failed installation or upgrade back.
	Atomic bool
	// With SkipAwait an update does not wait until the chart's objects are ready.
	SkipAwait bool
	// TimeoutSeconds is how long the chart's objects may take to become ready; 0 is Helm's
	// default, 300.
	TimeoutSeconds int
	// MaxHistory is how many old revisions Helm keeps, each a Secret; 0 keeps all.
	MaxHistory int
}

// HelmRelease is a Release in Pulumi's state.
type HelmRelease struct {
	pulumi.CustomResourceState
}

// Validate reports everything that is wrong with the release, one error per line.
func (r *Release) Validate() error {
	var errs validate.Errors
	errs.Required("Name", r.Name)
	if len(r.Name) > 53 {
		errs.Add("Name", "has %d characters: Helm takes at most 53", len(r.Name))
	}
	errs.Required("Namespace", r.Namespace)
	if r.Chart.Name == "" || r.Chart.Version == "" {
		errs.Add("Chart", "is %q at version %q: both are needed", r.Chart.Name, r.Chart.Version)
	}
	if err := ValidRepository(r.Repository); err != nil {
		errs.Add("Repository", "%s", err)
	}
	if r.Repository == "" && r.Chart.Repository == "" {
		errs.Add("Repository", "is empty, and the chart has none")
	}
	if r.TimeoutSeconds < 0 {
		errs.Add("TimeoutSeconds", "is %d: use 0 or more", r.TimeoutSeconds)
	}
	return errs.Err()
}

// ValidRepository accepts an empty string, a folder, and a URL with https:// or oci:// and
// without credentials.
func ValidRepository(repository string) error {
	scheme, rest, isURL := strings.Cut(repository, "://")
	if !isURL {
		return nil
	}
	if scheme != "https" && scheme != "oci" {
		return fmt.Errorf("is %q: use https://, oci:// or a folder", repository)
	}
	if u, err := url.Parse(repository); err != nil || u.Host == "" || rest == "" || u.User != nil {
		return fmt.Errorf("is %q: use a URL with a host and without credentials", repository)
	}
	return nil
}

// source returns the chart as Helm finds it, and its repository, which may be empty.
func (r *Release) source() (chart, repository string) {
	switch {
	case r.Repository == "":
		return r.Chart.Name, r.Chart.Repository
	case strings.HasPrefix(r.Repository, "oci://"):
		return strings.TrimSuffix(r.Repository, "/") + "/" + r.Chart.Name, ""
	case strings.Contains(r.Repository, "://"):
		return r.Chart.Name, r.Repository
	}
	folder := r.Repository
	relative := strings.HasPrefix(folder, "./") // path.Join drops it, and Helm would read the rest as a repository's name
	file := path.Join(folder, r.Chart.Name+"-"+r.Chart.Version+".tgz")
	if relative {
		file = "./" + file
	}
	return file, ""
}

// PlainValues returns the values as Helm gets them, without the overlays.
func (r *Release) PlainValues() (map[string]any, error) {
	values := map[string]any{}
	if r.Values == nil {
		return values, nil
	}
	raw, err := json.Marshal(r.Values)
	if err != nil {
		return nil, fmt.Errorf("encoding the values of release %s: %w", r.Name, err)
	}
	if err := json.Unmarshal(raw, &values); err != nil {
		return nil, fmt.Errorf("the values of release %s are not a map: %w", r.Name, err)
	}
	dropNulls(values)
	return values, nil
}

// RenderedValues returns the values with a placeholder for every overlay, for golden files and
// schemas: an Input cannot be read before the program runs.
func (r *Release) RenderedValues() (map[string]any, error) {
	values, err := r.PlainValues()
	if err != nil {
		return nil, err
	}
	for _, overlay := range r.Overlays {
		if err := (Overlay{Path: overlay.Path, Value: pulumi.String("(known after another resource)")}).lay(values); err != nil {
			return nil, fmt.Errorf("release %s: %w", r.Name, err)
		}
	}
	plain := *r
	plain.Values = values
	return plain.PlainValues() // encoding them again turns pulumi.Strings into strings
}

// properties returns the resource's inputs.
func (r *Release) properties() (properties, error) {
	values, err := r.PlainValues()
	if err != nil {
		return nil, err
	}
	for _, overlay := range r.Overlays {
		if err := overlay.lay(values); err != nil {
			return nil, fmt.Errorf("release %s: %w", r.Name, err)
		}
	}
	chart, repository := r.source()
	fields := properties{
		"chart": chart, "version": r.Chart.Version,
		"name": r.Name, "namespace": r.Namespace,
		"values": values,
	}
	if repository != "" {
		fields["repositoryOpts"] = map[string]any{"repo": repository}
	}
	for key, set := range map[string]bool{"atomic": r.Atomic, "skipAwait": r.SkipAwait} {
		if set {
			fields[key] = true
		}
	}
	if r.TimeoutSeconds > 0 {
		fields["timeout"] = r.TimeoutSeconds
	}
	if r.MaxHistory > 0 {
		fields["maxHistory"] = r.MaxHistory
	}
	return fields, nil
}

// Install registers a release as a Pulumi resource called name. Errors name the
// release and what is wrong with it.
func Install(ctx *pulumi.Context, name string, release *Release, opts ...pulumi.ResourceOption) (*HelmRelease, error) {
	if err := release.Validate(); err != nil {
		return nil, fmt.Errorf("release %s: %w", name, err)
	}
	fields, err := release.properties()
	if err != nil {
		return nil, err
	}
	resource := &HelmRelease{}
	if err := ctx.RegisterResource(releaseToken, name, fields, resource, opts...); err != nil {
		return nil, fmt.Errorf("registering release %s: %w", name, err)
	}
	return resource, nil
}

// Installation is what a component that installs a chart consists of: objects that have to
// exist first, such as the namespace; the release; and objects of kinds that the release
// defines.
type Installation struct {
	Before  Stages
	Release *Release
	After   Stages
}

// Objects returns all objects in order, without the release.
func (i *Installation) Objects() []Manifest { return append(i.Before.All(), i.After.All()...) }

// NewChart registers a component that consists of an Installation: the component itself, and
// its parts as its children. Errors begin with what the component is and its name.
func NewChart(ctx *pulumi.Context, what, token, name string, c owner,
	installation func() (*Installation, error), opts []pulumi.ResourceOption) (*HelmRelease, error) {
	parts, err := installation()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, name, err)
	}
	var release *HelmRelease
	err = component.Register(ctx, what, token, name, c, opts, func() (pulumi.Map, error) {
		release, *c.owned(), err = applyInstallation(ctx, c, name, parts, opts)
		return pulumi.Map{}, err
	})
	return release, err
}

// applyInstallation registers the parts of a component that was created with opts, in order, as
// its children called <component name>-<manifest name>. The release is called <component
// name>-release. It returns the release, and all resources.
func applyInstallation(ctx *pulumi.Context, parent pulumi.Resource, name string, parts *Installation,
	opts []pulumi.ResourceOption) (*HelmRelease, []pulumi.Resource, error) {
	before, err := dependencies(opts)
	if err != nil {
		return nil, nil, err
	}
	first, before, err := applyStages(ctx, parent, name, parts.Before, before)
	if err != nil {
		return nil, nil, err
	}
	release, err := Install(ctx, name+"-release", parts.Release, pulumi.Parent(parent), pulumi.DependsOn(before))
	if err != nil {
		return nil, nil, err
	}
	last, _, err := applyStages(ctx, parent, name, parts.After, []pulumi.Resource{release})
	if err != nil {
		return nil, nil, err
	}
	all := []pulumi.Resource{release}
	return release, append(all, flat(append(first, last...))...), nil
}

// PodSize is the number of pods of one Deployment, StatefulSet or DaemonSet of a chart, and the
// requests of one pod, the sum over its containers.
type PodSize struct {
	Name string
	// Count is the number of pods; 0 for a Daemon.
	Count int32
	// MilliCPU, in thousandths of a core, and MemoryMiB are the requests of one pod.
	MilliCPU, MemoryMiB int64
	// Daemon means one pod on every node.
	Daemon bool
}

// SizeOf adds up the requests of the containers that run side by side in a pod.
func SizeOf(name string, count int32, containers ...corev1.ResourceRequirements) PodSize {
	size := PodSize{Name: name, Count: count}
	var bytes int64
	for _, container := range containers {
		size.MilliCPU += container.Requests.Cpu().MilliValue()
		bytes += container.Requests.Memory().Value()
	}
	size.MemoryMiB = (bytes + 1<<20 - 1) >> 20 // rounded up: the scheduler counts bytes
	return size
}
