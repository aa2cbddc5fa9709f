//go:build !drill

package fault

// Here does nothing in this build.
func Here(Point) {}
