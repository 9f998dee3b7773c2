package main

import "io/fs"

// othersMayRead is not known: Windows keeps permissions in access control lists, which a user's own folders inherit.
func othersMayRead(fs.FileInfo) bool { return false }
