package policy

import "fmt"

func encryption(_ *Options, r Resource) []finding {
	props := in(r)
	var found []finding
	demand := func(f field, ok bool, message string) {
		if !ok {
			found = append(found, finding{f.path, message})
		}
	}
	key := func(name string) {
		demand(props.at(name), props.at(name).set(), "is missing: encrypt with a customer-managed KMS key")
	}
	volume := func(ebs field) {
		demand(ebs.at("encrypted"), ebs.at("encrypted").is(true), "is not true: encrypt volumes")
	}
	switch r.Type {
	case "aws:rds/instance:Instance", "aws:rds/cluster:Cluster":
		demand(props.at("storageEncrypted"), props.at("storageEncrypted").is(true), "is not true: encrypt databases")
		key("kmsKeyId")
	case "aws:ec2/launchTemplate:LaunchTemplate":
		devices := props.at("blockDeviceMappings")
		demand(devices, devices.unknown() || len(devices.items()) > 0,
			"is empty: name the root volume, which is not encrypted by default")
		for _, device := range devices.items() {
			if ebs := device.at("ebs"); ebs.there {
				volume(ebs)
			}
		}
	case "aws:ec2/instance:Instance":
		volume(props.at("rootBlockDevice"))
	case "aws:ebs/volume:Volume":
		volume(props)
	case "aws:ecr/repository:Repository":
		configurations := props.at("encryptionConfigurations")
		demand(configurations, configurations.unknown() || len(configurations.items()) > 0, "is missing: encrypt images with KMS")
		for _, c := range configurations.items() {
			text, _ := c.at("encryptionType").text()
			demand(c.at("encryptionType"), text == "KMS" || c.at("encryptionType").unknown(),
				fmt.Sprintf("is %q: encrypt images with KMS", text))
		}
	case "aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2":
		for _, rule := range props.at("rules").items() {
			by := rule.at("applyServerSideEncryptionByDefault")
			text, _ := by.at("sseAlgorithm").text()
			demand(by.at("sseAlgorithm"), text == "aws:kms" || text == "aws:kms:dsse" || by.at("sseAlgorithm").unknown(),
				fmt.Sprintf("is %q: encrypt buckets with KMS", text))
		}
	case "aws:cloudwatch/logGroup:LogGroup", "aws:secretsmanager/secret:Secret":
		key("kmsKeyId")
	case "aws:eks/cluster:Cluster":
		secrets := props.at("encryptionConfig")
		demand(secrets, secrets.unknown() || secrets.at("provider").at("keyArn").set(),
			"has no provider.keyArn: encrypt Kubernetes Secrets with a customer-managed KMS key")
	case "eks:index:Cluster":
		key("encryptionConfigKeyArn")
	case "aws:kms/key:Key":
		spec, _ := props.at("customerMasterKeySpec").text()
		if symmetric := spec == "" || spec == "SYMMETRIC_DEFAULT"; symmetric { // other keys cannot rotate
			demand(props.at("enableKeyRotation"), props.at("enableKeyRotation").is(true), "is not true: let KMS rotate the key")
		}
	}
	if isKubernetes(r) && kind(r.Type) == "StorageClass" {
		if driver, _ := props.at("provisioner").text(); driver == "ebs.csi.aws.com" {
			volume(props.at("parameters"))
		}
	}
	return found
}
