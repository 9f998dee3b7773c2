//go:build !linux

package boottest

import "os"

// maxResident is only known on Linux, where boot tests run.
func maxResident(*os.ProcessState) float64 { return 0 }
