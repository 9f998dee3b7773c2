//go:build !windows

package main

import "io/fs"

// othersMayRead reports whether a file's permissions let other users read or change it. Pipes have none that matter.
func othersMayRead(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0
}
