//go:build !planted

package fault

// Planted returns false: this build has none of the bugs.
func Planted(Bug) bool { return false }
