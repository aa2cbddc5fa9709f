// Package costs computes what an environment costs in a month from its plan, and what a change of
// the plan adds. Prices are a dated table in this package. A type that AWS bills and that has no
// price is an error, and so is one that the package does not know.
package costs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
)

// A Resource is one of a plan: its Pulumi type, its name, and its inputs by path, such as
// scalingConfig.desiredSize and instanceTypes[0].
type Resource struct {
	Type, Name string
	Inputs     map[string]string
}

// A Usage is what no plan says: it is assumed.
type Usage struct {
	NATGB, LogGB float64 // gigabytes in a month
	HandSecrets  int     // secrets that people create
	RunnerMin    float64 // minutes of GitHub's jobs on the environment's runner
	At           time.Time
}

// A Line is a row of an estimate.
type Line struct {
	Item, Unit string
	Quantity   float64 // hours are counted for one machine: 730 in a month
	Each       float64 // US dollars for each unit
	USD        float64
	order      int
}

// An Estimate is the cost of a month.
type Estimate struct{ Lines []Line }

// USD returns the sum in US dollars. Datadog's bill is not AWS's, and left out.
func (e *Estimate) USD() (sum float64) {
	for _, line := range e.Lines {
		if line.Item != prices["datadog"].item {
			sum += line.USD
		}
	}
	return sum
}

// order is the order of an estimate's rows, by the beginning of their price's key.
var order = []string{
	"eks", "ec2/", "ebs", "nat", "ipv4", "endpoint", "nlb", "rds/", "rds", "codebuild/", "logs", "alarm", "key", "secret", "datadog",
}

// estimate collects charges.
type estimate struct {
	usage  Usage
	amount map[string]float64 // by the key of a price
	nodes  float64
	errs   []error
}

func (e *estimate) add(key string, quantity float64) {
	if _, known := prices[key]; !known {
		e.errs = append(e.errs, fmt.Errorf("no price for %s: add it to prices in tools/internal/costs", key))
		return
	}
	e.amount[key] += quantity
}

func (e *estimate) number(r Resource, path string) float64 {
	n, err := strconv.ParseFloat(r.Inputs[path], 64)
	if err != nil {
		e.errs = append(e.errs, fmt.Errorf("%s %s: %s is %q: a number is expected", r.Type, r.Name, path, r.Inputs[path]))
	}
	return n
}

// billed are the types for which AWS sends a bill.
var billed = map[string]func(*estimate, Resource){
	"aws:eks/cluster:Cluster": func(e *estimate, r Resource) {
		end, known := aws.StandardSupport(r.Inputs["version"])
		switch {
		case !known:
			e.errs = append(e.errs, fmt.Errorf("%s %s: the end of the support of Kubernetes %q is not known: add it to those of the stand-in",
				r.Type, r.Name, r.Inputs["version"]))
		case e.usage.At.Format(time.DateOnly) > end:
			e.add("eks-extended", hours)
		default:
			e.add("eks", hours)
		}
	},
	"aws:eks/nodeGroup:NodeGroup": func(e *estimate, r Resource) {
		count := e.number(r, "scalingConfig.desiredSize")
		e.nodes += count
		e.add("ec2/"+r.Inputs["instanceTypes[0]"], count*hours)
	},
	"aws:ec2/launchTemplate:LaunchTemplate": func(*estimate, Resource) {}, // its disk is counted for each node
	"aws:ec2/natGateway:NatGateway":         func(e *estimate, _ Resource) { e.add("nat", hours) },
	"aws:ec2/eip:Eip":                       func(e *estimate, _ Resource) { e.add("ipv4", hours) },
	"aws:ec2/vpcEndpoint:VpcEndpoint": func(e *estimate, r Resource) {
		if r.Inputs["vpcEndpointType"] != "Interface" {
			return // gateway endpoints are free
		}
		for i := 0; r.Inputs[fmt.Sprintf("subnetIds[%d]", i)] != ""; i++ {
			e.add("endpoint", hours)
		}
	},
	"aws:rds/instance:Instance": func(e *estimate, r Resource) {
		suffix := ""
		if r.Inputs["multiAz"] == "true" {
			suffix = "-az"
		}
		e.add("rds/"+r.Inputs["instanceClass"]+suffix, hours)
		e.add("rds-gib"+suffix, e.number(r, "allocatedStorage"))
		if r.Inputs["manageMasterUserPassword"] == "true" {
			e.add("secret", 1)
		}
	},
	"aws:codebuild/project:Project": func(e *estimate, r Resource) { // nothing at rest
		e.add("codebuild/"+r.Inputs["environment.computeType"], e.usage.RunnerMin)
	},
	"aws:cloudwatch/metricAlarm:MetricAlarm": func(e *estimate, _ Resource) { e.add("alarm", 1) },
	"kubernetes:helm.sh/v3:Release": func(e *estimate, r Resource) {
		if r.Inputs["values.proxy.annotations[service.beta.kubernetes.io/aws-load-balancer-scheme]"] == "internet-facing" {
			e.add("nlb", hours)
			e.add("nlb-lcu", hours)
			e.add("ipv4", 3*hours)
		}
	},
}

