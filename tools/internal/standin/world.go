package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// WorldVariable names the environment variable with the folder that holds what
// exists in the stand-in's world. It is needed for everything but previews.
const WorldVariable = "LOJA_STANDIN_WORLD"

// A World is the objects that exist, one JSON file each, so that they can be
// looked at and tampered with: a file removed is an object removed by hand.
type World struct{ dir string }

// An Object is one resource that exists.
type Object struct {
	Type, ID string
	URN      string
	Seed     string // what its made-up values derive from
	Unique   string // what no other object of its type may have
	Inputs   resource.PropertyMap
	Outputs  resource.PropertyMap
}

type objectFile struct {
	Type, ID, URN, Seed, Unique string
	Inputs, Outputs             json.RawMessage
}

var errNoWorld = errors.New(WorldVariable + " is not set: the stand-in has no folder to keep its world in")

// OpenWorld is the world of the folder that WorldVariable names.
func OpenWorld() (*World, error) {
	dir := os.Getenv(WorldVariable)
	if dir == "" {
		return nil, errNoWorld
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the stand-in's world: %w", err)
	}
	return &World{dir}, nil
}

// Do runs f while no other process changes the world: each provider of a
// program is a process of its own.
func (w *World) Do(f func() error) error {
	lock, err := os.OpenFile(filepath.Join(w.dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	return f()
}

func (w *World) folder(tok string) string {
	parts := strings.Split(tok, ":")
	module, _, _ := strings.Cut(parts[1], "/")
	return filepath.Join(w.dir, module, parts[2])
}

func (w *World) file(tok, id string) string {
	return filepath.Join(w.folder(tok), url.PathEscape(id)+".json")
}

// Get is the object of a type with an id, or nil if there is none.
func (w *World) Get(tok, id string) (*Object, error) {
	return readObject(w.file(tok, id))
}

// All are the objects of a type, by id.
func (w *World) All(tok string) ([]*Object, error) {
	files, err := filepath.Glob(filepath.Join(w.folder(tok), "*.json"))
	if err != nil {
		return nil, err
	}
	sort.Strings(files)
	var all []*Object
	for _, f := range files {
		o, err := readObject(f)
		if err != nil {
			return nil, err
		}
		if o != nil {
			all = append(all, o)
		}
	}
	return all, nil
}

func readObject(file string) (*Object, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the stand-in's world: %w", err)
	}
	var f objectFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("the stand-in's world: %s: %w", file, err)
	}
	o := &Object{Type: f.Type, ID: f.ID, URN: f.URN, Seed: f.Seed, Unique: f.Unique}
	for _, p := range []struct {
		from json.RawMessage
		to   *resource.PropertyMap
	}{{f.Inputs, &o.Inputs}, {f.Outputs, &o.Outputs}} {
		var s structpb.Struct
		if err := protojson.Unmarshal(p.from, &s); err != nil {
			return nil, fmt.Errorf("the stand-in's world: %s: %w", file, err)
		}
		m, err := value.Unmarshal("world", &s)
		if err != nil {
			return nil, fmt.Errorf("the stand-in's world: %s: %w", file, err)
		}
		*p.to = m
	}
	return o, nil
}

