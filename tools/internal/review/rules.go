package review

// A Class is a kind of risk. Classes are shown in this order.
type Class string

// The classes. Cost has no rule: it comes from Options.
const (
	Data     Class = "Data at risk"
	IAM      Class = "Permissions widened"
	Exposure Class = "Exposed"
	Security Class = "Security loosened"
	Canary   Class = "Canary or objective changed"
	Gone     Class = "Other replacements and deletions"
)

// classes says what a finding of each class asks of a reviewer.
var classes = []struct {
	class Class
	asks  string
}{
	{Data, "what is lost, and where is the backup?"},
	{IAM, "who needs this, and is it the least that is needed?"},
	{Exposure, "who can reach this now, and is that intended?"},
	{Security, "what was this protection for, and what replaces it?"},
	{Canary, "would a bad version still be found and taken back?"},
	{Gone, "what stops working while the object is away?"},
}

// stateful maps types to what is lost when an object of the type is replaced or deleted. It
// includes what infra/policy protects, which a test compares.
var stateful = map[string]string{
	"aws:rds/instance:Instance":                                   "the database",
	"aws:rds/cluster:Cluster":                                     "the database",
	"aws:rds/clusterInstance:ClusterInstance":                     "an instance of the database",
	"aws:rds/snapshot:Snapshot":                                   "a backup of the database",
	"aws:rds/clusterSnapshot:ClusterSnapshot":                     "a backup of the database",
	"aws:backup/vault:Vault":                                      "its backups",
	"aws:kms/key:Key":                                             "whatever it encrypted",
	"aws:kms/replicaKey:ReplicaKey":                               "whatever it encrypted",
	"aws:s3/bucketV2:BucketV2":                                    "its objects",
	"aws:s3/bucket:Bucket":                                        "its objects",
	"aws:s3/bucketObject:BucketObject":                            "the object",
	"aws:s3/bucketObjectv2:BucketObjectv2":                        "the object",
	"aws:ecr/repository:Repository":                               "its images",
	"aws:eks/cluster:Cluster":                                     "everything that runs",
	"aws:ec2/vpc:Vpc":                                             "the cluster and the database that are in it",
	"aws:ec2/eip:Eip":                                             "the address that others may have allowed",
	"aws:ebs/volume:Volume":                                       "its data",
	"aws:ebs/snapshot:Snapshot":                                   "a backup",
	"aws:efs/fileSystem:FileSystem":                               "its data",
	"aws:dynamodb/table:Table":                                    "its data",
	"aws:elasticache/replicationGroup:ReplicationGroup":           "its data",
	"aws:elasticache/cluster:Cluster":                             "its data",
	"aws:opensearch/domain:Domain":                                "its data",
	"aws:sqs/queue:Queue":                                         "its messages",
	"aws:kinesis/stream:Stream":                                   "its records",
	"aws:msk/cluster:Cluster":                                     "its messages",
	"aws:mq/broker:Broker":                                        "its messages",
	"aws:cloudwatch/logGroup:LogGroup":                            "its log",
	"aws:secretsmanager/secret:Secret":                            "the secret",
	"aws:secretsmanager/secretVersion:SecretVersion":              "the secret's value",
	"aws:ssm/parameter:Parameter":                                 "the parameter's value",
	"aws:cognito/userPool:UserPool":                               "its users",
	"aws:route53/zone:Zone":                                       "its records and its name servers",
	"random:index/randomPassword:RandomPassword":                  "the password, which changes",
	"tls:index/privateKey:PrivateKey":                             "the key, which changes",
	"kubernetes:core/v1:PersistentVolumeClaim":                    "its data",
	"kubernetes:core/v1:PersistentVolume":                         "its data",
	"kubernetes:core/v1:Namespace":                                "everything in it",
	"kubernetes:core/v1:Secret":                                   "the secret",
	"kubernetes:apps/v1:StatefulSet":                              "its pods, and the data of those without a claim that stays",
	"kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition": "every object of that kind",
	"pulumi:providers:aws":                                        "every resource behind the provider, which is replaced with it",
	"pulumi:providers:kubernetes":                                 "every resource behind the provider, which is replaced with it",
}

