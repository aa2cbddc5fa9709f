package database_test

import (
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/loja-veloz/platform/infra/database"
	"github.com/loja-veloz/platform/infra/infratest"
	"github.com/loja-veloz/platform/infra/kube"
)

const image = "localhost:5000/database@sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

func server() *database.ServerSpec {
	return &database.ServerSpec{
		Namespace: "database", Image: image, StorageGiB: 5, LocalPath: "/srv/postgres",
		Clients: []kube.PodSelector{{Namespace: "shop", Labels: map[string]string{"app.kubernetes.io/name": "orders"}}},
	}
}

// host is the address of the server.
const host = pulumi.String("postgres.database")

// onHost returns the objects of the roles on host.
func onHost() (kube.Stages, error) { return roles().Stages(host) }

func roles() *database.RolesSpec {
	return &database.RolesSpec{
		Namespace: "database", Image: image, Databases: []string{"orders", "stock"}, SecretsNamespace: "shop",
		Port: database.Port, SSLMode: "disable",
		Secret: database.AdminSecret, User: database.Superuser, Server: database.ServerLabels(),
	}
}

func TestServer(t *testing.T) {
	stages, err := server().Stages()
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "server", stages.All())
}

// TestADefaultStorageClass: without a folder there is a claim and no volume.
func TestADefaultStorageClass(t *testing.T) {
	args := server()
	args.LocalPath = ""
	stages, err := args.Stages()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range stages.All() {
		switch o := m.Object.(type) {
		case *corev1.PersistentVolume:
			t.Errorf("there is a volume %s", o.Name)
		case *corev1.PersistentVolumeClaim:
			if o.Spec.StorageClassName != nil || o.Spec.VolumeName != "" {
				t.Errorf("the claim asks for %v %q", o.Spec.StorageClassName, o.Spec.VolumeName)
			}
		}
	}
}

func TestRoles(t *testing.T) {
	stages, err := roles().Stages(host)
	if err != nil {
		t.Fatal(err)
	}
	infratest.Golden(t, "roles", stages.All())
}

// TestJobsMayOnlyUseTheirSecrets: a Role reads only what it writes, and may not list.
func TestJobsMayOnlyUseTheirSecrets(t *testing.T) {
	want := map[string]string{
		"database/database-admin": "postgres-admin",
		"shop/database-setup":     "auditor-databases,orders-database,orders-database-owner,stock-database,stock-database-owner",
	}
	for _, describe := range []func() (kube.Stages, error){server().Stages, onHost} {
		stages, err := describe()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range stages.All() {
			switch o := m.Object.(type) {
			case *rbacv1.Role:
				for _, rule := range o.Rules {
					verbs := strings.Join(rule.Verbs, ",")
					if strings.Join(rule.Resources, ",") != "secrets" || verbs != "create" && verbs != "get,update" {
						t.Errorf("%s may %v %v", o.Name, rule.Verbs, rule.Resources)
					}
					if names := strings.Join(rule.ResourceNames, ","); verbs != "create" && names != want[o.Namespace+"/"+o.Name] {
						t.Errorf("%s/%s may read %s", o.Namespace, o.Name, names)
					}
				}
				delete(want, o.Namespace+"/"+o.Name)
			case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding:
				t.Errorf("%s has rights in the whole cluster", m.Name)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("there is no Role %v", want)
	}
}

// TestPasswordsComeFromSecrets: no container has one as a plain variable.
func TestPasswordsComeFromSecrets(t *testing.T) {
	for _, describe := range []func() (kube.Stages, error){server().Stages, onHost} {
		stages, err := describe()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range stages.All() {
			var pod corev1.PodSpec
			switch o := m.Object.(type) {
			case *batchv1.Job:
				pod = o.Spec.Template.Spec
			case *appsv1.StatefulSet:
				pod = o.Spec.Template.Spec
			case *corev1.Secret:
				t.Errorf("%s would be in the state", m.Name)
			}
			for _, container := range pod.Containers {
				for _, variable := range container.Env {
					if strings.HasSuffix(variable.Name, "PASSWORD") && variable.Value != "" {
						t.Errorf("%s: %s has a plain %s", m.Name, container.Name, variable.Name)
					}
				}
			}
		}
	}
}

func TestClusterRefusals(t *testing.T) {
	everyone := server()
	everyone.Clients[0].Labels = nil
	both := roles()
	both.CIDRs = []string{"10.0.0.0/24"}
	_, forgotten := roles().Stages(nil)
	for want, err := range map[string]error{
		"Namespace is empty":                   (&database.ServerSpec{}).Validate(),
		"StorageGiB is 0":                      (&database.ServerSpec{}).Validate(),
		`LocalPath is "data"`:                  (&database.ServerSpec{LocalPath: "data"}).Validate(),
		`LocalPath is "/a/../b"`:               (&database.ServerSpec{LocalPath: "/a/../b"}).Validate(),
		`Image is "x:1": name it by digest`:    (&database.ServerSpec{Image: "x:1"}).Validate(),
		"Clients[0] has no namespace or no":    everyone.Validate(),
		"SecretsNamespace is empty":            (&database.RolesSpec{}).Validate(),
		"Secret is empty":                      (&database.RolesSpec{}).Validate(),
		"Databases is empty":                   (&database.RolesSpec{}).Validate(),
		`Databases[1] is "a-b"`:                (&database.RolesSpec{Databases: []string{"a", "a-b"}}).Validate(),
		"Host is missing":                      forgotten,
		"Port is 0":                            (&database.RolesSpec{}).Validate(),
		`SSLMode is "prefer"`:                  (&database.RolesSpec{SSLMode: "prefer"}).Validate(),
		"Server and CIDRs: set exactly one of": both.Validate(),
		`Image is "y:2": name it by digest (r`: (&database.RolesSpec{Image: "y:2"}).Validate(),
	} {
		infratest.Refused(t, err, want)
	}
}

func TestOrderInTheCluster(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		installed, err := database.NewServer(ctx, "server", server())
		if err != nil {
			return err
		}
		_, err = database.NewRoles(ctx, "roles", roles(), pulumi.String("db.example").ToStringOutput(), pulumi.DependsOn([]pulumi.Resource{installed}))
		return err
	})
	recorder.InOrder(t, map[string][]string{
		"server-admin-job": {"server-admin-role-binding"},
		"server-server":    {"server-admin-job"},
		"roles-job":        {"roles-address"},
	})
	if data, _ := recorder.Named(t, "roles-address").Inputs["data"].(map[string]any); data["host"] != "db.example" {
		t.Errorf("the address is %v", data)
	}
	if _, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := database.NewServer(ctx, "server", &database.ServerSpec{})
		return err
	}); err == nil || !strings.Contains(err.Error(), "database server: ") {
		t.Errorf("the error is %v", err)
	}
}
