package standin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/schema"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// Environment variables that put a real Kubernetes API behind EKS clusters:
// its address, and the certificate authority that signed it, PEM in base64.
const (
	EndpointVariable  = "LOJA_STANDIN_EKS_ENDPOINT"
	AuthorityVariable = "LOJA_STANDIN_EKS_CA"
)

// A made is what the made-up values of one type look like. Templates name in
// braces: an input or output of the object, region, account, partition, dns
// (the partition's domain), id, arn, and hexN, upperN, digitsN and uuid, which
// derive from the object. After | comes what stands for a property that is not
// set.
type made struct {
	id      string
	arn     string
	name    string // the property that gets a name of its own if none is given; "name" unless said
	lower   bool   // such names are in lower case
	unique  string // what may exist once, beside the id
	exists  string // AWS's error when it does
	outputs map[string]string
	more    func(*making)
}

// A making is the outputs of one object under way.
type making struct {
	provider *Provider
	object   *Object
	preview  bool // what is not known before creation stays unknown
	update   bool
	old      resource.PropertyMap
	out      resource.PropertyMap
}

const (
	ec2Arn = "arn:{partition}:ec2:{region}:{account}:"
	eksArn = "arn:{partition}:eks:{region}:{account}:"
	iamArn = "arn:{partition}:iam::{account}:"
)

