package main

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/loja-veloz/platform/infra/gitops"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/policy"
	"github.com/loja-veloz/platform/infra/policy/policytest"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
	"github.com/loja-veloz/platform/stacks/environment/internal/program"
)

var gitopsMode = `{"mode": "gitops", "publicKey": ` + strconv.Quote(publicKey) +
	`, "git": {"url": "https://github.com/loja-veloz/platform.git", "secretName": "loja-veloz/dev/git", "pushSecretName": "loja-veloz/dev/git-push",
	"pushSecretVersion": "` + pushVersion + `"}}`

const pushVersion = "00000000-0000-4000-8000-000000000007"

// lastOutputs answers for the last outputs of the stack itself.
type lastOutputs struct {
	pulumi.MockResourceMonitor
	last map[string]any
}

func (l lastOutputs) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	if args.TypeToken == "pulumi:pulumi:StackReference" && args.ID == "organization/loja-veloz/test" {
		outputs := l.last
		if outputs == nil {
			outputs = map[string]any{}
		}
		return args.ID, resource.NewPropertyMapFromMap(map[string]any{"name": args.ID, "outputs": outputs}), nil
	}
	return l.MockResourceMonitor.NewResource(args)
}

// inMode returns the environments with Argo CD, or without.
func inMode(t *testing.T, gitops bool) map[string]environment {
	t.Helper()
	all := environments(t)
	for name, c := range all {
		if gitops {
			c.values["loja-veloz:delivery"] = gitopsMode
			if name == "local" {
				c.values["loja-veloz:delivery"] = `{"mode": "gitops", "git": {"url": "http://git.example.com/shop.git"}}`
			}
		}
	}
	return all
}

// deployed runs the program of an environment after an update with the last outputs.
func deployed(t *testing.T, last map[string]any, name string, values map[string]string) (*infratest.Recorder, error) {
	t.Helper()
	if name == "local" {
		recorder, _, err := registeredAfter(t, last, true, values)
		return recorder, err
	}
	recorder, _, err := withOutputs(t, last, name, values)
	return recorder, err
}

// identity names an object in the cluster.
func identity(fields map[string]any) string {
	metadata, _ := fields["metadata"].(map[string]any)
	group, _, grouped := strings.Cut(fmt.Sprint(fields["apiVersion"]), "/")
	if !grouped {
		group = ""
	}
	namespace, _ := metadata["namespace"].(string)
	return fmt.Sprintf("%s %v %s/%v", group, fields["kind"], namespace, metadata["name"])
}

// owned returns the objects in the cluster that a program registers.
func owned(recorder *infratest.Recorder) map[string]infratest.Resource {
	all := map[string]infratest.Resource{}
	for _, r := range recorder.Resources() {
		if strings.HasPrefix(r.Type, "kubernetes:") && r.Inputs["kind"] != nil {
			all[identity(r.Inputs)] = r
		}
	}
	return all
}