// A test compares the values of a property before and after.
type test int

const (
	is      test = iota // gets one of the values
	isNot               // is not, or no longer, one of the values; at creation too
	stops               // had one of the values and has it no longer
	gains               // the list gets an element
	loses               // the list loses an element
	opens               // a list of ranges of addresses gets one that the list did not contain
	falls               // a number gets smaller
	rises               // a number gets greater
	changes             // has another value; not at creation
	deleted             // the resource is deleted; has no property
)

// A rule finds a risk in a property.
type rule struct {
	class Class
	// types are type tokens; a * stands for any characters.
	types []string
	// path is the property's path, with [*] for any index or name of a list, and ** for any
	// characters.
	path   string
	test   test
	values []string
	why    string
}

const (
	k8s     = "kubernetes:*"
	openEnd = "the whole Internet, if it is 0.0.0.0/0 or ::/0"
)

var (
	rdsTypes      = []string{"aws:rds/instance:Instance", "aws:rds/cluster:Cluster"}
	groupTypes    = []string{"aws:ec2/securityGroup:SecurityGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"}
	balancerTypes = []string{"aws:lb/loadBalancer:LoadBalancer", "aws:alb/loadBalancer:LoadBalancer"}
	bucketTypes   = []string{"aws:s3/bucketV2:BucketV2", "aws:s3/bucket:Bucket"}
	canaryTypes   = []string{"kubernetes:argoproj.io/v1alpha1:AnalysisTemplate", "kubernetes:argoproj.io/v1alpha1:ClusterAnalysisTemplate"}
)

