//go:build e2e

package gitops

import "encoding/json"

func decode(text string, into any) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}

// analysis judges a canary as long as it runs.
const analysis = `apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata:
  name: estoque
  namespace: shop
spec:
  metrics:
  - name: errors
    interval: 2s
    failureCondition: result[0] > 0.001
    provider:
      prometheus:
        address: PROMETHEUS
        query: errors
`

// manifests are a service as make render writes it, with a Rollout that waits at its first weight.
var manifests = map[string]string{
	"kustomization.yaml": `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
images:
- digest: DIGEST
  name: localhost:5000/estoque
resources: [analysistemplate.yaml, configmap.yaml, service.yaml, traefikservice.yaml, rollout.yaml, horizontalpodautoscaler.yaml]
`,
	"configmap.yaml": `apiVersion: v1
kind: ConfigMap
metadata:
  name: estoque-a
  namespace: shop
data:
  A: estoque-a
`,
	"service.yaml": `apiVersion: v1
kind: Service
metadata:
  name: estoque-stable
  namespace: shop
spec:
  selector: {app.kubernetes.io/name: estoque}
  ports: [{port: 8000, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata:
  name: estoque-canary
  namespace: shop
spec:
  selector: {app.kubernetes.io/name: estoque}
  ports: [{port: 8000, targetPort: 8080}]
`,
	"traefikservice.yaml": `apiVersion: traefik.io/v1alpha1
kind: TraefikService
metadata:
  name: estoque
  namespace: shop
spec:
  weighted:
    services:
    - {name: estoque-stable, port: 8000, weight: 100}
    - {name: estoque-canary, port: 8000, weight: 0}
`,
	"rollout.yaml": `apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name: estoque
  namespace: shop
  annotations: {argocd.argoproj.io/sync-wave: "1"}
spec:
  selector:
    matchLabels: {app.kubernetes.io/name: estoque}
  strategy:
    canary:
      stableService: estoque-stable
      canaryService: estoque-canary
      trafficRouting: {traefik: {weightedTraefikServiceName: estoque}}
      analysis:
        templates: [{templateName: estoque}]
      steps:
      - setWeight: 20
      - pause: {}
  template:
    metadata:
      labels: {app.kubernetes.io/name: estoque}
    spec:
      containers:
      - name: estoque
        image: localhost:5000/estoque
        envFrom: [{configMapRef: {name: estoque-a}}]
        # Without this field, Argo CD would send back the containers that the cluster has: docs/gitops.md.
        resources: {requests: {cpu: 50m}}
`,
	"horizontalpodautoscaler.yaml": `apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: estoque
  namespace: shop
  annotations: {argocd.argoproj.io/sync-wave: "1"}
spec:
  minReplicas: 1
  maxReplicas: 6
  scaleTargetRef: {apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: estoque}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
`,
}
