package cluster_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"

	awseks "github.com/pulumi/pulumi-aws/sdk/v6/go/aws/eks"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"sigs.k8s.io/yaml"

	"github.com/loja-veloz/platform/infra/cluster"
	"github.com/loja-veloz/platform/infra/infratest"
)

const (
	account = "123456789012"
	key     = "arn:aws:kms:us-east-1:" + account + ":key/k"
	admin   = "arn:aws:iam::" + account + ":role/deploy/up-dev"
	viewer  = "arn:aws:iam::" + account + ":role/preview-dev"
)

func args() *cluster.Spec {
	return &cluster.Spec{
		Name: "loja-veloz-dev", Version: "1.33", Region: "us-east-1", AccountID: account,
		PublicAccessCIDRs: []string{"203.0.113.0/24"}, Admins: []string{admin}, Viewers: []string{viewer},
		LogDays:  90,
		Nodes:    cluster.Nodes{InstanceType: "t3.medium", Min: 2, Max: 6, Release: "1.33.4-20260801", DiskGiB: 50, PrefixDelegation: true, MaxPods: 40},
		NodeTags: map[string]string{"Environment": "dev"},
		Protect:  true,
	}
}

// inputs repeats the admin of the spec.
func inputs() cluster.Inputs {
	return cluster.Inputs{
		VPCID: pulumi.String("vpc-1"), PublicSubnets: pulumi.ToStringArray([]string{"subnet-p"}),
		PrivateSubnets: pulumi.ToStringArray([]string{"subnet-a", "subnet-b"}), KeyARN: pulumi.String(key), Admins: []string{admin},
		PermissionsBoundary: "arn:aws:iam::" + account + ":policy/loja-veloz-boundary",
	}
}

// standIn answers for pulumi-eks as the real component does: with outputs that
// are not its inputs, among them a reference to a cluster.
type standIn struct {
	*infratest.Recorder
	mu        sync.Mutex
	protected map[string]bool
	// reference is false for a component that returns no cluster.
	reference bool
}

const referredCluster = "urn:pulumi:test::loja-veloz::aws:eks/cluster:Cluster::referred"

func (s *standIn) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	s.mu.Lock()
	s.protected[args.Name] = args.RegisterRPC.GetProtect()
	s.mu.Unlock()
	id, outputs, err := s.Recorder.NewResource(args)
	switch args.TypeToken {
	case "eks:index:Cluster":
		outputs = resource.PropertyMap{}
		if s.reference {
			outputs["eksCluster"] = resource.MakeCustomResourceReference(referredCluster, "loja-veloz-dev", "")
		}
	case "aws:ec2/launchTemplate:LaunchTemplate":
		outputs = outputs.Copy()
		outputs["latestVersion"] = resource.NewProperty(7.0)
	}
	return id, outputs, err
}

// run creates a cluster in an update in which the cluster that the component refers to is
// registered already.
func run(t *testing.T, s *cluster.Spec, use func(*cluster.Cluster)) *standIn {
	t.Helper()
	return runWith(t, s, inputs(), use)
}

func runWith(t *testing.T, s *cluster.Spec, in cluster.Inputs, use func(*cluster.Cluster)) *standIn {
	t.Helper()
	mocks := &standIn{Recorder: &infratest.Recorder{}, protected: map[string]bool{}, reference: true}
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		before, err := awseks.NewCluster(ctx, "referred", &awseks.ClusterArgs{
			Name: pulumi.String(s.Name), RoleArn: pulumi.String("role"),
			VpcConfig: awseks.ClusterVpcConfigArgs{ClusterSecurityGroupId: pulumi.String("sg-eks"), SubnetIds: pulumi.StringArray{}},
		})
		if err != nil {
			return err
		}
		infratest.Registered(before)
		created, err := cluster.New(ctx, "eks", s, in)
		if err == nil && use != nil {
			use(created)
		}
		return err
	}, pulumi.WithMocks("loja-veloz", "test", mocks))
	if err != nil {
		t.Fatal(err)
	}
	return mocks
}

