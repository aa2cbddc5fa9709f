package standin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"github.com/loja-veloz/platform/tools/internal/standin/check"
	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// answers are the functions that the stand-in knows how to answer: those that
// the program and the EKS component call, and their near relatives.
var answers = map[string]func(*Provider, resource.PropertyMap) (map[string]any, error){
	"aws:index/getPartition:getPartition": func(p *Provider, _ resource.PropertyMap) (map[string]any, error) {
		reverse := strings.Split(p.dnsSuffix(), ".")
		for i, j := 0, len(reverse)-1; i < j; i, j = i+1, j-1 {
			reverse[i], reverse[j] = reverse[j], reverse[i]
		}
		return map[string]any{"id": p.partition(), "partition": p.partition(), "dnsSuffix": p.dnsSuffix(), "reverseDnsPrefix": strings.Join(reverse, ".")}, nil
	},
	"aws:index/getRegion:getRegion": func(p *Provider, args resource.PropertyMap) (map[string]any, error) {
		region := p.region
		if name := value.Text(args, "name"); name != "" {
			region = name
		}
		return map[string]any{"id": region, "name": region, "description": region, "endpoint": "ec2." + region + "." + p.dnsSuffix()}, nil
	},
	"aws:index/getCallerIdentity:getCallerIdentity": func(p *Provider, _ resource.PropertyMap) (map[string]any, error) {
		return map[string]any{"id": p.account, "accountId": p.account, "userId": "AROA" + strings.ToUpper(digest(p.account)[:17]) + ":stand-in", "arn": fmt.Sprintf("arn:%s:sts::%s:assumed-role/stand-in/stand-in", p.partition(), p.account)}, nil
	},
	"aws:index/getAvailabilityZones:getAvailabilityZones": func(p *Provider, _ resource.PropertyMap) (map[string]any, error) {
		var names, ids, groups []any
		for i, zone := range []string{"a", "b", "c"} {
			names = append(names, p.region+zone)
			ids = append(ids, fmt.Sprintf("az%d", i+1))
			groups = append(groups, p.region)
		}
		return map[string]any{"id": p.region, "names": names, "zoneIds": ids, "groupNames": groups}, nil
	},
	"aws:index/getDefaultTags:getDefaultTags": func(p *Provider, _ resource.PropertyMap) (map[string]any, error) {
		tags := map[string]any{}
		for k, v := range p.defaultTags {
			tags[k] = v
		}
		return map[string]any{"id": "stand-in", "tags": tags}, nil
	},
	"aws:ec2/getAmi:getAmi": func(p *Provider, args resource.PropertyMap) (map[string]any, error) {
		id := "ami-" + digest(fmt.Sprint(value.PlainMap(args).Mappable()), p.region)[:17]
		return map[string]any{"id": id, "imageId": id, "architecture": "x86_64", "ownerId": p.account, "state": "available", "rootDeviceName": "/dev/xvda",
			"arn": fmt.Sprintf("arn:%s:ec2:%s::image/%s", p.partition(), p.region, id)}, nil
	},
	"aws:ssm/getParameter:getParameter": func(p *Provider, args resource.PropertyMap) (map[string]any, error) {
		name := value.Text(args, "name")
		value := "ami-" + digest(name, p.region)[:17]
		if !strings.HasPrefix(name, "/aws/service/") {
			return nil, fmt.Errorf("ParameterNotFound: %s: the stand-in has AWS's public parameters only", name)
		}
		return map[string]any{"id": name, "name": name, "type": "String", "value": value, "insecureValue": value, "version": 1.0,
			"arn": fmt.Sprintf("arn:%s:ssm:%s::parameter%s", p.partition(), p.region, name)}, nil
	},
	"aws:eks/getClusterAuth:getClusterAuth": func(_ *Provider, args resource.PropertyMap) (map[string]any, error) {
		name := value.Text(args, "name")
		return map[string]any{"id": name, "name": name, "token": "k8s-aws-v1." + digest(name)}, nil
	},
	"aws:eks/getCluster:getCluster": func(_ *Provider, args resource.PropertyMap) (map[string]any, error) {
		return existing("aws:eks/cluster:Cluster", func(o *Object) bool { return o.ID == value.Text(args, "name") }, "ResourceNotFoundException: no cluster "+value.Text(args, "name"))
	},
	"aws:ec2/getVpc:getVpc": func(_ *Provider, args resource.PropertyMap) (map[string]any, error) {
		if value.Flag(args, "default") {
			return nil, errors.New("no matching EC2 VPC: the stand-in's account has no default VPC")
		}
		return existing("aws:ec2/vpc:Vpc", func(o *Object) bool {
			return o.ID == value.Text(args, "id") || value.Text(args, "id") == "" && value.Text(o.Inputs, "cidrBlock") == value.Text(args, "cidrBlock") && value.Text(args, "cidrBlock") != ""
		}, "no matching EC2 VPC")
	},
	"aws:ec2/getSubnet:getSubnet": func(_ *Provider, args resource.PropertyMap) (map[string]any, error) {
		return existing("aws:ec2/subnet:Subnet", func(o *Object) bool { return o.ID == value.Text(args, "id") }, "no matching EC2 Subnet: "+value.Text(args, "id"))
	},
	"aws:ec2/getSubnets:getSubnets": func(p *Provider, args resource.PropertyMap) (map[string]any, error) {
		w, err := OpenWorld()
		if err != nil {
			return nil, err
		}
		all, err := w.All("aws:ec2/subnet:Subnet")
		if err != nil {
			return nil, err
		}
		vpc := ""
		if filters := value.Plain(args["filters"]); filters.IsArray() {
			for _, f := range filters.ArrayValue() {
				if !f.IsObject() || value.Text(f.ObjectValue(), "name") != "vpc-id" || len(value.Texts(f.ObjectValue(), "values")) != 1 {
					return nil, errors.New("the stand-in filters subnets by one vpc-id only")
				}
				vpc = value.Texts(f.ObjectValue(), "values")[0]
			}
		}
		ids := []any{}
		for _, o := range all {
			if vpc == "" || value.Text(o.Inputs, "vpcId") == vpc {
				ids = append(ids, o.ID)
			}
		}
		return map[string]any{"id": p.region, "ids": ids}, nil
	},
	"aws:iam/getRole:getRole": func(_ *Provider, args resource.PropertyMap) (map[string]any, error) {
		return existing("aws:iam/role:Role", func(o *Object) bool { return o.ID == value.Text(args, "name") }, "NoSuchEntity: no role "+value.Text(args, "name"))
	},
}

// existing are the outputs of the object that fits.
func existing(tok string, fits func(*Object) bool, missing string) (map[string]any, error) {
	w, err := OpenWorld()
	if err != nil {
		return nil, err
	}
	all, err := w.All(tok)
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
	var required []string
	for name, f := range known.Inputs {
		if !f.Optional {
			required = append(required, name)
		}
	}
	var c check.Failures
	if args, err = c.Properties("", req.GetTok(), args, known.Inputs, required); err != nil {
		return nil, err
	}
	if len(c) > 0 {
		return &pulumirpc.InvokeResponse{Failures: proto(c)}, nil
	}
	answer := answers[req.GetTok()]
	if answer == nil {
		return nil, fmt.Errorf("the stand-in for pulumi-aws has no answer to %s", req.GetTok())
	}
	result, err := answer(p, args)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.GetTok(), err)
	}
	marshaled, err := value.Marshal("result", resource.NewPropertyMapFromMap(result))
	return &pulumirpc.InvokeResponse{Return: marshaled}, err
}
