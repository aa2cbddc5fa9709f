// Package database runs PostgreSQL in the cluster, and creates databases and roles on any
// server. Its subpackage instance creates a server on RDS.
package database

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/loja-veloz/platform/infra/kube"
	"github.com/loja-veloz/platform/infra/validate"
)

// MaxConnections is how many connections a server in the cluster accepts.
const MaxConnections = 250

// Superuser is the superuser of a server in the cluster.
const Superuser = "postgres"

const (
	// PostgresImage is the image of a server in the cluster.
	PostgresImage = "docker.io/library/postgres:15.18"

	// postgresUser is the user and the group of that image.
	postgresUser int64 = 999

	serverName = "postgres"
	adminName  = "database-admin"
	dataFolder = "/var/lib/postgresql/data"
	socketDir  = "/var/run/postgresql"
	secretDir  = "/run/secrets/postgres"

	// stopSeconds is how long a shutdown may take: its checkpoint writes all changed pages to
	// disk.
	stopSeconds int64 = 60
)

// ServerSpec describes a PostgreSQL server in the cluster, for environments without RDS. It is
// one pod and has no backups.
type ServerSpec struct {
	// Namespace has to exist, and denies all traffic that this component does not declare.
	Namespace string
	// Image is the image of apps/database, by digest. It generates the superuser's password.
	Image string
	// StorageGiB is the size of the volume.
	StorageGiB int32
	// LocalPath is an existing folder on the node that holds the volume, for clusters without a
	// default StorageClass. Empty uses that class.
	LocalPath string
	// Clients are the pods that may connect.
	Clients []kube.PodSelector
}

// Server is the installed PostgreSQL.
type Server struct {
	pulumi.ResourceState
	kube.Objects
}

// NewServer creates PostgreSQL and, by a Job and if it does not exist, the superuser's Secret.
// Errors name the argument that is wrong.
func NewServer(ctx *pulumi.Context, name string, spec *ServerSpec, opts ...pulumi.ResourceOption) (*Server, error) {
	s := &Server{}
	if _, err := kube.NewComponent(ctx, "database", "loja-veloz:database:Server", name, s, spec.Stages, opts); err != nil {
		return nil, err
	}
	return s, nil
}

// Port is where PostgreSQL listens.
const Port int32 = 5432

// ServerLabels select the server's pods.
func ServerLabels() map[string]string { return map[string]string{"app.kubernetes.io/name": serverName} }

// Host returns the server's address in the cluster.
func (s *ServerSpec) Host() string { return serverName + "." + s.Namespace }

// Validate reports everything that is wrong with the arguments, one error per line.
func (s *ServerSpec) Validate() error {
	var errs validate.Errors
	errs.Required("Namespace", s.Namespace)
	errs.Image("Image", s.Image)
	if s.StorageGiB < 1 {
		errs.Add("StorageGiB", "is %d: at least 1 is needed", s.StorageGiB)
	}
	if s.LocalPath != "" && (!path.IsAbs(s.LocalPath) || path.Clean(s.LocalPath) != s.LocalPath || s.LocalPath == "/") {
		errs.Add("LocalPath", "is %q: use the absolute path of a folder", s.LocalPath)
	}
	for i, client := range s.Clients {
		if client.TooWide() {
			errs.Join(fmt.Errorf("Clients[%d] has no namespace or no labels: it would admit every pod", i))
		}
	}
	return errs.Err()
}

// Stages returns every object, or an error that reports everything that is wrong.
func (s *ServerSpec) Stages() (kube.Stages, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	j := jobs{s.Namespace, s.Image}
	job, err := kube.NewJob(j.meta(adminName), "", jobPatience, j.pod(adminName, "admin", []corev1.EnvVar{
		{Name: "ADMIN_SECRET", Value: AdminSecret},
		{Name: "ADMIN_SECRET_NAMESPACE", Value: s.Namespace},
	}))
	if err != nil {
		return nil, err
	}
	before := append(j.access(adminName, s.Namespace, AdminSecret), kube.Manifest{Name: "network-policy", Object: j.policy(adminName)})
	for i := range before {
		before[i].Name = "admin-" + before[i].Name
	}
	return kube.Stages{
		before,
		{{Name: "admin-job", Object: job}},
		append(s.volume(),
			kube.Manifest{Name: "network-policy", Object: s.networkPolicy()},
			kube.Manifest{Name: "service-account", Object: &corev1.ServiceAccount{ObjectMeta: s.meta(serverName),
				AutomountServiceAccountToken: new(false)}},
			s.service("service", serverName, ""),
			s.service("service-pods", serverName+"-pods", corev1.ClusterIPNone)),
		{{Name: "server", Object: s.statefulSet()}},
	}, nil
}

func (s *ServerSpec) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.Namespace, Labels: labels(serverName)}
}

// service returns a Service that updates do not wait for: its pod is created after it.
func (s *ServerSpec) service(name, object, clusterIP string) kube.Manifest {
	meta := s.meta(object)
	meta.Annotations = map[string]string{kube.SkipAwait: "true"}
	return kube.Manifest{Name: name, Object: &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		ClusterIP: clusterIP, Selector: ServerLabels(),
		Ports: []corev1.ServicePort{{Name: "postgres", Port: Port, TargetPort: intstr.FromString("postgres"), Protocol: corev1.ProtocolTCP}},
	}}}
}

