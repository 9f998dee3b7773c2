//go:build !linux && !windows

// Mend is the agent that runs on the broken machine.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "mend: runs only as the first process of bootmend media; build one with \"bootmend build iso\"")
	os.Exit(2)
}
