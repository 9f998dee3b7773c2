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
	// own is bootmend's folder, once it is known (see ownFolder).
	own string
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
		if err := t.makeNew(func() error { return t.root.Mkdir(p, 0o755) }); err != nil {
			return "", fmt.Errorf("make folder: %w", err)
		}
		if err := t.protect(p); err != nil {
			return "", err
		}
		if err := t.sync(dir); err != nil {
			return "", err
		}
		dir = p
	}
	return dir, nil
}

// makeNew makes a file or directory. What a power cut has left half made may be in
// the kernel's memory while its record is free to be used again; ntfs3 then fails to
// use it, until it is forgotten.
func (t *tree) makeNew(make func() error) error {
	err := make()
	if err != nil && damagedEntry(err) && forgetInodes() {
		err = make()
	}
	return err
}

func notRegularDir(m fs.FileMode) error {
	if m.IsRegular() {
		return errors.New("is a file")
	}
	return notRegular(m)
}

// writeFile makes a file appear whole or not at all: it is written beside its
// place, synced, and renamed there.
func (t *tree) writeFile(dir, name string, data []byte) error {
	dst, tmp := path.Join(dir, name), path.Join(dir, name+".tmp")
	if err := t.create(tmp, data); err != nil {
		return err
	}
	if err := t.step("publish", dst); err != nil {
		return err
	}
	if err := t.root.Rename(tmp, dst); err != nil {
		return errors.Join(fmt.Errorf("put the file in place: %w", err), t.takeBack(tmp))
	}
	return t.sync(dir)
}

// create writes a file to the disk; one that is there is replaced. Cut short, it may be there in part.
func (t *tree) create(name string, data []byte) (err error) {
	if err := t.step("create", name); err != nil {
		return err
	}
	// A rest of an earlier attempt is replaced; O_EXCL makes sure that what is
	// written to is new and not a link.
	if err := t.root.Remove(name); err != nil && !isNotExist(err) {
		return fmt.Errorf("replace an unfinished file: %w", err)
	}
	var f *os.File
	err = t.makeNew(func() (err error) {
		f, err = t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		return err
	})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.takeBack(name))
		}
	}()
	// In two halves, so that tests can cut the power between them.
	half := len(data) / 2
	for _, part := range [][]byte{data[:half], data[half:]} {
		if err := t.step("write", name); err != nil {
			_ = f.Close()
			return err
		}
		if _, err := f.Write(part); err != nil {
			_ = f.Close()
			return fmt.Errorf("write: %w", err)
		}
	}
	err = t.protect(name)
	if err == nil {
		err = t.step("sync", name)
	}
	if err == nil {
		err = syncFile(f)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("write %s to the disk: %w", name, err)
	}
	return nil
}

// takeBack removes a file that could not be finished.
func (t *tree) takeBack(name string) error {
	if err := t.step("remove", name); err != nil {
		return err
	}
	if err := t.root.Remove(name); err != nil && !isNotExist(err) {
		return fmt.Errorf("remove what could not be finished: %w", err)
	}
	return nil
}

// move gives a file another place and never replaces another.
//
// Where the file system has no journal of its own ([linksFirst]), a rename is three
// changes that may reach the disk in any order: the name that goes, the name that
// comes, and the file's record. Cut short, it could leave a file without a name. So
// the file gets its new name first, all of that is made durable, and only then
// loses the old one: it has a name that leads to it at every instant.
func (t *tree) move(from, to string) error {
	linked, err := t.link(from, to)
	switch {
	case err != nil:
		return err
	case !linked:
		return t.rename(from, to)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := t.unlink(from); err != nil {
		return err
	}
	return t.settle(to, path.Dir(from))
}

// link gives a file a second name and makes its directory durable; flush makes the
// rest so. It returns false where files have to be renamed.
func (t *tree) link(from, to string) (bool, error) {
	if !linksFirst {
		return false, nil
	}
	if err := t.step("link", to); err != nil {
		return false, err
	}
	if err := t.root.Link(from, to); err != nil && !sameFile(t.fsys, from, to) {
		if notOffered(err) {
			return false, nil
		}
		return false, fmt.Errorf("rename: %w", err)
	}
	for _, name := range []string{to, path.Dir(to)} {
		if err := t.sync(name); err != nil {
			return false, err
		}
	}
	return true, nil
}

// unlink takes one of a file's names away; the caller has made sure that it has
// another one on the disk.
func (t *tree) unlink(name string) error {
	if err := t.step("unlink", name); err != nil {
		return err
	}
	if err := t.root.Remove(name); err != nil {
		return fmt.Errorf("take the old name away: %w", err)
	}
	return nil
}

// rename is the same in one step, for a file system that keeps a rename whole, and
// for one without links.
func (t *tree) rename(from, to string) error {
	if err := t.step("rename", from); err != nil {
		return err
	}
	if err := renameNoReplace(t.root, from, to); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	return t.settle(path.Dir(to), path.Dir(from))
}

// settle makes files and directories durable, and then everything else of the file
// system: ntfs3 writes a file's own record only then.
func (t *tree) settle(names ...string) error {
	for _, name := range names {
		if err := t.sync(name); err != nil {
			return err
		}
	}
	return t.flush()
}

// sync makes a file, or a directory's entries, durable where the file system can.
func (t *tree) sync(name string) error {
	if err := t.step("sync", name); err != nil {
		return err
	}
	f, err := t.root.Open(name)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer f.Close()
	if err := syncDirectory(f); err != nil {
		return &stopError{fmt.Errorf("sync %s: %w", name, err)}
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
