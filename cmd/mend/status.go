package main

// The exit statuses of the agent for Windows, which are those of bootmend; on Linux it never ends.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitNothing
)
