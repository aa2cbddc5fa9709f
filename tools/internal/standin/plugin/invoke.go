package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"github.com/loja-veloz/platform/tools/internal/standin/aws"
	"github.com/loja-veloz/platform/tools/internal/standin/check"
	"github.com/loja-veloz/platform/tools/internal/standin/cli"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
	"github.com/loja-veloz/platform/tools/internal/standin/world"
)

type (
	result = map[string]any
	answer func(settings, resource.PropertyMap) (result, error)
)

// answers are the functions that the stand-in can answer: those that the program and the
// EKS component call, and similar ones.
var answers = map[string]answer{
	"aws:index/getPartition:getPartition":                 getPartition,
	"aws:index/getRegion:getRegion":                       getRegion,
	"aws:index/getCallerIdentity:getCallerIdentity":       getCallerIdentity,
	"aws:index/getAvailabilityZones:getAvailabilityZones": getAvailabilityZones,
	"aws:index/getDefaultTags:getDefaultTags":             getDefaultTags,
	"aws:ec2/getAmi:getAmi":                               getAMI,
	"aws:ec2/getSubnet:getSubnet":                         byProperty(aws.Subnet, "id", "no matching EC2 Subnet: "),
	"aws:ec2/getSubnets:getSubnets":                       getSubnets,
	"aws:ec2/getVpc:getVpc":                               getVPC,
	"aws:eks/getCluster:getCluster":                       byProperty(aws.Cluster, "name", "ResourceNotFoundException: no cluster "),
	"aws:eks/getClusters:getClusters":                     getClusters,
	"aws:eks/getNodeGroup:getNodeGroup":                   getNodeGroup,
	"aws:eks/getNodeGroups:getNodeGroups":                 getNodeGroups,
	"aws:eks/getClusterAuth:getClusterAuth":               getClusterAuth,
	"aws:iam/getRole:getRole":                             byProperty(aws.Role, "name", "NoSuchEntity: no role "),
	"aws:ssm/getParameter:getParameter":                   getParameter,
}

// Invoke answers a function, after checking its arguments.
func (p *Provider) Invoke(_ context.Context, req *pulumirpc.InvokeRequest) (*pulumirpc.InvokeResponse, error) {
	args, err := value.Unmarshal("arguments", req.GetArgs())
	if err != nil {
		return nil, err
	}
	source, err := p.source()
	if err != nil {
		return nil, err
	}
	known, err := source.Function(req.GetTok())
	if err != nil {
		return nil, err
	}
	var c check.Failures
	if args, err = c.Properties("", req.GetTok(), args, known.Inputs, check.Required(known.Inputs)); err != nil {
		return nil, err
	}
	if len(c) > 0 {
		return &pulumirpc.InvokeResponse{Failures: proto(c)}, nil
	}
	answer := answers[req.GetTok()]
	if answer == nil {
		return nil, fmt.Errorf("the stand-in for pulumi-aws has no answer to %s", req.GetTok())
	}
	// A function without actions is denied to nobody, so its caller's role need not be known.
	if actions, _ := aws.Actions(req.GetTok(), aws.Read); len(actions) > 0 && world.Caller() != "" {
		if err := p.permit(aws.Request{Type: req.GetTok(), Operation: aws.Read}, ""); err != nil {
			return nil, err
		}
	}
	answered, err := answer(p.configured(), args)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.GetTok(), err)
	}
	marshaled, err := value.Marshal("result", resource.NewPropertyMapFromMap(answered))
	return &pulumirpc.InvokeResponse{Return: marshaled}, err
}

func getPartition(s settings, _ resource.PropertyMap) (result, error) {
	place := s.place()
	reverse := strings.Split(place.DNSSuffix(), ".")
	slices.Reverse(reverse)
	return result{
		"id": place.Partition(), "partition": place.Partition(),
		"dnsSuffix": place.DNSSuffix(), "reverseDnsPrefix": strings.Join(reverse, "."),
	}, nil
}

func getRegion(s settings, args resource.PropertyMap) (result, error) {
	region := s.region
	if name := value.Text(args, "name"); name != "" {
		region = name
	}
	endpoint := "ec2." + region + "." + s.place().DNSSuffix()
	return result{"id": region, "name": region, "description": region, "endpoint": endpoint}, nil
}

func getCallerIdentity(s settings, _ resource.PropertyMap) (result, error) {
	role := cli.Role(os.Getenv)
	return result{
		"id": s.account, "accountId": s.account, "userId": "AROA" + strings.ToUpper(aws.Digest(s.account)[:17]) + ":stand-in",
		"arn": fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/stand-in", s.place().Partition(), s.account, role[strings.LastIndex(role, "/")+1:]),
	}, nil
}

func getAvailabilityZones(s settings, _ resource.PropertyMap) (result, error) {
	var names, ids, groups []any
	for i, zone := range []string{"a", "b", "c"} {
		names = append(names, s.region+zone)
		ids = append(ids, fmt.Sprintf("az%d", i+1))
		groups = append(groups, s.region)
	}
	return result{"id": s.region, "names": names, "zoneIds": ids, "groupNames": groups}, nil
}

func getDefaultTags(s settings, _ resource.PropertyMap) (result, error) {
	tags := result{}
	for k, v := range s.defaultTags {
		tags[k] = v
	}
	return result{"id": "stand-in", "tags": tags}, nil
}