var makes = map[string]made{
	"aws:ec2/vpc:Vpc": {id: "vpc-{hex17}", arn: ec2Arn + "vpc/{id}", outputs: map[string]string{
		"ownerId": "{account}", "mainRouteTableId": "rtb-{hex17}", "defaultRouteTableId": "rtb-{hex17}", "defaultNetworkAclId": "acl-{hex17}",
		"defaultSecurityGroupId": "sg-{hex17}", "dhcpOptionsId": "dopt-{hex17}", "instanceTenancy": "default", "enableDnsSupport": "true",
	}},
	"aws:ec2/subnet:Subnet": {id: "subnet-{hex17}", arn: ec2Arn + "subnet/{id}", outputs: map[string]string{
		"ownerId": "{account}", "availabilityZone": "{region}a", "availabilityZoneId": "az-{availabilityZone}", "privateDnsHostnameTypeOnLaunch": "ip-name",
	}},
	"aws:ec2/internetGateway:InternetGateway": {id: "igw-{hex17}", arn: ec2Arn + "internet-gateway/{id}", outputs: map[string]string{"ownerId": "{account}"}},
	"aws:ec2/eip:Eip": {id: "eipalloc-{hex17}", arn: ec2Arn + "elastic-ip/{id}", outputs: map[string]string{
		"allocationId": "{id}", "domain": "vpc", "publicIp": "203.0.113.{byte}", "publicDns": "ec2-203-0-113-{byte}.{region}.compute.{dns}",
		"networkBorderGroup": "{region}", "publicIpv4Pool": "amazon",
	}},
	"aws:ec2/natGateway:NatGateway": {id: "nat-{hex17}", outputs: map[string]string{
		"associationId": "eipassoc-{hex17}", "networkInterfaceId": "eni-{hex17}", "privateIp": "10.0.0.{byte}", "publicIp": "203.0.113.{byte}", "connectivityType": "public",
	}},
	"aws:ec2/routeTable:RouteTable":                       {id: "rtb-{hex17}", arn: ec2Arn + "route-table/{id}", outputs: map[string]string{"ownerId": "{account}"}},
	"aws:ec2/route:Route":                                 {id: "r-{routeTableId}{hex10}", unique: "{routeTableId} {destinationCidrBlock|}{destinationIpv6CidrBlock|}{destinationPrefixListId|}", exists: "RouteAlreadyExists", outputs: map[string]string{"origin": "CreateRoute", "state": "active"}},
	"aws:ec2/routeTableAssociation:RouteTableAssociation": {id: "rtbassoc-{hex17}", unique: "{subnetId|}{gatewayId|}", exists: "Resource.AlreadyAssociated"},
	"aws:ec2/securityGroup:SecurityGroup": {id: "sg-{hex17}", arn: ec2Arn + "security-group/{id}", unique: "{vpcId|} {name}", exists: "InvalidGroup.Duplicate", outputs: map[string]string{
		"ownerId": "{account}", "vpcId": "vpc-{hex17}", "description": "Managed by Pulumi",
	}},
	"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup":         {id: "sg-{hex17}", arn: ec2Arn + "security-group/{id}", unique: "{vpcId|}", exists: "InvalidGroup.Duplicate", name: "-", outputs: map[string]string{"ownerId": "{account}", "name": "default", "description": "default VPC security group"}},
	"aws:ec2/securityGroupRule:SecurityGroupRule":               {id: "sgrule-{digits10}", outputs: map[string]string{"securityGroupRuleId": "sgr-{hex17}"}},
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": {id: "sgr-{hex17}", arn: ec2Arn + "security-group-rule/{id}", outputs: map[string]string{"securityGroupRuleId": "{id}"}},
	"aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule":   {id: "sgr-{hex17}", arn: ec2Arn + "security-group-rule/{id}", outputs: map[string]string{"securityGroupRuleId": "{id}"}},
	"aws:ec2/vpcEndpoint:VpcEndpoint": {id: "vpce-{hex17}", arn: ec2Arn + "vpc-endpoint/{id}", outputs: map[string]string{
		"ownerId": "{account}", "state": "available", "prefixListId": "pl-{hex8}", "ipAddressType": "ipv4", "serviceRegion": "{region}",
	}},
	"aws:ec2/flowLog:FlowLog": {id: "fl-{hex17}", arn: ec2Arn + "vpc-flow-log/{id}", outputs: map[string]string{"logFormat": "", "logGroupName": ""}},
	"aws:ec2/launchTemplate:LaunchTemplate": {id: "lt-{hex17}", arn: ec2Arn + "launch-template/{id}", unique: "{name}", exists: "InvalidLaunchTemplateName.AlreadyExistsException", more: func(m *making) {
		latest := 1.0
		if v := value.Plain(m.old["latestVersion"]); m.update && v.IsNumber() {
			latest = v.NumberValue() + 1
		}
		m.set("latestVersion", resource.NewProperty(latest))
		if value.Flag(m.object.Inputs, "updateDefaultVersion") || !m.update {
			m.set("defaultVersion", resource.NewProperty(latest))
		}
	}},

	"aws:eks/cluster:Cluster": {id: "{name}", arn: eksArn + "cluster/{id}", exists: "ResourceInUseException", outputs: map[string]string{
		"createdAt": "2026-01-01T00:00:00Z", "platformVersion": "eks.1", "status": "ACTIVE", "version": "1.33",
	}, more: makeCluster},
	"aws:eks/nodeGroup:NodeGroup": {id: "{clusterName}:{nodeGroupName}", arn: eksArn + "nodegroup/{clusterName}/{nodeGroupName}/{uuid}", name: "nodeGroupName", exists: "ResourceInUseException", outputs: map[string]string{
		"status": "ACTIVE", "amiType": "AL2023_x86_64_STANDARD", "capacityType": "ON_DEMAND", "releaseVersion": "1.33.0-20260101", "version": "1.33",
	}, more: func(m *making) {
		m.set("resources", value.List(record("autoscalingGroups", value.List(record("name", resource.NewProperty(m.expand("eks-{nodeGroupName}-{uuid}")))))))
	}},
	"aws:eks/addon:Addon": {id: "{clusterName}:{addonName}", arn: eksArn + "addon/{clusterName}/{addonName}/{uuid}", exists: "ResourceInUseException", outputs: map[string]string{
		"createdAt": "2026-01-01T00:00:00Z", "modifiedAt": "2026-01-01T00:00:00Z", "addonVersion": "v1.0.0-eksbuild.1",
	}},
	"aws:eks/accessEntry:AccessEntry": {id: "{clusterName}:{principalArn}", exists: "ResourceInUseException", outputs: map[string]string{
		"accessEntryArn": eksArn + "access-entry/{clusterName}/{uuid}", "createdAt": "2026-01-01T00:00:00Z", "modifiedAt": "2026-01-01T00:00:00Z", "userName": "{principalArn}", "type": "STANDARD",
	}},
	"aws:eks/accessPolicyAssociation:AccessPolicyAssociation": {id: "{clusterName}#{principalArn}#{policyArn}", exists: "ResourceInUseException", outputs: map[string]string{
		"associatedAt": "2026-01-01T00:00:00Z", "modifiedAt": "2026-01-01T00:00:00Z",
	}},
	"aws:eks/podIdentityAssociation:PodIdentityAssociation": {id: "a-{hex17}", unique: "{clusterName} {namespace} {serviceAccount}", exists: "ResourceInUseException", outputs: map[string]string{
		"associationId": "{id}", "associationArn": eksArn + "podidentityassociation/{clusterName}/{id}",
	}},

	"aws:iam/role:Role": {id: "{name}", arn: iamArn + "role{path|/}{name}", exists: "EntityAlreadyExists", outputs: map[string]string{
		"uniqueId": "AROA{upper17}", "createDate": "2026-01-01T00:00:00Z",
	}},
	"aws:iam/rolePolicy:RolePolicy":                     {id: "{role}:{name}", exists: "EntityAlreadyExists"},
	"aws:iam/rolePolicyAttachment:RolePolicyAttachment": {id: "{role}-{hex17}", unique: "{role} {policyArn}", exists: "EntityAlreadyExists"},
	"aws:iam/policy:Policy": {id: iamArn + "policy{path|/}{name}", arn: "{id}", exists: "EntityAlreadyExists", outputs: map[string]string{
		"policyId": "ANPA{upper17}", "attachmentCount": "0",
	}},
	"aws:iam/openIdConnectProvider:OpenIdConnectProvider": {id: iamArn + "oidc-provider/{host}", arn: "{id}", exists: "EntityAlreadyExists"},
	"aws:iam/instanceProfile:InstanceProfile": {id: "{name}", arn: iamArn + "instance-profile{path|/}{name}", exists: "EntityAlreadyExists", outputs: map[string]string{
		"uniqueId": "AIPA{upper17}", "createDate": "2026-01-01T00:00:00Z",
	}},

	"aws:rds/instance:Instance": {id: "db-{upper26}", arn: "arn:{partition}:rds:{region}:{account}:db:{identifier}", name: "identifier", lower: true, unique: "{identifier}", exists: "DBInstanceAlreadyExists", outputs: map[string]string{
		"address": "{identifier}.{hex12}.{region}.rds.{dns}", "endpoint": "{identifier}.{hex12}.{region}.rds.{dns}:{port|5432}", "port": "5432",
		"hostedZoneId": "Z{upper13}", "resourceId": "{id}", "status": "available", "engineVersionActual": "{engineVersion}", "availabilityZone": "{region}a",
		"backupWindow": "03:00-04:00", "maintenanceWindow": "mon:04:30-mon:05:30", "caCertIdentifier": "rds-ca-rsa2048-g1", "networkType": "IPV4",
		"parameterGroupName": "default.{engine}", "storageType": "gp2", "licenseModel": "postgresql-license",
	}, more: func(m *making) {
		if value.Flag(m.object.Inputs, "manageMasterUserPassword") {
			key := m.expand("{masterUserSecretKmsKeyId|arn:{partition}:kms:{region}:{account}:alias/aws/secretsmanager}")
			m.set("masterUserSecrets", value.List(record(
				"kmsKeyId", resource.NewProperty(key),
				"secretArn", resource.NewProperty(m.expand("arn:{partition}:secretsmanager:{region}:{account}:secret:rds!{id}-{hex6}")),
				"secretStatus", resource.NewProperty("active"))))
		} else if !m.preview {
			m.set("masterUserSecrets", value.List())
		}
	}},
	"aws:rds/subnetGroup:SubnetGroup": {id: "{name}", arn: "arn:{partition}:rds:{region}:{account}:subgrp:{name}", lower: true, exists: "DBSubnetGroupAlreadyExists", outputs: map[string]string{
		"description": "Managed by Pulumi", "vpcId": "vpc-{hex17}",
	}},
	"aws:rds/parameterGroup:ParameterGroup": {id: "{name}", arn: "arn:{partition}:rds:{region}:{account}:pg:{name}", lower: true, exists: "DBParameterGroupAlreadyExists", outputs: map[string]string{"description": "Managed by Pulumi"}},
	"aws:kms/key:Key":                       {id: "{uuid}", arn: "arn:{partition}:kms:{region}:{account}:key/{id}", outputs: map[string]string{"keyId": "{id}"}},
	"aws:kms/alias:Alias": {id: "{name}", arn: "arn:{partition}:kms:{region}:{account}:{name}", exists: "AlreadyExistsException", more: func(m *making) {
		target := value.Text(m.object.Inputs, "targetKeyId")
		if target == "" {
			m.set("targetKeyArn", value.Unknown())
		} else if strings.HasPrefix(target, "arn:") {
			m.set("targetKeyArn", resource.NewProperty(target))
		} else {
			m.set("targetKeyArn", resource.NewProperty(m.expand("arn:{partition}:kms:{region}:{account}:key/{targetKeyId}")))
		}
	}},
	"aws:kms/keyPolicy:KeyPolicy": {id: "{keyId}"},

	"aws:ecr/repository:Repository": {id: "{name}", arn: "arn:{partition}:ecr:{region}:{account}:repository/{name}", lower: true, exists: "RepositoryAlreadyExistsException", outputs: map[string]string{
		"registryId": "{account}", "repositoryUrl": "{account}.dkr.ecr.{region}.{dns}/{name}",
	}},
	"aws:ecr/lifecyclePolicy:LifecyclePolicy":                       {id: "{repository}", outputs: map[string]string{"registryId": "{account}"}},
	"aws:ecr/repositoryPolicy:RepositoryPolicy":                     {id: "{repository}", outputs: map[string]string{"registryId": "{account}"}},
	"aws:ecr/pullThroughCacheRule:PullThroughCacheRule":             {id: "{ecrRepositoryPrefix}", exists: "PullThroughCacheRuleAlreadyExistsException", outputs: map[string]string{"registryId": "{account}"}},
	"aws:ecr/repositoryCreationTemplate:RepositoryCreationTemplate": {id: "{prefix}", exists: "TemplateAlreadyExistsException", outputs: map[string]string{"registryId": "{account}"}},

	"aws:s3/bucketV2:BucketV2": {id: "{bucket}", arn: "arn:{partition}:s3:::{bucket}", name: "bucket", lower: true, exists: "BucketAlreadyOwnedByYou", outputs: map[string]string{
		"bucketDomainName": "{bucket}.s3.{dns}", "bucketRegionalDomainName": "{bucket}.s3.{region}.{dns}", "hostedZoneId": "Z{upper13}", "region": "{region}",
	}},
	"aws:s3/bucketVersioningV2:BucketVersioningV2":                                               {id: "{bucket}"},
	"aws:s3/bucketPolicy:BucketPolicy":                                                           {id: "{bucket}"},
	"aws:s3/bucketOwnershipControls:BucketOwnershipControls":                                     {id: "{bucket}"},
	"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock":                                     {id: "{bucket}"},
	"aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2": {id: "{bucket}"},
	"aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2":                       {id: "{bucket}"},

	"aws:cloudwatch/logGroup:LogGroup":       {id: "{name}", arn: "arn:{partition}:logs:{region}:{account}:log-group:{name}", exists: "ResourceAlreadyExistsException", outputs: map[string]string{"logGroupClass": "STANDARD"}},
	"aws:cloudwatch/eventRule:EventRule":     {id: "{name}", arn: "arn:{partition}:events:{region}:{account}:rule/{name}", exists: "ResourceAlreadyExistsException"},
	"aws:cloudwatch/eventTarget:EventTarget": {id: "{rule}-{targetId}", name: "targetId", exists: "ResourceAlreadyExistsException"},
	"aws:sqs/queue:Queue":                    {id: "https://sqs.{region}.{dns}/{account}/{name}", arn: "arn:{partition}:sqs:{region}:{account}:{name}", exists: "QueueAlreadyExists", outputs: map[string]string{"url": "{id}"}},
	"aws:secretsmanager/secret:Secret":       {id: "{arn}", arn: "arn:{partition}:secretsmanager:{region}:{account}:secret:{name}-{hex6}", unique: "{name}", exists: "ResourceExistsException"},
	"aws:secretsmanager/secretVersion:SecretVersion": {id: "{secretId}|{uuid}", outputs: map[string]string{
		"arn": "{secretId}", "versionId": "{uuid}",
	}, more: func(m *making) {
		if !m.object.Inputs.HasValue("versionStages") {
			m.set("versionStages", value.List(resource.NewProperty("AWSCURRENT")))
		}
	}},
	"aws:route53/zone:Zone": {id: "Z{upper20}", arn: "arn:{partition}:route53:::hostedzone/{id}", name: "-", outputs: map[string]string{"zoneId": "{id}", "primaryNameServer": "ns-1.awsdns-01.org", "comment": "Managed by Pulumi"}, more: func(m *making) {
		m.set("nameServers", value.List(resource.NewProperty("ns-1.awsdns-01.org"), resource.NewProperty("ns-2.awsdns-02.net")))
	}},
	"aws:route53/record:Record": {id: "{zoneId}_{name}_{type}", exists: "InvalidChangeBatch", outputs: map[string]string{"fqdn": "{name}"}},
	"aws:acm/certificate:Certificate": {id: "{arn}", arn: "arn:{partition}:acm:{region}:{account}:certificate/{uuid}", outputs: map[string]string{
		"status": "PENDING_VALIDATION", "type": "AMAZON_ISSUED", "keyAlgorithm": "RSA_2048", "notAfter": "", "notBefore": "", "renewalEligibility": "INELIGIBLE",
	}, more: func(m *making) {
		var options []resource.PropertyValue
		for _, domain := range append([]string{value.Text(m.object.Inputs, "domainName")}, value.Texts(m.object.Inputs, "subjectAlternativeNames")...) {
			if domain == "" {
				continue
			}
			host := strings.TrimPrefix(domain, "*.")
			options = append(options, record(
				"domainName", resource.NewProperty(domain),
				"resourceRecordName", resource.NewProperty("_"+digest(host)[:32]+"."+host+"."),
				"resourceRecordType", resource.NewProperty("CNAME"),
				"resourceRecordValue", resource.NewProperty("_"+digest("value", host)[:32]+".acm-validations.aws.")))
		}
		if m.preview {
			for i := range options {
				o := options[i].ObjectValue()
				for _, k := range []resource.PropertyKey{"resourceRecordName", "resourceRecordType", "resourceRecordValue"} {
					o[k] = value.Unknown()
				}
			}
		}
		m.out["domainValidationOptions"] = value.List(options...)
	}},
	"aws:acm/certificateValidation:CertificateValidation": {id: "{uuid}"},
	"aws:cloudformation/stack:Stack":                      {id: "arn:{partition}:cloudformation:{region}:{account}:stack/{name}/{uuid}", unique: "{name}", exists: "AlreadyExistsException"},
}

