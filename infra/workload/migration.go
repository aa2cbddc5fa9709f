package workload

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/gateway"
	"github.com/loja-veloz/platform/infra/kube"
)

const (
	// migrateArgument is what every service with a database takes.
	migrateArgument = "migrate"
	migrateSuffix   = "-migrate"

	// migratePatience is how long a change of the schema may take, its retries among
	// it.
	migratePatience = 10 * time.Minute

	// maxMigrateName leaves room for the Job's suffixes: its name is a label too.
	maxMigrateName = 63 - len(migrateSuffix) - 1 - versionLength - kube.JobSuffix
)

// Migration are the pods that change the schema. They have a name of their own:
// the service's Services, budget and autoscaler do not select them.
func (s *Spec) Migration() gateway.Pods { return s.pods(s.Service + migrateSuffix) }

// Pods are the service's.
func (s *Spec) Pods() gateway.Pods { return s.pods(s.Service) }

func (s *Spec) migrationMeta() metav1.ObjectMeta {
	meta := s.meta(s.Service + migrateSuffix)
	meta.Labels[nameLabel] = s.Service + migrateSuffix
	return meta
}

// migration changes the schema, as the role that owns it, with the image that is
// about to be let in.
func (s *Spec) migration() (*batchv1.Job, error) {
	job, err := kube.NewJob(s.migrationMeta(), s.version(), migratePatience, corev1.PodSpec{
		ServiceAccountName:           s.Service,
		AutomountServiceAccountToken: new(false),
		EnableServiceLinks:           new(false),
		SecurityContext:              kube.RestrictedPod(),
		Containers: []corev1.Container{{
			Name: migrateArgument, Image: s.Image, Args: []string{migrateArgument},
			Env: append(s.identity(),
				corev1.EnvVar{Name: "LOG_FORMAT", Value: s.LogFormat},
				corev1.EnvVar{Name: "GOMEMLIMIT", Value: fmt.Sprintf("%dMiB", s.Size.MemoryLimitMiB*3/4)},
				kube.SecretVariable(databaseURL, s.Database.OwnerURL.Secret, s.Database.OwnerURL.Key)),
			Resources:       kube.Sizes(s.Size.MilliCPU, s.Size.MemoryMiB, s.Size.MemoryLimitMiB),
			SecurityContext: kube.RestrictedContainer(),
		}},
	})
	if err == nil && s.Database.SkipAwait {
		kube.Unawaited(job)
	}
	return job, err
}

// migrationPolicy lets those pods ask for names and reach the database.
func (s *Spec) migrationPolicy() *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: s.migrationMeta(), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: s.Migration().Labels},
		PolicyTypes: bothWays,
		Egress:      []networkingv1.NetworkPolicyEgressRule{toDNS(), s.Database.egress()},
	}}
}

// egress leads to the database's server.
func (d *Database) egress() networkingv1.NetworkPolicyEgressRule {
	rule := networkingv1.NetworkPolicyEgressRule{Ports: tcp(d.Port)}
	if len(d.CIDRs) == 0 {
		rule.To = peers(d.Pods)
	}
	for _, cidr := range d.CIDRs {
		rule.To = append(rule.To, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr}})
	}
	return rule
}

func (d *Database) validate(f *faults) {
	for _, address := range []struct {
		field string
		key   SecretKey
	}{{"Database.URL", d.URL}, {"Database.OwnerURL", d.OwnerURL}} {
		if address.key.Secret == "" || address.key.Key == "" {
			f.add(address.field, "names no Secret or no key of it")
		}
	}
	if d.URL == d.OwnerURL && d.URL != (SecretKey{}) {
		f.add("Database.URL", "is OwnerURL too: the service could change its schema")
	}
	if len(d.CIDRs) == 0 && (d.Pods.Namespace == "" || len(d.Pods.Labels) == 0) {
		f.add("Database.Pods", "has no namespace or no labels, and there are no CIDRs: queries could leave to every pod")
	}
	if d.Port < 1 || d.Port > 65535 {
		f.add("Database.Port", "is %d: use 1 to 65535", d.Port)
	}
	if len(f.service) > maxMigrateName {
		f.add("Service", "has %d characters: at most %d leave room for the name of the Job that changes its schema", len(f.service), maxMigrateName)
	}
}
