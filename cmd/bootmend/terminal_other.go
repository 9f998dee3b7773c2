//go:build !windows

package main

import (
	"os"

	"golang.org/x/term"
)

// ansiTerminal reports whether f is a terminal whose cursor can be moved.
func ansiTerminal(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}