// TestEveryObjectHasOneOwner: in mode pulumi the stack has every object of the services and no Argo
// CD; in mode gitops it has none of them, Argo CD may apply each, and everything else is the same.
func TestEveryObjectHasOneOwner(t *testing.T) {
	argoCD := []string{"/argocd", " argocd/"}
	isArgoCD := func(id string) bool {
		return slices.ContainsFunc(argoCD, func(part string) bool { return strings.Contains(id, part) })
	}
	for name, c := range inMode(t, true) {
		without := environments(t)[name].values
		p, _ := planned(t, name, without, shop, c.target)
		services, err := p.Manifests()
		if err != nil {
			t.Fatal(err)
		}
		byPulumi, err := deployed(t, nil, name, without)
		if err != nil {
			t.Fatal(err)
		}
		byArgoCD, err := deployed(t, nil, name, c.values)
		if err != nil {
			t.Fatal(err)
		}
		_, _, target, err := program.Load(name, c.values, shop, c.target)
		if err != nil {
			t.Fatal(err)
		}
		rules := target.Policy()
		if err := policy.Audit(&rules, policytest.Recorded(byArgoCD)); err != nil {
			t.Errorf("%s, gitops, breaks rules, so its update would stop:\n%v", name, err)
		}
		before, after := owned(byPulumi), owned(byArgoCD)
		for id := range before {
			if isArgoCD(id) {
				t.Errorf("%s, pulumi: %s is installed", name, id)
			}
		}
		shared := maps.Clone(before)
		project := after["argoproj.io AppProject argocd/shop"].Inputs["spec"].(map[string]any)
		for _, service := range services {
			application := after["argoproj.io Application argocd/"+service.Name].Inputs
			if application == nil {
				t.Fatalf("%s: there is no Application %s", name, service.Name)
			}
			source := application["spec"].(map[string]any)["source"].(map[string]any)
			if want := path.Join("stacks/environment/manifests", name, service.Name); source["path"] != want {
				t.Errorf("%s: %s is read from %v, want %s", name, service.Name, source["path"], want)
			}
			for _, m := range service.Stages.All() {
				fields, err := kube.Encode(m.Object)
				if err != nil {
					t.Fatal(err)
				}
				id := identity(fields)
				if _, there := before[id]; !there {
					t.Errorf("%s, pulumi: nothing applies %s", name, id)
				}
				if _, there := after[id]; there {
					t.Errorf("%s, gitops: Argo CD and the stack both apply %s", name, id)
				}
				group, kind, _ := strings.Cut(id, " ")
				kind, _, _ = strings.Cut(kind, " ")
				if !slices.ContainsFunc(project["namespaceResourceWhitelist"].([]any), func(k any) bool {
					return k.(map[string]any)["group"] == group && k.(map[string]any)["kind"] == kind
				}) {
					t.Errorf("%s: the AppProject does not admit %s", name, id)
				}
				delete(shared, id)
			}
		}
		for id := range shared {
			if _, there := after[id]; !there {
				t.Errorf("%s: %s is gone in mode gitops", name, id)
			}
		}
	}
}

// folder is where this repository has the manifests of an environment.
func folder(name string) string { return filepath.Join("../..", program.ManifestFolder(name)) }