// makeCluster adds what EKS answers on a new cluster.
func makeCluster(m *making) {
	endpoint := os.Getenv(EndpointVariable)
	if endpoint == "" {
		endpoint = m.expand("https://{upper32}.gr7.{region}.eks.{dns}")
	}
	authority := os.Getenv(AuthorityVariable)
	if authority == "" {
		authority = base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\n" + m.expand("{hex64}") + "\n-----END CERTIFICATE-----\n"))
	}
	ca := record("data", resource.NewProperty(authority))
	m.set("endpoint", resource.NewProperty(endpoint))
	m.set("certificateAuthority", ca)
	m.set("certificateAuthorities", value.List(ca))
	m.set("identities", value.List(record("oidcs", value.List(record("issuer", resource.NewProperty(m.expand("https://oidc.eks.{region}.{dns}/id/{upper32}")))))))
	vpc := resource.PropertyMap{}
	if v := m.out["vpcConfig"]; v.IsObject() {
		vpc = v.ObjectValue().Copy()
	}
	vpc["clusterSecurityGroupId"] = m.later(resource.NewProperty(m.expand("sg-{hex17}")))
	vpc["vpcId"] = m.later(resource.NewProperty(m.vpcOf(value.Texts(vpc, "subnetIds"))))
	m.out["vpcConfig"] = resource.NewProperty(vpc)
	network := resource.PropertyMap{"ipFamily": resource.NewProperty("ipv4"), "serviceIpv4Cidr": m.later(resource.NewProperty("172.20.0.0/16"))}
	if v := m.out["kubernetesNetworkConfig"]; v.IsObject() {
		for k, given := range v.ObjectValue() {
			network[k] = given
		}
	}
	m.out["kubernetesNetworkConfig"] = resource.NewProperty(network)
}

