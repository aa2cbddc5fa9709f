package aws

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// A Situation is an object of EKS that somebody wants to create or to change.
type Situation struct {
	Type string
	// Old are the inputs of the object before the change; nil if it does not exist yet.
	Old, Inputs resource.PropertyMap
	// Cluster are the inputs of the cluster that the object names; nil if it is not known.
	Cluster resource.PropertyMap
	On      time.Time
}

// An eksRule refuses what EKS refuses of an object as a whole, or of a change.
type eksRule struct {
	name, token, path string
	refuse            func(Situation) string // returns the reason, or ""
	source            string                 // document
	read              string                 // when it was read, or in whose state it is quoted
}

var eksRules = []eksRule{
	{
		"a version that EKS has", Cluster, "version", refuseVersion,
		"EKS User Guide, Kubernetes versions on standard and on extended support", "2026-08",
	},
	{
		"standard support", Cluster, "upgradePolicy.supportType", refuseStandard,
		"EKS User Guide, Disable EKS extended support: not once a cluster has entered it", "2026-08",
	},
	{
		"one minor at a time", Cluster, "version", refuseSkip,
		"EKS User Guide, Update existing cluster to new Kubernetes version", "2026-08",
	},
	{
		"an add-on of the version", Addon, "addonVersion", refuseAddon,
		"Amazon EKS API, CreateAddon and UpdateAddon: addonVersion; versions: see addonLines", "2026-10",
	},
	{
		"minimum, desired, maximum", NodeGroup, "scalingConfig", refuseScaling,
		"Amazon EKS API, UpdateNodegroupConfig; its errors as terraform-aws-eks issues 944 and 3306 quote them", "2026-11",
	},
	{
		"nodes not newer than their cluster", NodeGroup, "version", refuseNodeVersion,
		"EKS User Guide, Update a managed node group; Kubernetes, Version Skew Policy", "2026-08",
	},
	{
		"an image of the version", NodeGroup, "releaseVersion", refuseRelease,
		"Amazon EKS API, UpdateNodegroupVersion: releaseVersion", "2026-08",
	},
	{
		"an image of the processor", NodeGroup, "amiType", refuseProcessor,
		"EKS User Guide, Simplify node lifecycle with managed node groups: one image for all instance types; " +
			"EC2 User Guide, Instance type naming conventions", "2026-08",
	},
}

// A Refusal is an error of EKS, InvalidParameterException.
type Refusal struct{ Path, Reason string }

// RefuseEKS returns what EKS refuses of a situation.
func RefuseEKS(s Situation) []Refusal {
	var all []Refusal
	for _, rule := range eksRules {
		if rule.token == s.Type {
			if reason := rule.refuse(s); reason != "" {
				all = append(all, Refusal{rule.path, reason})
			}
		}
	}
	return all
}

// support are the last days of standard and of extended support, at 00:00 UTC.
//
// Source: EKS User Guide, Amazon EKS Kubernetes release calendar, read in 2026-08.
var support = map[string]struct{ standard, extended string }{
	"1.31": {"2025-11-26", "2026-11-26"}, "1.32": {"2026-03-23", "2027-03-23"}, "1.33": {"2026-07-29", "2027-07-29"},
	"1.34": {"2026-12-02", "2027-12-02"}, "1.35": {"2027-03-27", "2028-03-27"}, "1.36": {"2027-08-02", "2028-08-02"},
}

// StandardSupport is the last day of a version's standard support, such as 2027-03-27, if the version is known.
func StandardSupport(version string) (day string, known bool) {
	until, known := support[version]
	return until.standard, known
}

// ended tells whether a day of the table has come.
func ended(day string, on time.Time) bool { return on.UTC().Format("2006-01-02") >= day }

func refuseVersion(s Situation) string {
	version := value.Text(s.Inputs, "version")
	if version == "" || version == value.Text(s.Old, "version") {
		return "" // EKS's default, or none that is asked for
	}
	until, known := support[version]
	switch {
	case !known:
		return fmt.Sprintf("unsupported Kubernetes version %s", version)
	case ended(until.extended, s.On):
		return fmt.Sprintf("Kubernetes %s is out of all support since %s", version, until.extended)
	}
	return ""
}

func refuseStandard(s Situation) string {
	version := value.Text(s.Inputs, "version")
	if policy := value.Plain(s.Inputs["upgradePolicy"]); !policy.IsObject() || value.Text(policy.ObjectValue(), "supportType") != "STANDARD" {
		return ""
	}
	if until, known := support[version]; known && ended(until.standard, s.On) {
		return fmt.Sprintf("standard support of Kubernetes %s ended on %s, "+
			"and a version in extended support cannot have it disabled", version, until.standard)
	}
	return ""
}