// free are the types that cost nothing by themselves.
var free = []string{
	"aws:acm/certificate:Certificate", "aws:acm/certificateValidation:CertificateValidation",
	"aws:budgets/budget:Budget", // without actions
	"aws:codebuild/webhook:Webhook",
	"aws:cloudwatch/logGroup:LogGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", "aws:ec2/flowLog:FlowLog", // by ingestion
	"aws:ec2/internetGateway:InternetGateway", "aws:ec2/route:Route", "aws:ec2/routeTable:RouteTable",
	"aws:ec2/routeTableAssociation:RouteTableAssociation", "aws:ec2/securityGroup:SecurityGroup",
	"aws:ec2/securityGroupRule:SecurityGroupRule", "aws:ec2/subnet:Subnet", "aws:ec2/vpc:Vpc",
	"aws:eks/accessEntry:AccessEntry", "aws:eks/accessPolicyAssociation:AccessPolicyAssociation", "aws:eks/addon:Addon",
	"aws:eks/podIdentityAssociation:PodIdentityAssociation",
	"aws:iam/role:Role", "aws:iam/rolePolicy:RolePolicy", "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
	"aws:rds/parameterGroup:ParameterGroup", "aws:rds/subnetGroup:SubnetGroup",
	"aws:route53/record:Record",                                          // an alias to a load balancer
	"aws:sns/topic:Topic", "aws:sns/topicSubscription:TopicSubscription", // the first 1,000 mails of a month
	"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
}

// Monthly returns the cost of a month of a plan. Its error has a line for each type without a
// price.
func Monthly(plan []Resource, usage Usage) (*Estimate, error) {
	e := &estimate{usage: usage, amount: map[string]float64{}}
	disk := 0.0
	for _, r := range plan {
		charge, known := billed[r.Type]
		switch {
		case known:
			charge(e, r)
		case strings.HasPrefix(r.Type, "aws:") && !slices.Contains(free, r.Type):
			e.errs = append(e.errs, fmt.Errorf("%s %s: no price: add the type to billed or free in tools/internal/costs", r.Type, r.Name))
		}
		if r.Type == "aws:ec2/launchTemplate:LaunchTemplate" {
			disk = e.number(r, "blockDeviceMappings[0].ebs.volumeSize")
		}
	}
	e.add("ebs-gp3", disk*e.nodes)
	if e.amount["nat"] > 0 {
		e.add("nat-gb", usage.NATGB)
	}
	e.add("logs-gb", usage.LogGB)
	e.add("key", 1)
	e.add("secret", float64(usage.HandSecrets))
	if slices.ContainsFunc(plan, func(r Resource) bool {
		return r.Type == "kubernetes:helm.sh/v3:Release" && r.Inputs["chart"] == "datadog"
	}) {
		e.add("datadog", e.nodes)
	}
	if err := errors.Join(e.errs...); err != nil {
		return nil, err
	}
	return e.lines(), nil
}

func (e *estimate) lines() *Estimate {
	out := &Estimate{}
	for key, quantity := range e.amount {
		p := prices[key]
		at := slices.IndexFunc(order, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
		out.Lines = append(out.Lines, Line{p.item, p.unit, quantity, p.each, quantity * p.each, at})
	}
	out.Lines = out.sorted()
	return out
}

// sorted returns the lines in the order of a bill.
func (e *Estimate) sorted() []Line {
	lines := slices.Clone(e.Lines)
	slices.SortFunc(lines, func(a, b Line) int {
		if a.order != b.order {
			return a.order - b.order
		}
		return strings.Compare(a.Item, b.Item)
	})
	return lines
}

// Delta returns what changes from one estimate to another: the rows that differ, with the
// difference of quantity and dollars, and their sum.
func Delta(before, after *Estimate) (changed []Line, usd float64) {
	old := map[string]Line{}
	for _, line := range before.Lines {
		old[line.Item] = line
	}
	differ := func(line Line, was Line) {
		line.Quantity -= was.Quantity
		line.USD -= was.USD
		if line.Quantity != 0 {
			changed = append(changed, line)
			usd += line.USD
		}
	}
	for _, line := range after.Lines {
		differ(line, old[line.Item])
		delete(old, line.Item)
	}
	for _, line := range before.Lines {
		if was, gone := old[line.Item]; gone {
			line.Quantity, line.USD = 0, 0
			differ(line, was)
		}
	}
	return changed, usd
}