// vpcOf is the VPC of the first of these subnets that exists.
func (m *making) vpcOf(subnets []string) string {
	if w, err := OpenWorld(); err == nil && !m.preview {
		for _, id := range subnets {
			if s, err := w.Get("aws:ec2/subnet:Subnet", id); err == nil && s != nil {
				return value.Text(s.Inputs, "vpcId")
			}
		}
	}
	return m.expand("vpc-{hex17}")
}

// later is a value that AWS gives on creation, unknown in a preview of it.
func (m *making) later(v resource.PropertyValue) resource.PropertyValue {
	if m.preview && !m.update {
		return value.Unknown()
	}
	return v
}

func (m *making) set(name string, v resource.PropertyValue) {
	m.out[resource.PropertyKey(name)] = m.later(v)
}

// record is an object of names and values in turn.
func record(pairs ...any) resource.PropertyValue {
	m := resource.PropertyMap{}
	for i := 0; i < len(pairs); i += 2 {
		m[resource.PropertyKey(pairs[i].(string))] = pairs[i+1].(resource.PropertyValue) // #nosec G602 -- pairs have an even number
	}
	return resource.NewProperty(m)
}

func digest(parts ...string) string {
	h := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(h[:])
}

var derived = regexp.MustCompile(`^(hex|upper|digits)([0-9]+)$`)

