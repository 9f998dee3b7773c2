package remediate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// Verify checks what a quarantine says it did, on a tree that was mounted afresh
// so that nothing comes from memory: each moved file is gone from its old place, is
// complete at its new one, and the manifest reads back and lists it; what was put
// back is there. The error
// names every file for which that is not so.
func Verify(ctx context.Context, fsys fs.FS, res *Result) error {
	if res == nil {
		return nil
	}
	for _, p := range res.PutBack {
		if !present(fsys, p) {
			return fmt.Errorf("verify %s: it is not back at its place", Printable(p))
		}
	}
	if len(res.Moved)+len(res.Disabled) == 0 {
		return nil
	}
	m, err := readManifest(fsys, res.Dir)
	if err != nil {
		return fmt.Errorf("verify: %s did not reach the disk intact: %w", manifestPath(res.Dir), err)
	}
	var errs []error
	for _, f := range res.Moved {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := verifyMoved(ctx, fsys, m, f); err != nil {
			errs = append(errs, fmt.Errorf("verify %s: %w", Printable(f.Path), err))
		}
	}
	for _, d := range res.Disabled {
		if err := verifyDisabled(fsys, d); err != nil {
			errs = append(errs, fmt.Errorf("verify service %s: %w", Printable(d.Name), err))
		}
		if m.hive(d.Hive) == nil {
			errs = append(errs, fmt.Errorf("verify service %s: the manifest does not list %s", Printable(d.Name), Printable(d.Hive)))
		}
	}
	return errors.Join(errs...)
}

func verifyMoved(ctx context.Context, fsys fs.FS, m *Manifest, f Moved) error {
	dirs, name := splitDir(f.Path)
	_, _, err := lookupPath(fsys, ".", append(dirs, name)...)
	switch {
	case err == nil:
		return errors.New("the file is still at its old place")
	case !isNotExist(err):
		return fmt.Errorf("look at its old place: %w", err)
	}
	want := Action{Path: f.Path, Size: f.Size, SHA256: f.SHA256}
	if err := unchanged(ctx, fsys, f.Quarantined, want); err != nil {
		if isNotExist(err) {
			return fmt.Errorf("the file is not in the quarantine either: expected it at %s", Printable(f.Quarantined))
		}
		return fmt.Errorf("its copy in the quarantine, %s: %w", Printable(path.Base(f.Quarantined)), err)
	}
	e := m.entry(f.Path)
	if e == nil {
		return errors.New("the manifest does not list it")
	}
	if e.SHA256 != f.SHA256 || e.Size != f.Size {
		return errors.New("the manifest lists it with other content")
	}
	return nil
}
