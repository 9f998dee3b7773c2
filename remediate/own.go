package remediate

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// bootmend's folder on a volume is ProgramData/bootmend. Where a power cut has left
// that name leading nowhere, nothing can be made under it until Windows has checked
// the volume; then it is bootmend.2 and so on.
const (
	ownName       = "bootmend"
	quarantineDir = "quarantine"
	maxOwn        = 9
)

func ownCandidate(i int) string {
	if i == 1 {
		return ownName
	}
	return fmt.Sprintf("%s.%d", ownName, i)
}

// isOwn reports whether a directory is bootmend's own on this volume, or was to
// become it; what lies in quarantine is not looked for again.
func isOwn(dir string) bool {
	parent, name := path.Split(dir)
	return sameName(strings.TrimSuffix(parent, "/"), programData) &&
		(sameName(name, ownName) || len(name) > len(ownName) && sameName(name[:len(ownName)+1], ownName+"."))
}

// ownFolders lists bootmend's folders that can be used, and the place where a new one
// can be made, if there is one left.
func ownFolders(fsys fs.FS) (folders []string, free string, err error) {
	top, info, err := lookup(fsys, ".", programData)
	switch {
	case isNotExist(err):
		return nil, path.Join(programData, ownName), nil
	case err != nil:
		return nil, "", err
	case !info.IsDir():
		return nil, "", fmt.Errorf("use folder %s: %w", top, notRegularDir(info.Mode()))
	}
	for i := 1; i <= maxOwn; i++ {
		name := ownCandidate(i)
		p, info, err := lookup(fsys, top, name)
		if isNotExist(err) {
			return folders, path.Join(top, name), nil
		}
		if leadsNowhere(err) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		if !info.IsDir() {
			return nil, "", &fs.PathError{Op: "use folder", Path: p, Err: notRegularDir(info.Mode())}
		}
		if _, _, err := lookup(fsys, p, quarantineDir); err != nil && !isNotExist(err) && leadsNowhere(err) {
			continue
		}
		folders = append(folders, p)
	}
	return folders, "", nil
}

// leadsNowhere reports whether a name is one that a power cut has left behind: ntfs3
// says that it does not exist, that it is invalid, or fails to read it.
func leadsNowhere(err error) bool { return errors.Is(err, errNowhere) || damagedEntry(err) }

// quarantines lists the folders that hold those of the runs.
func quarantines(fsys fs.FS) ([]string, error) {
	own, _, err := ownFolders(fsys)
	if err != nil {
		return nil, fmt.Errorf("look into the quarantine: %w", err)
	}
	var dirs []string
	for _, dir := range own {
		p, info, err := lookup(fsys, dir, quarantineDir)
		if isNotExist(err) {
			continue
		}
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "enter", Path: p, Err: notRegularDir(info.Mode())}
		}
		if err != nil {
			return nil, fmt.Errorf("look into the quarantine: %w", err)
		}
		dirs = append(dirs, p)
	}
	return dirs, nil
}

// ownFolder is the folder that this tree's new things go to: an existing one, else
// the place for one. It is decided once, since ntfs3 finds a file whose record it has
// in memory even by a name that leads nowhere.
func (t *tree) ownFolder() (string, error) {
	if t.own != "" {
		return t.own, nil
	}
	folders, free, err := ownFolders(t.fsys)
	if err != nil {
		return "", err
	}
	if len(folders) > 0 {
		free = folders[0]
	}
	if free == "" {
		return "", fmt.Errorf("none of %s to %s can be used: have Windows check the volume (chkdsk /f)", ownCandidate(1), ownCandidate(maxOwn))
	}
	t.own = free
	return free, nil
}

// findRun finds the folder of a run by its name.
func findRun(fsys fs.FS, name string) (string, error) {
	dirs, err := quarantines(fsys)
	if err != nil {
		return "", err
	}
	for _, dir := range dirs {
		p, info, err := lookup(fsys, dir, name)
		switch {
		case isNotExist(err):
			continue
		case err == nil && !info.IsDir():
			err = &fs.PathError{Op: "enter", Path: p, Err: notRegularDir(info.Mode())}
		}
		return p, err
	}
	return "", &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
}
