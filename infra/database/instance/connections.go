package instance

import (
	"regexp"
	"strconv"
	"strings"
)

// sized matches the instance classes whose memory follows from their name: the burstable ones,
// and the families m, r and x of Graviton, Intel and AMD.
var sized = regexp.MustCompile(`^db\.(?:(t)3|(t)4g|([mrx])[0-9][a-z]*)\.([a-z0-9]+)$`)

// smallMiB is the memory of the burstable classes that are smaller than large ("DB
// instance classes" in the user guide of RDS).
var smallMiB = map[string]int64{"micro": 1024, "small": 2048, "medium": 4096}

// memoryMiB returns the memory of a class, or 0 for an unknown one. A large has 2 vCPUs, an
// xlarge 4 and an Nxlarge 4 N; a vCPU comes with 4 GiB in t and m, 8 in r and 16 in x.
func memoryMiB(class string) int64 {
	parts := sized.FindStringSubmatch(class)
	if parts == nil {
		return 0
	}
	family, size := parts[1]+parts[2]+parts[3], parts[4]
	if small := smallMiB[size]; small > 0 && family == "t" {
		return small
	}
	perCPU := map[string]int64{"t": 4, "m": 4, "r": 8, "x": 16}[family] * 1024
	switch size {
	case "large":
		return 2 * perCPU
	case "xlarge":
		return 4 * perCPU
	}
	times, found := strings.CutSuffix(size, "xlarge")
	n, err := strconv.ParseInt(times, 10, 32)
	if !found || err != nil || n < 2 || n > 48 {
		return 0
	}
	return 4 * n * perCPU
}

// MaxConnections returns the value to which RDS sets max_connections, or 0 for a class whose
// memory is not known: LEAST(DBInstanceClassMemory/9531392, 5000) ("Maximum number of database
// connections" in the user guide of RDS). DBInstanceClassMemory is the memory of the class less
// what RDS and the operating system take, for which a tenth is subtracted here.
func (s *Spec) MaxConnections() int32 {
	const perConnection, limit = 9531392, 5000
	return int32(min(memoryMiB(s.InstanceClass)*1024*1024*9/10/perConnection, limit)) // #nosec G115 -- at most limit
}
