#!/usr/bin/env bash
# One would guess: with four replicas and every pod below the memory target, a
# HorizontalPodAutoscaler leaves the size alone. The documented formula says so too:
# ceil(currentReplicas x currentMetricValue / desiredMetricValue) = ceil(4 x 68 / 80) = 4.
#
# What happens: the controller does not multiply by spec.replicas. It multiplies by the
# number of pods that the selector of the scale subresource matches. While a canary runs
# beside a stable version of full size, that is more pods than spec.replicas, so the
# autoscaler grows the workload, with the reason "above target", although it reports 68 %
# of a target of 80 %. A canary that is sized by a share of the replicas grows in turn, so
# this goes on to maxReplicas. Memory shows it best: more pods do not use less each.
#
# Versions: the HorizontalController of k8s.io/kubernetes v1.33.4, with its default
# tolerance of 10 %, and the fake clients of k8s.io/client-go v0.33.4.
#
# How it was seen: the real controller reconciles a Rollout-like scale whose selector
# matches the stable pods and, in the second run, a canary of half their number. All pods
# are Running and Ready, and each uses 68 % of its memory request. The third run sets
# spec.replicas to what the controller asked for, sizes the canary again, and repeats.
#
# Why it matters: Argo Rollouts publishes such a selector for canaries with traffic
# routing. Each deployment then raises the replicas, which nothing in the metrics explains.
# Scale such a workload by a metric whose total is fixed (CPU, requests), not by memory.
#
# Output seen:
#   4 stable pods, no canary:  memory 68%/80%, desired replicas 4, event ""
#   4 stable and 2 canary pods: memory 68%/80%, desired replicas 6, event "New size: 6;
#   reason: memory resource utilization (percentage of request) above target"
#   spec.replicas, step by step, with a canary of half the stable pods: 4 6 8 11 12
set -euo pipefail

dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOWORK=off GOFLAGS=-mod=mod

kubernetes=v1.33.4
staging=v0.33.4
{
	echo "module finding"
	echo "go 1.24.0"
	echo "require k8s.io/kubernetes $kubernetes"
	for name in api apimachinery client-go; do echo "require k8s.io/$name $staging"; done
	# The staging modules of Kubernetes have the version v0.0.0 in its go.mod.
	for name in api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider \
		cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api cri-client \
		csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator \
		kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils \
		pod-security-admission sample-apiserver sample-cli-plugin sample-controller; do
		echo "replace k8s.io/$name => k8s.io/$name $staging"
	done
} >go.mod

cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	corelisters "k8s.io/client-go/listers/core/v1"
	scalefake "k8s.io/client-go/scale/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
)

const (
	namespace      = "shop"
	targetPercent  = int32(80)
	usedPercent    = 68
	requestedBytes = 100 << 20
	maxReplicas    = int32(12)
)

func main() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	ctx := context.Background()
	alone := reconcile(ctx, 4, 0)
	fmt.Println("4 stable pods, no canary: ", alone)
	surged := reconcile(ctx, 4, 2)
	fmt.Println("4 stable and 2 canary pods:", surged)

	fmt.Print("spec.replicas, step by step, with a canary of half the stable pods: 4")
	size := int32(4)
	for range maxReplicas {
		next := reconcile(ctx, size, (size+1)/2).desired
		if next == size {
			break
		}
		size = next
		fmt.Print(" ", size)
	}
	fmt.Println()

	if alone.desired != 4 || surged.desired != 6 || surged.percent != usedPercent || size != maxReplicas {
		fmt.Println("CHANGED: expected 4 without a canary, 6 with one, and growth to", maxReplicas)
		os.Exit(1)
	}
}

type outcome struct {
	desired, percent int32
	event            string
}

func (o outcome) String() string {
	return fmt.Sprintf("memory %d%%/%d%%, desired replicas %d, event %q", o.percent, targetPercent, o.desired, o.event)
}

