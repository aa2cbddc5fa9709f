package workload

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

// validCronJob returns a spec of a scheduled program in which every field is set.
func validCronJob() *CronJobSpec {
	return &CronJobSpec{
		Name: "audit", Namespace: "shop", Environment: "local",
		Image: "localhost:5000/audit@" + digest, LogFormat: "json",
		Schedule: "* * * * *", Deadline: 10 * time.Minute,
		Env:       map[string]string{"GREETING": "hello"},
		SecretEnv: map[string]SecretKey{"AUDIT_STOCK_DATABASE_URL": {Secret: "auditor-databases", Key: "stock"}},
		Database: &DatabaseServer{
			Pods: kube.PodSelector{Namespace: "database", Labels: map[string]string{"app.kubernetes.io/name": "postgres"}}, Port: 5432,
		},
		MilliCPU: 50, MemoryMiB: 48, MemoryLimitMiB: 128,
		Telemetry: valid().Telemetry,
	}
}

func TestStagesOfACronJob(t *testing.T) {
	stages, err := validCronJob().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "audit", stages.All())
}

func TestASmallCronJobReachesNamesAlone(t *testing.T) {
	args := validCronJob()
	args.Database, args.Telemetry, args.Env, args.SecretEnv = nil, nil, nil, nil
	stages, err := args.Stages()
	if err != nil {
		t.Fatal(err)
	}
	policy := stages[0][1].Object.(*networkingv1.NetworkPolicy).Spec
	if len(policy.Ingress) != 0 || len(policy.Egress) != 1 || len(policy.PolicyTypes) != 2 {
		t.Errorf("the policy is %+v", policy)
	}
	for _, variable := range stages[1][0].Object.(*batchv1.CronJob).Spec.JobTemplate.Spec.Template.Spec.Containers[0].Env {
		if variable.Name == "OTEL_EXPORTER_OTLP_ENDPOINT" || variable.ValueFrom != nil && variable.ValueFrom.SecretKeyRef != nil {
			t.Errorf("there is %s", variable.Name)
		}
	}
}

func TestADatabaseOutsideTheClusterIsReachedByItsAddresses(t *testing.T) {
	args := validCronJob()
	args.Database = &DatabaseServer{CIDRs: []string{"10.0.1.0/24"}, Port: 5432}
	stages, err := args.Stages()
	if err != nil {
		t.Fatal(err)
	}
	to := stages[0][1].Object.(*networkingv1.NetworkPolicy).Spec.Egress[1].To
	if len(to) != 1 || to[0].IPBlock == nil || to[0].IPBlock.CIDR != "10.0.1.0/24" {
		t.Errorf("the database is reached at %+v", to)
	}
}

// TestRefusalsOfACronJob has one case for each error. The error has to name the program and the
// field.
func TestRefusalsOfACronJob(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*CronJobSpec)
		want   string
	}{
		"no name":             {func(a *CronJobSpec) { a.Name = "" }, `(unnamed): Name is ""`},
		"a long name":         {func(a *CronJobSpec) { a.Name = strings.Repeat("a", 53) }, "Name has 53 characters"},
		"a bad namespace":     {func(a *CronJobSpec) { a.Namespace = "shop_1" }, `Namespace is "shop_1"`},
		"a bad environment":   {func(a *CronJobSpec) { a.Environment = "a,b=c" }, `Environment is "a,b=c"`},
		"an image by tag":     {func(a *CronJobSpec) { a.Image = "localhost:5000/audit:1.2" }, `Image is "localhost:5000/audit:1.2"`},
		"a log format":        {func(a *CronJobSpec) { a.LogFormat = "xml" }, `LogFormat is "xml"`},
		"four fields":         {func(a *CronJobSpec) { a.Schedule = "* * * *" }, `Schedule is "* * * *"`},
		"no deadline":         {func(a *CronJobSpec) { a.Deadline = 0 }, "Deadline is 0s"},
		"half a second":       {func(a *CronJobSpec) { a.Deadline = 1500 * time.Millisecond }, "Deadline is 1.5s"},
		"a reserved variable": {func(a *CronJobSpec) { a.Env = map[string]string{"GOMEMLIMIT": "1"} }, "Env sets GOMEMLIMIT"},
		"no key of a Secret":  {func(a *CronJobSpec) { a.SecretEnv["A"] = SecretKey{Secret: "s"} }, "SecretEnv names no Secret or no key of it for A"},
		"no CPU":              {func(a *CronJobSpec) { a.MilliCPU = 0 }, "MilliCPU is 0"},
		"a low limit":         {func(a *CronJobSpec) { a.MemoryLimitMiB = 1 }, "MemoryLimitMiB is 1"},
		"every pod":           {func(a *CronJobSpec) { a.Database.Pods.Labels = nil }, "Database has no CIDRs"},
		"no port":             {func(a *CronJobSpec) { a.Database.Port = 0 }, "Database.Port is 0"},
		"no port of OTLP":     {func(a *CronJobSpec) { a.Telemetry.Endpoint = "http://collector" }, `Telemetry.Endpoint is "http://collector"`},
	} {
		t.Run(name, func(t *testing.T) {
			args := validCronJob()
			test.change(args)
			_, err := args.Stages()
			infratest.Refused(t, err, test.want)
			if name != "no name" {
				infratest.Refused(t, err, args.Name+":")
			}
		})
	}
}
