package main

import (
	"fmt"
	"runtime"
	"strings"
)

// stack is where the calling goroutine is, one function a line. Go's own traces print the arguments as well, and with
// them pieces of keys that are passed by value.
func stack() string {
	var out strings.Builder
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		fmt.Fprintf(&out, "%s\n\t%s:%d\n", frame.Function, frame.File, frame.Line)
		if !more {
			return out.String()
		}
	}
}
