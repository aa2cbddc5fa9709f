package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/stacks/environment/internal/plan"
)

// drill is the Rollout of one service, as it is deployed, on a real API server.
type drill struct {
	t       *testing.T
	server  *apiServer
	rollout map[string]any
}

const (
	goodImage   = "localhost:5000/web@sha256:1111111111111111111111111111111111111111111111111111111111111111"
	badImage    = "localhost:5000/web@sha256:2222222222222222222222222222222222222222222222222222222222222222"
	badKey      = "web.2222222222222222222222222222222222222222222222222222222222222222"
	rolloutPath = "/apis/argoproj.io/v1alpha1/namespaces/" + plan.ShopNamespace + "/rollouts/web"
)

// with returns the Rollout of the service with an image.
func (d *drill) with(image string, changes ...func(spec map[string]any)) map[string]any {
	fields := clone(d.t, d.rollout)
	fields["metadata"].(map[string]any)["name"] = "web"
	spec := fields["spec"].(map[string]any)
	container(spec)["image"] = image
	for _, change := range changes {
		change(spec)
	}
	return fields
}

func container(spec map[string]any) map[string]any {
	pod := spec["template"].(map[string]any)["spec"].(map[string]any)
	return pod["containers"].([]any)[0].(map[string]any)
}

// status writes the status as the Rollouts controller does.
func (d *drill) status(status map[string]any, dryRun bool) error {
	raw, err := json.Marshal(map[string]any{
		"apiVersion": d.rollout["apiVersion"], "kind": "Rollout", "status": status,
		"metadata": map[string]any{"name": "web", "namespace": plan.ShopNamespace},
	})
	d.must(err)
	query := url.Values{"fieldManager": {"controller"}, "force": {"true"}}
	if dryRun {
		query.Set("dryRun", "All")
	}
	_, err = d.server.do(d.t.Context(), http.MethodPatch, rolloutPath+"/status", query, raw)
	return err
}

func (d *drill) quarantine(data map[string]any) {
	d.t.Helper()
	d.must(d.server.apply(d.t.Context(), map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "data": data,
		"metadata": map[string]any{"name": "quarantine", "namespace": plan.ShopNamespace},
	}, false))
}

func (d *drill) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *drill) passes(what string, err error) {
	d.t.Helper()
	if err != nil {
		d.t.Errorf("%s is refused: %v", what, err)
	}
}

func (d *drill) refused(what string, err error) {
	d.t.Helper()
	for _, want := range []string{"403", "quarantined and not shipped again: it failed.", "make release SERVICE=web REASON=..."} {
		if err == nil || !strings.Contains(err.Error(), want) {
			d.t.Errorf("%s gives %v, want an error with %q", what, err, want)
		}
	}
}

