package aws

import (
	"slices"
	"strings"
)

// ZonesWithoutEKS are the ids of availability zones in which EKS makes no control plane.
//
// Source: EKS User Guide, Amazon EKS networking requirements for VPC and subnets, read in 2026-11.
var ZonesWithoutEKS = []string{"use1-az3", "usw1-az2", "cac1-az3"}

// zoneNumbers are the numbers of the zone ids behind the letters of a region's zones, where they are not
// in order. Every account has its own: a plausible one here, in which not all zones take EKS.
var zoneNumbers = map[string]string{"us-east-1": "124635"}

var regionDirections = strings.NewReplacer("northeast", "ne", "northwest", "nw", "southeast", "se", "southwest", "sw",
	"central", "c", "north", "n", "south", "s", "east", "e", "west", "w", "-", "")

// ZoneID is the id of an availability zone in the stand-in's account: use1-az1 of us-east-1a.
func ZoneID(region, zone string) string {
	letter := strings.TrimPrefix(zone, region)
	if len(letter) != 1 || letter < "a" || letter > "z" {
		return ""
	}
	number := string(letter[0] - 'a' + '1')
	if order := zoneNumbers[region]; int(letter[0]-'a') < len(order) {
		number = order[letter[0]-'a':][:1]
	}
	return regionDirections.Replace(region) + "-az" + number
}

// A PlacementRule refuses the zones of the subnets that an object names.
type PlacementRule struct {
	Name, Type, Subnets string
	Error               string
	Refuse              func(zoneIDs []string) string // returns the reason, or ""
	source, read        string
}

// PlacementRules of subnets.
var PlacementRules = []PlacementRule{
	{
		"zones that take EKS", Cluster, "vpcConfig.subnetIds", "UnsupportedAvailabilityZoneException",
		func(ids []string) string {
			for _, id := range ids {
				if slices.Contains(ZonesWithoutEKS, id) {
					return "cannot create a cluster with a subnet in " + id + ", which does not support EKS: take a subnet of another zone"
				}
			}
			return ""
		},
		"EKS User Guide, Amazon EKS networking requirements for VPC and subnets", "2026-11",
	},
	{
		"two zones for a cluster", Cluster, "vpcConfig.subnetIds", "InvalidParameterException",
		func(ids []string) string {
			if len(slices.Compact(slices.Sorted(slices.Values(ids)))) < 2 {
				return "subnets specified must be in at least two different availability zones"
			}
			return ""
		},
		"EKS User Guide, Amazon EKS networking requirements for VPC and subnets", "2026-11",
	},
}
