package aws

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/loja-veloz/platform/tools/internal/standin/value"
)

// An rdsRule refuses what RDS refuses of an instance as a whole, or of a change.
type rdsRule struct {
	name, path string
	refuse     func(old, inputs resource.PropertyMap, on time.Time) string // returns the reason, or ""
	source     string                                                      // document
	read       string                                                      // when it was read, or in whose state it is quoted
}

var rdsRules = []rdsRule{
	{
		"storage of gp3", "allocatedStorage", refuseStorage,
		"Amazon RDS API, CreateDBInstance: AllocatedStorage, PostgreSQL with gp3", "2026-11",
	},
	{
		"room to grow", "maxAllocatedStorage", refuseRoom,
		"RDS User Guide, Managing capacity automatically with Amazon RDS storage autoscaling, limitations; its error too", "2026-11",
	},
	{
		"storage does not shrink", "allocatedStorage", refuseShrinking,
		"Amazon RDS API, ModifyDBInstance: AllocatedStorage; RDS User Guide, Working with storage", "2026-11",
	},
	{
		"a version that RDS has", "engineVersion", refuseEngine,
		"AWS to owners of instances on the end of minor versions on 2026-05-31, as a public wiki quotes it (saayam-for-all/database); " +
			"versions of PostgresEngineVersion in aws-cdk-lib 2.276.0", "2026-11",
	},
	{
		"no downgrade", "engineVersion", refuseOlderEngine,
		"RDS User Guide, Upgrading a DB instance engine version: a downgrade is not possible", "2026-11",
	},
	{
		"the family of the version", "parameterGroupName", refuseFamily,
		"RDS User Guide, Overview of parameter groups: of the engine's major version", "2026-11",
	},
	{
		"a moment that can be restored", "restoreToPointInTime.restoreTime", refuseMoment,
		"Amazon RDS API, RestoreDBInstanceToPointInTime: RestoreTime, before LatestRestorableTime", "2026-11",
	},
}

// RefuseRDS returns what RDS refuses of an instance that somebody wants to create, with old nil, or to
// change.
func RefuseRDS(token string, old, inputs resource.PropertyMap, on time.Time) []Refusal {
	var all []Refusal
	if token != Instance || value.Text(inputs, "engine") != "postgres" {
		return nil
	}
	for _, rule := range rdsRules {
		if reason := rule.refuse(old, inputs, on); reason != "" {
			all = append(all, Refusal{rule.path, reason})
		}
	}
	return all
}

// Restored tells whether an instance begins as a copy.
func Restored(token string, inputs resource.PropertyMap) bool {
	return token == Instance && (inputs.HasValue("snapshotIdentifier") || inputs.HasValue("restoreToPointInTime"))
}

func number(inputs resource.PropertyMap, key string) (float64, bool) {
	v := value.Plain(inputs[resource.PropertyKey(key)])
	if !v.IsNumber() {
		return 0, false
	}
	return v.NumberValue(), true
}

func refuseStorage(_, inputs resource.PropertyMap, _ time.Time) string {
	if size, known := number(inputs, "allocatedStorage"); known && (size < 20 || size > 65536) {
		return fmt.Sprintf("invalid storage size for engine name postgres and storage type gp3: %v", size)
	}
	return ""
}

func refuseRoom(_, inputs resource.PropertyMap, _ time.Time) string {
	size, known := number(inputs, "allocatedStorage")
	most, limited := number(inputs, "maxAllocatedStorage")
	if known && limited && most != 0 && most < size*1.1-1e-9 {
		return fmt.Sprintf("invalid max storage size for engine name postgres: %v is not at least 10 %% more than the allocated %v", most, size)
	}
	return ""
}

func refuseShrinking(old, inputs resource.PropertyMap, _ time.Time) string {
	before, existed := number(old, "allocatedStorage")
	if size, known := number(inputs, "allocatedStorage"); existed && known && size < before {
		return fmt.Sprintf("requested storage size (%v) cannot be less than the current storage size (%v)", size, before)
	}
	return ""
}

// minors are the first and the last minor version of PostgreSQL of which RDS creates instances, as of
// 2026-05: those of the notice are not created any more, and older ones were not before.
var minors = map[string][2]int{"15": {13, 17}, "16": {9, 13}, "17": {5, 9}}

func refuseEngine(old, inputs resource.PropertyMap, _ time.Time) string {
	version := value.Text(inputs, "engineVersion")
	if version == "" || version == value.Text(old, "engineVersion") {
		return "" // RDS chooses; or an instance that has a version keeps it until AWS upgrades it
	}
	major, minor, complete := strings.Cut(version, ".")
	known, found := minors[major]
	n, err := strconv.Atoi(minor)
	if found && (!complete || err == nil && n >= known[0] && n <= known[1]) {
		return ""
	}
	return fmt.Sprintf("cannot find version %s for postgres", version)
}

func refuseOlderEngine(old, inputs resource.PropertyMap, _ time.Time) string {
	before, after := value.Text(old, "engineVersion"), value.Text(inputs, "engineVersion")
	if before == "" || after == "" {
		return ""
	}
	oldMajor, oldMinor, _ := strings.Cut(before, ".")
	major, minor, _ := strings.Cut(after, ".")
	for _, pair := range [][2]string{{oldMajor, major}, {oldMinor, minor}} {
		was, err := strconv.Atoi(pair[0])
		is, other := strconv.Atoi(pair[1])
		switch {
		case err != nil || other != nil || is > was:
			return "" // without a minor version, RDS keeps the one that there is
		case is < was:
			return fmt.Sprintf("cannot upgrade postgres from %s to %s", before, after)
		}
	}
	return ""
}

// refuseFamily judges groups whose name ends with their family, as those of this platform do.
func refuseFamily(_, inputs resource.PropertyMap, _ time.Time) string {
	const before = "-postgres"
	group := value.Text(inputs, "parameterGroupName")
	at := strings.LastIndex(group, before)
	major, _, _ := strings.Cut(value.Text(inputs, "engineVersion"), ".")
	if at >= 0 && major != "" && group[at+len(before):] != major {
		return fmt.Sprintf("the parameter group %s cannot be used for postgres %s", group, major)
	}
	return ""
}

func refuseMoment(_, inputs resource.PropertyMap, on time.Time) string {
	restore := value.Plain(inputs["restoreToPointInTime"])
	if !restore.IsObject() {
		return ""
	}
	text := value.Text(restore.ObjectValue(), "restoreTime")
	if text == "" {
		return "" // the latest, or not known yet
	}
	at, err := time.Parse(time.RFC3339, text)
	switch {
	case err != nil:
		return fmt.Sprintf("%q is not a time such as 2026-11-29T18:00:00Z", text)
	case at.After(on):
		return fmt.Sprintf("the specified time %s is after the latest restorable time", text)
	}
	return ""
}
