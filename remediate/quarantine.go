package remediate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// ErrEmptyPlan says that a plan asks for nothing, so nothing was written.
var ErrEmptyPlan = errors.New("the plan is empty, there is nothing to quarantine")

// Result is what a quarantine did.
type Result struct {
	// Run is the name of the run, Dir its folder on the volume; Dir is empty
	// where nothing was written.
	Run string `json:"run"`
	Dir string `json:"dir,omitempty"`
	// Moved are the files that now lie in the quarantine.
	Moved []Moved `json:"moved"`
	// PutBack are files that an earlier run, cut short, had left missing.
	PutBack []string `json:"put_back,omitempty"`
	// Disabled are the services that no longer start.
	Disabled []Disabled `json:"disabled,omitempty"`
	// Unguarded says why ordinary users of the machine are not kept out of the
	// quarantine; such a run is undone by hand.
	Unguarded string `json:"unguarded,omitempty"`
	// Failed are the files that stayed where they were, and why. A file that is
	// in Moved too was renamed, but the disk then failed to confirm it.
	Failed []Failure `json:"failed,omitempty"`
}

// Moved is a file in the quarantine; both paths are relative to the volume.
type Moved struct {
	Path        string `json:"path"`
	Quarantined string `json:"quarantined"`
	Size        int64  `json:"size"`
	SHA256      string `json:"sha256"`
}

