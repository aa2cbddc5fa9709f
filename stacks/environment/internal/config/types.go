// Package config is the environment's configuration: its keys, their defaults, and how values
// are read and validated.
package config

// Config is everything that can be set for an environment, in Pulumi's configuration namespace
// loja-veloz. The defaults are those of the local environment. docs/parameters.md is generated
// from the doc tags.
type Config struct {
	Cloud                 Cloud              `json:"cloud" doc:"Where the cluster comes from."`
	Cluster               Cluster            `json:"cluster" doc:"The cluster, where the cloud brings it."`
	Database              Database           `json:"database" doc:"The database."`
	KubeContext           string             `json:"kubeContext" doc:"Context of the kubeconfig to deploy to; empty is its current context. Local only."`
	Shop                  Shop               `json:"shop" doc:"What the shop does differently in each environment."`
	Images                map[string]string  `json:"images" doc:"Image of each service, and of database, which creates databases and roles, by digest (registry/name@sha256:...). make deploy sets it."`
	Groups                map[string]string  `json:"groups" doc:"Group of each service that ships with others, by service: none of a group is promoted before all are good, and one abort takes all back. make deploy GROUP=NAME sets it."`
	Services              map[string]Service `json:"services" doc:"Sizes and settings of each service."`
	Canary                Canary             `json:"canary" doc:"How a new version of a service takes over traffic."`
	WaitForRollout        bool               `json:"waitForRollout" doc:"Whether an update ends only when every Rollout is healthy, and fails when one is aborted."`
	RolloutTimeoutSeconds int32              `json:"rolloutTimeoutSeconds" doc:"Longest wait for a Rollout, in seconds; 0 takes it from the canary's steps."`
	Gateway               Gateway            `json:"gateway" doc:"The gateway that shows the public paths."`
	MetricsServer         MetricsServer      `json:"metricsServer" doc:"The metrics that autoscaling needs."`
	Prometheus            Prometheus         `json:"prometheus" doc:"The metrics that canaries are judged by."`
	Console               Console            `json:"console" doc:"The window into canaries and objectives."`
	Delivery              Delivery           `json:"delivery" doc:"What ships new versions."`
	Telemetry             Telemetry          `json:"telemetry" doc:"Where services send traces."`
	Datadog               Datadog            `json:"datadog" doc:"Datadog's agent and operator."`
	Alarms                Alarms             `json:"alarms" doc:"Mail about what AWS runs: RDS, NAT gateways, load balancer, machines, cost."`
	Runner                Runner             `json:"runner" doc:"The runner of GitHub's jobs in the VPC, for workflows that reach the cluster (docs/aws/ci.md)."`
	Charts                Charts             `json:"charts" doc:"Where Helm charts come from."`
}

// Cloud is the account and the network; a local environment has neither.
type Cloud struct {
	Provider           string            `json:"provider" doc:"none (a cluster that exists) or aws."`
	AccountID          string            `json:"accountID" doc:"AWS account, 12 digits; any other account is refused."`
	Region             string            `json:"region" doc:"AWS region, for example us-east-1."`
	Bootstrap          string            `json:"bootstrap" doc:"Stack with the account's singletons, organization/loja-veloz-bootstrap/STACK."`
	CIDR               string            `json:"cidr" doc:"IPv4 range of the VPC; a /16 holds the nine subnets."`
	Taken              []string          `json:"taken" doc:"IPv4 ranges that cidr may not overlap: those of the other environments and of networks to connect with."`
	Zones              []string          `json:"zones" doc:"Three availability zones of the region."`
	NATPerZone         bool              `json:"natPerZone" doc:"A NAT gateway in each zone, so that the loss of one zone takes only itself down; otherwise one in all."`
	InterfaceEndpoints []string          `json:"interfaceEndpoints" doc:"AWS services reached inside the VPC, by short name (ecr.api, ecr.dkr, sts, ...)."`
	LogDays            int32             `json:"logDays" doc:"Days for which flow logs and the control plane's logs are kept."`
	Protected          bool              `json:"protected" doc:"Whether what holds data outlives a destroy and a mistake: protection in Pulumi and in AWS, final snapshots. Required with database.multiAZ."`
	AllowReplace       []string          `json:"allowReplace" doc:"Names of resources that hold data and may nevertheless be replaced or deleted by this update."`
	Adopt              map[string]string `json:"adopt" doc:"What the account has already and this update takes over: name of the resource in this program, and its id in AWS (docs/aws/setup.md)."`
	Offline            bool              `json:"offline" doc:"Leave out the AWS provider's checks of credentials: for previews without an account. make preview sets it in its copy of the stack file."`
}

