//go:build !windows

package main

import (
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ansiTerminal reports whether f is a terminal whose cursor can be moved.
func ansiTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// foreground reports whether what is typed at a terminal comes to this program: one that the shell has put into the
// background would be stopped as soon as it touched the terminal.
func foreground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