func TestPreviewIsWellFormed(t *testing.T) {
	recorder, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := cluster.New(ctx, "eks", args(), inputs())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder.WellFormed(t)
}

func TestControlPlane(t *testing.T) {
	mocks := run(t, args(), nil)
	inputs := mocks.Named(t, "eks-eks").Inputs
	for field, want := range map[string]any{
		"name": "loja-veloz-dev", "version": "1.33", "vpcId": "vpc-1", "authenticationMode": "API", "createOidcProvider": false,
		"endpointPrivateAccess": true, "endpointPublicAccess": true, "encryptionConfigKeyArn": key,
		"skipDefaultNodeGroup": true, "useDefaultVpcCni": true,
		"publicAccessCidrs":      []any{"203.0.113.0/24"},
		"privateSubnetIds":       []any{"subnet-a", "subnet-b"},
		"enabledClusterLogTypes": []any{"api", "audit", "authenticator", "controllerManager", "scheduler"},
	} {
		if got := inputs[field]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	for _, field := range []string{"serviceRole", "instanceRole", "providerCredentialOpts"} {
		if inputs[field] == nil {
			t.Errorf("%s is not given", field)
		}
	}
	if inputs["instanceRoles"] != nil {
		t.Error("instanceRoles is given: API mode refuses it")
	}
	entries := inputs["accessEntries"].(map[string]any)
	if got := fmt.Sprint(entries[account+"-deploy-up-dev"]); len(entries) != 2 || !strings.Contains(got, "AmazonEKSClusterAdminPolicy") ||
		strings.Contains(got, "loja-veloz:viewers") {
		t.Errorf("the access entries are %v", entries)
	}
	if got := fmt.Sprint(entries[account+"-preview-dev"]); !strings.Contains(got, "AmazonEKSViewPolicy") ||
		!strings.Contains(got, "kubernetesGroups:[loja-veloz:viewers]") {
		t.Errorf("the viewer's access entry is %v", got)
	}
	logs := mocks.Named(t, "eks-logs").Inputs
	if logs["name"] != "/aws/eks/loja-veloz-dev/cluster" || logs["retentionInDays"] != 90.0 || logs["kmsKeyId"] != key {
		t.Errorf("the control plane's logs are %v", logs)
	}
	// The component would pass its protection on to access entries, providers and rules: see corrected.
	for name, want := range map[string]bool{"eks-eks": false, "eks-logs": true, "eks-nodes": false} {
		if mocks.protected[name] != want {
			t.Errorf("%s protected: %t", name, !want)
		}
	}
}

// TestARoleMovesBetweenAdminsAndViewers: the entry keeps its name, of which EKS has one per role.
func TestARoleMovesBetweenAdminsAndViewers(t *testing.T) {
	names := func(s *cluster.Spec) (names []string) {
		for name, entry := range run(t, s, nil).Named(t, "eks-eks").Inputs["accessEntries"].(map[string]any) {
			for policy := range entry.(map[string]any)["accessPolicies"].(map[string]any) {
				names = append(names, name+" "+policy)
			}
		}
		slices.Sort(names)
		return names
	}
	const person = "arn:aws:iam::" + account + ":role/ops"
	before, after := args(), args()
	before.Admins, after.Viewers = append(before.Admins, person), append(after.Viewers, person)
	if was, is := names(before), names(after); !slices.Equal(was, is) || !slices.Contains(is, account+"-ops access") {
		t.Errorf("the entries are called %v, and after the move %v", was, is)
	}
}

func TestWithoutAllowListTheEndpointIsPrivate(t *testing.T) {
	a := args()
	a.PublicAccessCIDRs = nil
	inputs := run(t, a, nil).Named(t, "eks-eks").Inputs
	if inputs["endpointPublicAccess"] != false || inputs["publicAccessCidrs"] != nil || inputs["endpointPrivateAccess"] != true {
		t.Errorf("the endpoint is open: %v", inputs)
	}
}

func TestOrder(t *testing.T) {
	a := args()
	a.VolumeDriver = true
	mocks := run(t, a, nil)
	mocks.InOrder(t, map[string][]string{
		"eks-eks":                          {"eks-logs", "eks-control-plane-managed-AmazonEKSClusterPolicy"},
		"eks-addon-vpc-cni":                {"eks-eks", "eks-vpc-cni-association"},
		"eks-vpc-cni-association":          {"eks-eks"},
		"eks-addon-eks-pod-identity-agent": {"eks-eks"},
		"eks-nodes": {"eks-addon-vpc-cni", "eks-addon-eks-pod-identity-agent",
			"eks-node-managed-AmazonEKSWorkerNodePolicy"},
		"eks-addon-coredns":            {"eks-nodes"},
		"eks-addon-kube-proxy":         {"eks-nodes"},
		"eks-addon-aws-ebs-csi-driver": {"eks-nodes", "eks-ebs-csi-association"},
	})
}

// EKS refuses an image for another processor than that of the machines.
func TestTheImageOfNodesFollowsTheirProcessor(t *testing.T) {
	for instance, want := range map[string][2]string{
		"t3.medium": {"AL2023_x86_64_STANDARD", "x86_64"}, "m7i.large": {"AL2023_x86_64_STANDARD", "x86_64"},
		"t4g.medium": {"AL2023_ARM_64_STANDARD", "arm64"}, "m7g.large": {"AL2023_ARM_64_STANDARD", "arm64"},
	} {
		a := args()
		a.Nodes.InstanceType = instance
		if got := run(t, a, nil).Named(t, "eks-nodes").Inputs; got["amiType"] != want[0] || fmt.Sprint(got["instanceTypes"]) != "["+instance+"]" {
			t.Errorf("%v with the image %v, want %s", got["instanceTypes"], got["amiType"], want[0])
		}
		path := "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/" + want[1] + "/standard/recommended/release_version"
		if got := a.Nodes.NodeReleases("1.35"); got != path {
			t.Errorf("the recommended release for %s is in %s, want %s", instance, got, path)
		}
	}
}

func TestNodeGroup(t *testing.T) {
	mocks := run(t, args(), nil)
	group := mocks.Named(t, "eks-nodes")
	for field, want := range map[string]any{
		"amiType": "AL2023_x86_64_STANDARD", "version": "1.33", "subnetIds": []any{"subnet-a", "subnet-b"}, "instanceTypes": []any{"t3.medium"},
		"scalingConfig":  map[string]any{"minSize": 2, "maxSize": 6, "desiredSize": 2},
		"releaseVersion": "1.33.4-20260801", "nodeRepairConfig": map[string]any{"enabled": true},
		"launchTemplate": map[string]any{"id": "eks-nodes-template-id", "version": "7"},
		"diskSize":       nil, "nodeGroupName": nil,
	} {
		if got := group.Inputs[field]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	if !slices.Equal(group.IgnoreChanges, []string{"scalingConfig.desiredSize"}) {
		t.Errorf("changes of %v are ignored: the autoscaler owns the desired size", group.IgnoreChanges)
	}
	template := mocks.Named(t, "eks-nodes-template").Inputs
	metadata := template["metadataOptions"].(map[string]any)
	if metadata["httpTokens"] != "required" || metadata["httpPutResponseHopLimit"] != 1.0 {
		t.Errorf("metadata: %v", metadata)
	}
	disk := template["blockDeviceMappings"].([]any)[0].(map[string]any)["ebs"].(map[string]any)
	if disk["encrypted"] != "true" || disk["volumeType"] != "gp3" || disk["volumeSize"] != 50.0 {
		t.Errorf("the disk is %v", disk)
	}
	if template["imageId"] != nil || template["instanceType"] != nil || len(template["tagSpecifications"].([]any)) != 3 {
		t.Errorf("the template is %v", template)
	}
	for _, found := range mocks.Resources() {
		if found.Type == "aws:iam/role:Role" && found.Inputs["permissionsBoundary"] != inputs().PermissionsBoundary {
			t.Errorf("%s is not bounded", found.Name)
		}
	}
}

// TestBoundsOfTheNodeGroupChange: EKS refuses a minimum above the desired number, and a change of a
// bound sends the number along.
func TestBoundsOfTheNodeGroupChange(t *testing.T) {
	for name, test := range map[string]struct {
		now     *cluster.Scaling
		desired int
		ignored bool
	}{
		"there is none":                       {nil, 2, true},
		"the same bounds":                     {&cluster.Scaling{Min: 2, Max: 6, Desired: 5}, 2, true},
		"the minimum rises above the desired": {&cluster.Scaling{Min: 1, Max: 6, Desired: 1}, 2, false},
		"the minimum rises below the desired": {&cluster.Scaling{Min: 1, Max: 6, Desired: 5}, 5, false},
		"the maximum rises":                   {&cluster.Scaling{Min: 2, Max: 4, Desired: 4}, 4, false},
		"the number is below the bounds":      {&cluster.Scaling{Min: 2, Max: 6, Desired: 1}, 2, false},
		"the number is above the bounds":      {&cluster.Scaling{Min: 2, Max: 6, Desired: 7}, 6, false},
		"the maximum falls below the desired": {&cluster.Scaling{Min: 2, Max: 9, Desired: 8}, 6, false},
	} {
		in := inputs()
		in.Scaling = test.now
		group := runWith(t, args(), in, nil).Named(t, "eks-nodes")
		want := map[string]any{"minSize": 2, "maxSize": 6, "desiredSize": test.desired}
		if got := group.Inputs["scalingConfig"]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		if ignored := slices.Equal(group.IgnoreChanges, []string{"scalingConfig.desiredSize"}); ignored != test.ignored {
			t.Errorf("%s: changes of %v are ignored", name, group.IgnoreChanges)
		}
	}
}

// TestEntriesOfTwoRolesHaveTwoNames: a second entry of the same name would replace the first.
func TestEntriesOfTwoRolesHaveTwoNames(t *testing.T) {
	a := args()
	a.Admins = []string{"arn:aws:iam::123456789012:role/people/ops", "arn:aws:iam::123456789012:role/people-ops"}
	infratest.Refused(t, a.Validate(), "Admins[1] is arn:aws:iam::123456789012:role/people-ops", "that of arn:aws:iam::123456789012:role/people/ops")
}

func TestTheVolumeDriverIsOffByDefault(t *testing.T) {
	for _, found := range run(t, args(), nil).Resources() {
		if strings.Contains(found.Name, "ebs-csi") {
			t.Errorf("there is %s", found.Name)
		}
	}
}

func TestViewersSeeNodesAndCustomResourcesAndNoSecrets(t *testing.T) {
	recorder := infratest.Deploy(t, func(ctx *pulumi.Context) error {
		_, err := cluster.NewViewers(ctx, "viewers")
		return err
	})
	rules := fmt.Sprint(recorder.Named(t, "viewers-cluster-role").Inputs["rules"])
	for _, want := range []string{"nodes", "argoproj.io", "gateway.networking.k8s.io", "external-secrets.io"} {
		if !strings.Contains(rules, want) {
			t.Errorf("viewers do not see %s: %s", want, rules)
		}
	}
	for _, rule := range recorder.Named(t, "viewers-cluster-role").Inputs["rules"].([]any) {
		r := rule.(map[string]any)
		if slices.Contains(r["apiGroups"].([]any), any("")) && fmt.Sprint(r["resources"]) != "[nodes persistentvolumes]" ||
			fmt.Sprint(r["verbs"]) != "[get list watch]" || slices.Contains(r["apiGroups"].([]any), any("*")) {
			t.Errorf("viewers may %v", r)
		}
	}
	if subjects := fmt.Sprint(recorder.Named(t, "viewers-cluster-role-binding").Inputs["subjects"]); !strings.Contains(subjects, "name:loja-veloz:viewers") {
		t.Errorf("the role is bound to %s", subjects)
	}
}

func TestAddons(t *testing.T) {
	a := args()
	a.Addons.CoreDNS, a.VolumeDriver = "v1.99.0-eksbuild.9", true
	mocks := run(t, a, nil)
	for name, version := range map[string]string{
		"vpc-cni": "v1.22.4-eksbuild.3", "eks-pod-identity-agent": "v1.3.10-eksbuild.3", "coredns": "v1.99.0-eksbuild.9",
		"kube-proxy": "v1.33.10-eksbuild.21", "aws-ebs-csi-driver": "v1.50.1-eksbuild.1",
	} {
		inputs := mocks.Named(t, "eks-addon-"+name).Inputs
		if inputs["addonVersion"] != version || inputs["resolveConflictsOnCreate"] != "OVERWRITE" || inputs["clusterName"] != "loja-veloz-dev" {
			t.Errorf("%s is %v", name, inputs)
		}
	}
	want := `{"enableNetworkPolicy":"true","env":{"ENABLE_PREFIX_DELEGATION":"true","WARM_PREFIX_TARGET":"1"}}`
	if got := mocks.Named(t, "eks-addon-vpc-cni").Inputs["configurationValues"]; got != want {
		t.Errorf("vpc-cni is configured %v", got)
	}
}

func TestOutputs(t *testing.T) {
	var mu sync.Mutex
	got := map[string]string{}
	secret := map[string]bool{}
	run(t, args(), func(c *cluster.Cluster) {
		for name, output := range map[string]pulumi.StringOutput{"name": c.Name, "group": c.SecurityGroupID, "kubeconfig": c.Kubeconfig} {
			pulumi.UnsecretWithContext(t.Context(), output).ApplyT(func(v any) error {
				mu.Lock()
				defer mu.Unlock()
				got[name] = fmt.Sprint(v)
				return nil
			})
		}
		secret["kubeconfig"] = pulumi.IsSecret(c.Kubeconfig)
	})
	if got["name"] != "loja-veloz-dev" || got["group"] != "sg-eks" {
		t.Errorf("outputs are %v", got)
	}
	if !secret["kubeconfig"] || !strings.Contains(got["kubeconfig"], `"loja-veloz-dev"`) {
		t.Errorf("secret: %v, kubeconfig %s", secret, got["kubeconfig"])
	}
}

func TestComponentWithoutClusterIsAnError(t *testing.T) {
	mocks := &standIn{Recorder: &infratest.Recorder{}, protected: map[string]bool{}}
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := cluster.New(ctx, "eks", args(), inputs())
		return err
	}, pulumi.WithMocks("loja-veloz", "test", mocks))
	if err == nil || !strings.Contains(err.Error(), "returned no cluster") {
		t.Errorf("got %v", err)
	}
}

