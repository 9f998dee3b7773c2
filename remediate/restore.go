package remediate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

// RestoreResult is what an undo did.
type RestoreResult struct {
	Dir string `json:"dir"`
	// Restored are the files that went back by this call, AlreadyThere those
	// that lay at their place with the same content.
	Restored     []string `json:"restored"`
	AlreadyThere []string `json:"already_there,omitempty"`
	// Services are the services that start again as they did, ServicesThere
	// those that did so before.
	Services      []string `json:"services,omitempty"`
	ServicesThere []string `json:"services_already_there,omitempty"`
	// Elsewhere are files that another run holds, because this one was cut
	// short before it moved them; undo that run to get them back.
	Elsewhere []Failure `json:"elsewhere,omitempty"`
	Failed    []Failure `json:"failed,omitempty"`
}

// Restore undoes one run on the volume mounted at root: each file of its manifest
// is renamed back, bit for bit what it was. A place that is taken by other bytes is
// left alone, and so is a file whose content is not what the manifest says. runDir
// is the name of the run or the path of its folder on the volume ([Runs]).
//
// Calling it again finishes what was cut short. The manifest stays as a record.
func Restore(ctx context.Context, root, runDir string) (*RestoreResult, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	res, err := t.restore(ctx, runDir)
	if closeErr := t.close(); err == nil {
		err = closeErr
	}
	return res, err
}

func (t *tree) restore(ctx context.Context, runDir string) (*RestoreResult, error) {
	name := path.Base(runDir)
	if !runNamePattern.MatchString(name) {
		return nil, fmt.Errorf("%q is not a run: expected a name such as 20240719T181500Z-1a2b3c4d", runDir)
	}
	dir, info, err := lookupPath(t.fsys, ".", append(quarantineParts(), name)...)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "enter", Path: dir, Err: notRegularDir(info.Mode())}
	}
	if err != nil {
		return nil, fmt.Errorf("run %s is not on this volume: %w", name, err)
	}
	runs, err := Runs(t.fsys)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(runs, func(r Record) bool { return r.Dir == dir })
	if i < 0 || runs[i].Manifest == nil {
		_, err := readManifest(t.fsys, dir)
		return nil, fmt.Errorf("run %s cannot be undone: %w", name, err)
	}
	record, m := &runs[i], runs[i].Manifest
	res := &RestoreResult{Dir: dir, Restored: []string{}}
	var errs []error
	for i := range m.Files {
		if err := ctx.Err(); err != nil {
			return res, errors.Join(append(errs, err)...)
		}
		e := &m.Files[i]
		if record.States[i] == StateElsewhere {
			other := heldElsewhere(runs, record, i)
			res.Elsewhere = append(res.Elsewhere, Failure{Path: e.Path, Reason: "it lies in " + other.Dir})
			continue
		}
		back, err := t.restoreFile(ctx, dir, e)
		if err != nil {
			res.Failed = append(res.Failed, Failure{Path: e.Path, Reason: err.Error()})
			errs = append(errs, fmt.Errorf("%s: %w", Printable(e.Path), err))
			var stop *stopError
			if errors.As(err, &stop) || deviceFailed(err) {
				return res, errors.Join(append(errs, errors.New("the disk failed, so no further file was tried"))...)
			}
			continue
		}
		if back {
			res.Restored = append(res.Restored, e.Path)
		} else {
			res.AlreadyThere = append(res.AlreadyThere, e.Path)
		}
	}
	for i := range m.Hives {
		h := &m.Hives[i]
		if err := t.restoreHive(ctx, m.Run, h, res); err != nil {
			res.Failed = append(res.Failed, Failure{Path: h.Path, Reason: err.Error()})
			errs = append(errs, fmt.Errorf("%s: %w", Printable(h.Path), err))
		}
	}
	if len(res.Restored) > 0 {
		if err := t.flush(); err != nil {
			errs = append(errs, err)
		}
	}
	return res, errors.Join(errs...)
}

// restoreFile renames one file back; false means that it is there already.
func (t *tree) restoreFile(ctx context.Context, dir string, e *ManifestEntry) (bool, error) {
	same := Action{Path: e.Path, Size: e.Size, SHA256: e.SHA256}
	parts, name := splitDir(e.Path)
	old, _, err := lookupPath(t.fsys, ".", append(parts, name)...)
	switch {
	case err == nil:
		if err := unchanged(ctx, t.fsys, old, same); err != nil {
			return false, errors.New("its place is taken by another file: move that one away first")
		}
		return false, nil
	case !isNotExist(err):
		return false, err
	}
	from := path.Join(dir, e.Quarantined)
	if err := unchanged(ctx, t.fsys, from, same); err != nil {
		if isNotExist(err) {
			return false, errors.New("it lies neither at its place nor in the quarantine")
		}
		return false, fmt.Errorf("the file in the quarantine is not what was put there: %w", err)
	}
	if err := realPath(t.fsys, e.Path); err != nil {
		return false, fmt.Errorf("its folder is gone: %w", err)
	}
	if err := t.move(from, e.Path); err != nil {
		return false, err
	}
	return true, nil
}