// Cluster is the EKS cluster.
type Cluster struct {
	Version           string            `json:"version" doc:"Kubernetes version of EKS, 1.33 to 1.36; docs/aws/upgrade.md says how to raise it."`
	ExtendedSupport   bool              `json:"extendedSupport" doc:"Whether the cluster may stay on a version whose standard support has ended, at 0.60 instead of 0.10 dollars an hour. Otherwise EKS upgrades it by itself then."`
	PublicAccessCIDRs []string          `json:"publicAccessCIDRs" doc:"IPv4 ranges that may reach the API server from outside; 0.0.0.0/0 is refused."`
	Admins            []string          `json:"admins" doc:"ARNs of IAM roles that administer the cluster, in addition to the environment's up role."`
	Viewers           []string          `json:"viewers" doc:"ARNs of IAM roles that may read, in addition to the environment's preview role."`
	InstanceType      string            `json:"instanceType" doc:"EC2 type of the nodes. One of Graviton, such as t4g.medium, needs images for arm64."`
	NodeRelease       string            `json:"nodeRelease" doc:"Release of the nodes' image, for example 1.35.6-20260818; another one replaces the nodes one by one. Empty leaves it to EKS at creation and at upgrades."`
	MinNodes          int32             `json:"minNodes" doc:"Minimum of nodes."`
	MaxNodes          int32             `json:"maxNodes" doc:"Maximum of nodes that the autoscaler may start."`
	DiskGiB           int32             `json:"diskGiB" doc:"Root disk of a node, in GiB."`
	PrefixDelegation  bool              `json:"prefixDelegation" doc:"Hand out /28 prefixes to nodes, for more pods on each."`
	MaxPods           int32             `json:"maxPods" doc:"Maximum of pods on a node."`
	Addons            map[string]string `json:"addons" doc:"Version of an EKS add-on (vpc-cni, eks-pod-identity-agent, coredns, kube-proxy, aws-ebs-csi-driver), in place of the pinned one."`
	VolumeDriver      bool              `json:"volumeDriver" doc:"Whether to install the EBS CSI driver, which PersistentVolumeClaims need; nothing of the platform has one in AWS."`
}

// DatabaseImage is the key in images of the program that creates databases and roles.
const DatabaseImage = "database"

// Database is RDS for PostgreSQL in AWS, and PostgreSQL in the cluster of a local
// environment.
type Database struct {
	InstanceClass   string `json:"instanceClass" doc:"RDS instance class, for example db.t4g.micro."`
	EngineVersion   string `json:"engineVersion" doc:"PostgreSQL's major version, or a full one."`
	AllocatedGiB    int32  `json:"allocatedGiB" doc:"Storage at the start, in GiB."`
	MaxAllocatedGiB int32  `json:"maxAllocatedGiB" doc:"Storage up to which it grows by itself, in GiB."`
	MultiAZ         bool   `json:"multiAZ" doc:"A standby in a second zone."`
	RestoreFrom     string `json:"restoreFrom" doc:"AWS: what a new instance begins with: the name of a snapshot, or INSTANCE@TIME, such as loja-veloz-dev-broken@2026-11-29T18:00:00Z. Only the update that creates the instance takes it; for an instance that exists it would mean a replacement, which protection refuses (docs/aws/disaster-recovery.md)."`
	BackupDays      int32  `json:"backupDays" doc:"Days for which backups allow a restore to any second."`
	Await           bool   `json:"await" doc:"Whether an update waits for the Jobs that create databases, roles and schemas; false only where nothing runs them."`
	SSLMode         string `json:"sslMode" doc:"AWS: how clients connect: verify-full, only to a server that RDS's authority has signed for the instance's name, or require, encrypted without a check of that."`
	LocalPath       string `json:"localPath" doc:"Local: folder of the node that holds the data, for a cluster without a default StorageClass; make sets it for the bundled one. Empty takes the class."`
	LocalGiB        int32  `json:"localGiB" doc:"Local: size of the volume, in GiB."`
}

