package boottest

import "syscall"

// noOrphan has a machine end with the test, however that ends.
func noOrphan() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
