package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// ansiTerminal reports whether f is a terminal whose cursor can be moved. Consoles before Windows Terminal must be
// told to understand that.
func ansiTerminal(f *os.File) bool {
	h := windows.Handle(f.Fd())
	var mode uint32
	if err := windows.GetConsoleMode(h, &mode); err != nil {
		return false
	}
	return windows.SetConsoleMode(h, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}

// foreground reports whether what is typed at a terminal comes to this program.
func foreground(*os.File) bool { return true }