// rendered returns what make render would write into what is written.
func rendered(t *testing.T, name string, c environment, released map[string]string, written map[string][]byte) map[string][]byte {
	t.Helper()
	files, err := program.Manifests(name, c.values, released, written, shop, c.target)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestWhatIsRenderedIsCommitted compares all but the digests, which change with each release. With -update it writes.
func TestWhatIsRenderedIsCommitted(t *testing.T) {
	for _, name := range clouds {
		committed, err := gitops.Read(folder(name))
		if err != nil {
			t.Fatal(err)
		}
		files := rendered(t, name, environments(t)[name], nil, committed)
		if infratest.Update() {
			if _, err := gitops.Write(folder(name), files); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if changes := gitops.Changes(withoutDigests(committed), withoutDigests(files)); len(changes) > 0 {
			t.Errorf("%s is not what its configuration gives; run make render STACK=%s:\n  %s", folder(name), name, strings.Join(changes, "\n  "))
		}
	}
}

// withoutDigests returns the files with the same digest everywhere.
func withoutDigests(files map[string][]byte) map[string][]byte {
	all := map[string][]byte{}
	for path, text := range files {
		if strings.HasSuffix(path, gitops.KustomizationFile) {
			text = anyDigest.ReplaceAll(text, []byte(noDigest))
		}
		all[path] = text
	}
	return all
}

// TestKustomizeBuildsWhatTheStackApplies: Kustomize, with the digests, gives the typed objects.
func TestKustomizeBuildsWhatTheStackApplies(t *testing.T) {
	for name, c := range environments(t) {
		p, _ := planned(t, name, c.values, shop, c.target)
		services, err := p.Manifests()
		if err != nil {
			t.Fatal(err)
		}
		if want := len(shop.Services()) + len(shop.CronJobs()); len(services) != want {
			t.Errorf("%s has %d services, want %d", name, len(services), want)
		}
		files := rendered(t, name, c, nil, nil)
		for _, service := range services {
			want := map[string]map[string]any{}
			objects, err := service.Objects()
			if err != nil {
				t.Fatal(err)
			}
			for _, fields := range objects {
				want[identity(fields)] = fields
			}
			got := built(t, files, service.Name)
			for id, fields := range want {
				if !reflect.DeepEqual(got[id], fields) {
					t.Errorf("%s: Kustomize builds %s as\n%v\nwant\n%v", name, id, got[id], fields)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s: Kustomize builds %d objects of %s, want %d", name, len(got), service.Name, len(want))
			}
		}
	}
}

// built returns what Kustomize builds from a service's folder.
func built(t *testing.T, files map[string][]byte, service string) map[string]map[string]any {
	t.Helper()
	disk := filesys.MakeFsInMemory()
	for path, text := range files {
		if err := disk.WriteFile(path, text); err != nil {
			t.Fatal(err)
		}
	}
	result, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, service)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for _, r := range result.Resources() {
		fields, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		fields = clone(t, fields)
		all[identity(fields)] = fields
	}
	return all
}

// TestADigestStandsOnce: another digest changes one line of one file, and Kustomize puts it wherever
// the stack would.
func TestADigestStandsOnce(t *testing.T) {
	const digest = "abcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcd"
	for name, c := range environments(t) {
		before := rendered(t, name, c, nil, nil)
		image, err := gitops.Image(before["pedidos/"+gitops.KustomizationFile])
		if err != nil {
			t.Fatal(err)
		}
		repository, _, _ := strings.Cut(image, "@")
		after := rendered(t, name, c, map[string]string{"pedidos": repository + "@sha256:" + digest}, nil)
		changes := gitops.Changes(before, after)
		if !slices.Equal(changes, []string{"pedidos/kustomization.yaml differs"}) {
			t.Fatalf("%s: another digest changes %v", name, changes)
		}
		old, now := string(before["pedidos/kustomization.yaml"]), string(after["pedidos/kustomization.yaml"])
		if strings.Count(now, digest) != 1 || strings.ReplaceAll(now, "sha256:"+digest, image[len(repository)+1:]) != old {
			t.Errorf("%s: another digest changes more than itself:\n%s", name, now)
		}
	}
}

// TestWhoOwnsTheDigest: the configuration in mode pulumi, what is committed in mode gitops.
func TestWhoOwnsTheDigest(t *testing.T) {
	of := func(digit string) string { return "localhost:5000/pedidos@sha256:" + strings.Repeat(digit, 64) }
	for mode, want := range map[bool]string{false: imagesOf(shop)["pedidos"], true: of("b")} {
		c := inMode(t, mode)["local"]
		written := rendered(t, "local", c, map[string]string{"pedidos": of("b")}, nil)
		image, err := gitops.Image(rendered(t, "local", c, nil, written)["pedidos/"+gitops.KustomizationFile])
		if err != nil || image != want {
			t.Errorf("mode gitops %t: rendering again gives %s, want %s (%v)", mode, image, want, err)
		}
	}
	c := inMode(t, true)["dev"]
	c.values["loja-veloz:images"] = `{"database": "` + strings.Replace(image, "sample-web-app", "database", 1) + `"}`
	_, err := program.Manifests("dev", c.values, nil, nil, shop, c.target)
	infratest.Refused(t, err, "pedidos has no image: name it in DIGESTS, or in loja-veloz:images.pedidos")
}

// TestTheServicesAreHandedOver: a stack that has deployed the services does not delete them.
func TestTheServicesAreHandedOver(t *testing.T) {
	running := func(delivery map[string]any) map[string]any {
		return map[string]any{"services": map[string]any{"pedidos": map[string]any{}}, "delivery": delivery}
	}
	for name, c := range inMode(t, true) {
		for _, last := range []map[string]any{running(nil), running(map[string]any{"mode": "pulumi", "retain": false})} {
			_, err := deployed(t, last, name, c.values)
			infratest.Refused(t, err, "delivery.mode is gitops, and this stack has deployed the services and would delete them: "+
				"set delivery.mode pulumi and delivery.retain true, run pulumi up, and then set delivery.mode gitops")
		}
		for _, last := range []map[string]any{
			running(map[string]any{"mode": "pulumi", "retain": true}), running(map[string]any{"mode": "gitops"}),
		} {
			if _, err := deployed(t, last, name, c.values); err != nil {
				t.Errorf("%s after %v: %v", name, last, err)
			}
		}
	}
	for name, c := range environments(t) {
		c.values["loja-veloz:delivery"] = `{"retain": true}`
		recorder, err := deployed(t, nil, name, c.values)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := planned(t, name, c.values, shop, c.target)
		services, err := p.Manifests()
		if err != nil {
			t.Fatal(err)
		}
		all := owned(recorder)
		for _, service := range services {
			for _, m := range service.Stages.All() {
				fields, err := kube.Encode(m.Object)
				if err != nil {
					t.Fatal(err)
				}
				if !all[identity(fields)].Retain {
					t.Errorf("%s: %s would be deleted", name, identity(fields))
				}
			}
		}
		if all[" Namespace /"+plan.ShopNamespace].Retain {
			t.Errorf("%s: the namespace stays after a destroy", name)
		}
	}
}
