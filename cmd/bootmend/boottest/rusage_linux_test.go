package boottest

import (
	"os"
	"syscall"
)

// maxResident is the most memory a process held, in bytes.
func maxResident(state *os.ProcessState) float64 {
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		return float64(usage.Maxrss) * 1024
	}
	return 0
}
