//go:build e2e

package drill

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// bugs are those of apps/internal/fault that the drill must find, and the database's.
var bugs = []string{
	"key-forgotten", "answer-unsaved", "cancel-lost", "saved-over", "stale-read", "confirm-unreserved", "refund-ignored",
	"charged-again", "refund-unstored", "released-twice", runUnfenced, behind,
}

// TestPlantedBugs runs the drill once for each bug that is planted in the services, and finds every
// one. It takes too long for CI: HISTORY_PLANTED=1 runs all, HISTORY_PLANTED=NAME one.
func TestPlantedBugs(t *testing.T) {
	chosen := os.Getenv("HISTORY_PLANTED")
	if chosen == "" {
		t.Skip("make drill-long runs this")
	}
	names := bugs
	if chosen != "1" {
		names = strings.Split(chosen, ",")
	}
	for _, bug := range names {
		t.Run(bug, func(t *testing.T) {
			var found []finding
			if bug == runUnfenced {
				found, _ = takeAnswersBack(t, bug)
			} else {
				found = newHistory(t, number(t, "HISTORY_PLANTED_CHECKOUTS", 1500), bug).run(t)
			}
			if len(found) == 0 {
				t.Fatalf("the bug %s was not found", bug)
			}
			by := map[string]string{}
			for _, one := range slices.Backward(found) {
				by[one.check] = one.text
			}
			for _, check := range slices.Sorted(maps.Keys(by)) {
				t.Logf("%s was found by the check of %s: %s", bug, check, by[check])
			}
		})
	}
}
