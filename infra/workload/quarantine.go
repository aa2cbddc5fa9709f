package workload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts"
	rolloutsv1alpha1 "github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/rollout"
)

// Quarantine keeps what was aborted in a namespace from being shipped there again, by anybody.
type Quarantine struct {
	pulumi.ResourceState
	kube.Objects
}

// NewQuarantine creates the ConfigMap that those who watch canaries write, and a policy with which
// the API server (Kubernetes 1.30 or newer) refuses what is in it. The namespace has to exist.
func NewQuarantine(ctx *pulumi.Context, name, namespace string, opts ...pulumi.ResourceOption) (*Quarantine, error) {
	q := &Quarantine{}
	_, err := kube.NewComponent(ctx, "quarantine", "loja-veloz:workload:Quarantine", name, q, func() (kube.Stages, error) {
		return QuarantineStages(namespace), nil
	}, opts)
	return q, err
}

// QuarantineStages returns the ConfigMap, the policy and its binding.
func QuarantineStages(namespace string) kube.Stages {
	// The policy has no namespace, so its name contains that of the services.
	policy := metav1.ObjectMeta{Name: "quarantine-" + namespace}
	return kube.Stages{
		{{
			Name:          "entries",
			Object:        &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: rollout.QuarantineName, Namespace: namespace}},
			IgnoreChanges: []string{"data"}, RetainOnDelete: true,
		}},
		{{Name: "policy", Object: quarantinePolicy(policy)}},
		{{Name: "binding", Object: &admissionv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: policy,
			Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName: policy.Name,
				ParamRef: &admissionv1.ParamRef{
					Name: rollout.QuarantineName, Namespace: namespace, ParameterNotFoundAction: new(admissionv1.AllowAction),
				},
				ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
				MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{
					MatchLabels: map[string]string{corev1.LabelMetadataName: namespace},
				}},
			},
		}}},
	}
}

// What starts a canary in Argo Rollouts 1.9.1: another pod template, other steps, the end of an
// abort, and a full promotion in spite of one. Whatever else changes an aborted Rollout passes.
const (
	changesSpec = `oldObject == null || object.spec.?template != oldObject.spec.?template || ` +
		`object.spec.?strategy.?canary.?steps != oldObject.spec.?strategy.?canary.?steps`
	// The controller itself ends the abort of a Rollout whose template is that of the stable version.
	endsAbort = `oldObject.?status.?abort.orValue(false) && ` +
		`(!object.?status.?abort.orValue(false) || object.?status.?promoteFull.orValue(false)) && ` +
		`object.?status.?currentPodHash.orValue("") != object.?status.?stableRS.orValue("none")`
)

// quarantinePolicy refuses a Rollout that would start a canary of an image or settings whose key is
// in the ConfigMap. Its keys are those of rollout.Quarantine.
func quarantinePolicy(meta metav1.ObjectMeta) *admissionv1.ValidatingAdmissionPolicy {
	const entries, containers = `params.?data.orValue({})`, `object.spec.?template.?spec.?containers.orValue([])`
	variable := func(name, expression string) admissionv1.Variable {
		return admissionv1.Variable{Name: name, Expression: expression}
	}
	return &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: meta, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		ParamKind:     &admissionv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"},
		FailurePolicy: new(admissionv1.Fail),
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
			RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule: admissionv1.Rule{
					APIGroups: []string{rolloutsv1alpha1.SchemeGroupVersion.Group}, APIVersions: []string{rolloutsv1alpha1.SchemeGroupVersion.Version},
					Resources: []string{rollouts.RolloutPlural, rollouts.RolloutPlural + "/status"},
				},
			},
		}}},
		MatchConditions: []admissionv1.MatchCondition{{
			Name: "starts-a-canary", Expression: `request.?subResource.orValue("") == "status" ? (` + endsAbort + `) : (` + changesSpec + `)`,
		}},
		Variables: []admissionv1.Variable{
			variable("service", `object.metadata.name + "."`),
			variable("images", containers+`.filter(c, c.?image.orValue("").contains("@sha256:"))`+
				`.map(c, variables.service + c.image.split("@sha256:")[1])`),
			// Each container has a list of settings; one that is blocked is enough.
			variable("settings", containers+`.map(c, c.?envFrom.orValue([]).filter(e, has(e.configMapRef))`+
				`.map(e, variables.service + e.configMapRef.name).filter(key, key in `+entries+`))`+
				`.filter(keys, size(keys) > 0).map(keys, keys[0])`),
			variable("blocked", `variables.images.filter(key, key in `+entries+`) + variables.settings`),
		},
		Validations: []admissionv1.Validation{{
			Expression: `size(variables.blocked) == 0`,
			MessageExpression: `"quarantined and not shipped again: " + params.data[variables.blocked[0]] + ` +
				`". Deploy another version, or release it: make release SERVICE=" + object.metadata.name + " REASON=..."`,
			Reason: new(metav1.StatusReasonForbidden),
		}},
	}}
}

// admitted records an abort that nobody watched, and refuses to ship what is quarantined. What it
// cannot read is no reason to refuse, because the API server's policy refuses as well.
func (s *Spec) admitted(ctx *pulumi.Context, w *Workload) error {
	if s.Cluster == nil {
		return nil
	}
	warn := func(err error) {
		_ = ctx.Log.Warn(fmt.Sprintf("%s: the quarantine: %v", s.Service, err), &pulumi.LogArgs{Resource: w})
	}
	watch := rollout.Watch{
		Cluster: typed{s.Cluster}, Namespace: s.Namespace, Name: s.Service, Jaeger: s.jaeger(), By: rollout.Actor(os.Getenv),
	}
	if err := watch.RecordAbort(ctx.Context()); err != nil {
		warn(err)
	}
	data, err := s.Cluster.ConfigMap(ctx.Context(), s.Namespace, rollout.QuarantineName)
	if err != nil {
		warn(err)
		return nil
	}
	blocked := rollout.Quarantine(data).Blocked(s.Service, s.Image, s.configMap().Name)
	if len(blocked) == 0 {
		return nil
	}
	live, err := s.Cluster.Rollout(ctx.Context(), s.Namespace, s.Service)
	if err != nil {
		warn(err)
		return nil
	}
	if live != nil && s.startsNoCanary(live) {
		return nil // it stays aborted, and the update of the other services goes on
	}
	return &RolloutError{Service: s.Service, Cause: &rollout.QuarantinedError{Service: s.Service, Entry: blocked[0]}}
}

// startsNoCanary tells whether a Rollout in the cluster already has the template and the steps.
func (s *Spec) startsNoCanary(live *rolloutsv1alpha1.Rollout) bool {
	wanted := s.rollout(s.configMap().Name)
	if live.Spec.Strategy.Canary == nil {
		return false
	}
	return sameJSON(wanted.Spec.Template, live.Spec.Template) && sameJSON(wanted.Spec.Strategy.Canary.Steps, live.Spec.Strategy.Canary.Steps)
}

func sameJSON(a, b any) bool {
	first, err := json.Marshal(a)
	if err != nil {
		return false
	}
	second, err := json.Marshal(b)
	return err == nil && bytes.Equal(first, second)
}