// expand fills a template. An input that is unknown or missing is left empty.
func (m *making) expand(template string) string {
	var b strings.Builder
	for i := 0; i < len(template); i++ {
		if template[i] != '{' {
			b.WriteByte(template[i])
			continue
		}
		depth, end := 0, i
		for ; end < len(template); end++ {
			if template[end] == '{' {
				depth++
			} else if template[end] == '}' {
				if depth--; depth == 0 {
					break
				}
			}
		}
		if end == len(template) {
			b.WriteString(template[i:])
			break
		}
		b.WriteString(m.value(template[i+1 : end]))
		i = end
	}
	return b.String()
}

func (m *making) value(name string) string {
	name, otherwise, _ := strings.Cut(name, "|")
	p := m.provider
	seed := m.object.Seed
	switch name {
	case "region":
		return p.region
	case "account":
		return p.account
	case "partition":
		return p.partition()
	case "dns":
		return p.dnsSuffix()
	case "id":
		return m.object.ID
	case "byte":
		n, _ := strconv.ParseUint(digest("byte", seed)[:2], 16, 8)
		return strconv.FormatUint(n, 10)
	case "uuid":
		d := digest("uuid", seed)
		return d[:8] + "-" + d[8:12] + "-4" + d[13:16] + "-a" + d[17:20] + "-" + d[20:32]
	case "host":
		return strings.TrimPrefix(value.Text(m.object.Inputs, "url"), "https://")
	}
	if match := derived.FindStringSubmatch(name); match != nil {
		n, _ := strconv.Atoi(match[2])
		d := digest(name, seed)
		d += digest(d)
		switch match[1] {
		case "upper":
			return strings.ToUpper(d[:n])
		case "digits":
			return strings.Map(func(r rune) rune {
				if r >= 'a' {
					return r - 'a' + '1'
				}
				return r
			}, d[:n])
		}
		return d[:n]
	}
	for _, from := range []resource.PropertyMap{m.object.Inputs, m.out} {
		switch v := value.Plain(from[resource.PropertyKey(name)]); {
		case v.IsString():
			return v.StringValue()
		case v.IsNumber():
			return strconv.FormatFloat(v.NumberValue(), 'f', -1, 64)
		}
	}
	return m.expand(otherwise)
}