// rules is the table of all rules, except for stateful types and for the contents of policies.
var rules = []rule{
	// What keeps data.
	{Data, rdsTypes, "deletionProtection", stops, []string{"true"}, "a deletion is no longer refused by AWS"},
	{Data, rdsTypes, "backupRetentionPeriod", falls, nil, "fewer days can be restored"},
	{Data, rdsTypes, "skipFinalSnapshot", is, []string{"true"}, "a deletion leaves no snapshot"},
	{Data, rdsTypes, "deleteAutomatedBackups", is, []string{"true"}, "a deletion takes the backups along"},
	{Data, rdsTypes, "multiAz", stops, []string{"true"}, "there is no standby in another zone"},
	{Data, rdsTypes, "engineVersion", changes, nil, "a major version cannot be taken back"},
	{Data, rdsTypes, "snapshotIdentifier", changes, nil, "the data are those of the snapshot"},
	{Data, append([]string{"aws:ecr/repository:Repository"}, bucketTypes...), "force*", is, []string{"true"},
		"a deletion takes the contents along"},
	{Data, []string{"aws:s3/bucketVersioningV2:BucketVersioningV2"}, "versioningConfiguration.status", isNot, []string{"Enabled"},
		"what is overwritten is lost"},
	{Data, []string{"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2"}, "rules**ays", falls, nil,
		"objects are deleted sooner"},
	{Data, []string{"aws:ecr/lifecyclePolicy:LifecyclePolicy"}, "policy", changes, nil, "other images are deleted"},
	{Data, []string{"aws:kms/key:Key"}, "deletionWindowInDays", falls, nil, "there is less time to take a deletion back"},
	{Data, []string{"aws:kms/key:Key"}, "isEnabled", is, []string{"false"}, "what it encrypted cannot be read"},
	{Data, []string{"aws:dynamodb/table:Table"}, "pointInTimeRecovery.enabled", stops, []string{"true"}, "the table cannot be restored"},
	{Data, []string{"aws:cloudwatch/logGroup:LogGroup"}, "retentionInDays", falls, nil, "older log lines are deleted"},
	{Data, []string{"aws:secretsmanager/secret:Secret"}, "recoveryWindowInDays", falls, nil, "there is less time to take a deletion back"},
	{Data, []string{"kubernetes:core/v1:PersistentVolume", "kubernetes:storage.k8s.io/v1:StorageClass"},
		"**eclaimPolicy", is, []string{"Delete"},
		"the data go with the claim"},
	{Data, []string{"kubernetes:apps/v1:StatefulSet"}, "spec.persistentVolumeClaimRetentionPolicy.*", is, []string{"Delete"},
		"the data go with the pods"},
	{Data, []string{"kubernetes:batch/v1:CronJob"}, "spec.suspend", is, []string{"true"},
		"the job no longer runs: is it a backup or an audit?"},
	{Data, []string{"pulumi:providers:*"}, "region", changes, nil, "resources are looked for in another region"},
	{Data, []string{"pulumi:providers:*"}, "allowedAccountIds**", changes, nil, "resources are looked for in another account"},
	{Data, []string{"pulumi:providers:*"}, "version", changes, nil, "another version of the plugin can plan and replace differently"},

	// Who may do what, besides policy documents, roles and bindings.
	{IAM, []string{"aws:iam/role:Role", "aws:iam/user:User"}, "permissionsBoundary", stops, nil,
		"the boundary limited what its policies can allow"},
	{IAM, []string{"aws:iam/role:Role"}, "managedPolicyArns[*]", gains, nil, "the role gets a policy"},
	{IAM, []string{"aws:iam/role:Role"}, "maxSessionDuration", rises, nil, "credentials are valid for longer"},
	{IAM, []string{"aws:iam/*Attachment:*"}, "policyArn", gains, nil, "the policy is attached"},
	{IAM, []string{"aws:iam/accessKey:AccessKey", "aws:iam/userLoginProfile:UserLoginProfile"}, "user", gains, nil,
		"a lasting credential is created"},
	{IAM, []string{"aws:iam/openIdConnectProvider:OpenIdConnectProvider"}, "clientIdLists[*]", gains, nil,
		"another client can get credentials"},
	{IAM, []string{"aws:eks/accessEntry:AccessEntry"}, "kubernetesGroups[*]", gains, nil, "the principal joins the group"},
	{IAM, []string{"aws:eks/accessEntry:AccessEntry"}, "principalArn", gains, nil, "the principal can log in to the cluster"},
	{IAM, []string{"aws:eks/accessPolicyAssociation:AccessPolicyAssociation"}, "policyArn", gains, nil,
		"the principal gets the policy in the cluster"},
	{IAM, []string{"aws:eks/accessPolicyAssociation:AccessPolicyAssociation"}, "accessScope.type", is, []string{"cluster"},
		"in every namespace"},
	{IAM, []string{"aws:eks/podIdentityAssociation:PodIdentityAssociation"}, "roleArn", gains, nil, "the pods get the role"},
	{IAM, []string{"kubernetes:rbac.authorization.k8s.io/*Binding"}, "roleRef.name", gains, nil, "the subjects get the role"},
	{IAM, []string{"kubernetes:rbac.authorization.k8s.io/*Binding"}, "subjects[*].name", gains, nil, "the subject gets the role"},
	{IAM, []string{k8s}, "**spec.serviceAccountName", changes, nil, "the pods get the permissions of another account"},
	{IAM, []string{k8s}, "**automountServiceAccountToken", is, []string{"true"}, "the pods get a token for the API server"},
	{IAM, []string{"kubernetes:core/v1:ServiceAccount"}, `metadata.annotations["eks.amazonaws.com/role-arn"]`, gains, nil,
		"the account gets the role"},

	// Who can reach what.
	{Exposure, []string{"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"}, "cidrIpv*", opens, nil, openEnd},
	{Exposure, []string{"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"}, "referencedSecurityGroupId", changes, nil,
		"another group is admitted"},
	{Exposure, []string{"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "aws:ec2/securityGroupRule:SecurityGroupRule"},
		"fromPort", falls, nil,
		"more ports are open"},
	{Exposure, []string{"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "aws:ec2/securityGroupRule:SecurityGroupRule"},
		"toPort", rises, nil,
		"more ports are open"},
	{Exposure, []string{"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"}, "ipProtocol", is, []string{"-1"},
		"every protocol and port"},
	{Exposure, []string{"aws:ec2/securityGroupRule:SecurityGroupRule"}, "*idrBlocks[*]", opens, nil, openEnd},
	{Exposure, groupTypes, "ingress[*].*idrBlocks[*]", opens, nil, openEnd},
	{Exposure, []string{"aws:ec2/networkAclRule:NetworkAclRule"}, "*idrBlock", opens, nil, openEnd},
	{Exposure, []string{"aws:rds/*"}, "publiclyAccessible", is, []string{"true"}, "the database gets a public address"},
	{Exposure, []string{"aws:eks/cluster:Cluster"}, "vpcConfig.publicAccessCidrs[*]", opens, nil, "these addresses reach the API server"},
	{Exposure, []string{"aws:eks/cluster:Cluster"}, "vpcConfig.endpointPublicAccess", is, []string{"true"},
		"the API server gets a public address"},
	{Exposure, balancerTypes, "internal", stops, []string{"true"}, "the load balancer gets a public address"},
	{Exposure, []string{"aws:ec2/*"}, "**associatePublicIpAddress", is, []string{"true"}, "machines get public addresses"},
	{Exposure, []string{"aws:ec2/subnet:Subnet"}, "mapPublicIpOnLaunch", is, []string{"true"}, "machines in the subnet get public addresses"},
	{Exposure, []string{"aws:ec2/route:Route"}, "gatewayId", gains, nil,
		"the subnets of the route table reach the gateway, and are public if it is the Internet's"},
	{Exposure, []string{"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"}, "*ublic*", isNot, []string{"true"},
		"buckets may be public"},
	{Exposure, []string{"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"}, "", deleted, nil, "the bucket may be public"},
	{Exposure, []string{"aws:s3/*"}, "acl", is, []string{"public-read", "public-read-write", "authenticated-read"},
		"everybody reads the bucket"},
	{Exposure, []string{"aws:lambda/functionUrl:FunctionUrl"}, "authorizationType", is, []string{"NONE"}, "everybody calls the function"},
	{Exposure, []string{k8s}, "spec.type", is, []string{"LoadBalancer", "NodePort"}, "it is reached from outside the cluster"},
	{Exposure, []string{k8s}, "**aws-load-balancer-scheme\"]", is, []string{"internet-facing"}, "the load balancer gets a public address"},
	{Exposure, []string{k8s}, "**aws-load-balancer-scheme\"]", stops, []string{"internal"}, "the load balancer may get a public address"},
	{Exposure, []string{k8s}, "spec.loadBalancerSourceRanges[*]", opens, nil, openEnd},
	{Exposure, []string{"kubernetes:helm.sh/v3:Release"}, "values**ervice.type", is, []string{"LoadBalancer", "NodePort"},
		"it is reached from outside the cluster"},
	{Exposure, []string{"kubernetes:helm.sh/v3:Release"}, "values**ngress.enabled", is, []string{"true"},
		"it is reached from outside the cluster"},
	{Exposure, []string{"kubernetes:gateway.networking.k8s.io/*Route"}, "spec.rules[*].matches[*].path.value", gains, nil,
		"the gateway serves the path"},
	{Exposure, []string{"kubernetes:gateway.networking.k8s.io/*"}, "spec.**ostname**", gains, nil, "the gateway serves the host"},
	{Exposure, []string{"kubernetes:gateway.networking.k8s.io/*Route"}, "spec.parentRefs[*].name", gains, nil,
		"the route is served by the gateway"},
	{Exposure, []string{"kubernetes:networking.k8s.io/v1:Ingress"}, "spec.rules[*].**", gains, nil, "the ingress serves it"},
	{Exposure, []string{"kubernetes:networking.k8s.io/v1:NetworkPolicy"}, "spec.ingress[*].from[*].ipBlock.cidr", opens, nil, openEnd},

	// What protects.
	{Security, []string{"aws:*"}, "**ncrypted", stops, []string{"true"}, "data is stored in plain"},
	{Security, append([]string{"aws:ebs/volume:Volume"}, rdsTypes...), "*ncrypted", isNot, []string{"true"}, "data is stored in plain"},
	{Security, []string{"aws:*"}, "**kms*", stops, nil, "the key that we can revoke is given up"},
	{Security, []string{"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2"},
		"**sseAlgorithm", changes, nil,
		"objects are encrypted in another way"},
	{Security, []string{"aws:s3/*"}, "", deleted, nil, "a setting that protects the bucket is gone"},
	{Security, []string{"aws:kms/key:Key"}, "enableKeyRotation", stops, []string{"true"}, "the key is no longer rotated"},
	{Security, []string{"aws:ecr/repository:Repository"}, "imageTagMutability", is, []string{"MUTABLE"}, "a tag can get another image"},
	{Security, []string{"aws:ecr/repository:Repository"}, "imageScanningConfiguration.scanOnPush", stops, []string{"true"},
		"images are not scanned"},
	{Security, []string{"aws:ec2/*"}, "metadataOptions.httpTokens", stops, []string{"required"},
		"pods can steal the node's credentials by IMDSv1"},
	{Security, []string{"aws:ec2/*"}, "metadataOptions.httpPutResponseHopLimit", rises, nil, "pods reach the node's credentials"},
	{Security, []string{"aws:eks/cluster:Cluster"}, "enabledClusterLogTypes[*]", loses, nil, "the log is no longer written"},
	{Security, rdsTypes, "enabledCloudwatchLogsExports[*]", loses, nil, "the log is no longer exported"},
	{Security, []string{"aws:eks/cluster:Cluster"}, "encryptionConfig**", stops, nil, "Kubernetes Secrets are stored in plain"},
	{Security, []string{"aws:eks/cluster:Cluster"}, "accessConfig.authenticationMode", changes, nil, "others can log in"},
	{Security, []string{"aws:rds/parameterGroup:ParameterGroup"}, "parameters**", changes, nil,
		"the server is configured in another way: look for TLS and logging"},
	{Security, []string{"aws:ec2/flowLog:FlowLog", "aws:cloudtrail/trail:Trail", "aws:guardduty/*", "aws:wafv2/*", "aws:config/*"},
		"", deleted, nil,
		"nobody watches any more"},
	{Security, []string{"aws:lb/listener:Listener", "aws:alb/listener:Listener"}, "sslPolicy", changes, nil,
		"other versions of TLS are accepted"},
	{Security, []string{"aws:lb/listener:Listener", "aws:alb/listener:Listener"}, "protocol", is, []string{"HTTP", "TCP"},
		"traffic is in plain"},
	{Security, []string{k8s}, "**aws-load-balancer-ssl-negotiation-policy\"]", changes, nil, "other versions of TLS are accepted"},
	{Security, []string{"kubernetes:core/v1:Namespace"}, `metadata.labels["pod-security.kubernetes.io/enforce"]`, stops, []string{"restricted",
		"baseline"},
		"pods with more rights are admitted"},
	{Security, []string{"kubernetes:core/v1:Namespace"}, `metadata.labels["pod-security.kubernetes.io/enforce"]`, is, []string{"privileged"},
		"pods with every right are admitted"},
	{Security, []string{"kubernetes:networking.k8s.io/v1:NetworkPolicy"}, "spec.**", changes, nil, "other traffic is admitted"},
	{Security, []string{"kubernetes:networking.k8s.io/v1:NetworkPolicy"}, "", deleted, nil, "traffic that it refused is admitted"},
	{Security, []string{"kubernetes:admissionregistration.k8s.io/*"}, "**", changes, nil, "other objects are admitted"},
	{Security, []string{"kubernetes:admissionregistration.k8s.io/*"}, "", deleted, nil, "what it refused is admitted"},
	{Security, []string{k8s}, "**ecurityContext.privileged", is, []string{"true"}, "the container has every right on its node"},
	{Security, []string{k8s}, "**ecurityContext.allowPrivilegeEscalation", is, []string{"true"}, "a process can gain rights"},
	{Security, []string{k8s}, "**ecurityContext.allowPrivilegeEscalation", stops, []string{"false"}, "a process can gain rights"},
	{Security, []string{k8s}, "**ecurityContext.runAsNonRoot", stops, []string{"true"}, "the container may run as root"},
	{Security, []string{k8s}, "**ecurityContext.runAsUser", is, []string{"0"}, "the container runs as root"},
	{Security, []string{k8s}, "**ecurityContext.readOnlyRootFilesystem", stops, []string{"true"}, "the container's files can be changed"},
	{Security, []string{k8s}, "**ecurityContext.capabilities.add[*]", gains, nil, "the container gets the capability"},
	{Security, []string{k8s}, "**ecurityContext.capabilities.drop[*]", loses, nil, "the container keeps the capability"},
	{Security, []string{k8s}, "**ecurityContext.seccompProfile.type", stops, []string{"RuntimeDefault", "Localhost"},
		"every system call is admitted"},
	{Security, []string{k8s}, "**spec.host*", is, []string{"true"}, "the pod sees its node"},
	{Security, []string{k8s}, "**hostPath.path", gains, nil, "the pod sees the node's files"},
	{Security, []string{"kubernetes:core/v1:ConfigMap"}, "data.AUTH", changes, nil, "callers identify themselves in another way"},
	{Security, []string{"kubernetes:configuration.konghq.com/*"}, "**", changes, nil, "the gateway checks requests in another way"},
	{Security, []string{"kubernetes:configuration.konghq.com/*"}, "", deleted, nil, "the gateway no longer checks requests with it"},

	// How a bad version is found.
	{Canary, []string{"kubernetes:argoproj.io/v1alpha1:Rollout"}, "spec.strategy.**", changes, nil,
		"versions are shifted and judged in another way"},
	{Canary, []string{"kubernetes:argoproj.io/v1alpha1:Rollout"}, "spec.progressDeadline*", changes, nil,
		"a version that does not start is given up at another time"},
	{Canary, canaryTypes, "spec.**", changes, nil, "versions are judged in another way"},
	{Canary, append([]string{"kubernetes:argoproj.io/v1alpha1:Rollout"}, canaryTypes...), "", deleted, nil, "nothing judges versions with it"},
	{Canary, []string{"kubernetes:core/v1:ConfigMap"}, `data["objectives.yml"]`, changes, nil,
		"objectives are measured or alerted in another way"},
	{Canary, []string{"kubernetes:core/v1:ConfigMap"}, `data["canaries.yml"]`, changes, nil, "canaries are measured in another way"},
	{Canary, []string{"kubernetes:core/v1:ConfigMap"}, `data["alarms.yml"]`, changes, nil, "alarms are raised in another way"},
	{Canary, []string{"kubernetes:datadoghq.com/*", "kubernetes:monitoring.coreos.com/*"}, "spec.**", changes, nil,
		"it measures or alerts in another way"},
	{Canary, []string{"kubernetes:datadoghq.com/*", "kubernetes:monitoring.coreos.com/*"}, "", deleted, nil,
		"it no longer measures or alerts"},
}