func refuseSkip(s Situation) string {
	from, known := minor(value.Text(s.Old, "version"))
	to, alsoKnown := minor(value.Text(s.Inputs, "version"))
	switch {
	case !known || !alsoKnown || to == from || to == from+1:
		return ""
	case to < from:
		return fmt.Sprintf("cannot downgrade from 1.%d to 1.%d", from, to)
	default:
		return fmt.Sprintf("1.%d cannot become 1.%d: the next is 1.%d", from, to, from+1)
	}
}

// addonLines are the minor versions of each add-on that EKS offers for a version of Kubernetes, from
// and to. An add-on or a version that is not in it is not checked.
//
// Source: answers of aws eks describe-addon-versions and pins of running clusters in public
// repositories, August to October 2026. The ends of the ranges are what was seen, so EKS may offer
// more; coredns 1.12 is known to be refused by 1.35.
var addonLines = map[string]map[string][2]int{
	"kube-proxy":             {"1.33": {33, 33}, "1.34": {34, 34}, "1.35": {35, 35}, "1.36": {36, 36}},
	"coredns":                {"1.33": {12, 13}, "1.34": {12, 13}, "1.35": {13, 14}, "1.36": {14, 14}},
	"vpc-cni":                {"1.33": {20, 23}, "1.34": {20, 23}, "1.35": {21, 23}, "1.36": {22, 23}},
	"eks-pod-identity-agent": {"1.33": {3, 3}, "1.34": {3, 3}, "1.35": {3, 3}, "1.36": {3, 3}},
	"aws-ebs-csi-driver":     {"1.33": {48, 64}, "1.34": {55, 64}, "1.35": {56, 64}, "1.36": {63, 64}},
}

func refuseAddon(s Situation) string {
	name, version, kubernetes := value.Text(s.Inputs, "addonName"), value.Text(s.Inputs, "addonVersion"), value.Text(s.Cluster, "version")
	if version == "" || version == value.Text(s.Old, "addonVersion") {
		return ""
	}
	line, listed := addonLines[name][kubernetes]
	if is, known := minor(strings.TrimPrefix(version, "v")); listed && (!known || is < line[0] || is > line[1]) {
		return fmt.Sprintf("%s %s is not supported in Kubernetes %s: it has v1.%d to v1.%d",
			name, version, kubernetes, line[0], line[1])
	}
	return ""
}

func refuseScaling(s Situation) string {
	config := value.Plain(s.Inputs["scalingConfig"])
	if !config.IsObject() {
		return ""
	}
	number := func(key resource.PropertyKey) (float64, bool) {
		v := value.Plain(config.ObjectValue()[key])
		if !v.IsNumber() {
			return 0, false
		}
		return v.NumberValue(), true
	}
	least, a := number("minSize")
	wanted, b := number("desiredSize")
	most, c := number("maxSize")
	switch {
	case a && b && least > wanted:
		return fmt.Sprintf("minimum capacity %v can't be greater than desired size %v", least, wanted)
	case b && c && wanted > most:
		return fmt.Sprintf("desired capacity %v can't be greater than max size %v", wanted, most)
	}
	return ""
}

// kubeletSkew is by how many minors a kubelet may be older than the API server.
const kubeletSkew = 3

func refuseNodeVersion(s Situation) string {
	nodes, known := minor(value.Text(s.Inputs, "version"))
	cluster, alsoKnown := minor(value.Text(s.Cluster, "version"))
	switch {
	case !known || !alsoKnown || value.Text(s.Inputs, "version") == value.Text(s.Old, "version"):
		return ""
	case nodes > cluster:
		return fmt.Sprintf("nodes of 1.%d are newer than their cluster of 1.%d", nodes, cluster)
	case nodes < cluster-kubeletSkew:
		return fmt.Sprintf("nodes of 1.%d are too old for a cluster of 1.%d", nodes, cluster)
	}
	return ""
}

func refuseRelease(s Situation) string {
	release, version := value.Text(s.Inputs, "releaseVersion"), value.Text(s.Inputs, "version")
	if release == "" || version == "" || strings.HasPrefix(release, version+".") {
		return ""
	}
	return fmt.Sprintf("%s is not valid for Kubernetes %s", release, version)
}

// graviton matches the instance types of arm64 ("Instance type naming conventions" in the EC2 user guide).
var graviton = regexp.MustCompile(`^[a-z]+[0-9]+g[a-z]*\.`)

// ARM tells whether machines of a type have processors of arm64.
func ARM(instanceType string) bool { return graviton.MatchString(instanceType) }

func refuseProcessor(s Situation) string {
	image := value.Text(s.Inputs, "amiType")
	for _, instance := range value.Texts(s.Inputs, "instanceTypes") {
		if image != "" && image != "CUSTOM" && ARM(instance) != strings.Contains(image, "_ARM_64") {
			return fmt.Sprintf("[%s] is not a valid instance type for requested amiType %s", instance, image)
		}
	}
	return ""
}

// minor is the second number of a version 1.NUMBER.
func minor(version string) (int, bool) {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 || parts[0] != "1" {
		return 0, false
	}
	n, err := strconv.Atoi(parts[1])
	return n, err == nil
}