func TestKubeconfig(t *testing.T) {
	text, err := cluster.Kubeconfig("c", "us-east-1", "https://e", "Q0E=")
	if err != nil {
		t.Fatal(err)
	}
	var decoded struct {
		CurrentContext string `json:"current-context"`
		Users          []struct {
			User struct{ Exec struct{ Args []string } }
		}
	}
	if err := json.Unmarshal([]byte(text), &decoded); err != nil {
		t.Fatal(err)
	}
	want := []string{"--region", "us-east-1", "eks", "get-token", "--cluster-name", "c", "--output", "json"}
	if decoded.CurrentContext != "c" || !slices.Equal(decoded.Users[0].User.Exec.Args, want) {
		t.Errorf("got %s", text)
	}
}

func TestUserData(t *testing.T) {
	nodes := args().Nodes
	encoded, err := nodes.UserData()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := nodes.UserData(); again != encoded {
		t.Error("the user data differs from one time to the next")
	}
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	message, err := mail.ReadMessage(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	kind, parameters, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/mixed" {
		t.Fatalf("%s: %v", kind, err)
	}
	parts := multipart.NewReader(message.Body, parameters["boundary"])
	part, err := parts.NextPart()
	if err != nil || part.Header.Get("Content-Type") != "application/node.eks.aws" {
		t.Fatalf("%v: %v", part, err)
	}
	body, err := io.ReadAll(part)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		APIVersion string
		Kind       string
		Spec       struct {
			Kubelet struct {
				Config struct {
					MaxPods      int
					KubeReserved map[string]string
				}
			}
		}
	}
	if err := yaml.UnmarshalStrict(body, &config, yaml.DisallowUnknownFields); err != nil && !strings.Contains(err.Error(), "evictionHard") {
		t.Fatal(err)
	}
	kubelet := config.Spec.Kubelet.Config
	if config.Kind != "NodeConfig" || kubelet.MaxPods != 40 || kubelet.KubeReserved["memory"] != "695Mi" ||
		kubelet.KubeReserved["cpu"] != "70m" {
		t.Errorf("nodes are configured %+v", config)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("after the only part: %v", err)
	}
}

