package remediate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// A file that must not be missing, such as a registry hive, is replaced by a new
// version of itself in these steps:
//
//  1. The new version is written beside it as NAME.bootmend-RUN.new, with the
//     owner and rights of the old one, and synced.
//  2. The old one is renamed to NAME.bootmend-RUN, where it stays.
//  3. The new one is renamed to NAME, and the folder is synced.
//
// Nothing is deleted or freed, and 2 and 3 change one folder, on most volumes one
// block of it. A power cut between them leaves no NAME but both others, which is
// what [cutShort] looks for and [tree.putBack] mends.
//
// On FAT, where renaming over a file changes one folder entry in place, step 2 is a
// copy, and there is no such moment.
const (
	keptInfix = ".bootmend-"
	newSuffix = ".new"
)

// keptName is where the old version of a file is kept.
func keptName(name, run string) string { return name + keptInfix + run }

// KeptName is where [ReplaceFile] keeps the old version of a file.
func KeptName(name string, run Run) string { return keptName(name, run.ID) }

// IsCutShort reports whether the replacing of a file was cut short, so that the
// file is missing for now ([PutBack]).
func IsCutShort(fsys fs.FS, name string) bool {
	_, ok := cutShort(fsys, path.Dir(name), path.Base(name))
	return ok
}

// ReplaceFile gives a file of the tree at root new content as above. What it had is
// kept beside it and named in the result. Both names are relative to root and are
// not followed through links.
func ReplaceFile(root, name string, data []byte, run Run) (kept string, err error) {
	if err := run.check(); err != nil {
		return "", err
	}
	kept = KeptName(name, run)
	return kept, withTree(root, name, func(t *tree) error { return t.replace(name, kept, data) })
}

// PutBack mends the folder of a file whose replacing was cut short, and reports
// whether it had to.
func PutBack(root, name string) (mended bool, err error) {
	err = withTree(root, name, func(t *tree) error {
		if _, mended = cutShort(t.fsys, path.Dir(name), path.Base(name)); !mended {
			return nil
		}
		return t.putBack(name)
	})
	return mended, err
}

// WriteFile makes a file of the tree at root appear whole or not at all.
func WriteFile(root, name string, data []byte) error {
	return withTree(root, name, func(t *tree) error { return t.writeFile(path.Dir(name), path.Base(name), data) })
}

// RemoveFile removes a file of the tree at root.
func RemoveFile(root, name string) error {
	return withTree(root, name, func(t *tree) error {
		if err := t.root.Remove(name); err != nil {
			return err
		}
		return t.sync(path.Dir(name))
	})
}

func withTree(root, name string, use func(*tree) error) (err error) {
	t, err := openTree(root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if err := realPath(t.fsys, name); err != nil {
		return err
	}
	return use(t)
}

func (t *tree) replace(name, kept string, data []byte) error {
	dir, fresh := path.Dir(name), kept+newSuffix
	if present(t.fsys, kept) && !sameFile(t.fsys, kept, name) { // the same file has both names where a try was cut short
		return fmt.Errorf("keep the old file: %s exists", kept)
	}
	if err := t.writeFile(dir, path.Base(fresh), data); err != nil {
		return err
	}
	if err := t.copyRights(name, fresh); err != nil {
		if t.step("remove", fresh) == nil {
			_ = t.root.Remove(fresh)
		}
		return fmt.Errorf("give the new file the rights of the old one: %w", err)
	}
	if t.onFAT() {
		return t.replaceOnFAT(name, kept, fresh)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := t.move(name, kept); err != nil {
		return fmt.Errorf("keep the old file: %w", err)
	}
	if err := t.move(fresh, name); err != nil {
		err = fmt.Errorf("put the new file in place: %w", err)
		if present(t.fsys, name) {
			return err
		}
		return errors.Join(err, t.move(kept, name))
	}
	return nil
}

func (t *tree) replaceOnFAT(name, kept, fresh string) error {
	old, err := readWhole(t.fsys, name, maxHiveInMemory)
	if err != nil {
		return err
	}
	if err := t.writeFile(path.Dir(name), path.Base(kept), old); err != nil {
		return fmt.Errorf("keep the old file: %w", err)
	}
	if copied, err := readWhole(t.fsys, kept, maxHiveInMemory); err != nil || !bytes.Equal(copied, old) {
		return errors.Join(errors.New("keep the old file: its copy does not read back"), err)
	}
	if err := t.step("rename", fresh); err != nil {
		return err
	}
	if err := t.root.Rename(fresh, name); err != nil {
		return fmt.Errorf("put the new file in place: %w", err)
	}
	if err := t.sync(path.Dir(name)); err != nil {
		return err
	}
	return t.flush()
}

// cutShort finds what the replacing of a file kept, if it was cut short between its
// renames: the file is missing, its old and its new version are there.
func cutShort(fsys fs.FS, dir, name string) (kept string, ok bool) {
	if _, _, err := lookup(fsys, dir, name); !isNotExist(err) {
		return "", false
	}
	names, err := readNames(fsys, dir)
	if err != nil {
		return "", false
	}
	for _, entry := range names {
		old, isNew := strings.CutSuffix(entry, newSuffix)
		if !isNew || len(old) <= len(name)+len(keptInfix) || !sameName(old[:len(name)+len(keptInfix)], name+keptInfix) {
			continue
		}
		if info, err := fs.Lstat(fsys, path.Join(dir, old)); err == nil && info.Mode().IsRegular() {
			return path.Join(dir, old), true
		}
	}
	return "", false
}

// putBack renames the old version of a file back.
func (t *tree) putBack(name string) error {
	kept, ok := cutShort(t.fsys, path.Dir(name), path.Base(name))
	if !ok {
		return nil
	}
	if err := t.move(kept, name); err != nil {
		return err
	}
	if err := t.step("remove", kept+newSuffix); err != nil {
		return err
	}
	_ = t.root.Remove(kept + newSuffix) // it would only lie about
	return t.flush()
}