// Shop is what the services do differently in each environment.
type Shop struct {
	Acquirer             string `json:"acquirer" doc:"simulator, or stripe."`
	StripePublishableKey string `json:"stripePublishableKey" doc:"stripe: key with which the storefront's pages take cards, pk_test_... or pk_live_...; no secret. With cloud.protected only pk_live_..."`
	StripeSecretName     string `json:"stripeSecretName" doc:"stripe: secret in AWS Secrets Manager with the keys api-key (the secret or restricted key) and webhook-secret (of the webhook endpoint)."`
	StripeSecretVersion  string `json:"stripeSecretVersion" doc:"stripe: id of the secret's version, a UUID. Another one arrives by canary."`
	Auth                 string `json:"auth" doc:"Who may use the API: off (everybody), api-key or jwt; further settings of jwt go into services.api-gateway.env. With jwt the storefront still uses a key."`
	APIKeysSecretName    string `json:"apiKeysSecretName" doc:"api-key and jwt: secret in AWS Secrets Manager with the keys api-keys (names and hashes, as api-gateway reads them) and storefront (the key that sample-web-app sends)."`
	APIKeysSecretVersion string `json:"apiKeysSecretVersion" doc:"api-key and jwt: id of the secret's version, a UUID. Another one arrives by canary."`
	Webhooks             string `json:"webhooks" doc:"Where events of orders may be sent: off (nowhere), or public (https at public addresses, for which pedidos may reach the internet; in AWS not with auth off)."`
	SeedCatalogue        bool   `json:"seedCatalogue" doc:"Whether an empty catalogue is filled with examples."`
	Docs                 bool   `json:"docs" doc:"Whether services show their OpenAPI document at /docs; api-gateway's is public at /api/docs."`
}

// Datadog is the agent on every node and the operator for objectives as code.
type Datadog struct {
	Install       bool   `json:"install" doc:"Whether to install Datadog."`
	Objectives    bool   `json:"objectives" doc:"Whether the agents read the metrics that objectives and alarms are measured by, and both become SLOs, monitors and dashboards in Datadog. Only with install."`
	Site          string `json:"site" doc:"Datadog site, for example datadoghq.com."`
	SecretName    string `json:"secretName" doc:"Secret in AWS Secrets Manager with the keys api-key, app-key and token: 32 letters or digits of yours, with which the node agents log in to the cluster agent."`
	SecretVersion string `json:"secretVersion" doc:"Id of the secret's version, a UUID. Another one restarts the agents and the operator."`
}

// Alarms are CloudWatch's alarms and a budget.
type Alarms struct {
	Emails           []string `json:"emails" doc:"AWS: addresses that get every alarm, after they have confirmed it; empty creates neither alarms nor a budget."`
	MonthlyBudgetUSD int32    `json:"monthlyBudgetUSD" doc:"AWS: US dollars that a month is expected to cost; mail is sent when the forecast or the cost exceeds them."`
}

// Runner is a CodeBuild project that runs jobs of GitHub's workflows.
type Runner struct {
	Install       bool   `json:"install" doc:"AWS: whether to create the runner, a CodeBuild project named after the environment, loja-veloz-dev-runner for dev."`
	Repository    string `json:"repository" doc:"AWS: GitHub repository whose jobs it runs, https://github.com/OWNER/NAME."`
	ConnectionARN string `json:"connectionARN" doc:"AWS: connection to GitHub, which a person creates and confirms in AWS's console."`
}

// Charts is where Helm charts come from.
type Charts struct {
	Repository string `json:"repository" doc:"Mirror with all charts, a URL or a folder; empty takes each from its project."`
	Await      bool   `json:"await" doc:"Whether an update waits until what the charts install, Prometheus, the console and the collector are ready."`
}