func getAMI(s settings, args resource.PropertyMap) (result, error) {
	id := "ami-" + aws.Digest(fmt.Sprint(value.PlainMap(args).Mappable()), s.region)[:17]
	return result{
		"id": id, "imageId": id, "architecture": "x86_64", "ownerId": s.account, "state": "available", "rootDeviceName": "/dev/xvda",
		"arn": fmt.Sprintf("arn:%s:ec2:%s::image/%s", s.place().Partition(), s.region, id),
	}, nil
}

// nodeRelease is the name of the parameter with the release of the image of nodes.
var nodeRelease = regexp.MustCompile(`^/aws/service/eks/optimized-ami/([0-9.]+)/.+/recommended/release_version$`)

func getParameter(s settings, args resource.PropertyMap) (result, error) {
	name := value.Text(args, "name")
	if !strings.HasPrefix(name, "/aws/service/") {
		return nil, fmt.Errorf("ParameterNotFound: %s: the stand-in has AWS's public parameters only", name)
	}
	if version := nodeRelease.FindStringSubmatch(name); version != nil {
		release := version[1] + ".6-20260818"
		return result{
			"id": name, "name": name, "type": "String", "value": release, "insecureValue": release, "version": 1.0,
			"arn": fmt.Sprintf("arn:%s:ssm:%s::parameter%s", s.place().Partition(), s.region, name),
		}, nil
	}
	image := "ami-" + aws.Digest(name, s.region)[:17]
	return result{
		"id": name, "name": name, "type": "String", "value": image, "insecureValue": image, "version": 1.0,
		"arn": fmt.Sprintf("arn:%s:ssm:%s::parameter%s", s.place().Partition(), s.region, name),
	}, nil
}

// names are those of the objects of a type, in the given property.
func names(token string, property string, fits func(*world.Object) bool) ([]any, error) {
	w, err := world.Open()
	if err != nil {
		return nil, err
	}
	all, err := w.All(token)
	found := []any{}
	for _, o := range all {
		if fits(o) {
			found = append(found, value.Text(o.Inputs, property))
		}
	}
	return found, err
}

func getClusters(s settings, _ resource.PropertyMap) (result, error) {
	found, err := names(aws.Cluster, "name", func(*world.Object) bool { return true })
	return result{"id": s.region, "names": found}, err
}

func getNodeGroups(_ settings, args resource.PropertyMap) (result, error) {
	cluster := value.Text(args, "clusterName")
	found, err := names(aws.NodeGroup, "nodeGroupName", func(o *world.Object) bool { return value.Text(o.Inputs, "clusterName") == cluster })
	return result{"id": cluster, "clusterName": cluster, "names": found}, err
}

func getNodeGroup(_ settings, args resource.PropertyMap) (result, error) {
	id := value.Text(args, "clusterName") + ":" + value.Text(args, "nodeGroupName")
	group, err := existing(aws.NodeGroup, "ResourceNotFoundException: no node group "+id, func(o *world.Object) bool { return o.ID == id })
	if err != nil {
		return nil, err
	}
	group["scalingConfigs"] = []any{group["scalingConfig"]}
	return group, nil
}

func getClusterAuth(_ settings, args resource.PropertyMap) (result, error) {
	name := value.Text(args, "name")
	return result{"id": name, "name": name, "token": "k8s-aws-v1." + aws.Digest(name)}, nil
}

func getVPC(_ settings, args resource.PropertyMap) (result, error) {
	if value.Flag(args, "default") {
		return nil, errors.New("no matching EC2 VPC: the stand-in's account has no default VPC")
	}
	id, block := value.Text(args, "id"), value.Text(args, "cidrBlock")
	return existing(aws.VPC, "no matching EC2 VPC", func(o *world.Object) bool {
		return o.ID == id || id == "" && block != "" && value.Text(o.Inputs, "cidrBlock") == block
	})
}

func getSubnets(s settings, args resource.PropertyMap) (result, error) {
	vpc, err := vpcFilter(args)
	if err != nil {
		return nil, err
	}
	w, err := world.Open()
	if err != nil {
		return nil, err
	}
	all, err := w.All(aws.Subnet)
	if err != nil {
		return nil, err
	}
	ids := []any{}
	for _, o := range all {
		if vpc == "" || value.Text(o.Inputs, "vpcId") == vpc {
			ids = append(ids, o.ID)
		}
	}
	return result{"id": s.region, "ids": ids}, nil
}

// vpcFilter is the VPC that the filters select, "" if there are none.
func vpcFilter(args resource.PropertyMap) (vpc string, err error) {
	filters := value.Plain(args["filters"])
	if !filters.IsArray() {
		return "", nil
	}
	for _, f := range filters.ArrayValue() {
		if !f.IsObject() || value.Text(f.ObjectValue(), "name") != "vpc-id" || len(value.Texts(f.ObjectValue(), "values")) != 1 {
			return "", errors.New("the stand-in filters subnets by one vpc-id only")
		}
		vpc = value.Texts(f.ObjectValue(), "values")[0]
	}
	return vpc, nil
}

// byProperty answers with the object whose id is an argument, or AWS's error and its id.
func byProperty(token, argument, missing string) answer {
	return func(_ settings, args resource.PropertyMap) (result, error) {
		id := value.Text(args, argument)
		return existing(token, missing+id, func(o *world.Object) bool { return o.ID == id })
	}
}

// existing returns the outputs of the object that fits, or the error missing.
func existing(token, missing string, fits func(*world.Object) bool) (result, error) {
	w, err := world.Open()
	if err != nil {
		return nil, err
	}
	all, err := w.All(token)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if fits(o) {
			out := value.PlainMap(o.Outputs).Mappable()
			out["id"] = o.ID
			return out, nil
		}
	}
	return nil, errors.New(missing)
}