// Disabled is a service that was disabled.
type Disabled struct {
	Service
	// Hive is the registry hive that says so, Kept the hive as it was.
	Hive string `json:"hive"`
	Kept string `json:"kept"`
	// Size and SHA256 are those of the edited hive.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Failure is a file that was not handled, and why.
type Failure struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// stopError ends a quarantine or a restore: the disk is failing, so the files
// that are left are not tried.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// Quarantine carries out a plan on the volume mounted at root. The manifest is on
// the disk before the first file moves; each file moves by one rename that
// replaces nothing, after its size, time and content were compared with the plan
// once more. So at every instant each file exists exactly once, and a run that was
// cut short is finished by evaluating again and calling Quarantine with the new
// plan, or by calling it again with the same plan and run.
//
// A file that cannot be moved does not keep the others from moving: it is in
// Result.Failed, and the error names it too. The result is nil only if nothing was
// begun.
func Quarantine(ctx context.Context, root string, plan *Plan, run Run) (*Result, error) {
	if plan.Empty() {
		return nil, ErrEmptyPlan
	}
	if len(plan.Beyond) > 0 && plan.Approved == "" {
		return nil, fmt.Errorf("%w: %s", ErrBeyondRadius, plan.Beyond[0])
	}
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	res, err := t.quarantine(ctx, plan, run)
	if res != nil && t.unguarded != nil {
		res.Unguarded = t.unguarded.Error()
	}
	if closeErr := t.close(); err == nil {
		err = closeErr
	}
	return res, err
}

func (t *tree) quarantine(ctx context.Context, plan *Plan, run Run) (*Result, error) {
	if err := run.check(); err != nil {
		return nil, err
	}
	if len(plan.Actions) > maxManifestFiles {
		return nil, fmt.Errorf("the plan has %d files, at most %d are moved in one run", len(plan.Actions), maxManifestFiles)
	}
	for _, a := range plan.Actions {
		if err := checkVolumePath(a.Path); err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
		switch a.Kind {
		case ActionQuarantine, ActionPutBack:
		case ActionDisableService:
			if a.Service == nil {
				return nil, fmt.Errorf("plan: action %q without a service", a.Kind)
			}
		default:
			return nil, fmt.Errorf("plan: action %q is not supported", a.Kind)
		}
	}
	q := &quarantining{tree: t, res: &Result{Run: run.Name(), Moved: []Moved{}}}
	if err := q.putBackAll(plan.Actions); err != nil {
		return q.res, err
	}
	todo, services, err := q.preflight(ctx, plan.Actions, run)
	if err != nil {
		return nil, err
	}
	if len(todo)+len(services) == 0 {
		return q.res, q.err()
	}
	edits, err := editHives(t.fsys, services, run)
	if err == nil {
		err = q.prepare(plan, todo, edits, run)
	}
	if err != nil {
		return q.res, fmt.Errorf("prepare the quarantine, no file was moved: %w", err)
	}
	for _, a := range todo {
		if err := ctx.Err(); err != nil {
			return q.res, errors.Join(q.err(), err)
		}
		var stop *stopError
		if err := q.move(ctx, a); errors.As(err, &stop) || (err != nil && deviceFailed(err)) {
			q.fail(a.Path, err)
			return q.res, errors.Join(q.err(), errors.New("the disk failed, so no further file was tried"))
		} else if err != nil {
			q.fail(a.Path, err)
		}
	}
	if err := q.disableServices(ctx, edits); err != nil {
		return q.res, errors.Join(q.err(), err)
	}
	if err := t.flush(); err != nil {
		return q.res, errors.Join(q.err(), err)
	}
	return q.res, q.err()
}

// putBackAll finishes what an earlier run was cut short in.
func (q *quarantining) putBackAll(actions []Action) error {
	for _, a := range actions {
		if a.Kind != ActionPutBack {
			continue
		}
		if err := q.putBack(a.Path); err != nil {
			return fmt.Errorf("put %s back: %w", Printable(a.Path), err)
		}
		q.res.PutBack = append(q.res.PutBack, a.Path)
	}
	return nil
}

type quarantining struct {
	*tree
	res    *Result
	errors []error
}

func (q *quarantining) fail(p string, err error) {
	q.res.Failed = append(q.res.Failed, Failure{Path: p, Reason: err.Error()})
	q.errors = append(q.errors, fmt.Errorf("%s: %w", Printable(p), err))
}

func (q *quarantining) err() error { return errors.Join(q.errors...) }

func (q *quarantining) done(a Action) {
	q.res.Moved = append(q.res.Moved, Moved{
		Path: a.Path, Quarantined: path.Join(q.res.Dir, quarantinedName(a.Path)), Size: a.Size, SHA256: a.SHA256,
	})
}

// preflight sorts out, before anything is written, what this run has already moved
// and what no longer is what was planned.
func (q *quarantining) preflight(ctx context.Context, actions []Action, run Run) (todo, services []Action, err error) {
	dir, m, err := q.earlier(run)
	if err != nil {
		return nil, nil, err
	}
	done := map[string]bool{} // hives
	for _, a := range actions {
		if a.Kind == ActionPutBack {
			continue
		}
		err := unchanged(ctx, q.fsys, a.Path, a)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case err == nil && a.Kind == ActionDisableService:
			services = append(services, a)
			continue
		case a.Kind == ActionDisableService && m != nil && m.hive(a.Path) != nil &&
			unchanged(ctx, q.fsys, a.Path, Action{Size: m.hive(a.Path).EditedSize, SHA256: m.hive(a.Path).EditedSHA256}) == nil:
			if q.res.Dir = dir; !done[a.Path] {
				q.disabled(m.hive(a.Path))
			}
			done[a.Path] = true
			continue
		case err == nil:
			todo = append(todo, a)
			continue
		case isNotExist(err) && m != nil && m.entry(a.Path) != nil &&
			unchanged(ctx, q.fsys, path.Join(dir, quarantinedName(a.Path)), a) == nil:
			q.res.Dir = dir
			q.done(a)
			continue
		}
		q.fail(a.Target(), err)
	}
	return todo, services, nil
}

// earlier finds what the same run left when it was cut short.
func (q *quarantining) earlier(run Run) (string, *Manifest, error) {
	dir, info, err := lookupPath(q.fsys, ".", append(quarantineParts(), run.Name())...)
	if isNotExist(err) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	if !info.IsDir() {
		return "", nil, fmt.Errorf("%s %w", dir, notRegularDir(info.Mode()))
	}
	m, err := readManifest(q.fsys, dir)
	if isNotExist(err) {
		return dir, nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("%s is taken: %w", dir, err)
	}
	if m.Run != run.ID {
		return "", nil, fmt.Errorf("%s belongs to run %q", dir, m.Run)
	}
	return dir, m, nil
}

func quarantineParts() []string { return []string{"ProgramData", "bootmend", "quarantine"} }

