// Command parameters writes the reference of the environment's configuration to a file.
package main

import (
	"fmt"
	"os"

	"github.com/loja-veloz/platform/stacks/environment/internal/config"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: parameters FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(config.Reference()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "parameters:", err)
		os.Exit(1)
	}
}