// Service is the part of a service that differs between environments.
type Service struct {
	MinReplicas    int32             `json:"minReplicas" doc:"Minimum of pods, at least 1."`
	MaxReplicas    int32             `json:"maxReplicas" doc:"Maximum of pods that the autoscaler may start."`
	MilliCPU       int32             `json:"milliCPU" doc:"CPU request of a pod, in thousandths of a core."`
	MemoryMiB      int32             `json:"memoryMiB" doc:"Memory request of a pod, in MiB."`
	MemoryLimitMiB int32             `json:"memoryLimitMiB" doc:"Memory limit of a pod, in MiB."`
	LogFormat      string            `json:"logFormat" doc:"json or text."`
	Env            map[string]string `json:"env" doc:"Further environment variables; no secrets."`
}

// Canary is how a new version of a service takes over traffic.
type Canary struct {
	Weights                 []int32 `json:"weights" doc:"Shares of the traffic, in percent, one after another; they rise, within 1 to 100."`
	PauseSeconds            int32   `json:"pauseSeconds" doc:"Time at each weight, in seconds."`
	ProgressDeadlineSeconds int32   `json:"progressDeadlineSeconds" doc:"Time, in seconds, within which new pods have to become ready, or the update is aborted."`
}

// Gateway is the gateway at the edge.
type Gateway struct {
	Class              string `json:"class" doc:"Name of the GatewayClass."`
	NodePort           int32  `json:"nodePort" doc:"Local: port of every node on which the gateway listens, 30000 to 32767."`
	Host               string `json:"host" doc:"AWS: public name of the shop, for example shop.example.com; the zone's own name or one below it."`
	ZoneID             string `json:"zoneID" doc:"AWS: Route 53 zone for the record of host and for the proof that the certificate needs; empty leaves both to you, with certificateARN."`
	CertificateARN     string `json:"certificateARN" doc:"AWS: ACM certificate for host; empty orders one in zoneID."`
	Replicas           int32  `json:"replicas" doc:"Pods of the gateway."`
	InstallDefinitions bool   `json:"installDefinitions" doc:"Whether to install the CustomResourceDefinitions of the Gateway API and of the gateway; false where the cluster has them, which destroy then leaves alone."`
}

// MetricsServer is whether and how metrics-server is installed.
type MetricsServer struct {
	Install            bool `json:"install" doc:"Whether to install metrics-server; false where the cluster has one."`
	KubeletInsecureTLS bool `json:"kubeletInsecureTLS" doc:"Whether to take kubelets' certificates unverified, for clusters whose kubelets sign their own."`
}

// Prometheus is whether and how Prometheus is installed.
type Prometheus struct {
	Install  bool  `json:"install" doc:"Whether to install Prometheus, by which canaries are judged; without it the clock alone promotes them, and every preview and update warns of that."`
	NodePort int32 `json:"nodePort" doc:"Port of every node on which Prometheus listens as well, not in AWS; make opens 9090 on the bundled cluster. 0 is none."`
}

// Console is whether and how the console is installed.
type Console struct {
	Install  bool  `json:"install" doc:"Whether to install the console, which shows canaries and objectives; without prometheus.install it is not installed."`
	NodePort int32 `json:"nodePort" doc:"Port of every node on which the console listens as well, not in AWS; make opens 9092 on the bundled cluster. 0 is none."`
}

// ConsoleImage is the key in images of the console.
const ConsoleImage = "console"

// Delivery is what ships new versions.
type Delivery struct {
	Mode            string `json:"mode" doc:"Who applies the objects of the services: pulumi (this stack), or gitops (Argo CD, from what make render has written to delivery.git: docs/gitops.md). Argo CD is installed only with gitops, and so is Image Updater in AWS."`
	Retain          bool   `json:"retain" doc:"Whether the objects of the services stay in the cluster when the stack no longer declares them. Set it, and run pulumi up, before mode of a running environment becomes gitops."`
	InstallRollouts bool   `json:"installRollouts" doc:"Whether to install the Argo Rollouts controller; false where the cluster has one."`

	PublicKey string `json:"publicKey" doc:"Public key, in PEM, that has signed the images. What it has not signed does not run in the shop: the API server refuses it. Empty: nothing is asked; make writes the machine's key for the bundled cluster."`
	Signer    string `json:"signer" doc:"AWS: workflow of GitHub whose keyless signatures of images count, https://github.com/OWNER/REPOSITORY/.github/workflows/release.yml@refs/heads/main. What it has not signed does not run in the shop. With publicKey, either signature suffices."`

	Git Git `json:"git" doc:"gitops: the git repository that Argo CD reads, and to which releases and rollbacks are committed."`
}

