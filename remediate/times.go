package remediate

import (
	"io/fs"
)

// timesOf reads a file's times, as many as the platform tells of an open file.
func timesOf(f fs.File, info fs.FileInfo) Times {
	t := Times{Modified: info.ModTime().UTC()}
	moreTimes(f, info, &t)
	return t
}
