// Package gitops renders the objects of services as folders for Kustomize, one for each service, and
// describes the Applications with which Argo CD applies them.
package gitops

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/workload"
)

const (
	// KustomizationFile is the file of a folder that names the others, and the only one with the
	// image's digest.
	KustomizationFile = "kustomization.yaml"
	// Header is the first line of every rendered file.
	Header = "# Rendered by make render (docs/gitops.md). DO NOT EDIT, except for the digest in " + KustomizationFile + ".\n"

	// replaced stands where Kustomize copies the digest to.
	replaced = "the digest in " + KustomizationFile

	nameLabel = "app.kubernetes.io/name"
)

// Argo CD's annotations, and the prefix of Pulumi's, which mean nothing to it.
const (
	syncWave         = "argocd.argoproj.io/sync-wave"
	syncOptions      = "argocd.argoproj.io/sync-options"
	compareOptions   = "argocd.argoproj.io/compare-options"
	hook             = "argocd.argoproj.io/hook"
	hookDeletePolicy = "argocd.argoproj.io/hook-delete-policy"
	pulumiPrefix     = "pulumi.com/"
)

// Service is what is rendered into one folder.
type Service struct {
	// Name is the folder's, and the Application's.
	Name string
	// Image is the reference by digest that every container of the objects has.
	Image string
	// Stages are the objects, as the stack would apply them.
	Stages kube.Stages
}

// Objects returns the service's objects as Kustomize builds them from the folder: as the stack would
// apply them, with Argo CD's annotations in place of Pulumi's.
func (s Service) Objects() ([]map[string]any, error) {
	var all []map[string]any
	for stage, manifests := range s.Stages {
		for _, m := range manifests {
			if len(m.Overlays) > 0 {
				return nil, fmt.Errorf("%s of service %s has a value that another resource produces: it cannot be rendered", m.Name, s.Name)
			}
			fields, err := kube.Encode(m.Object)
			if err != nil {
				return nil, fmt.Errorf("service %s: %w", s.Name, err)
			}
			if err := s.annotate(fields, m, min(stage, s.lastWave())); err != nil {
				return nil, fmt.Errorf("service %s: %w", s.Name, err)
			}
			all = append(all, fields)
		}
	}
	return all, nil
}

// lastWave is the stage of the Rollout. What follows it is applied with it: Argo CD does not wait for
// the last wave, and a sync that waited for a canary would keep the next commit, such as one that
// takes the canary back, from being applied.
func (s Service) lastWave() int {
	for stage, manifests := range s.Stages {
		for _, m := range manifests {
			if gvk, err := kube.KindOf(m.Object); err == nil && gvk.Kind == "Rollout" {
				return stage
			}
		}
	}
	return len(s.Stages) - 1
}

// annotate tells Argo CD what the manifest tells Pulumi.
func (s Service) annotate(fields map[string]any, m kube.Manifest, wave int) error {
	metadata := object(fields, "metadata")
	annotations := object(metadata, "annotations")
	maps.DeleteFunc(annotations, func(name string, _ any) bool { return strings.HasPrefix(name, pulumiPrefix) })
	annotations[syncWave] = strconv.Itoa(wave)
	if m.RetainOnDelete {
		// Other settings are another object, and pods that still run have the earlier one.
		annotations[syncOptions], annotations[compareOptions] = "Prune=false", "IgnoreExtraneous"
	}
	if fields["kind"] == "Job" {
		// The name must not contain the digest, and a Job cannot be changed: the one of an earlier
		// sync is deleted before the next.
		name, ok := object(metadata, "labels")[nameLabel].(string)
		if !ok {
			return fmt.Errorf("Job %v has no label %s", metadata["name"], nameLabel)
		}
		metadata["name"] = name
		annotations[hook], annotations[hookDeletePolicy] = "Sync", "BeforeHookCreation"
	}
	metadata["annotations"] = annotations
	return nil
}

// object returns a field that is an object; a missing one is empty, and not part of the parent.
func object(fields map[string]any, name string) map[string]any {
	if nested, ok := fields[name].(map[string]any); ok {
		return nested
	}
	return map[string]any{}
}

// kustomization is the part of Kustomize's file that is used here.
type kustomization struct {
	APIVersion   string        `json:"apiVersion"`
	Kind         string        `json:"kind"`
	Images       []image       `json:"images"`
	Resources    []string      `json:"resources"`
	Replacements []replacement `json:"replacements"`
}

