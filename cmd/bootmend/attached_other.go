//go:build !linux

package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"runtime"
)

// drivePath makes a drive letter the drive's top folder: by itself it is the folder that is current there.
func drivePath(path string) string {
	if runtime.GOOS == "windows" && len(path) == 2 && path[1] == ':' {
		return path + `\`
	}
	return path
}

func attachedDisk(_ context.Context, _ io.Writer, path string, _ fs.FileInfo, _ attachOptions) ([]attachedVolume, func(), error) {
	return nil, nil, withHint(fmt.Errorf("%s is not a folder, and disks are opened on Linux only", path),
		"let this system mount the volume (on Windows, manage-bde -unlock opens one that is locked), and name its drive letter or folder")
}