// volume returns the claim and, with LocalPath, its volume. The folder stays when the volume is
// deleted. Pulumi does not wait for the claim, which may stay unbound until its first pod.
func (s *ServerSpec) volume() []kube.Manifest {
	size := corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(int64(s.StorageGiB)<<30, resource.BinarySI)}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	meta := s.meta("postgres-data")
	meta.Annotations = map[string]string{kube.SkipAwait: "true"}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: meta, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size},
	}}
	manifests := []kube.Manifest{{Name: "claim", Object: claim}}
	if s.LocalPath == "" {
		return manifests
	}
	name := "loja-veloz-" + s.Namespace + "-postgres"
	claim.Spec.StorageClassName, claim.Spec.VolumeName = new(""), name
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels(serverName)},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: modes, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			ClaimRef: &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: s.Namespace, Name: claim.Name},
			// A local volume instead of hostPath: the kubelet gives its folder to the pod's group.
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: s.LocalPath}},
			// A local volume has to name its nodes. The cluster has one, which matches this.
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn,
					Values: []string{"linux"}}},
			}}}},
		},
	}
	// Kubernetes completes claimRef.
	return append(manifests, kube.Manifest{Name: "volume", Object: volume, IgnoreChanges: []string{"spec.claimRef"}})
}

// networkPolicy admits the clients to PostgreSQL and lets nothing out.
func (s *ServerSpec) networkPolicy() *networkingv1.NetworkPolicy {
	return kube.IsolatingPolicy(s.meta(serverName), ServerLabels(), kube.FromPods(Port, s.Clients...), nil)
}

// settings configure PostgreSQL for many small pools and little memory. max_connections
// suffices for every service at its autoscaler's limit.
var settings = map[string]string{
	"listen_addresses":        "*",
	"unix_socket_directories": socketDir,
	"max_connections":         fmt.Sprint(MaxConnections),
	"shared_buffers":          "64MB",
	"effective_cache_size":    "192MB",
	"work_mem":                "2MB",
	"maintenance_work_mem":    "32MB",
	"max_wal_size":            "512MB",
	"min_wal_size":            "64MB",
	"checkpoint_timeout":      "15min",
	"huge_pages":              "off",
	"jit":                     "off",
	// A parallel query needs shared memory, of which a pod has little.
	"max_parallel_workers_per_gather":  "0",
	"max_parallel_maintenance_workers": "0",
	"password_encryption":              "scram-sha-256",
	// Log slow statements without their parameters, which may be secret.
	"log_min_duration_statement": "1000",
	"log_parameter_max_length":   "0",
	"log_timezone":               "UTC",
	"timezone":                   "UTC",
}

func arguments() []string {
	args := []string{"postgres"}
	var names []string
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

func (s *ServerSpec) statefulSet() *appsv1.StatefulSet {
	probe := func(period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("postgres")}},
			PeriodSeconds: period, TimeoutSeconds: 2, FailureThreshold: failures,
		}
	}
	security := kube.RestrictedPod()
	security.RunAsUser, security.RunAsGroup, security.FSGroup = new(postgresUser), new(postgresUser), new(postgresUser)
	// Change the group once, for the empty volume: PostgreSQL refuses data that its group may
	// write.
	security.FSGroupChangePolicy = new(corev1.FSGroupChangeOnRootMismatch)
	scratch := func(name string, mib int64) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: resource.NewQuantity(mib<<20, resource.BinarySI)},
		}}
	}
	// id is the name of the data directory. It is optional: a Secret without it has one directory
	// for all data.
	id := kube.SecretVariable("DATA_ID", AdminSecret, AdminID)
	id.ValueFrom.SecretKeyRef.Optional = new(true)
	container := corev1.Container{
		Name: serverName, Image: PostgresImage, Args: arguments(),
		Ports: []corev1.ContainerPort{{Name: "postgres", ContainerPort: Port, Protocol: corev1.ProtocolTCP}},
		Env: []corev1.EnvVar{
			// The data contains the password. A new Secret, as in a new environment, has a new id and so
			// starts a new data directory.
			id,
			{Name: "PGDATA", Value: dataFolder + "/$(DATA_ID)"},
			{Name: "POSTGRES_PASSWORD_FILE", Value: secretDir + "/" + AdminKey},
			{Name: "POSTGRES_INITDB_ARGS", Value: strings.Join([]string{"--encoding=UTF8", "--locale=C", "--data-checksums",
				"--auth-host=scram-sha-256"}, " ")},
		},
		Resources: kube.Sizes(50, 96, 512), SecurityContext: kube.RestrictedContainer(),
		// The first start creates the data; one after a crash replays the log.
		StartupProbe: probe(1, 300), ReadinessProbe: probe(2, 3), LivenessProbe: probe(10, 6),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "data", MountPath: dataFolder}, {Name: "sockets", MountPath: socketDir}, {Name: "scratch", MountPath: "/tmp"},
			{Name: "admin", MountPath: secretDir, ReadOnly: true},
		},
	}
	return &appsv1.StatefulSet{ObjectMeta: s.meta(serverName), Spec: appsv1.StatefulSetSpec{
		Replicas: new(int32(1)), ServiceName: serverName + "-pods",
		Selector: &metav1.LabelSelector{MatchLabels: ServerLabels()},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels(serverName)},
			Spec: corev1.PodSpec{
				ServiceAccountName:           serverName,
				AutomountServiceAccountToken: new(false),
				EnableServiceLinks:           new(false),
				SecurityContext:              security,
				// The image stops PostgreSQL with SIGINT: a fast shutdown, which ends sessions.
				TerminationGracePeriodSeconds: new(stopSeconds),
				Containers:                    []corev1.Container{container},
				Volumes: []corev1.Volume{
					{Name: "data", VolumeSource: corev1.VolumeSource{
						PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "postgres-data"},
					}},
					scratch("sockets", 1), scratch("scratch", 64),
					{Name: "admin", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
						SecretName: AdminSecret, Items: []corev1.KeyToPath{{Key: AdminKey, Path: AdminKey}}, DefaultMode: new(int32(0o440)),
					}}},
				},
			},
		},
	}}
}