// reconcile runs the controller until it has judged a scale of stable replicas once.
func reconcile(ctx context.Context, stable, canary int32) outcome {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()

	objects := []runtime.Object{autoscaler()}
	for i := range stable + canary {
		objects = append(objects, pod(i))
	}
	client := fake.NewClientset(objects...)
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()

	rollout := schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout"}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{rollout.GroupVersion()})
	mapper.Add(rollout, meta.RESTScopeNamespace)

	// The resync period, 15 s by default, is also the wait before the first pass.
	controller := podautoscaler.NewHorizontalController(ctx, client.CoreV1(), scaleOf(stable, canary), client.AutoscalingV2(),
		mapper, usage{pods: pods.Lister()}, factory.Autoscaling().V2().HorizontalPodAutoscalers(), pods,
		100*time.Millisecond, 5*time.Minute, 0.1, 5*time.Minute, 30*time.Second)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	go controller.Run(ctx, 1)

	var got outcome
	must(wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		hpa, err := client.AutoscalingV2().HorizontalPodAutoscalers(namespace).Get(ctx, "web", metav1.GetOptions{})
		if err != nil || len(hpa.Status.CurrentMetrics) == 0 {
			return false, err
		}
		got.desired = hpa.Status.DesiredReplicas
		got.percent = *hpa.Status.CurrentMetrics[0].Resource.Current.AverageUtilization
		if got.desired == stable {
			return true, nil
		}
		// A rescale also writes an event, in the background.
		events, err := client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil || len(events.Items) == 0 {
			return false, err
		}
		got.event = events.Items[0].Message
		return true, nil
	}))
	return got
}

func autoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	target, atLeast := targetPercent, int32(1)
	return &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "argoproj.io/v1alpha1", Kind: "Rollout", Name: "web"},
			MinReplicas:    &atLeast,
			MaxReplicas:    maxReplicas,
			Metrics: []autoscalingv2.MetricSpec{{
				Type: autoscalingv2.ResourceMetricSourceType,
				Resource: &autoscalingv2.ResourceMetricSource{
					Name:   corev1.ResourceMemory,
					Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target},
				},
			}},
			// What the API server fills in.
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleUp: scaleUp(), ScaleDown: scaleDown()},
		},
	}
}

func scaleUp() *autoscalingv2.HPAScalingRules {
	window, policy := int32(0), autoscalingv2.MaxChangePolicySelect
	return &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &window, SelectPolicy: &policy, Policies: []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	}}
}

func scaleDown() *autoscalingv2.HPAScalingRules {
	policy := autoscalingv2.MaxChangePolicySelect
	return &autoscalingv2.HPAScalingRules{SelectPolicy: &policy, Policies: []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
	}}
}

func pod(i int32) *corev1.Pod {
	started := metav1.NewTime(time.Now().Add(-time.Hour))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%d", i), Namespace: namespace, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "web",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceMemory: *resource.NewQuantity(requestedBytes, resource.BinarySI),
			}},
		}}},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			StartTime:  &started,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: started}},
		},
	}
}

// scaleOf serves the scale subresource: spec counts the stable pods, the selector matches the canary's too.
func scaleOf(stable, canary int32) *scalefake.FakeScaleClient {
	client := &scalefake.FakeScaleClient{}
	client.AddReactor("get", "rollouts", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace},
			Spec:       autoscalingv1.ScaleSpec{Replicas: stable},
			Status:     autoscalingv1.ScaleStatus{Replicas: stable + canary, Selector: "app=web"},
		}, nil
	})
	client.AddReactor("update", "rollouts", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return true, action.(clienttesting.UpdateAction).GetObject(), nil
	})
	return client
}

// usage is a metrics client by which every pod uses the same share of its memory request.
type usage struct {
	metrics.MetricsClient
	pods corelisters.PodLister
}

func (u usage) GetResourceMetric(
	_ context.Context, _ corev1.ResourceName, _ string, selector labels.Selector, _ string,
) (metrics.PodMetricsInfo, time.Time, error) {
	pods, err := u.pods.Pods(namespace).List(selector)
	info := metrics.PodMetricsInfo{}
	for _, pod := range pods {
		info[pod.Name] = metrics.PodMetric{Timestamp: time.Now(), Window: time.Minute, Value: requestedBytes / 100 * usedPercent * 1000}
	}
	return info, time.Now(), err
}

func must(err error) {
	if err != nil {
		fmt.Println("the controller did not judge the scale:", err)
		os.Exit(1)
	}
}
GO

echo "k8s.io/kubernetes $kubernetes, every pod at 68 % of its memory request, target 80 %"
go run .