// prepare makes the folder of the run and writes the manifest.
func (q *quarantining) prepare(plan *Plan, todo []Action, edits []*hiveEdit, run Run) error {
	_, m, err := q.earlier(run)
	if err != nil {
		return err
	}
	base, err := q.makeDirs(".", quarantineParts()...)
	if err != nil {
		return err
	}
	q.removeUnfinished(base, run.Name())
	if q.res.Dir, err = q.makeDirs(base, run.Name()); err != nil {
		return err
	}
	if m == nil {
		m = newManifest(run, plan, todo, edits)
	} else {
		for _, a := range todo {
			if old := m.entry(a.Path); old == nil {
				m.add(a)
			} else if old.SHA256 != a.SHA256 || old.Size != a.Size {
				return fmt.Errorf("%s lists %s with other content: use a new run", manifestPath(q.res.Dir), Printable(a.Path))
			}
		}
	}
	for _, e := range edits {
		if old := m.hive(e.Path); old == nil {
			m.Hives = append(m.Hives, e.ManifestHive)
		} else {
			*old = e.ManifestHive // not in place yet, or preflight would have found it done
		}
	}
	data, err := m.encode()
	if err != nil {
		return err
	}
	if err := q.writeFile(q.res.Dir, manifestName, data); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return q.flush()
}

// removeUnfinished removes run folders that a power cut left before their manifest
// was in place. No file can have moved into them; only an unfinished manifest and
// empty folders are removed, and what resists stays.
func (q *quarantining) removeUnfinished(base, current string) {
	entries, err := fs.ReadDir(q.fsys, base)
	if err != nil {
		return
	}
	for _, e := range entries {
		dir := path.Join(base, e.Name())
		if e.Name() == current || !runNamePattern.MatchString(e.Name()) || !isRealDir(q.fsys, dir) {
			continue
		}
		if _, err := fs.Lstat(q.fsys, manifestPath(dir)); !isNotExist(err) {
			continue
		}
		if q.step("remove", dir) != nil {
			return
		}
		_ = q.root.Remove(manifestPath(dir) + ".tmp")
		_ = q.root.Remove(dir)
	}
}

// move moves one file, having compared it with the plan a last time.
func (q *quarantining) move(ctx context.Context, a Action) error {
	dirs, _ := splitDir(a.Path)
	if _, err := q.makeDirs(q.res.Dir, dirs...); err != nil {
		return err
	}
	if err := unchanged(ctx, q.fsys, a.Path, a); err != nil {
		return err
	}
	to := path.Join(q.res.Dir, quarantinedName(a.Path))
	err := q.tree.move(a.Path, to)
	if err != nil {
		// A failed sync comes after the rename: say where the file is.
		if _, statErr := fs.Lstat(q.fsys, to); statErr == nil && !errors.Is(err, fs.ErrExist) {
			q.done(a)
		}
		return err
	}
	q.done(a)
	return nil
}

// unchanged compares what lies at p with the action: a regular file reached
// through real directories, of the same size, time and content.
func unchanged(ctx context.Context, fsys fs.FS, p string, a Action) error {
	if err := realPath(fsys, p); err != nil {
		return err
	}
	f, info, err := openRegular(fsys, p)
	if err != nil {
		return err
	}
	defer f.Close()
	if info.Size() != a.Size {
		return fmt.Errorf("changed: it has %s bytes, expected %s", groupDigits(info.Size()), groupDigits(a.Size))
	}
	if !a.Times.Modified.IsZero() && !info.ModTime().Equal(a.Times.Modified) {
		return fmt.Errorf("changed: it was modified %s, expected %s", clock(info.ModTime()), clock(a.Times.Modified))
	}
	c, err := readContent(ctx, f, 0)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if c.sha256 != a.SHA256 {
		return errors.New("changed: its SHA-256 is not the expected one")
	}
	return nil
}

// realPath makes sure that the directories of p are directories and not links.
func realPath(fsys fs.FS, p string) error {
	dirs, _ := splitDir(p)
	dir := "."
	for _, d := range dirs {
		dir = path.Join(dir, d)
		info, err := fs.Lstat(fsys, dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return &fs.PathError{Op: "enter", Path: dir, Err: notRegularDir(info.Mode())}
		}
	}
	return nil
}
