package instance_test

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/loja-veloz/platform/infra/database/instance"
)

func TestVerifiedRegionsAreThoseOfTheAuthorities(t *testing.T) {
	authorities, err := os.ReadFile("../../../apps/internal/postgres/rds-authorities.pem")
	if err != nil {
		t.Fatal(err)
	}
	var regions []string
	for _, found := range regexp.MustCompile(`(?m)^# ([a-z0-9-]+), until `).FindAllSubmatch(authorities, -1) {
		regions = append(regions, string(found[1]))
	}
	slices.Sort(regions)
	if !slices.Equal(regions, instance.VerifiedRegions) {
		t.Errorf("the regions are\n%q, and the programs have authorities of\n%q", instance.VerifiedRegions, regions)
	}
}