// typed gives a template's result the type of its property.
func typed(s string, t *schema.Type) resource.PropertyValue {
	if t != nil {
		switch t.Kind {
		case schema.Integer, schema.Number:
			if n, err := strconv.ParseFloat(s, 64); err == nil {
				return resource.NewProperty(n)
			}
		case schema.Boolean:
			return resource.NewProperty(s == "true")
		}
	}
	return resource.NewProperty(s)
}

// identify gives an object its id, which is its name where AWS names it so,
// or derives from the URN, the inputs and how many such objects went before.
func (m *making) identify(known *schema.Resource) error {
	how, ok := makes[m.object.Type]
	if !ok {
		how.id = "{name|" + strings.ToLower(known.Token[strings.LastIndex(known.Token, ":")+1:]) + "-{hex17}}"
	}
	if strings.Contains(how.id, "{arn}") {
		m.out["arn"] = resource.NewProperty(m.expand(how.arn))
	}
	m.object.ID = m.expand(how.id)
	m.object.Unique = m.expand(how.unique)
	if m.object.ID == "" {
		return fmt.Errorf("%s: the inputs name no id: %s", m.object.Type, how.id)
	}
	return nil
}

// outputs of an object that exists, or in a preview of one that would.
func (m *making) outputs(known *schema.Resource) resource.PropertyMap {
	how := makes[m.object.Type]
	m.out = resource.PropertyMap{}
	unknown := m.preview && !m.update
	if m.update {
		for k, v := range m.old {
			if _, input := known.Inputs[string(k)]; !input {
				m.out[k] = v
			}
		}
	}
	for k, v := range m.object.Inputs {
		if !strings.HasPrefix(string(k), "__") {
			m.out[k] = v
		}
	}
	for name, f := range known.Outputs {
		key := resource.PropertyKey(name)
		if _, given := m.out[key]; given {
			continue
		}
		_, input := known.Inputs[name]
		if input && !f.Computed {
			continue
		}
		if unknown {
			m.out[key] = value.Unknown()
			continue
		}
		// A property that was made up once keeps its value.
		if old, ok := m.old[key]; ok && m.update {
			m.out[key] = old
		}
	}
	if !unknown {
		if _, has := known.Outputs["arn"]; has {
			arn := how.arn
			if arn == "" && makes[m.object.Type].id == "" {
				module, _, _ := strings.Cut(strings.Split(m.object.Type, ":")[1], "/")
				arn = "arn:{partition}:" + module + ":{region}:{account}:" + strings.ToLower(m.object.Type[strings.LastIndex(m.object.Type, ":")+1:]) + "/{id}"
			}
			if _, given := m.object.Inputs["arn"]; !given && arn != "" {
				m.out["arn"] = resource.NewProperty(m.expand(arn))
			}
		}
		for name, template := range how.outputs {
			key := resource.PropertyKey(name)
			if _, given := m.object.Inputs[key]; !given {
				m.out[key] = typed(m.expand(template), known.Outputs[name].Type)
			}
		}
		for name, f := range known.Outputs {
			key := resource.PropertyKey(name)
			if _, set := m.out[key]; set {
				continue
			}
			if _, input := known.Inputs[name]; input && !f.Computed {
				continue
			}
			if v, ok := zero(f.Type); ok {
				m.out[key] = v
			}
		}
	}
	if how.more != nil {
		how.more(m)
	}
	for _, name := range known.SecretOutputs {
		key := resource.PropertyKey(name)
		if v, ok := m.out[key]; ok && !v.IsSecret() && !v.IsNull() {
			m.out[key] = resource.MakeSecret(v)
		}
	}
	return m.out
}

// zero is the empty value of a property that nothing is known about.
func zero(t *schema.Type) (resource.PropertyValue, bool) {
	switch t.Kind {
	case schema.String:
		return resource.NewProperty(""), true
	case schema.Integer, schema.Number:
		return resource.NewProperty(0.0), true
	case schema.Boolean:
		return resource.NewProperty(false), true
	case schema.List:
		return value.List(), true
	case schema.Map:
		return resource.NewProperty(resource.PropertyMap{}), true
	}
	return resource.PropertyValue{}, false
}
