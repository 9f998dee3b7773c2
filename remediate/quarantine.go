package remediate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
)

// ErrEmptyPlan says that a plan asks for nothing, so nothing was written.
var ErrEmptyPlan = errors.New("the plan is empty, there is nothing to quarantine")

// ErrFull says that a volume has no room for what a repair adds to it, not even the
// few file records that the folders and the manifest take. The files themselves only
// change their names.
var ErrFull = errors.New("the volume is full")

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
	// SessionDiscarded is what hiberfil.sys held before [DiscardHibernation], for people.
	SessionDiscarded string `json:"session_discarded,omitempty"`
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
// the disk before the first file moves; each file moves by a rename that replaces
// nothing, after its size, time and content were compared with the plan once more.
// So at every instant each file exists exactly once (on Linux under both names for
// a moment, see tree.move), and a run that was cut short is finished by evaluating
// again and calling Quarantine with the new plan, or by calling it again with the
// same plan and run.
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
		if volumeFull(err) {
			err = ErrFull // whatever it was that had no room
		}
		return q.res, fmt.Errorf("prepare the quarantine, no file was moved: %w", err)
	}
	if err := q.moveAll(ctx, todo); err != nil {
		return q.res, errors.Join(q.err(), err)
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

// moveAll gives all files their new names before any of them loses its old one: a
// directory that is being changed is at risk, so none of the files relies on the
// quarantine alone until all of it is durable (see [tree.move]).
func (q *quarantining) moveAll(ctx context.Context, todo []Action) error {
	var linked []Action
	// A failing disk ends it: what has two names keeps them, and the next run goes on from there.
	stopped := func(a Action, err error) bool {
		q.fail(a.Path, err)
		var stop *stopError
		return errors.As(err, &stop) || deviceFailed(err)
	}
	errStopped := errors.New("the disk failed, so no further file was tried")
	canceled := error(nil)
	for _, a := range todo {
		if canceled = ctx.Err(); canceled != nil {
			break // what has begun is finished
		}
		begun, err := q.begin(ctx, a)
		if err != nil {
			if stopped(a, err) {
				return errStopped
			}
		} else if begun {
			linked = append(linked, a)
		}
	}
	if len(linked) > 0 {
		if err := q.flush(); err != nil {
			return err
		}
	}
	for _, a := range linked {
		if err := q.unlink(a.Path); err != nil {
			if stopped(a, err) {
				return errStopped
			}
			continue
		}
		q.done(a)
		if err := q.sync(path.Dir(a.Path)); err != nil {
			return err
		}
	}
	return errors.Join(q.flush(), canceled)
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
	if _, err := q.ownFolder(); err != nil {
		return "", nil, err
	}
	dir, err := findRun(q.fsys, run.Name())
	if isNotExist(err) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
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

// prepare makes the folder of the run with its manifest.
func (q *quarantining) prepare(plan *Plan, todo []Action, edits []*hiveEdit, run Run) error {
	dir, m, err := q.earlier(run)
	if err != nil {
		return err
	}
	if m == nil && dir == "" {
		return q.publish(newManifest(run, plan, todo, edits), todo, run)
	}
	q.res.Dir = dir
	if m == nil {
		m = newManifest(run, plan, todo, edits)
	}
	for _, a := range todo {
		if old := m.entry(a.Path); old == nil {
			m.add(a)
		} else if old.SHA256 != a.SHA256 || old.Size != a.Size {
			return fmt.Errorf("%s lists %s with other content: use a new run", manifestPath(q.res.Dir), Printable(a.Path))
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

// publish makes the folder of the run appear with all that belongs in it: it is
// built under a name of its own, made durable, and renamed into place. A directory
// that a power cut leaves half made can be a name that leads nowhere, and nothing
// can be made under such a name again; so none of the lasting names is ever one.
func (q *quarantining) publish(m *Manifest, todo []Action, run Run) (err error) {
	own, err := q.ownFolder()
	if err != nil {
		return err
	}
	if _, err := q.makeDirs(".", path.Dir(own)); err != nil { // ProgramData, which every Windows has
		return err
	}
	parent, missing, err := q.deepest(path.Dir(own), []string{path.Base(own), quarantineDir, run.Name()})
	if err != nil {
		return err
	}
	tmp, err := q.makeTemporary(parent, missing[0]+"."+run.Name())
	if err != nil {
		return err
	}
	defer func() {
		if volumeFull(err) { // what little there is on a full volume is not to be taken by a rest of ours
			err = errors.Join(err, q.discard(tmp))
		}
	}()
	if len(missing) == 3 { // the logs will need their folder, too
		if _, err := q.makeDirs(tmp, path.Base(WindowsLogDir)); err != nil {
			return err
		}
	}
	dir, err := q.makeDirs(tmp, missing[1:]...)
	if err != nil {
		return err
	}
	for _, a := range todo {
		dirs, _ := splitDir(a.Path)
		if _, err := q.makeDirs(dir, dirs...); err != nil {
			return err
		}
	}
	if err := q.writeManifest(dir, m); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if err := q.flush(); err != nil {
		return err
	}
	place := path.Join(parent, missing[0])
	if err := q.rename(tmp, place); err != nil {
		return err
	}
	q.res.Dir = path.Join(append([]string{place}, missing[1:]...)...)
	return nil
}

// writeManifest writes the manifest of a run whose folder nobody sees yet. On a volume without a free cluster it comes in
// pieces, each so small that NTFS keeps it in the file's own record, and so few, with names so short, that the folder's
// record holds all of them.
func (q *quarantining) writeManifest(dir string, m *Manifest) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	if err := q.writeFile(dir, manifestName, data); !volumeFull(err) {
		return err
	}
	if data, err = json.Marshal(m); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if dir, err = q.makeDirs(dir, piecesDir); err != nil {
		return err
	}
	n := 0
	for piece := range slices.Chunk(data, pieceSize) {
		n++
		if err := q.create(path.Join(dir, strconv.Itoa(n)), piece); err != nil {
			return err
		}
	}
	return q.sync(dir)
}

// discard takes a half made folder of this very run away again.
func (q *quarantining) discard(dir string) error {
	if err := q.step("remove", dir); err != nil {
		return err
	}
	if err := q.root.RemoveAll(dir); err != nil {
		return err
	}
	return q.flush()
}

// deepest splits a path of directories below dir into the part that is there and the
// names that are not.
func (q *quarantining) deepest(dir string, parts []string) (string, []string, error) {
	for i, part := range parts {
		p, info, err := lookup(q.fsys, dir, part)
		switch {
		case isNotExist(err):
			return dir, parts[i:], nil
		case err != nil:
			return "", nil, err
		case !info.IsDir():
			return "", nil, fmt.Errorf("use folder %s: %w", p, notRegularDir(info.Mode()))
		}
		dir = p
	}
	return "", nil, fmt.Errorf("folder %s is there already", dir)
}

// makeTemporary makes a directory whose name nothing else has. What an earlier
// attempt left is not touched: after a power cut its name may lead to anything.
func (q *quarantining) makeTemporary(parent, name string) (string, error) {
	const attempts = 100
	for i := 1; ; i++ {
		dir := path.Join(parent, fmt.Sprintf("%s.%d.tmp", name, i))
		if err := q.step("mkdir", dir); err != nil {
			return "", err
		}
		err := q.makeNew(func() error { return q.root.Mkdir(dir, 0o755) })
		if err == nil {
			return dir, q.protect(dir)
		}
		if !errors.Is(err, fs.ErrExist) || i == attempts {
			return "", fmt.Errorf("make folder: %w", err)
		}
	}
}

// begin compares a file with the plan a last time and gives it its place in the
// quarantine. It returns true where its old name still is to be taken away.
func (q *quarantining) begin(ctx context.Context, a Action) (bool, error) {
	dirs, _ := splitDir(a.Path)
	if _, err := q.makeDirs(q.res.Dir, dirs...); err != nil {
		return false, err
	}
	if err := unchanged(ctx, q.fsys, a.Path, a); err != nil {
		return false, err
	}
	if err := q.untangle(a); err != nil {
		return false, err
	}
	to := path.Join(q.res.Dir, quarantinedName(a.Path))
	linked, err := q.link(a.Path, to)
	if err != nil || linked {
		return linked, err
	}
	if err := q.rename(a.Path, to); err != nil {
		// A failed sync comes after the file was moved: say where it is.
		_, atOld := fs.Lstat(q.fsys, a.Path)
		_, atNew := fs.Lstat(q.fsys, to)
		if isNotExist(atOld) && atNew == nil {
			q.done(a)
		}
		return false, err
	}
	q.done(a)
	return false, nil
}

// untangle takes away the name that an earlier run gave the file in its own folder
// before it was cut short: the file is moved by this run.
func (q *quarantining) untangle(a Action) error {
	base := path.Dir(q.res.Dir)
	names, err := readNames(q.fsys, base)
	if err != nil {
		return err
	}
	for _, name := range names {
		other := path.Join(base, name, quarantinedName(a.Path))
		if name == path.Base(q.res.Dir) || !runNamePattern.MatchString(name) || !sameFile(q.fsys, a.Path, other) {
			continue
		}
		// It may be an entry of the folder that the file itself knows nothing of: that cannot be taken away, and does
		// no harm. Windows' check of the volume will.
		if err := q.unlink(other); err != nil && !isNotExist(err) {
			return err
		}
		if err := q.settle(a.Path, path.Dir(other)); err != nil {
			return err
		}
	}
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
