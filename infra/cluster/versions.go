package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Kubernetes is what depends on a version of Kubernetes that EKS offers.
type Kubernetes struct {
	// Standard and Extended are the last days of standard and of extended support.
	Standard, Extended time.Time
	// Addons are the default versions of the add-ons. They are pinned: with "most recent" a plan
	// would depend on the day.
	Addons Addons
}

// kubernetes are the versions that the platform supports. Dates: "Kubernetes versions" in the EKS
// user guide; those of 1.36 as public notes of August 2026 quote it. EKS sets them at 00:00 UTC.
//
// The add-ons are what describe-addon-versions answered in public notes between August and October
// 2026 (kube-proxy, coredns), and what public configurations with that version pin (the others).
// Two are not known and therefore chosen: the agent is not tied to Kubernetes, so 1.33 and 1.34
// have the build of 1.35 and 1.36; vpc-cni is the one that the notes list for all of 1.31 to 1.36,
// not the newer 1.23, which they have for 1.36 only. None has been tried by this platform on AWS:
// check them before the first use in an account, and at every upgrade, with
//
//	aws eks describe-addon-versions --kubernetes-version 1.35 --addon-name vpc-cni
var kubernetes = map[string]Kubernetes{
	"1.33": {day(2026, 7, 29), day(2027, 7, 29), Addons{
		VPCCNI: cni, PodIdentityAgent: agent, CoreDNS: "v1.12.4-eksbuild.29", KubeProxy: "v1.33.10-eksbuild.21", EBSCSI: "v1.50.1-eksbuild.1",
	}},
	"1.34": {day(2026, 12, 2), day(2027, 12, 2), Addons{
		VPCCNI: cni, PodIdentityAgent: agent, CoreDNS: "v1.12.4-eksbuild.29", KubeProxy: "v1.34.6-eksbuild.21", EBSCSI: "v1.56.0-eksbuild.1",
	}},
	"1.35": {day(2027, 3, 27), day(2028, 3, 27), Addons{
		VPCCNI: cni, PodIdentityAgent: agent, CoreDNS: "v1.13.2-eksbuild.21", KubeProxy: "v1.35.3-eksbuild.21", EBSCSI: "v1.63.1-eksbuild.1",
	}},
	"1.36": {day(2027, 8, 2), day(2028, 8, 2), Addons{
		VPCCNI: cni, PodIdentityAgent: agent, CoreDNS: "v1.14.3-eksbuild.16", KubeProxy: "v1.36.0-eksbuild.21", EBSCSI: "v1.63.1-eksbuild.1",
	}},
}

const (
	cni   = "v1.22.4-eksbuild.3"
	agent = "v1.3.10-eksbuild.3"

	// warnDays is how long before the end of standard support previews begin to warn: enough for an
	// upgrade of dev, a week of waiting, and prod.
	warnDays = 90
	// standardPrice and extendedPrice are USD for an hour of a control plane (aws.amazon.com/eks/pricing).
	standardPrice, extendedPrice = "0.10", "0.60"
)

func day(year int, month time.Month, d int) time.Time {
	return time.Date(year, month, d, 0, 0, 0, 0, time.UTC)
}

// Versions lists the versions of Kubernetes that the platform supports, oldest first.
func Versions() []string { return slices.Sorted(maps.Keys(kubernetes)) }

// Support warns of a version that on a day has less than 90 days of standard support left, or none.
// extended is Spec.ExtendedSupport. It returns "" otherwise, and for an unknown version, which
// Validate refuses.
func Support(version string, extended bool, on time.Time) string {
	v, known := kubernetes[version]
	if !known || on.Before(v.Standard.AddDate(0, 0, -warnDays)) {
		return ""
	}
	const layout, price = "2006-01-02", extendedPrice + " instead of " + standardPrice + " USD an hour"
	standard, last := v.Standard.Format(layout), v.Extended.Format(layout)
	switch {
	case !on.Before(v.Extended):
		return fmt.Sprintf("Kubernetes %s is out of all support since %s: EKS creates no such cluster, and has upgraded those that there were",
			version, last)
	case !on.Before(v.Standard) && extended:
		return fmt.Sprintf("Kubernetes %s is in extended support since %s: the control plane costs %s, and EKS upgrades it by itself on %s",
			version, standard, price, last)
	case !on.Before(v.Standard):
		return fmt.Sprintf("standard support of Kubernetes %s ended on %s: EKS has upgraded a cluster that had it and creates no other; "+
			"use a later version, or extendedSupport for %s", version, standard, price)
	case extended:
		return fmt.Sprintf("standard support of Kubernetes %s ends on %s: from then on the control plane costs %s", version, standard, price)
	default:
		return fmt.Sprintf("standard support of Kubernetes %s ends on %s: EKS upgrades the cluster by itself then, "+
			"unless you do so before, or set extendedSupport for %s", version, standard, price)
	}
}
