package instance_test

import (
	"testing"

	"github.com/loja-veloz/platform/infra/database/instance"
)

func TestMaxConnectionsFollowFromTheMemoryOfTheClass(t *testing.T) {
	for class, want := range map[string]int32{
		"db.t4g.micro": 101, "db.t3.small": 202, "db.t4g.medium": 405, "db.m7g.large": 811, "db.r6g.xlarge": 3244,
		"db.m6i.4xlarge": 5000, "db.m5.micro": 0, "db.serverless": 0, "db.m7g.1xlarge": 0, "big": 0,
	} {
		if got := (&instance.Spec{InstanceClass: class}).MaxConnections(); got != want {
			t.Errorf("%s accepts %d connections, want %d", class, got, want)
		}
	}
}
