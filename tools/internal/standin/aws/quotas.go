package aws

import (
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// A Quota is how much of a type's objects an account may have in a region.
type Quota struct {
	Code, Type string
	// New is the quota of a new account.
	New float64
	// Uses is how much of it an object uses.
	Uses         func(inputs resource.PropertyMap) float64
	Error        string
	source, read string
}

func one(resource.PropertyMap) float64 { return 1 }

// Quotas by their codes in Service Quotas.
var Quotas = []Quota{
	{"L-0263D0A3", EIP, 5, one, "AddressLimitExceeded", "VPC User Guide, Amazon VPC quotas: Elastic IP addresses per Region", "2026-11"},
	{"L-F678F1CE", VPC, 5, one, "VpcLimitExceeded", "VPC User Guide, Amazon VPC quotas: VPCs per Region", "2026-11"},
	{
		"L-1216C47A", NodeGroup, 5, machines, "VcpuLimitExceeded",
		"EC2 User Guide, Amazon EC2 service quotas: on-demand standard instances; that new accounts have 5 is from public notes", "2026-11",
	},
}

// machines are the vCPUs of a node group's machines, of its first type.
func machines(inputs resource.PropertyMap) float64 {
	kind := "t3.medium" // EKS's default
	if types := value.Texts(inputs, "instanceTypes"); len(types) > 0 {
		kind = types[0]
	}
	scaling := value.Plain(inputs["scalingConfig"])
	if !scaling.IsObject() {
		return 0
	}
	wanted := value.Plain(scaling.ObjectValue()["desiredSize"])
	if !wanted.IsNumber() {
		return 0
	}
	return wanted.NumberValue() * cpus(kind)
}

// cpus are the vCPUs of an instance type, by its size: two up to large, four for each xlarge.
func cpus(kind string) float64 {
	_, size, _ := strings.Cut(kind, ".")
	times, found := strings.CutSuffix(size, "xlarge")
	n, err := strconv.Atoi(times)
	switch {
	case !found:
		return 2
	case err != nil:
		return 4
	}
	return float64(4 * n)
}