// Put keeps an object. Secrets keep their marks; the folder holds them in
// plain text, as the cloud would, readable by its owner alone.
func (w *World) Put(o *Object) error {
	f := objectFile{Type: o.Type, ID: o.ID, URN: o.URN, Seed: o.Seed, Unique: o.Unique}
	for _, p := range []struct {
		from resource.PropertyMap
		to   *json.RawMessage
	}{{o.Inputs, &f.Inputs}, {o.Outputs, &f.Outputs}} {
		s, err := value.Marshal("world", p.from)
		if err != nil {
			return fmt.Errorf("the stand-in's world: %w", err)
		}
		b, err := json.Marshal(s.AsMap())
		if err != nil {
			return fmt.Errorf("the stand-in's world: %w", err)
		}
		*p.to = b
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	file := w.file(o.Type, o.ID)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	if err := os.WriteFile(file+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	return os.Rename(file+".new", file)
}

// Remove forgets an object; one that is not there is no error.
func (w *World) Remove(tok, id string) error {
	if err := os.Remove(w.file(tok, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the stand-in's world: %w", err)
	}
	return nil
}

// A reference is a property that names another object. An object whose
// reference names nothing is not created; one that is referred to is not
// deleted.
type reference struct {
	from, property string
	to, by         string // by: "id", or an output of the object referred to
	missing        string // AWS's error when it does not exist; none: not checked
	inUse          string // AWS's error on deletion; none: deletion is allowed
}

// References, from the error codes of Amazon's EC2, IAM, RDS and EKS API
// references.
var references = []reference{
	{"aws:ec2/subnet:Subnet", "vpcId", "aws:ec2/vpc:Vpc", "id", "InvalidVpcID.NotFound", "DependencyViolation"},
	{"aws:ec2/securityGroup:SecurityGroup", "vpcId", "aws:ec2/vpc:Vpc", "id", "InvalidVpcID.NotFound", "DependencyViolation"},
	{"aws:ec2/internetGateway:InternetGateway", "vpcId", "aws:ec2/vpc:Vpc", "id", "InvalidVpcID.NotFound", "DependencyViolation"},
	{"aws:ec2/routeTable:RouteTable", "vpcId", "aws:ec2/vpc:Vpc", "id", "InvalidVpcID.NotFound", "DependencyViolation"},
	{"aws:ec2/vpcEndpoint:VpcEndpoint", "vpcId", "aws:ec2/vpc:Vpc", "id", "InvalidVpcId.NotFound", "DependencyViolation"},
	{"aws:ec2/natGateway:NatGateway", "subnetId", "aws:ec2/subnet:Subnet", "id", "InvalidSubnetID.NotFound", "DependencyViolation"},
	{"aws:ec2/natGateway:NatGateway", "allocationId", "aws:ec2/eip:Eip", "id", "InvalidAllocationID.NotFound", "InvalidIPAddress.InUse"},
	{"aws:ec2/vpcEndpoint:VpcEndpoint", "subnetIds", "aws:ec2/subnet:Subnet", "id", "InvalidSubnetId.NotFound", "DependencyViolation"},
	{"aws:ec2/vpcEndpoint:VpcEndpoint", "securityGroupIds", "aws:ec2/securityGroup:SecurityGroup", "id", "InvalidGroup.NotFound", "DependencyViolation"},
	{"aws:ec2/routeTableAssociation:RouteTableAssociation", "routeTableId", "aws:ec2/routeTable:RouteTable", "id", "InvalidRouteTableID.NotFound", "DependencyViolation"},
	{"aws:ec2/routeTableAssociation:RouteTableAssociation", "subnetId", "aws:ec2/subnet:Subnet", "id", "InvalidSubnetID.NotFound", ""},
	{"aws:ec2/route:Route", "routeTableId", "aws:ec2/routeTable:RouteTable", "id", "InvalidRouteTableID.NotFound", ""},
	{"aws:rds/subnetGroup:SubnetGroup", "subnetIds", "aws:ec2/subnet:Subnet", "id", "InvalidSubnet", ""},
	{"aws:rds/instance:Instance", "dbSubnetGroupName", "aws:rds/subnetGroup:SubnetGroup", "id", "DBSubnetGroupNotFoundFault", "InvalidDBSubnetGroupStateFault"},
	{"aws:rds/instance:Instance", "vpcSecurityGroupIds", "aws:ec2/securityGroup:SecurityGroup", "id", "InvalidParameterValue", "DependencyViolation"},
	{"aws:eks/cluster:Cluster", "vpcConfig.subnetIds", "aws:ec2/subnet:Subnet", "id", "InvalidParameterException", "DependencyViolation"},
	{"aws:eks/cluster:Cluster", "vpcConfig.securityGroupIds", "aws:ec2/securityGroup:SecurityGroup", "id", "InvalidParameterException", "DependencyViolation"},
	{"aws:eks/cluster:Cluster", "roleArn", "aws:iam/role:Role", "arn", "InvalidParameterException", ""},
	{"aws:eks/nodeGroup:NodeGroup", "clusterName", "aws:eks/cluster:Cluster", "id", "ResourceNotFoundException", "ResourceInUseException"},
	{"aws:eks/nodeGroup:NodeGroup", "subnetIds", "aws:ec2/subnet:Subnet", "id", "InvalidParameterException", "DependencyViolation"},
	{"aws:eks/nodeGroup:NodeGroup", "nodeRoleArn", "aws:iam/role:Role", "arn", "InvalidParameterException", ""},
	{"aws:eks/addon:Addon", "clusterName", "aws:eks/cluster:Cluster", "id", "ResourceNotFoundException", ""},
	{"aws:eks/accessEntry:AccessEntry", "clusterName", "aws:eks/cluster:Cluster", "id", "ResourceNotFoundException", ""},
	{"aws:eks/podIdentityAssociation:PodIdentityAssociation", "clusterName", "aws:eks/cluster:Cluster", "id", "ResourceNotFoundException", ""},
	{"aws:eks/podIdentityAssociation:PodIdentityAssociation", "roleArn", "aws:iam/role:Role", "arn", "InvalidParameterException", ""},
	{"aws:iam/rolePolicyAttachment:RolePolicyAttachment", "role", "aws:iam/role:Role", "id", "NoSuchEntity", "DeleteConflict"},
	{"aws:iam/rolePolicyAttachment:RolePolicyAttachment", "policyArn", "aws:iam/policy:Policy", "id", "", "DeleteConflict"},
	{"aws:iam/rolePolicy:RolePolicy", "role", "aws:iam/role:Role", "id", "NoSuchEntity", "DeleteConflict"},
	{"aws:iam/instanceProfile:InstanceProfile", "role", "aws:iam/role:Role", "id", "NoSuchEntity", "DeleteConflict"},
	{"aws:ecr/lifecyclePolicy:LifecyclePolicy", "repository", "aws:ecr/repository:Repository", "id", "RepositoryNotFoundException", ""},
	{"aws:ecr/repositoryPolicy:RepositoryPolicy", "repository", "aws:ecr/repository:Repository", "id", "RepositoryNotFoundException", ""},
	{"aws:s3/bucketVersioningV2:BucketVersioningV2", "bucket", "aws:s3/bucketV2:BucketV2", "id", "NoSuchBucket", ""},
	{"aws:s3/bucketPolicy:BucketPolicy", "bucket", "aws:s3/bucketV2:BucketV2", "id", "NoSuchBucket", ""},
	{"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "bucket", "aws:s3/bucketV2:BucketV2", "id", "NoSuchBucket", ""},
	{"aws:kms/alias:Alias", "targetKeyId", "aws:kms/key:Key", "id or arn", "NotFoundException", ""},
	{"aws:secretsmanager/secretVersion:SecretVersion", "secretId", "aws:secretsmanager/secret:Secret", "id", "ResourceNotFoundException", ""},
}

// named are the values of a reference in an object's inputs.
func (r reference) named(inputs resource.PropertyMap) []string {
	at := inputs
	path := strings.Split(r.property, ".")
	for _, part := range path[:len(path)-1] {
		v := value.Plain(at[resource.PropertyKey(part)])
		if !v.IsObject() {
			return nil
		}
		at = v.ObjectValue()
	}
	last := path[len(path)-1]
	if s := value.Text(at, last); s != "" {
		return []string{s}
	}
	return value.Texts(at, last)
}

func (r reference) is(o *Object, named string) bool {
	switch r.by {
	case "id":
		return o.ID == named
	case "id or arn":
		return o.ID == named || value.Text(o.Outputs, "arn") == named
	}
	return value.Text(o.Outputs, r.by) == named
}

// refuseCreate is why AWS would not create this, or nil.
func (w *World) refuseCreate(tok string, inputs resource.PropertyMap) error {
	for _, r := range references {
		if r.from != tok || r.missing == "" {
			continue
		}
		targets, err := w.All(r.to)
		if err != nil {
			return err
		}
	named:
		for _, named := range r.named(inputs) {
			for _, o := range targets {
				if r.is(o, named) {
					continue named
				}
			}
			return fmt.Errorf("%s: %s: %q does not exist", r.missing, r.property, named)
		}
	}
	if tok == "aws:ec2/subnet:Subnet" {
		return w.refuseSubnet(inputs)
	}
	return nil
}

// refuseSubnet keeps a subnet within its VPC and apart from the others.
//
// Source: Amazon EC2 API, CreateSubnet: InvalidSubnet.Range, InvalidSubnet.Conflict.
func (w *World) refuseSubnet(inputs resource.PropertyMap) error {
	if value.Text(inputs, "cidrBlock") == "" {
		return nil // IPv6 only
	}
	block, err := netip.ParsePrefix(value.Text(inputs, "cidrBlock"))
	if err != nil {
		return fmt.Errorf("InvalidParameterValue: cidrBlock: %w", err)
	}
	vpc, err := w.Get("aws:ec2/vpc:Vpc", value.Text(inputs, "vpcId"))
	if err != nil || vpc == nil {
		return err
	}
	if whole, err := netip.ParsePrefix(value.Text(vpc.Inputs, "cidrBlock")); err == nil && (!whole.Contains(block.Addr()) || whole.Bits() > block.Bits()) {
		return fmt.Errorf("InvalidSubnet.Range: cidrBlock: %s is outside its VPC's %s", block, whole)
	}
	others, err := w.All("aws:ec2/subnet:Subnet")
	if err != nil {
		return err
	}
	for _, o := range others {
		other, err := netip.ParsePrefix(value.Text(o.Inputs, "cidrBlock"))
		if err == nil && value.Text(o.Inputs, "vpcId") == vpc.ID && other.Overlaps(block) {
			return fmt.Errorf("InvalidSubnet.Conflict: cidrBlock: %s overlaps %s of %s", block, other, o.ID)
		}
	}
	return nil
}

// refuseDelete is why AWS would not delete this, or nil.
func (w *World) refuseDelete(o *Object) error {
	switch o.Type {
	case "aws:rds/instance:Instance":
		if value.Flag(o.Outputs, "deletionProtection") {
			return fmt.Errorf("InvalidParameterCombination: cannot delete protected DB instance %s, disable deletionProtection first", o.ID)
		}
		if !value.Flag(o.Outputs, "skipFinalSnapshot") && value.Text(o.Outputs, "finalSnapshotIdentifier") == "" {
			return fmt.Errorf("finalSnapshotIdentifier is required of %s when skipFinalSnapshot is false", o.ID)
		}
	case "aws:route53/zone:Zone":
		records, err := w.All("aws:route53/record:Record")
		if err != nil {
			return err
		}
		for _, r := range records {
			if value.Text(r.Inputs, "zoneId") == o.ID && !value.Flag(o.Outputs, "forceDestroy") {
				return fmt.Errorf("HostedZoneNotEmpty: %s still has %s", o.ID, r.ID)
			}
		}
	}
	for _, r := range references {
		if r.to != o.Type || r.inUse == "" {
			continue
		}
		users, err := w.All(r.from)
		if err != nil {
			return err
		}
		for _, user := range users {
			for _, named := range r.named(user.Inputs) {
				if r.is(o, named) {
					return fmt.Errorf("%s: %s has a dependent object: %s of %s", r.inUse, o.ID, r.property, user.ID)
				}
			}
		}
	}
	return nil
}
