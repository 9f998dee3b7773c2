package remediate

import (
	"fmt"
	"path"
	"strings"
)

// WriteLogFile writes a log to dir below root, as <run name>.jsonl, whole or not
// at all and through no link. It returns the path below root. dir is
// [WindowsLogDir] on a Windows volume and [MediaLogDir] on the media. The log of
// the same run is replaced.
func WriteLogFile(root, dir string, run Run, data []byte) (string, error) {
	if err := run.check(); err != nil {
		return "", err
	}
	if err := checkVolumePath(dir); err != nil {
		return "", fmt.Errorf("log: %w", err)
	}
	t, err := openTree(root)
	if err != nil {
		return "", fmt.Errorf("log: %w", err)
	}
	name := run.Name() + ".jsonl"
	if dir == WindowsLogDir {
		var own string
		if own, err = t.ownFolder(); err == nil {
			dir = path.Join(own, path.Base(dir))
		}
	}
	var real string
	if err == nil {
		real, err = t.makeDirs(".", strings.Split(dir, "/")...)
	}
	if err == nil {
		err = t.writeFile(real, name, data)
	}
	if closeErr := t.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", fmt.Errorf("write the log to %s: %w", dir, err)
	}
	return path.Join(real, name), nil
}
