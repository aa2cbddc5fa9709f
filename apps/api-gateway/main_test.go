package main

import (
	"runtime/debug"
	"testing"
)

func TestGarbageIsCollectedLessUnlessGOGCIsSet(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	for set, want := range map[int]int{100: collectAt, 50: 50, -1: -1} {
		debug.SetGCPercent(set)
		collectLess()
		if got := debug.SetGCPercent(100); got != want {
			t.Errorf("with GOGC=%d the heap grows by %d %%, want %d", set, got, want)
		}
	}
}