// TestTheAPIServerRefusesWhatIsQuarantined sends, to a real API server with the deployed policy,
// what other updaters send: kubectl set image, Argo CD and its Image Updater, a retry.
func TestTheAPIServerRefusesWhatIsQuarantined(t *testing.T) {
	bin := os.Getenv("LOJA_KUBE_BIN")
	if bin == "" {
		t.Skip("LOJA_KUBE_BIN is not set: run make test, which builds kube-apiserver and etcd and sets it")
	}
	d := &drill{t: t, server: startAPIServer(t, bin)}
	for _, m := range objectsOf(t, nil).All() {
		fields, err := kube.Encode(m.Object)
		d.must(err)
		switch kind := fields["kind"].(string); {
		case kind == "Rollout":
			d.rollout = fields
		case kind == "Namespace", m.Object.GetName() == "rollouts.argoproj.io", strings.HasPrefix(m.Object.GetName(), "quarantine"):
			d.must(d.server.apply(t.Context(), fields, false))
		}
	}
	d.server.waitUntilServed(t, []map[string]any{d.rollout})
	apply := func(fields map[string]any) error { return d.server.apply(t.Context(), fields, true) }
	named := func(name string, fields map[string]any) map[string]any {
		fields["metadata"].(map[string]any)["name"] = name
		return fields
	}
	badSettings := func(spec map[string]any) {
		container(spec)["envFrom"].([]any)[0].(map[string]any)["configMapRef"] = map[string]any{"name": "web-0123456789"}
	}
	memory := func(spec map[string]any) {
		container(spec)["resources"] = map[string]any{"limits": map[string]any{"memory": "1Gi"}}
	}
	steps := func(spec map[string]any) {
		spec["strategy"].(map[string]any)["canary"].(map[string]any)["steps"] = []any{map[string]any{"setWeight": 5}}
	}
	deadline := func(spec map[string]any) { spec["progressDeadlineSeconds"] = 300 }

	// An update to the bad image is aborted, and only then is it quarantined.
	d.must(d.server.apply(t.Context(), d.with(goodImage), false))
	d.must(d.server.apply(t.Context(), d.with(badImage), false))
	d.must(d.status(map[string]any{"abort": true, "currentPodHash": "new", "stableRS": "old"}, false))
	d.quarantine(map[string]any{badKey: "it failed", "web.web-0123456789": "it failed"})
	waitFor(t, "the policy to be in force", func() error {
		if err := apply(d.with(badImage, memory)); err == nil {
			return errors.New("the bad image passes")
		}
		return nil
	})

	d.refused("the bad image with other resources", apply(d.with(badImage, memory)))
	d.refused("the bad image with other steps", apply(d.with(badImage, steps)))
	d.refused("the good image with bad settings", apply(d.with(goodImage, badSettings)))
	d.refused("a retry", d.status(map[string]any{"abort": false, "currentPodHash": "new", "stableRS": "old"}, true))
	d.refused("a full promotion", d.status(map[string]any{"abort": true, "promoteFull": true, "currentPodHash": "new", "stableRS": "old"}, true))
	d.passes("the same Rollout", apply(d.with(badImage)))
	d.passes("another deadline", apply(d.with(badImage, deadline)))
	d.passes("the status of the aborted Rollout",
		d.status(map[string]any{"abort": true, "message": "aborted", "currentPodHash": "new", "stableRS": "old"}, true))
	d.passes("the end of the abort of the stable template", d.status(map[string]any{"currentPodHash": "old", "stableRS": "old"}, true))
	d.passes("another size", apply(d.with(badImage, func(spec map[string]any) { spec["replicas"] = 5 })))
	d.passes("the bad image of another service", apply(named("other", d.with(badImage))))
	elsewhere := named("web", d.with(badImage))
	elsewhere["metadata"].(map[string]any)["namespace"] = plan.DatabaseNamespace
	d.passes("the bad image in another namespace", apply(elsewhere))
	d.passes("the image by a tag", apply(d.with("localhost:5000/web:latest")))

	// The stable version comes back, and the bad one does not.
	d.passes("the good image", d.server.apply(t.Context(), d.with(goodImage), false))
	d.passes("the end of the abort", d.status(map[string]any{"abort": false, "currentPodHash": "new", "stableRS": "old"}, false))
	d.refused("the bad image again", apply(d.with(badImage)))
	d.refused("the bad image behind a tag", apply(d.with(strings.Replace(badImage, "@", ":latest@", 1))))
	_, err := d.server.do(t.Context(), http.MethodDelete, rolloutPath, nil, nil)
	d.must(err)
	d.refused("a new Rollout with the bad image", apply(d.with(badImage)))

	// A release is another key.
	d.quarantine(map[string]any{badKey + ".released-20260102T030405Z": "it failed", "web.web-0123456789": "it failed"})
	waitFor(t, "the released image to pass", func() error { return apply(d.with(badImage)) })
	d.refused("settings that are not released", apply(d.with(badImage, badSettings)))
	d.quarantine(nil)
	waitFor(t, "an empty quarantine to pass everything", func() error { return apply(d.with(badImage, badSettings)) })
}