// image is an image's name and digest, sha256:...
type image struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// replacement copies a part of one field into others.
type replacement struct {
	Source  source   `json:"source"`
	Targets []target `json:"targets"`
}

type source struct {
	Kind      string    `json:"kind"`
	Name      string    `json:"name"`
	FieldPath string    `json:"fieldPath"`
	Options   delimiter `json:"options"`
}

type delimiter struct {
	Delimiter string `json:"delimiter"`
	Index     int    `json:"index"`
}

type target struct {
	Select     selected `json:"select"`
	FieldPaths []string `json:"fieldPaths"`
}

type selected struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// Files returns the folder's files by name: one for each kind of object, without digests, and
// KustomizationFile. The same service gives the same bytes.
func (s Service) Files() (map[string][]byte, error) {
	name, digest, found := strings.Cut(s.Image, "@")
	if !found {
		return nil, fmt.Errorf("service %s: image %q has no digest", s.Name, s.Image)
	}
	objects, err := s.Objects()
	if err != nil {
		return nil, err
	}
	k := kustomization{
		APIVersion: "kustomize.config.k8s.io/v1beta1", Kind: "Kustomization", Images: []image{{Name: name, Digest: digest}},
	}
	files := map[string][]byte{}
	for _, fields := range objects {
		replacements, err := s.cut(fields, name)
		if err != nil {
			return nil, err
		}
		k.Replacements = append(k.Replacements, replacements...)
		text, err := yaml.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("service %s: writing %v %v: %w", s.Name, fields["kind"], object(fields, "metadata")["name"], err)
		}
		file := strings.ToLower(fields["kind"].(string)) + ".yaml"
		if len(files[file]) == 0 {
			files[file] = []byte(Header)
		} else {
			files[file] = append(files[file], "---\n"...)
		}
		files[file] = append(files[file], text...)
	}
	k.Resources = slices.Sorted(maps.Keys(files))
	text, err := yaml.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("service %s: writing %s: %w", s.Name, KustomizationFile, err)
	}
	files[KustomizationFile] = append([]byte(Header), text...)
	return files, nil
}

// podPaths are where objects have pods.
var podPaths = []string{"spec.template.spec", "spec.jobTemplate.spec.template.spec"}

// cut takes the digest out of the pods of an object, and returns what puts it back into the version
// of each container. The image itself is put back by Kustomize's images.
func (s Service) cut(fields map[string]any, name string) ([]replacement, error) {
	var all []replacement
	for _, path := range podPaths {
		pod := fields
		for key := range strings.SplitSeq(path, ".") {
			pod = object(pod, key)
		}
		containers, _ := pod["containers"].([]any)
		for _, c := range containers {
			container := c.(map[string]any)
			if container["image"] != s.Image {
				return nil, fmt.Errorf("service %s: container %v has the image %v, not %s", s.Name, container["name"], container["image"], s.Image)
			}
			container["image"] = name
			of := selected{fields["kind"].(string), object(fields, "metadata")["name"].(string)}
			at := fmt.Sprintf("%s.containers.[name=%s]", path, container["name"])
			variables, _ := container["env"].([]any)
			for _, v := range variables {
				variable := v.(map[string]any)
				if variable["name"] != workload.VersionVariable {
					continue
				}
				variable["value"] = replaced
				all = append(all, replacement{
					Source:  source{Kind: of.Kind, Name: of.Name, FieldPath: at + ".image", Options: delimiter{workload.DigestPrefix, 1}},
					Targets: []target{{Select: of, FieldPaths: []string{at + ".env.[name=" + workload.VersionVariable + "].value"}}},
				})
			}
		}
	}
	return all, nil
}

// Image returns the reference that a folder's KustomizationFile has, name@sha256:...
func Image(kustomizationFile []byte) (string, error) {
	var k kustomization
	if err := yaml.Unmarshal(kustomizationFile, &k); err != nil {
		return "", err
	}
	if len(k.Images) != 1 || k.Images[0].Name == "" || !strings.HasPrefix(k.Images[0].Digest, "sha256:") {
		return "", fmt.Errorf("images is not one image with name and digest")
	}
	return k.Images[0].Name + "@" + k.Images[0].Digest, nil
}