// refused returns the error of New.
func refused(spec *cluster.Spec, in cluster.Inputs) error {
	_, err := infratest.Run(true, func(ctx *pulumi.Context) error {
		_, err := cluster.New(ctx, "eks", spec, in)
		return err
	})
	return err
}

func TestValidateReportsAllErrorsAtOnce(t *testing.T) {
	err := refused(&cluster.Spec{
		Name: "1-bad_name", Version: "1.12", Region: "mars", AccountID: "12",
		PublicAccessCIDRs: []string{"0.0.0.0/0", "::/0", "nonsense", "203.0.113.9/24", "0.0.0.0/1", "10.1.0.0/16", "2001:db8::/32"},
		Admins:            []string{"arn:aws:iam::12:role/x", admin}, Viewers: []string{admin},
		LogDays: 2,
		Nodes:   cluster.Nodes{InstanceType: "t3.medium", Min: 5, Max: 3, Release: "1.11.4-20260801", DiskGiB: 1, MaxPods: 40},
		Addons:  cluster.Addons{VPCCNI: "latest", KubeProxy: "v1.32.0-eksbuild.1"},
	}, cluster.Inputs{PermissionsBoundary: "b"})
	infratest.Refused(t, err,
		"Name is", `Version is "1.12": supported are 1.33, 1.34, 1.35, 1.36`, "Region is", "AccountID is", "VPCID is missing", "PublicSubnets is missing",
		"PrivateSubnets is missing", "KeyARN is missing",
		"PublicAccessCIDRs[0] is 0.0.0.0/0: the API server is not for the whole internet", "PublicAccessCIDRs[1] is ::/0: the API server",
		"PublicAccessCIDRs[2] is \"nonsense\"", "PublicAccessCIDRs[3] is 203.0.113.9/24: the range begins at 203.0.113.0",
		"PublicAccessCIDRs[4] is 0.0.0.0/1: the widest range accepted is a /8", "PublicAccessCIDRs[5] is 10.1.0.0/16: callers from a private", "PublicAccessCIDRs[6] is 2001:db8::/32: the endpoint has IPv4",
		"Admins[0] is", "Viewers[0] repeats Admins[1]", "LogDays is 2", "PermissionsBoundary is",
		"Nodes.MaxPods is 40: a t3.medium has addresses for 17", "Nodes.Max is 3, less than Nodes.Min (5)", "Nodes.DiskGiB is 1", "Nodes.Release is 1.11.4-20260801: Kubernetes 1.12 needs 1.12.x-DATE",
		`Addons.VPCCNI is "latest"`, "Addons.KubeProxy is v1.32.0-eksbuild.1: Kubernetes 1.12 needs v1.12.x")
	if err := args().Validate(); err != nil {
		t.Errorf("a valid spec is refused: %v", err)
	}
}
