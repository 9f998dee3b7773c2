package remediate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
)

// tree is a mounted volume opened for writing. Every access goes through os.Root,
// and no part of a path may be a link: not even one that stays on the volume.
type tree struct {
	root *os.Root
	fsys fs.FS
	// before is called ahead of each step that changes the volume; an error
	// from it stops that step. Tests cut the power here.
	before func(step, name string) error
	// unguarded is why a folder or file of ours is not kept from ordinary users.
	unguarded error
}

func openTree(dir string) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the volume: %w", err)
	}
	return &tree{root: root, fsys: root.FS()}, nil
}

func (t *tree) close() error { return t.root.Close() }

func (t *tree) step(step, name string) error {
	if t.before == nil {
		return nil
	}
	if err := t.before(step, name); err != nil {
		return &stopError{err}
	}
	return nil
}

// makeDirs makes a directory path below dir, keeping existing directories in
// whatever case they are, and returns the real path. Each new directory is on the
// disk before the next step.
func (t *tree) makeDirs(dir string, parts ...string) (string, error) {
	for _, part := range parts {
		p, info, err := lookup(t.fsys, dir, part)
		switch {
		case err == nil && info.IsDir():
			dir = p
			continue
		case err == nil:
			return "", fmt.Errorf("use folder %s: %w", p, notRegularDir(info.Mode()))
		case !isNotExist(err):
			return "", err
		}
		p = path.Join(dir, part)
		if err := t.step("mkdir", p); err != nil {
			return "", err
		}
		if err := t.root.Mkdir(p, 0o755); err != nil {
			return "", fmt.Errorf("make folder: %w", err)
		}
		if err := t.protect(p); err != nil {
			return "", err
		}
		if err := t.syncDir(dir); err != nil {
			return "", err
		}
		dir = p
	}
	return dir, nil
}

func notRegularDir(m fs.FileMode) error {
	if m.IsRegular() {
		return errors.New("is a file")
	}
	return notRegular(m)
}

// writeFile makes a file appear whole or not at all: it is written beside its
// place, synced, and renamed there.
func (t *tree) writeFile(dir, name string, data []byte) (err error) {
	dst, tmp := path.Join(dir, name), path.Join(dir, name+".tmp")
	if err := t.step("create", tmp); err != nil {
		return err
	}
	// A rest of an earlier attempt is replaced; O_EXCL makes sure that what is
	// written to is new and not a link.
	if err := t.root.Remove(tmp); err != nil && !isNotExist(err) {
		return fmt.Errorf("replace an unfinished file: %w", err)
	}
	f, err := t.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer func() {
		if err != nil && t.step("remove", tmp) == nil {
			_ = t.root.Remove(tmp)
		}
	}()
	// In two halves, so that tests can cut the power between them.
	half := len(data) / 2
	for _, part := range [][]byte{data[:half], data[half:]} {
		if err := t.step("write", tmp); err != nil {
			_ = f.Close()
			return err
		}
		if _, err := f.Write(part); err != nil {
			_ = f.Close()
			return fmt.Errorf("write: %w", err)
		}
	}
	err = t.protect(tmp)
	if err == nil {
		err = t.step("sync", tmp)
	}
	if err == nil {
		err = syncFile(f)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write %s to the disk: %w", tmp, err)
	}
	if err := t.step("publish", dst); err != nil {
		return err
	}
	if err := t.root.Rename(tmp, dst); err != nil {
		return fmt.Errorf("put the file in place: %w", err)
	}
	return t.syncDir(dir)
}

// move renames a file and never replaces another.
func (t *tree) move(from, to string) error {
	if err := t.step("rename", from); err != nil {
		return err
	}
	if err := renameNoReplace(t.root, from, to); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	// The new place first: if only one of the two reached the disk, better a
	// name too many than none.
	if err := t.syncDir(path.Dir(to)); err != nil {
		return err
	}
	return t.syncDir(path.Dir(from))
}

// syncDir makes a directory's entries durable where the file system can.
func (t *tree) syncDir(dir string) error {
	if err := t.step("sync", dir); err != nil {
		return err
	}
	f, err := t.root.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	defer f.Close()
	if err := syncDirectory(f); err != nil {
		return &stopError{fmt.Errorf("sync folder %s: %w", dir, err)}
	}
	return nil
}

// flush makes the whole file system durable where the platform offers that.
func (t *tree) flush() error {
	if err := t.step("flush", "."); err != nil {
		return err
	}
	f, err := t.root.Open(".")
	if err != nil {
		return fmt.Errorf("flush the volume: %w", err)
	}
	defer f.Close()
	if err := syncFileSystem(f); err != nil {
		return &stopError{fmt.Errorf("flush the volume: %w", err)}
	}
	return nil
}

// renameChecked is the portable form of a rename that replaces nothing. Between
// look and rename nobody else writes: the volume is mounted by us alone.
func renameChecked(root *os.Root, from, to string) error {
	switch _, err := root.Lstat(to); {
	case err == nil:
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	case !isNotExist(err):
		return err
	}
	return root.Rename(from, to)
}
