//go:build !drill

package fault

import "github.com/gin-gonic/gin"

// Here does nothing in this build.
func Here(Point) {}

// Migration returns nil: this build injects no fault.
func Migration() error { return nil }

// Handler returns nil: this build injects no fault.
func Handler() gin.HandlerFunc { return nil }
