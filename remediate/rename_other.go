//go:build !linux

package remediate

import "os"

// linksFirst: Windows journals its renames.
const linksFirst = false

func damagedEntry(error) bool { return false }
func forgetInodes() bool      { return false }

func renameNoReplace(root *os.Root, from, to string) error { return renameChecked(root, from, to) }

// syncFileSystem has no counterpart here; files and directories were synced one
// by one.
func syncFileSystem(*os.File) error { return nil }
