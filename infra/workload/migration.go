package workload

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

const (
	// migrateArgument is the argument with which a service with a database migrates its schema.
	migrateArgument = "migrate"
	migrateSuffix   = "-migrate"

	// migratePatience is how long a change of the schema may take, including its retries.
	migratePatience = 10 * time.Minute

	// maxMigrateName leaves room for the suffixes of the Job's name, which is also a label.
	maxMigrateName = 63 - len(migrateSuffix) - 1 - versionLength - kube.JobSuffix
)

// Migration selects the pods that change the schema. They have another name than the service's,
// so that its Services, budget and autoscaler do not select them.
func (s *Spec) Migration() kube.PodSelector { return s.pods(s.Service + migrateSuffix) }

// Pods selects the service's pods.
func (s *Spec) Pods() kube.PodSelector { return s.pods(s.Service) }

func (s *Spec) migrationMeta() metav1.ObjectMeta {
	meta := s.meta(s.Service + migrateSuffix)
	meta.Labels[nameLabel] = s.Service + migrateSuffix
	return meta
}

// migration returns the Job that changes the schema, as its owner role and with the new image.
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

// migrationPolicy lets those pods resolve names and reach the database.
func (s *Spec) migrationPolicy() *networkingv1.NetworkPolicy {
	return kube.IsolatingPolicy(s.migrationMeta(), s.Migration().Labels, nil,
		[]networkingv1.NetworkPolicyEgressRule{kube.ToDNS(), s.Database.egress()})
}

// egress allows the database's server.
func (d *Database) egress() networkingv1.NetworkPolicyEgressRule {
	if len(d.CIDRs) > 0 {
		return kube.ToCIDRs(d.Port, d.CIDRs...)
	}
	return kube.ToPods(d.Port, d.Pods)
}

func (d *Database) validate(errs *validate.Errors, service string) {
	for _, address := range []struct {
		field string
		key   SecretKey
	}{{"Database.URL", d.URL}, {"Database.OwnerURL", d.OwnerURL}} {
		if address.key.Secret == "" || address.key.Key == "" {
			errs.Add(address.field, "names no Secret or no key of it")
		}
	}
	if d.URL == d.OwnerURL && d.URL != (SecretKey{}) {
		errs.Add("Database.URL", "is also OwnerURL: the service could change its schema")
	}
	if len(d.CIDRs) == 0 && d.Pods.TooWide() {
		errs.Add("Database.Pods", "has no namespace or no labels, and there are no CIDRs: the policy would allow egress to every pod")
	}
	errs.Port("Database.Port", d.Port)
	if len(service) > maxMigrateName {
		errs.Add("Service", "has %d characters: at most %d leave room for the name of the Job that changes its schema", len(service),
			maxMigrateName)
	}
}
