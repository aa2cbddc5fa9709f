package policy

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/infra/infratest"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// fixture is a resource that a rule refuses or accepts.
type fixture struct {
	name, token string
	// inputs are JSON. {"secret":...} marks a secret value, and "unknown" is a value that is not
	// known yet.
	inputs string
	// want is the refused property and a part of the message; empty if the resource is accepted.
	want string
}

func decode(t *testing.T, raw string) resource.PropertyMap {
	t.Helper()
	var values map[string]any
	if err := json.Unmarshal([]byte(raw), &values); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return mark(resource.NewPropertyMapFromMap(values)).ObjectValue()
}

func mark(object resource.PropertyMap) resource.PropertyValue {
	if inner, ok := object["secret"]; ok && len(object) == 1 {
		return resource.MakeSecret(inner)
	}
	for key, value := range object {
		object[key] = markValue(value)
	}
	return resource.NewObjectProperty(object)
}

func markValue(value resource.PropertyValue) resource.PropertyValue {
	switch {
	case value.IsObject():
		return mark(value.ObjectValue())
	case value.IsArray():
		for i, item := range value.ArrayValue() {
			value.ArrayValue()[i] = markValue(item)
		}
	case value.IsString() && value.StringValue() == "unknown":
		return resource.MakeComputed(resource.NewStringProperty(""))
	}
	return value
}

const (
	restricted = `"securityContext":{"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,"capabilities":{"drop":["ALL"]}}`
	podContext = `"securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}}`
)

// pod returns a Rollout with one container.
func pod(context, container string) string {
	return `{"metadata":{"namespace":"shop"},"spec":{"template":{"spec":{` + context + `,"containers":[{` + container + `}]}}}}`
}

func policyText(statement string) string {
	raw, err := json.Marshal(`{"Version":"2012-10-17","Statement":` + statement + `}`)
	if err != nil {
		panic(err)
	}
	return `{"policy":` + string(raw) + `}`
}

const (
	group        = "aws:ec2/securityGroup:SecurityGroup"
	ingressRule  = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
	legacyRule   = "aws:ec2/securityGroupRule:SecurityGroupRule"
	rdsInstance  = "aws:rds/instance:Instance"
	eksCluster   = "aws:eks/cluster:Cluster"
	eksComponent = "eks:index:Cluster"
	rolePolicy   = "aws:iam/rolePolicy:RolePolicy"
	kmsKey       = "aws:kms/key:Key"
	template     = "aws:ec2/launchTemplate:LaunchTemplate"
	service      = "kubernetes:core/v1:Service"
	release      = "kubernetes:helm.sh/v3:Release"
	rollout      = "kubernetes:argoproj.io/v1alpha1:Rollout"
	cronJob      = "kubernetes:batch/v1:CronJob"
	bucket       = "aws:s3/bucketV2:BucketV2"
	repository   = "aws:ecr/repository:Repository"
)

