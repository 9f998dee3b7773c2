package remediate

import "os"

func syncFile(f *os.File) error { return f.Sync() }

// syncDirectory does nothing: Windows flushes files and volumes, not directories,
// and NTFS journals its directory entries.
func syncDirectory(*os.File) error { return nil }

// notOffered is of use only where files are moved by links.
func notOffered(error) bool { return false }
