package world

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
)

type properties = map[string]any

func newWorld(t *testing.T) *World {
	t.Helper()
	t.Setenv(DirVariable, t.TempDir())
	w, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// leave stores an object without asking whether AWS would.
func leave(t *testing.T, w *World, token, id string, in, out properties) *Object {
	t.Helper()
	o := &Object{
		Object:  aws.Object{Type: token, ID: id, Inputs: resource.NewPropertyMapFromMap(in)},
		Outputs: resource.NewPropertyMapFromMap(out),
	}
	if err := w.put(o); err != nil {
		t.Fatal(err)
	}
	return o
}

func wants(t *testing.T, what string, err error, want string) {
	t.Helper()
	if got := fmt.Sprint(err); (err == nil) != (want == "") || !strings.Contains(got, want) && want != "" {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

// at is an object with a value at a path without indices.
func at(path string, v any) properties {
	first, rest, nested := strings.Cut(path, ".")
	if !nested {
		return properties{first: v}
	}
	return properties{first: at(rest, v)}
}

// Every row of References is tried with a name that is there and with one that is not.
func TestReferences(t *testing.T) {
	for _, r := range aws.References {
		t.Run(strings.Join([]string{r.From, r.Property, r.By}, " "), func(t *testing.T) {
			w := newWorld(t)
			name, out := "there", properties{"arn": "arn:there"}
			switch r.By {
			case "id", "id or arn":
			default:
				name = "named"
				out[r.By] = name
			}
			target := leave(t, w, r.To, "there", nil, out)
			names := func(name string) resource.PropertyMap { return resource.NewPropertyMapFromMap(at(r.Property, name)) }
			wants(t, "what is there", w.refuseReferences(aws.References, r.From, names(name)), "")
			if r.Missing != "" {
				wants(t, "what is not there", w.refuseReferences(aws.References, r.From, names("absent")), r.Missing+": "+r.Property+`: "absent" does not exist`)
			}
			wants(t, "a deletion without users", w.Delete(r.To, "there"), "")
			if r.InUse == "" {
				return
			}
			if err := w.put(target); err != nil {
				t.Fatal(err)
			}
			leave(t, w, r.From, "user", at(r.Property, name), nil)
			wants(t, "a deletion in use", w.Delete(r.To, "there"), r.InUse+": there has a dependent object")
		})
	}
}

func TestWhatAWSHasItself(t *testing.T) {
	w := newWorld(t)
	leave(t, w, aws.Cluster, "c", nil, properties{"vpcConfig": properties{"clusterSecurityGroupId": "sg-eks"}})
	leave(t, w, aws.Alias, "alias/k", nil, properties{"name": "alias/k", "arn": "arn:alias"})
	for _, tc := range []struct {
		token, property, name, want string
	}{
		{aws.RolePolicyAttachment, "policyArn", "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy", ""},
		{aws.RolePolicyAttachment, "policyArn", "arn:aws:iam::111122223333:policy/mine", "NoSuchEntity"},
		{aws.Instance, "parameterGroupName", "default.postgres17", ""},
		{aws.Instance, "parameterGroupName", "mine", "DBParameterGroupNotFound"},
		{aws.Secret, "kmsKeyId", "alias/aws/secretsmanager", ""},
		{aws.Secret, "kmsKeyId", "alias/k", ""},
		{aws.Secret, "kmsKeyId", "alias/other", "InvalidParameterException"},
		{aws.IngressRule, "referencedSecurityGroupId", "sg-eks", ""},
		{aws.IngressRule, "referencedSecurityGroupId", "sg-other", "InvalidGroup.NotFound"},
	} {
		err := w.refuseReferences(aws.References, tc.token, resource.NewPropertyMapFromMap(properties{tc.property: tc.name}))
		wants(t, tc.property+" "+tc.name, err, tc.want)
	}
}

// A cluster's subnets: EKS takes not every zone, and at least two.
func TestPlacement(t *testing.T) {
	w := newWorld(t)
	for id, zone := range map[string]string{"a": "use1-az1", "b": "use1-az2", "b2": "use1-az2", "e": "use1-az3"} {
		leave(t, w, aws.Subnet, id, nil, properties{"availabilityZoneId": zone})
	}
	for _, tc := range []struct {
		subnets []any
		want    string
	}{
		{[]any{"a", "b"}, ""},
		{[]any{"a", "b", "e"}, "UnsupportedAvailabilityZoneException: vpcConfig.subnetIds: cannot create a cluster with a subnet in use1-az3"},
		{[]any{"b", "b2"}, "InvalidParameterException: vpcConfig.subnetIds: subnets specified must be in at least two"},
	} {
		in := properties{"vpcConfig": properties{"subnetIds": tc.subnets}}
		wants(t, fmt.Sprint(tc.subnets), w.refusePlacement(aws.Cluster, resource.NewPropertyMapFromMap(in)), tc.want)
	}
}

// Every row of KeyUses is tried with a policy that admits its principal, with one that admits another,
// and with KMS's default.
func TestKeysAdmitThoseWhoUseThem(t *testing.T) {
	const keyARN = "arn:aws:kms:us-east-1:111122223333:key/k"
	place := aws.Place{Region: "us-east-1", Account: "111122223333"}
	for _, use := range aws.KeyUses {
		w := newWorld(t)
		in := at(use.Property, keyARN)
		in["name"] = "n"
		o := aws.Object{Type: use.From, Inputs: resource.NewPropertyMapFromMap(in)}
		principal := use.Fill(use.Principal, place, o)
		policy := func(principal, condition string) properties {
			return properties{"policy": `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": ["` + principal +
				`"]}, "Action": "kms:*", "Resource": "*"` + condition + `}]}`}
		}
		leave(t, w, aws.Key, "k", policy(principal, ""), properties{"arn": keyARN})
		wants(t, use.From+", admitted", w.refuseKeys(place, o), "")
		leave(t, w, aws.Key, "k", policy("arn:aws:iam::999999999999:root", ""), properties{"arn": keyARN})
		wants(t, use.From+", not admitted", w.refuseKeys(place, o), use.Error+": "+use.Property+": the policy of the key "+keyARN+" does not admit "+principal)
		leave(t, w, aws.Key, "k", nil, properties{"arn": keyARN})
		byDefault := ""
		if !strings.HasSuffix(principal, ":root") {
			byDefault = use.Error
		}
		wants(t, use.From+", by KMS's default policy", w.refuseKeys(place, o), byDefault)
		if use.Context == "" {
			continue
		}
		for like, want := range map[string]string{"*": "", "arn:aws:logs:us-east-1:111122223333:log-group:other": use.Error} {
			leave(t, w, aws.KeyPolicy, "k", func() properties {
				p := policy(principal, `, "Condition": {"ArnLike": {"kms:EncryptionContext:`+use.Context+`": "`+like+`"}}`)
				p["keyId"] = "k"
				return p
			}(), nil)
			wants(t, use.From+" with the context "+like, w.refuseKeys(place, o), want)
		}
	}
}

// A key that nobody has to admit anybody to does not end the check of the others, and an alias is its key.
func TestEveryKeyIsJudged(t *testing.T) {
	const keyARN, aliasARN = "arn:aws:kms:us-east-1:111122223333:key/k", "arn:aws:kms:us-east-1:111122223333:alias/k"
	w, place := newWorld(t), aws.Place{Region: "us-east-1", Account: "111122223333"}
	const other = `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::999999999999:root"}, "Action": "kms:*", "Resource": "*"}]}`
	leave(t, w, aws.Key, "k", properties{"policy": other}, properties{"arn": keyARN})
	leave(t, w, aws.Alias, "alias/k", properties{"targetKeyId": "k"}, properties{"name": "alias/k", "arn": aliasARN})
	for _, name := range []string{"k", keyARN, "alias/k", aliasARN} {
		o := aws.Object{Type: aws.LaunchTemplate, Inputs: resource.NewPropertyMapFromMap(properties{"blockDeviceMappings": []any{
			properties{"ebs": properties{"kmsKeyId": "alias/aws/ebs"}}, properties{"ebs": properties{"kmsKeyId": name}},
		}})}
		wants(t, name, w.refuseKeys(place, o), "the policy of the key "+name+" does not admit")
	}
}

// Every row of Quotas is tried with as much as a new account may have, with more, and with more by a
// raised quota. What is in another region does not count, nor does the object that changes.
func TestQuotas(t *testing.T) {
	place := aws.Place{Region: "us-east-1", Account: "111122223333"}
	group := func(nodes int, kind string) aws.Object {
		return aws.Object{Type: aws.NodeGroup, Inputs: resource.NewPropertyMapFromMap(properties{
			"instanceTypes": []any{kind}, "scalingConfig": properties{"desiredSize": nodes},
		})}
	}
	for _, tc := range []struct {
		code      string
		one, many aws.Object
		there     int
	}{
		{"L-0263D0A3", aws.Object{Type: aws.EIP}, aws.Object{Type: aws.EIP}, 4},
		{"L-F678F1CE", aws.Object{Type: aws.VPC}, aws.Object{Type: aws.VPC}, 4},
		{"L-1216C47A", group(2, "t3.medium"), group(3, "t3.medium"), 0},
		{"L-1216C47A", group(1, "m6i.xlarge"), group(1, "m6i.2xlarge"), 0},
	} {
		w := newWorld(t)
		name := QuotaVariable + strings.ReplaceAll(tc.code, "-", "_")
		leave(t, w, tc.one.Type, "elsewhere", tc.many.Inputs.Mappable(), properties{"arn": "arn:aws:x:eu-west-1:111122223333:x"})
		for i := range tc.there {
			leave(t, w, tc.one.Type, fmt.Sprint(i), tc.one.Inputs.Mappable(), properties{"arn": "arn:aws:x:us-east-1:111122223333:x"})
		}
		t.Setenv(name, "")
		wants(t, tc.code, w.refuseQuotas(place, "", tc.one), "")
		if tc.there > 0 {
			leave(t, w, tc.one.Type, "last", nil, properties{"arn": "arn:aws:x:us-east-1:111122223333:x"})
		}
		wants(t, tc.code+" beyond", w.refuseQuotas(place, "", tc.many), "the quota "+tc.code+" is 5 in us-east-1, and this makes ")
		if tc.there > 0 {
			wants(t, tc.code+" for one that is there", w.refuseQuotas(place, "last", tc.many), "")
		}
		t.Setenv(name, "16")
		wants(t, tc.code+" raised", w.refuseQuotas(place, "", tc.many), "")
	}
}

func TestWhatIsLeftInANetworkBlocksItsDeletion(t *testing.T) {
	w := newWorld(t)
	leave(t, w, aws.VPC, "vpc", nil, nil)
	leave(t, w, aws.InternetGateway, "igw", properties{"vpcId": "vpc"}, nil)
	leave(t, w, aws.Subnet, "s", properties{"vpcId": "vpc"}, nil)
	leave(t, w, aws.SubnetGroup, "g", properties{"subnetIds": []any{"s"}}, nil)
	leave(t, w, aws.Instance, "db", properties{"dbSubnetGroupName": "g"}, properties{"skipFinalSnapshot": true})
	wants(t, "a database's subnet", w.Delete(aws.Subnet, "s"), "DependencyViolation: s has a dependent object: a network interface of db")
	wants(t, "the database", w.Delete(aws.Instance, "db"), "")

	leave(t, w, aws.LoadBalancer, "nlb", properties{"subnets": []any{"s"}}, properties{"arn": "arn:nlb"})
	wants(t, "a load balancer's subnet", w.Delete(aws.Subnet, "s"), "DependencyViolation")
	wants(t, "its gateway", w.Delete(aws.InternetGateway, "igw"), "DependencyViolation: network vpc has some mapped public addresses: that of nlb")
	leave(t, w, aws.LoadBalancer, "nlb", properties{"subnets": []any{"s"}, "internal": true}, nil)
	wants(t, "the gateway of internal ones", w.Delete(aws.InternetGateway, "igw"), "")
	wants(t, "the load balancer", w.Delete(aws.LoadBalancer, "nlb"), "")
	leave(t, w, aws.InternetGateway, "igw", properties{"vpcId": "vpc"}, nil)
	leave(t, w, aws.NATGateway, "nat", properties{"subnetId": "s"}, nil)
	wants(t, "a NAT gateway's gateway", w.Delete(aws.InternetGateway, "igw"), "mapped public addresses: that of nat")
	wants(t, "the NAT gateway", w.Delete(aws.NATGateway, "nat"), "")
	wants(t, "the subnet", w.Delete(aws.Subnet, "s"), "")
	wants(t, "the gateway", w.Delete(aws.InternetGateway, "igw"), "")
}