var fixtures = map[string][]fixture{
	PublicIngress: {
		{"rule open to IPv4", ingressRule, `{"cidrIpv4":"0.0.0.0/0"}`, "cidrIpv4 is 0.0.0.0/0"},
		{"rule open to IPv6", ingressRule, `{"cidrIpv6":"::/0"}`, "cidrIpv6 is ::/0"},
		{"rule open to half", ingressRule, `{"cidrIpv4":"128.0.0.0/1"}`, "cidrIpv4 is 128.0.0.0/1"},
		{"rule for a network", ingressRule, `{"cidrIpv4":"10.0.0.0/8"}`, ""},
		{"rule for a group", ingressRule, `{"referencedSecurityGroupId":"unknown"}`, ""},
		{"older rule", legacyRule, `{"type":"ingress","cidrBlocks":["10.0.0.0/16","0.0.0.0/0"]}`, "cidrBlocks[1] is"},
		{"older rule, IPv6", legacyRule, `{"type":"ingress","ipv6CidrBlocks":["::/0"]}`, "ipv6CidrBlocks[0] is"},
		{"way out", legacyRule, `{"type":"egress","cidrBlocks":["0.0.0.0/0"]}`, ""},
		{"group", group, `{"ingress":[{"cidrBlocks":["0.0.0.0/0"]}],"egress":[{"cidrBlocks":["0.0.0.0/0"]}]}`, "ingress[0].cidrBlocks[0] is"},
		{"group with a way out", group, `{"egress":[{"cidrBlocks":["0.0.0.0/0"]}]}`, ""},
		{"database", rdsInstance, `{"publiclyAccessible":true}`, "publiclyAccessible is true"},
		{"private database", rdsInstance, `{"publiclyAccessible":false}`, ""},
		{"cluster open by default", eksCluster, `{"vpcConfig":{"subnetIds":["a"]}}`, "vpcConfig.publicAccessCidrs is empty"},
		{"cluster open to everywhere", eksCluster, `{"vpcConfig":{"endpointPublicAccess":true,"publicAccessCidrs":["0.0.0.0/0"]}}`,
			"vpcConfig.publicAccessCidrs[0] is"},
		{"cluster by list", eksCluster, `{"vpcConfig":{"endpointPublicAccess":true,"publicAccessCidrs":["203.0.113.0/24"]}}`, ""},
		{"private cluster", eksCluster, `{"vpcConfig":{"endpointPublicAccess":false}}`, ""},
		{"component open to everywhere", eksComponent, `{"publicAccessCidrs":["0.0.0.0/0"]}`, "publicAccessCidrs[0] is"},
		{"component by list", eksComponent, `{"publicAccessCidrs":["203.0.113.7/32"]}`, ""},
		{"load balancer", "aws:lb/loadBalancer:LoadBalancer", `{}`, "internal is not true"},
		{"internal load balancer", "aws:lb/loadBalancer:LoadBalancer", `{"internal":true}`, ""},
		{"node with a public address", template, `{"networkInterfaces":[{"associatePublicIpAddress":"true"}]}`,
			"networkInterfaces[0].associatePublicIpAddress"},
		{"bucket half blocked", "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
			`{"blockPublicAcls":true,"ignorePublicAcls":true,"restrictPublicBuckets":true}`, "blockPublicPolicy is not true"},
		{"bucket blocked", "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
			`{"blockPublicAcls":true,"ignorePublicAcls":true,"restrictPublicBuckets":true,"blockPublicPolicy":true}`, ""},
		{"bucket shown by ACL", "aws:s3/bucketAclV2:BucketAclV2", `{"acl":"public-read"}`, "acl is public-read"},
		{"Service", service, `{"spec":{"type":"LoadBalancer"}}`, "spec.type is LoadBalancer"},
		{"internet-facing Service", service, `{"metadata":{"annotations":{"service.beta.kubernetes.io/aws-load-balancer-scheme":"internet-facing"}},"spec":{"type":"LoadBalancer"}}`, "is internet-facing"},
		{"internal Service", service, `{"metadata":{"annotations":{"service.beta.kubernetes.io/aws-load-balancer-scheme":"internal"}},"spec":{"type":"LoadBalancer"}}`, ""},
		{"ClusterIP", service, `{"spec":{"type":"ClusterIP"}}`, ""},
		{"chart", release, `{"values":{"proxy":{"type":"LoadBalancer"}}}`, "values.proxy.type is LoadBalancer"},
		{"chart of an internal gateway", release, `{"values":{"proxy":{"type":"LoadBalancer","annotations":{"service.beta.kubernetes.io/aws-load-balancer-scheme":"internal"}}}}`, ""},
	},
	WildcardIAM: {
		{"everything", rolePolicy, policyText(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b/*"}`),
			"policy Statement[0] allows the Action *"},
		{"all of IAM", rolePolicy, policyText(`[{"Effect":"Allow","Action":["iam:*"],"Resource":["arn:aws:iam::1:role/x"]}]`),
			"allows the Action iam:*"},
		{"a service on everything", rolePolicy, policyText(`[{"Effect":"Allow","Action":["s3:GetObject"],"Resource":"arn:aws:s3:::b/*"},{"Effect":"Allow","Action":["s3:*"],"Resource":["*"]}]`), "policy Statement[1] allows s3:* on every resource"},
		{"every network resource", rolePolicy, policyText(`{"Effect":"Allow","Action":"ec2:*","Resource":"arn:aws:ec2:us-east-1:1:*/*"}`),
			"allows ec2:* on every resource"},
		{"every key", rolePolicy, policyText(`{"Effect":"Allow","Action":"kms:*","Resource":["arn:aws:kms:us-east-1:1:key/of-dev","arn:aws:kms:us-east-1:1:key/*"]}`), "allows kms:* on arn:aws:kms:us-east-1:1:key/*, every resource of a type"},
		{"every secret", rolePolicy, policyText(`{"Effect":"Allow","Action":"secretsmanager:*","Resource":"arn:aws:secretsmanager:us-east-1:1:secret:*"}`), "allows secretsmanager:* on arn:aws:secretsmanager:us-east-1:1:secret:*"},
		{"every log stream", rolePolicy, policyText(`{"Effect":"Allow","Action":"logs:*","Resource":"arn:aws:logs:us-east-1:1:log-group:*:*"}`),
			"allows logs:* on"},
		{"every bucket's objects", rolePolicy, policyText(`{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::*/*"}`),
			"allows s3:* on every resource"},
		{"everything in another spelling", rolePolicy, policyText(`{"Effect":"Allow","Action":"kms:**","Resource":"arn:aws:kms:us-east-1:1:key/?*"}`), "allows kms:** on"},
		{"one key", rolePolicy, policyText(`{"Effect":"Allow","Action":"kms:*","Resource":"arn:aws:kms:us-east-1:1:key/of-dev"}`), ""},
		{"secrets of one name", rolePolicy, policyText(`{"Effect":"Allow","Action":"secretsmanager:*","Resource":"arn:aws:secretsmanager:us-east-1:1:secret:loja-veloz/dev/*"}`), ""},
		{"one bucket's objects", rolePolicy, policyText(`{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b/*"}`), ""},
		{"named actions on all of a kind", rolePolicy, policyText(`{"Effect":"Allow","Action":["ec2:DeleteVpc"],"Resource":"arn:aws:ec2:us-east-1:1:*/*","Condition":{"StringEquals":{"aws:ResourceTag/Environment":"dev"}}}`), ""},
		{"reading secrets everywhere", rolePolicy, policyText(`{"Effect":"Allow","Action":"secretsmanager:Get*","Resource":"arn:aws:secretsmanager:us-east-1:1:*"}`), "allows secretsmanager:Get*"},
		{"passing any role", rolePolicy, policyText(`{"Effect":"Allow","Action":"iam:PassRole","Resource":"*"}`),
			"allows iam:PassRole on every resource"},
		{"passing to one service", rolePolicy, policyText(`{"Effect":"Allow","Action":"iam:PassRole","Resource":"*","Condition":{"StringEquals":{"iam:PassedToService":"eks.amazonaws.com"}}}`), ""},
		{"NotAction", rolePolicy, policyText(`{"Effect":"Allow","NotAction":["iam:*"],"Resource":"arn:aws:s3:::b"}`), "by NotAction"},
		{"NotResource", rolePolicy, policyText(`{"Effect":"Allow","Action":["s3:GetObject"],"NotResource":"arn:aws:s3:::b"}`), "by NotResource"},
		{"anyone", "aws:s3/bucketPolicy:BucketPolicy", policyText(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}`), "any Principal"},
		{"anyone of AWS", "aws:ecr/repositoryPolicy:RepositoryPolicy",
			policyText(`{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":"ecr:BatchGetImage"}`), "any Principal"},
		{"anyone of the account", "aws:ec2/vpcEndpoint:VpcEndpoint",
			policyText(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalAccount":"1"}}}`), ""},
		{"a denial", "aws:s3/bucketPolicy:BucketPolicy", policyText(`{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*"}`), ""},
		{"a key of the account", kmsKey, policyText(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:root"},"Action":"kms:*","Resource":"*"}`), ""},
		{"a key of anyone", kmsKey, policyText(`{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:Decrypt","Resource":"*"}`),
			"any Principal"},
		{"describing", rolePolicy, policyText(`{"Effect":"Allow","Action":["ec2:Describe*","rds:List*"],"Resource":"*"}`), ""},
		{"named actions", rolePolicy, policyText(`{"Effect":"Allow","Action":"ecr:GetAuthorizationToken","Resource":"*"}`), ""},
		{"unreadable", rolePolicy, `{"policy":"{\"Statement\":[{\"Effect\":1}]}"}`, "is not a valid policy"},
		{"unknown", rolePolicy, `{"policy":"unknown"}`, ""},
	},
	Encryption: {
		{"database", rdsInstance, `{"kmsKeyId":"k"}`, "storageEncrypted is not true"},
		{"database with AWS's key", rdsInstance, `{"storageEncrypted":true}`, "kmsKeyId is missing"},
		{"encrypted database", rdsInstance, `{"storageEncrypted":true,"kmsKeyId":"unknown"}`, ""},
		{"nodes", template, `{"blockDeviceMappings":[{"deviceName":"/dev/xvda","ebs":{"volumeSize":20}}]}`,
			"blockDeviceMappings[0].ebs.encrypted is not true"},
		{"nodes by default", template, `{}`, "blockDeviceMappings is empty"},
		{"encrypted nodes", template, `{"blockDeviceMappings":[{"deviceName":"/dev/xvda","ebs":{"encrypted":"true"}}]}`, ""},
		{"images", repository, `{}`, "encryptionConfigurations is missing"},
		{"images with AES256", repository, `{"encryptionConfigurations":[{"encryptionType":"AES256"}]}`, `encryptionType is "AES256"`},
		{"encrypted images", repository, `{"encryptionConfigurations":[{"encryptionType":"KMS","kmsKey":"unknown"}]}`, ""},
		{"bucket with AES256", "aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2",
			`{"rules":[{"applyServerSideEncryptionByDefault":{"sseAlgorithm":"AES256"}}]}`, "sseAlgorithm is"},
		{"encrypted bucket", "aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2",
			`{"rules":[{"applyServerSideEncryptionByDefault":{"sseAlgorithm":"aws:kms"}}]}`, ""},
		{"logs", "aws:cloudwatch/logGroup:LogGroup", `{"retentionInDays":7}`, "kmsKeyId is missing"},
		{"encrypted logs", "aws:cloudwatch/logGroup:LogGroup", `{"kmsKeyId":"unknown"}`, ""},
		{"cluster", eksCluster, `{}`, "encryptionConfig has no provider.keyArn"},
		{"encrypted cluster", eksCluster, `{"encryptionConfig":{"provider":{"keyArn":"unknown"},"resources":["secrets"]}}`, ""},
		{"component", eksComponent, `{}`, "encryptionConfigKeyArn is missing"},
		{"key that stays", kmsKey, `{}`, "enableKeyRotation is not true"},
		{"key that rotates", kmsKey, `{"enableKeyRotation":true}`, ""},
		{"storage class", "kubernetes:storage.k8s.io/v1:StorageClass", `{"provisioner":"ebs.csi.aws.com","parameters":{"type":"gp3"}}`,
			"parameters.encrypted is not true"},
		{"encrypted storage class", "kubernetes:storage.k8s.io/v1:StorageClass",
			`{"provisioner":"ebs.csi.aws.com","parameters":{"encrypted":"true"}}`, ""},
	},
	Protected: {
		{"database", rdsInstance, `{}`, "protect is not set: replacing it would lose the database"},
		{"key", kmsKey, `{}`, "protect is not set"},
		{"bucket", bucket, `{}`, "protect is not set"},
		{"repository", repository, `{}`, "protect is not set"},
		{"cluster", eksCluster, `{}`, "protect is not set"},
		{"network", "aws:ec2/vpc:Vpc", `{}`, "protect is not set: replacing it would lose the cluster and the database that are in it"},
		{"role", "aws:iam/role:Role", `{}`, ""},
	},
	Tags: {
		{"provider without", "pulumi:providers:aws", `{"region":"us-east-1"}`, "defaultTags.tags.Project is missing"},
		{"provider with some", "pulumi:providers:aws", `{"defaultTags":"{\"tags\":{\"Project\":\"p\",\"Environment\":\"dev\"}}"}`,
			"defaultTags.tags.ManagedBy is missing"},
		{"provider", "pulumi:providers:aws", `{"defaultTags":{"tags":{"Project":"p","Environment":"dev","ManagedBy":"pulumi"}}}`, ""},
		{"another environment's", bucket, `{"tags":{"Environment":"prod"}}`, `tags.Environment is "prod"`},
		{"a name", bucket, `{"tags":{"Name":"x","Environment":"dev"}}`, ""},
	},
	ImageDigest: {
		{"tag", rollout, pod(podContext, `"image":"r/i:1.2",`+restricted), `spec.template.spec.containers[0].image is "r/i:1.2"`},
		{"short digest", rollout, pod(podContext, `"image":"r/i@sha256:01"`), "image is"},
		{"none", rollout, pod(podContext, `"name":"c"`), `image is ""`},
		{"digest", rollout, pod(podContext, `"image":"r/i:1.2@`+digest+`"`), ""},
		{"init container", "kubernetes:core/v1:Pod", `{"spec":{"initContainers":[{"image":"r/i"}],"containers":[{"image":"r/i@` + digest + `"}]}}`, "spec.initContainers[0].image"},
		{"in a CronJob", cronJob, `{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"image":"r/i"}]}}}}}}`,
			"spec.jobTemplate.spec.template.spec.containers[0].image"},
		{"chart", release, `{"values":{"containers":[{"image":"r/i"}]}}`, ""},
		{"definition", "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition", `{"spec":{"containers":[{"image":"x"}]}}`, ""},
	},
	RestrictedPod: {
		{"restricted", rollout, pod(podContext, `"name":"c",`+restricted), ""},
		{"root", rollout, pod(`"securityContext":{"seccompProfile":{"type":"RuntimeDefault"}}`, restricted),
			"securityContext.runAsNonRoot is not true"},
		{"user 0", rollout, pod(podContext, `"securityContext":{"runAsUser":0,"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,"capabilities":{"drop":["ALL"]}}`), "runAsUser is 0"},
		{"escalation", rollout, pod(podContext, `"securityContext":{"readOnlyRootFilesystem":true,"capabilities":{"drop":["ALL"]}}`),
			"allowPrivilegeEscalation is not false"},
		{"writable root", rollout, pod(podContext, `"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}`),
			"readOnlyRootFilesystem is not true"},
		{"capabilities", rollout, pod(podContext, `"securityContext":{"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true}`),
			"capabilities.drop does not name ALL"},
		{"added capability", rollout, pod(podContext, `"securityContext":{"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,"capabilities":{"drop":["ALL"],"add":["NET_ADMIN"]}}`), "capabilities.add[0] is NET_ADMIN"},
		{"privileged", rollout, pod(podContext, `"securityContext":{"privileged":true,"allowPrivilegeEscalation":false,"readOnlyRootFilesystem":true,"capabilities":{"drop":["ALL"]}}`), "privileged is true"},
		{"no seccomp", rollout, pod(`"securityContext":{"runAsNonRoot":true}`, restricted), "seccompProfile.type is"},
		{"host network", rollout, pod(`"hostNetwork":true,`+podContext, restricted), "hostNetwork is true"},
		{"host path", rollout, pod(`"volumes":[{"name":"v","hostPath":{"path":"/"}}],`+podContext, restricted), "volumes[0].hostPath is set"},
	},
	PlainSecret: {
		{"password", rdsInstance, `{"password":"hunter2"}`, "password is named password"},
		{"marked password", rdsInstance, `{"password":{"secret":"hunter2"}}`, ""},
		{"unknown password", rdsInstance, `{"password":"unknown"}`, ""},
		{"managed password", rdsInstance, `{"manageMasterUserPassword":true,"masterUserSecretKmsKeyId":"k"}`, ""},
		{"secret string", "aws:secretsmanager/secretVersion:SecretVersion", `{"secretString":"x"}`, "secretString is named"},
		{"in a marked object", release, `{"values":{"secret":{"datadog":{"apiKey":"x"}}}}`, ""},
		{"in a chart's values", release, `{"values":{"datadog":{"apiKey":"x"}}}`, "values.datadog.apiKey is named"},
		{"name of a secret", release, `{"values":{"datadog":{"apiKeyExistingSecret":"datadog"}}}`, ""},
		{"variable", rollout, pod(podContext, `"env":[{"name":"DB_PASSWORD","value":"x"}]`), "env[0].value is the value of DB_PASSWORD"},
		{"variable by reference", rollout, pod(podContext,
			`"env":[{"name":"DB_PASSWORD","valueFrom":{"secretKeyRef":{"name":"n","key":"password"}}}]`), ""},
		{"Kubernetes Secret", "kubernetes:core/v1:Secret", `{"stringData":{"a":"b"}}`, "stringData.a is a Secret's value"},
		{"marked Kubernetes Secret", "kubernetes:core/v1:Secret", `{"stringData":{"secret":{"password":"b"}}}`, ""},
		{"external secret", "kubernetes:external-secrets.io/v1:ExternalSecret",
			`{"spec":{"data":[{"secretKey":"password","remoteRef":{"key":"k","property":"password"}}],"target":{"template":{"data":{"password":"{{ .password }}"}}}}}`, ""},
		{"parameter", "aws:ssm/parameter:Parameter", `{"type":"SecureString","value":"x"}`, "value is a SecureString"},
		{"AWS key id", template, `{"userData":"export AWS_ACCESS_KEY_ID=AKIA` + `ABCDEFGHIJKLMNOP"}`, "userData is an AWS access key id"},
		{"private key", "aws:acm/certificate:Certificate", `{"body":"-----BEGIN RSA ` + `PRIVATE KEY-----\nx"}`, "body is a private key"},
		{"web token", service, `{"metadata":{"annotations":{"x":"eyJhbGciOiJIUzI1NiJ9` + `.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"}}}`, "is a JSON web token"},
		{"GitHub token", service, `{"a":"ghp_` + `0123456789abcdefghijABCDEFGHIJ012345"}`, "a is a GitHub token"},
		{"address with password", service, `{"a":"postgres://user` + `:hunter2@host/db"}`, "a is an address with a password"},
		{"address", service, `{"a":"postgres://user@host/db"}`, ""},
		{"IMDSv2", template, `{"metadataOptions":{"httpTokens":"required"}}`, ""},
		{"service account", rollout, `{"spec":{"automountServiceAccountToken":false}}`, ""},
	},
}

func TestEveryRuleHasFailingAndPassingFixtures(t *testing.T) {
	for _, rule := range Rules() {
		fails, passes := 0, 0
		for _, f := range fixtures[rule.Name] {
			t.Run(rule.Name+"/"+f.name, func(t *testing.T) {
				o := &Options{Protected: true, DefaultTags: map[string]string{"Project": "loja-veloz", "Environment": "dev", "ManagedBy": "pulumi"}}
				r := Resource{Type: f.token, Name: "it", Custom: !strings.HasPrefix(f.token, "eks:"), Provider: "aws", Inputs: decode(t, f.inputs)}
				var got []string
				for _, violation := range Check(o, r) {
					if violation.Rule == rule.Name {
						got = append(got, violation.Property+" "+violation.Message)
					}
				}
				all := strings.Join(got, "\n")
				if f.want == "" && all != "" || f.want != "" && !strings.Contains(all, f.want) {
					t.Errorf("found %q, want %q", all, f.want)
				}
			})
			if f.want == "" {
				passes++
			} else {
				fails++
			}
		}
		if fails == 0 || passes == 0 {
			t.Errorf("%s has %d failing and %d passing fixtures", rule.Name, fails, passes)
		}
		if rule.Why == "" || rule.Source == "" {
			t.Errorf("%s does not say why and from where", rule.Name)
		}
	}
}

// The table of rules documents that the pods of charts are not checked.
func TestTheTableExemptsTheImagesOfCharts(t *testing.T) {
	for _, rule := range Rules() {
		if says := strings.Contains(rule.Except, "Helm release"); says != (rule.Name == ImageDigest || rule.Name == RestrictedPod) {
			t.Errorf("%s leaves out %q", rule.Name, rule.Except)
		}
	}
}

func TestAnAWSResourceNeedsTheStacksProvider(t *testing.T) {
	got := Check(&Options{}, Resource{Type: "aws:sns/topic:Topic", Name: "x", Custom: true})
	if len(got) != 1 || got[0].String() != `policy tags: aws:sns/topic:Topic "x": provider is Pulumi's default provider, which adds no tags: use the AWS provider of the stack` {
		t.Errorf("got %v", got)
	}
}

func TestExemptionsExemptAResourceOrANamespace(t *testing.T) {
	open := Resource{Type: service, Name: "edge", Inputs: decode(t, `{"spec":{"type":"LoadBalancer"}}`)}
	daemon := Resource{Type: rollout, Name: "d", Inputs: decode(t, pod(`"hostNetwork":true`, `"image":"x"`))}
	o := &Options{Exempt: []Exemption{
		{Rule: PublicIngress, Resource: "edge", Reason: "it is the gateway"},
		{Rule: RestrictedPod, Namespace: "shop", Reason: "test"},
	}}
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := Check(o, open); len(got) != 0 {
		t.Errorf("the gateway is refused: %v", got)
	}
	open.Name = "other"
	if got := Check(o, open); len(got) != 1 {
		t.Errorf("another is not: %v", got)
	}
	if got := Check(o, daemon); len(got) != 1 || got[0].Rule != ImageDigest {
		t.Errorf("the namespace's pods: %v", got)
	}
}

func TestOptionsRefuseAllErrorsAtOnce(t *testing.T) {
	err := (&Options{
		Protected: true, AllowReplace: []string{"*", ""}, DefaultTags: map[string]string{"Project": "p"},
		Exempt: []Exemption{
			{Rule: "ingress", Resource: "x", Reason: "y"},
			{Rule: Protected, Resource: "x", Reason: "y"},
			{Rule: Tags, Namespace: "shop", Reason: "y"},
			{Rule: Tags, Resource: "x", Namespace: "shop"},
		},
	}).Validate()
	infratest.Refused(t, err,
		"DefaultTags has no Environment", "DefaultTags has no ManagedBy", `AllowReplace has "*"`, "AllowReplace has an empty name",
		`Exempt[0].Rule is "ingress"`, "Exempt[1].Rule is protected: use AllowReplace", "Exempt[2].Namespace is for",
		"Exempt[3] needs either", "Exempt[3].Reason is empty")
}

func TestSentencesOmitGRPC(t *testing.T) {
	if got := Sentences(nil); got != "" {
		t.Errorf("no error says %q", got)
	}
}
