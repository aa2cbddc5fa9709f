package aws

import (
	"encoding/base64"
	"maps"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// answerLaunchTemplate counts versions: each update adds one.
func answerLaunchTemplate(r *rendering) {
	latest := 1.0
	if v := value.Plain(r.old["latestVersion"]); r.update && v.IsNumber() {
		latest = v.NumberValue() + 1
	}
	r.set("latestVersion", resource.NewProperty(latest))
	if value.Flag(r.object.Inputs, "updateDefaultVersion") || !r.update {
		r.set("defaultVersion", resource.NewProperty(latest))
	}
}

// answerCluster adds the cluster's API, its certificates and its network.
func answerCluster(r *rendering) {
	endpoint := r.text("https://{upper32}.gr7.{region}.eks.{dns}")
	if r.place.ClusterEndpoint != "" {
		endpoint = resource.NewProperty(r.place.ClusterEndpoint)
	}
	authority := r.place.ClusterAuthority
	if authority == "" {
		pem := "-----BEGIN CERTIFICATE-----\n" + r.expand("{hex64}") + "\n-----END CERTIFICATE-----\n"
		authority = base64.StdEncoding.EncodeToString([]byte(pem))
	}
	ca := record(resource.PropertyMap{"data": resource.NewProperty(authority)})
	issuer := record(resource.PropertyMap{"issuer": r.text("https://oidc.eks.{region}.{dns}/id/{upper32}")})
	r.set("endpoint", endpoint)
	r.set("certificateAuthority", ca)
	r.set("certificateAuthorities", value.List(ca))
	r.set("identities", value.List(record(resource.PropertyMap{"oidcs": value.List(issuer)})))

	vpc := resource.PropertyMap{}
	if v := r.out["vpcConfig"]; v.IsObject() {
		vpc = v.ObjectValue().Copy()
	}
	vpc["clusterSecurityGroupId"] = r.afterCreation(r.text("sg-{hex17}"))
	vpc["vpcId"] = r.afterCreation(resource.NewProperty(r.vpcOf(value.Texts(vpc, "subnetIds"))))
	r.out["vpcConfig"] = resource.NewProperty(vpc)

	network := resource.PropertyMap{
		"ipFamily": resource.NewProperty("ipv4"), "serviceIpv4Cidr": r.afterCreation(resource.NewProperty("172.20.0.0/16")),
	}
	if v := r.out["kubernetesNetworkConfig"]; v.IsObject() {
		maps.Copy(network, v.ObjectValue())
	}
	r.out["kubernetesNetworkConfig"] = resource.NewProperty(network)
}

// vpcOf is the VPC of the first of these subnets that exists, or else a fictitious one.
func (r *rendering) vpcOf(subnets []string) string {
	if r.place.VPCOf != nil {
		for _, id := range subnets {
			if vpc := r.place.VPCOf(id); vpc != "" {
				return vpc
			}
		}
	}
	return r.expand("vpc-{hex17}")
}

// answerSubnet adds the id of the subnet's zone.
func answerSubnet(r *rendering) {
	if !r.object.Inputs.HasValue("availabilityZoneId") {
		r.set("availabilityZoneId", resource.NewProperty(ZoneID(r.place.Region, value.Text(r.out, "availabilityZone"))))
	}
}

// answerNodeGroup adds the autoscaling group.
func answerNodeGroup(r *rendering) {
	group := record(resource.PropertyMap{"name": r.text("eks-{nodeGroupName}-{uuid}")})
	r.set("resources", value.List(record(resource.PropertyMap{"autoscalingGroups": value.List(group)})))
}

// answerInstance adds the secret with the password that RDS manages.
func answerInstance(r *rendering) {
	if value.Flag(r.object.Inputs, "manageMasterUserPassword") {
		r.set("masterUserSecrets", value.List(record(resource.PropertyMap{
			"kmsKeyId":     r.text("{masterUserSecretKmsKeyId|" + kmsARN + "alias/aws/secretsmanager}"),
			"secretArn":    r.text("arn:{partition}:secretsmanager:{region}:{account}:secret:rds!{id}-{hex6}"),
			"secretStatus": resource.NewProperty("active"),
		})))
	} else if !r.preview {
		r.set("masterUserSecrets", value.List())
	}
}

// answerAlias adds the ARN of the key, which the program may name by ARN or id.
func answerAlias(r *rendering) {
	switch target := value.Text(r.object.Inputs, "targetKeyId"); {
	case target == "":
		r.set("targetKeyArn", value.Unknown())
	case strings.HasPrefix(target, "arn:"):
		r.set("targetKeyArn", resource.NewProperty(target))
	default:
		r.set("targetKeyArn", r.text(kmsARN+"key/{targetKeyId}"))
	}
}

func answerSecretVersion(r *rendering) {
	if !r.object.Inputs.HasValue("versionStages") {
		r.set("versionStages", value.List(resource.NewProperty("AWSCURRENT")))
	}
}

func answerZone(r *rendering) {
	r.set("nameServers", value.List(resource.NewProperty("ns-1.awsdns-01.org"), resource.NewProperty("ns-2.awsdns-02.net")))
}

// answerCertificate adds the records that prove who owns the domains. A preview knows how
// many there are, but not what they hold.
func answerCertificate(r *rendering) {
	domains := append([]string{value.Text(r.object.Inputs, "domainName")}, value.Texts(r.object.Inputs, "subjectAlternativeNames")...)
	var options []resource.PropertyValue
	for _, domain := range domains {
		if domain == "" {
			continue
		}
		host := strings.TrimPrefix(domain, "*.")
		options = append(options, record(resource.PropertyMap{
			"domainName":          resource.NewProperty(domain),
			"resourceRecordName":  r.afterCreation(resource.NewProperty("_" + Digest(host)[:32] + "." + host + ".")),
			"resourceRecordType":  r.afterCreation(resource.NewProperty("CNAME")),
			"resourceRecordValue": r.afterCreation(resource.NewProperty("_" + Digest("value", host)[:32] + ".acm-validations.aws.")),
		}))
	}
	r.out["domainValidationOptions"] = value.List(options...)
}

func record(fields resource.PropertyMap) resource.PropertyValue { return resource.NewProperty(fields) }
