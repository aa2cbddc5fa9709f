#!/usr/bin/env bash
# One would guess: `dryRun: [{metricName: error-rate}]` in an Argo Rollouts analysis takes the
# metric called error-rate out of the verdict, and no other metric. The field is called
# metricName, and the documentation's first example gives a full name.
#
# What happens: metricName is a Go regular expression without anchors. error-rate is found
# inside checkout-error-rate as well, so the gate on checkout-error-rate is gone too: its
# metric is Failed, and the AnalysisRun is Successful. Only ^error-rate$ means one metric.
# A bare *, which the Go documentation of the field calls a supported wildcard, is not a
# valid expression: the run ends in Error and takes no measurement. The analysis guide
# says that "RegEx matches are also supported", but not that they are unanchored.
#
# Versions: github.com/argoproj/argo-rollouts v1.9.1, with k8s.io v0.34.1 as it pins them.
#
# How it was seen: the real analysis controller runs four AnalysisRuns that differ in dryRun
# alone. Its Prometheus provider asks a local HTTP server, which answers 0.2 to every query;
# both metrics demand less than 0.05.
#
# Why it matters: a trial metric is often called like an existing one. Adding it as a dry
# run then disarms the existing gate. The run that the Rollout acts on is Successful; only
# the metric's own result and the count in dryRunSummary show what was left out.
#
# Output seen, without the messages:
#   dryRun ""             run Failed      checkout-error-rate Failed
#   dryRun "error-rate"   run Successful  checkout-error-rate Failed
#   dryRun "^error-rate$" run Failed      checkout-error-rate Failed
#   dryRun "*"            run Error       checkout-error-rate not measured
set -euo pipefail

dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOWORK=off GOFLAGS=-mod=mod

rollouts=v1.9.1
kubernetes=v0.34.1
{
	echo "module finding"
	echo "go 1.24.9"
	echo "require github.com/argoproj/argo-rollouts $rollouts"
	for name in api apimachinery client-go; do echo "require k8s.io/$name $kubernetes"; done
	# Argo Rollouts requires these by versions that only its own replacements resolve.
	for name in api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider \
		cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api cri-client \
		csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator \
		kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils \
		pod-security-admission sample-apiserver sample-cli-plugin sample-controller; do
		echo "replace k8s.io/$name => k8s.io/$name $kubernetes"
	done
	echo "replace github.com/go-telegram-bot-api/telegram-bot-api/v5 => github.com/OvyFlash/telegram-bot-api/v5 v5.0.0-20240108230938-63e5c59035bf"
} >go.mod

cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	kubeinformers "k8s.io/client-go/informers"
	kubefake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/util/workqueue"

	"github.com/argoproj/argo-rollouts/analysis"
	"github.com/argoproj/argo-rollouts/controller/metrics"
	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/argoproj/argo-rollouts/pkg/client/clientset/versioned/fake"
	"github.com/argoproj/argo-rollouts/pkg/client/informers/externalversions"
	"github.com/argoproj/argo-rollouts/utils/record"
)

const (
	namespace = "shop"
	gate      = "checkout-error-rate"
	trial     = "error-rate"
)

func main() {
	logrus.SetOutput(io.Discard)
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1700000000,"0.2"]}]}}`)
	}))
	defer prometheus.Close()

	changed := false
	for _, c := range []struct{ pattern, run, gate string }{
		{"", "Failed", "Failed"},
		{"error-rate", "Successful", "Failed"},
		{"^error-rate$", "Failed", "Failed"},
		{"*", "Error", "not measured"},
	} {
		status := analyse(prometheus.URL, c.pattern)
		phase := "not measured"
		for _, result := range status.MetricResults {
			if result.Name == gate {
				phase = string(result.Phase)
			}
		}
		fmt.Printf("dryRun %-14q run %-10s  %s %-12s  %s\n", c.pattern, status.Phase, gate, phase, status.Message)
		if string(status.Phase) != c.run || phase != c.gate {
			fmt.Printf("CHANGED: expected run %s, %s %s\n", c.run, gate, c.gate)
			changed = true
		}
	}
	if changed {
		os.Exit(1)
	}
}

// analyse lets the controller run both metrics, with pattern in dry run unless it is empty.
func analyse(address, pattern string) v1alpha1.AnalysisRunStatus {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()

	run := &v1alpha1.AnalysisRun{ObjectMeta: metav1.ObjectMeta{Name: "canary", Namespace: namespace}}
	for _, name := range []string{gate, trial} {
		run.Spec.Metrics = append(run.Spec.Metrics, v1alpha1.Metric{
			Name:             name,
			SuccessCondition: "result[0] < 0.05",
			Provider:         v1alpha1.MetricProvider{Prometheus: &v1alpha1.PrometheusMetric{Address: address, Query: "error_ratio"}},
		})
	}
	if pattern != "" {
		run.Spec.DryRun = []v1alpha1.DryRun{{MetricName: pattern}}
	}

	client, kube := fake.NewSimpleClientset(run), kubefake.NewSimpleClientset()
	factory := externalversions.NewSharedInformerFactory(client, 0)
	kubeFactory := kubeinformers.NewSharedInformerFactory(kube, 0)
	queue := workqueue.NewRateLimitingQueue(workqueue.DefaultControllerRateLimiter())
	controller := analysis.NewController(analysis.ControllerConfig{
		KubeClientSet:        kube,
		ArgoProjClientset:    client,
		AnalysisRunInformer:  factory.Argoproj().V1alpha1().AnalysisRuns(),
		JobInformer:          kubeFactory.Batch().V1().Jobs(),
		AnalysisRunWorkQueue: queue,
		MetricsServer:        metrics.NewMetricsServer(metrics.ServerConfig{K8SRequestProvider: &metrics.K8sRequestsCountProvider{}}),
		Recorder:             record.NewFakeEventRecorder(),
	})
	factory.Start(ctx.Done())
	kubeFactory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	kubeFactory.WaitForCacheSync(ctx.Done())
	go controller.Run(ctx, 1)
	defer queue.ShutDown()

	var status v1alpha1.AnalysisRunStatus
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		got, err := client.ArgoprojV1alpha1().AnalysisRuns(namespace).Get(ctx, run.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		status = got.Status
		return status.Phase.Completed(), nil
	})
	if err != nil {
		fmt.Println("the analysis did not end:", err)
		os.Exit(1)
	}
	return status
}
GO

echo "github.com/argoproj/argo-rollouts $rollouts, every query answers 0.2, both metrics demand < 0.05"
go run .
