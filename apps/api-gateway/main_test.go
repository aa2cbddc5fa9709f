package main

import (
	"runtime/debug"
	"testing"
)

func TestGarbageIsCollectedLessUnlessGOGCIsSet(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	for set, want := range map[string]int{"": collectAt, "100": 100} {
		debug.SetGCPercent(100)
		collectLess(set)
		if got := debug.SetGCPercent(100); got != want {
			t.Errorf("with GOGC=%q the heap grows by %d %%, want %d", set, got, want)
		}
	}
}
