//go:build !linux

package boottest

import "syscall"

// noOrphan has no counterpart here: a machine outlives a test that is killed.
func noOrphan() *syscall.SysProcAttr { return nil }
