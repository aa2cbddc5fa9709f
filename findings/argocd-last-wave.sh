#!/usr/bin/env bash
# One would guess: a synchronization of Argo CD ends well when what it has applied is healthy: its
# documentation of waves promises health for each of them.
#
# What happens: it waits for the health of every wave but the last. A Deployment in the last wave, and so
# one without any wave, may have an image that never starts: the operation is Succeeded as soon as the
# Deployment is applied. The same Deployment holds the operation at Running if anything at all has a later
# wave, such as a ConfigMap.
#
# Versions: github.com/argoproj/gitops-engine v0.7.1-0.20251217140045-5baed5604d2d, which is that of
# Argo CD v3.2.11, with k8s.io v0.34.0.
#
# How it was seen: the engine's own synchronization applies a Deployment, whose only pod is never
# available, alone, after a ConfigMap, and before one. The engine's own kubectl for tests takes what is
# applied, and a server on loopback answers the discovery. What is applied is live in the next pass, and
# the state goes from pass to pass, as Argo CD's controller hands it on.
#
# Why it matters: a pipeline that asks whether the operation has succeeded reports a broken release as
# delivered, and adding or removing an object of a later wave changes that for the objects before it. Ask for
# the health of the Application, too, or keep something in a wave after the workload.
#
# Output seen:
#   the Deployment alone   Succeeded  "successfully synced (all tasks run)", applied: [Deployment]
#   a ConfigMap before it  Succeeded  "successfully synced (all tasks run)", applied: [ConfigMap Deployment]
#   a ConfigMap after it   Running    "waiting for healthy state of apps/Deployment/web", applied: [Deployment]
set -euo pipefail

dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOWORK=off GOFLAGS=-mod=mod

engine=v0.7.1-0.20251217140045-5baed5604d2d
kubernetes=v0.34.0
{
	echo "module finding"
	echo "go 1.24.9"
	echo "require github.com/argoproj/gitops-engine $engine"
	for name in api apimachinery client-go kubectl; do echo "require k8s.io/$name $kubernetes"; done
	# The engine requires these by versions that only its own replacements resolve.
	for name in api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider \
		cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api cri-client \
		csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator \
		kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils \
		pod-security-admission sample-apiserver sample-cli-plugin sample-controller; do
		echo "replace k8s.io/$name => k8s.io/$name $kubernetes"
	done
} >go.mod

cat >main.go <<'GO'
package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/argoproj/gitops-engine/pkg/sync"
	"github.com/argoproj/gitops-engine/pkg/sync/common"
	"github.com/argoproj/gitops-engine/pkg/utils/kube/kubetest"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
)

// resources are what the API server says that it has.
var resources = map[string]string{
	"/api/v1":       `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[{"name":"configmaps","kind":"ConfigMap","namespaced":true,"verbs":["get"]}]}`,
	"/apis/apps/v1": `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"apps/v1","resources":[{"name":"deployments","kind":"Deployment","namespaced":true,"verbs":["get"]}]}`,
}

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, resources[r.URL.Path])
	}))
	defer server.Close()

	changed := false
	for _, c := range []struct {
		name    string
		targets []*unstructured.Unstructured
		phase   common.OperationPhase
	}{
		{"the Deployment alone", list(deployment("0")), common.OperationSucceeded},
		{"a ConfigMap before it", list(configMap("-1"), deployment("0")), common.OperationSucceeded},
		{"a ConfigMap after it", list(deployment("0"), configMap("1")), common.OperationRunning},
	} {
		phase, message, applied := follow(server.URL, c.targets)
		fmt.Printf("%-22s %-10s %q, applied: %v\n", c.name, phase, message, applied)
		if phase != c.phase {
			fmt.Printf("CHANGED: expected %s\n", c.phase)
			changed = true
		}
	}
	if changed {
		os.Exit(1)
	}
}

// follow synchronizes until the operation ends, or changes no more. What is applied is live in the next
// pass; the Deployment is never available.
func follow(address string, targets []*unstructured.Unstructured) (common.OperationPhase, string, []string) {
	config := &rest.Config{Host: address}
	live := make([]*unstructured.Unstructured, len(targets))
	phase, message, results, started := common.OperationRunning, "", []common.ResourceSyncResult(nil), metav1.Now()
	for range 2 * len(targets) {
		ctx, cleanup, err := sync.NewSyncContext("revision", sync.ReconciliationResult{Live: live, Target: targets}, config, config,
			&kubetest.MockKubectlCmd{}, "shop", nil, sync.WithLogr(logr.Discard()), sync.WithInitialState(phase, message, results, started))
		if err != nil {
			fmt.Println("the synchronization does not begin:", err)
			os.Exit(1)
		}
		ctx.Sync()
		cleanup()
		phase, message, results = ctx.GetState()
		for _, result := range results {
			for i, target := range targets {
				if target.GetName() == result.ResourceKey.Name {
					live[i] = target
				}
			}
		}
		if phase.Completed() {
			break
		}
	}
	var applied []string
	for _, result := range results {
		applied = append(applied, result.ResourceKey.Kind)
	}
	return phase, message, applied
}

func list(objects ...*unstructured.Unstructured) []*unstructured.Unstructured { return objects }

// deployment has an image that does not start: no pod is available.
func deployment(wave string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("web", wave),
		"spec": map[string]any{"replicas": int64(1)},
		"status": map[string]any{
			"observedGeneration": int64(1), "replicas": int64(1), "updatedReplicas": int64(1), "unavailableReplicas": int64(1),
		},
	}}
}

func configMap(wave string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("page", wave)}}
}

func metadata(name, wave string) map[string]any {
	return map[string]any{
		"name": name, "namespace": "shop", "generation": int64(1), "annotations": map[string]any{common.AnnotationSyncWave: wave},
	}
}
GO

echo "github.com/argoproj/gitops-engine $engine, the Deployment is never available"
go mod tidy 2>/dev/null
go run .