// Modes of delivery.
const (
	Pulumi = "pulumi"
	GitOps = "gitops"
)

// Git is a git repository.
type Git struct {
	URL        string `json:"url" doc:"Address of the repository, https://; without AWS also http://."`
	Branch     string `json:"branch" doc:"Branch that is applied."`
	Path       string `json:"path" doc:"Folder of the repository with a folder for each service; empty is stacks/environment/manifests/STACK."`
	SecretName string `json:"secretName" doc:"AWS: secret in AWS Secrets Manager with the keys username and password of the repository, with which Argo CD reads."`

	PushSecretName    string `json:"pushSecretName" doc:"AWS: secret in AWS Secrets Manager with the same keys, whose password may push to the branch. Only the program that commits rollbacks reads it."`
	PushSecretVersion string `json:"pushSecretVersion" doc:"AWS: id of the version of pushSecretName, a UUID. Another one restarts the program that reads it."`
}

// Telemetry is where traces and pushed metrics go.
type Telemetry struct {
	Collector      bool   `json:"collector" doc:"Whether to install an OpenTelemetry Collector, to which every program sends, and which passes on to otlpEndpoint. In AWS it is installed only with otlpEndpoint."`
	OTLPEndpoint   string `json:"otlpEndpoint" doc:"OTLP address that receives traces and metrics, http://host:4318, or without the collector also http://host:4317. Empty: locally the collector comes with Jaeger; without the collector nothing is sent."`
	JaegerNodePort int32  `json:"jaegerNodePort" doc:"Port of every node on which Jaeger's API listens as well; make opens 16686 on the bundled cluster. 0 is none."`
}

// Defaults returns the values of the local environment, with the given defaults of each
// service.
func Defaults(services map[string]Service) *Config {
	return &Config{
		Cloud: Cloud{Provider: "none", CIDR: "10.0.0.0/16", LogDays: 30},
		Cluster: Cluster{
			Version: "1.35", InstanceType: "t3.medium", MinNodes: 3, MaxNodes: 6, DiskGiB: 50,
			PrefixDelegation: true, MaxPods: 110, Addons: map[string]string{},
		},
		Database: Database{
			InstanceClass: "db.t4g.micro", EngineVersion: "15", AllocatedGiB: 20, MaxAllocatedGiB: 100, BackupDays: 7,
			Await: true, SSLMode: "verify-full", LocalGiB: 5,
		},
		Shop:           Shop{Acquirer: "simulator", Auth: "off", Webhooks: "off", SeedCatalogue: true, Docs: true},
		Datadog:        Datadog{Site: "datadoghq.com", Objectives: true},
		Charts:         Charts{Await: true},
		Images:         map[string]string{},
		Groups:         map[string]string{},
		Services:       services,
		Canary:         Canary{Weights: []int32{20, 40, 60, 80}, PauseSeconds: 30, ProgressDeadlineSeconds: 120},
		WaitForRollout: true,
		Gateway:        Gateway{Class: "traefik", NodePort: 30080, Replicas: 1, InstallDefinitions: true},
		MetricsServer:  MetricsServer{Install: true},
		Prometheus:     Prometheus{Install: true},
		Telemetry:      Telemetry{Collector: true},
		Console:        Console{Install: true},
		Delivery:       Delivery{Mode: Pulumi, InstallRollouts: true, Git: Git{Branch: "main"}},
	}
}

// DefaultService returns the size of a service that declares no other.
func DefaultService() Service {
	return Service{MinReplicas: 2, MaxReplicas: 6, MilliCPU: 50, MemoryMiB: 48, MemoryLimitMiB: 128, LogFormat: "json"}
}
