package remediate

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
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
// is renamed back, bit for bit what it was, and each service gets its start type
// back. A place that is taken by other bytes is left alone, and so is a file whose
// content is not what the manifest says. runDir is the name of the run or the path
// of its folder on the volume ([Runs]).
//
// A manifest on a broken machine's disk proves little: whoever could write it could
// have this move any file anywhere. So the run's folder has to be one that only
// administrators can write to ([ErrUnguarded]), and each file and service one that a
// rule of the packs takes, by its place, and by what kind of file it is.
//
// Calling it again finishes what was cut short. The manifest stays as a record.
func Restore(ctx context.Context, root, runDir string, o RestoreOptions) (*RestoreResult, error) {
	return restore(ctx, root, runDir, o, false)
}

// RestoreOptions say what a manifest is held against.
type RestoreOptions struct {
	Packs []*Pack
	// TrustRecord is set when a person has looked at the manifest: then it is no matter who could have written it.
	TrustRecord bool
}

// PlanRestore tells what Restore would do, and writes nothing.
func PlanRestore(ctx context.Context, root, runDir string, o RestoreOptions) (*RestoreResult, error) {
	return restore(ctx, root, runDir, o, true)
}

// VerifyRestore checks what Restore says it did, on a tree that was mounted afresh so that nothing comes from memory.
func VerifyRestore(ctx context.Context, root string, res *RestoreResult, o RestoreOptions) error {
	if res == nil || len(res.Restored)+len(res.Services) == 0 {
		return nil
	}
	now, err := PlanRestore(ctx, root, res.Dir, o)
	if now == nil {
		return fmt.Errorf("verify: %w", err)
	}
	var errs []error
	for _, p := range res.Restored {
		if !slices.Contains(now.AlreadyThere, p) {
			errs = append(errs, fmt.Errorf("verify %s: it is not back at its place", Printable(p)))
		}
	}
	for _, s := range res.Services {
		if !slices.Contains(now.ServicesThere, s) {
			errs = append(errs, fmt.Errorf("verify: service %s does not start as it did", Printable(s)))
		}
	}
	return errors.Join(errs...)
}

func restore(ctx context.Context, root, runDir string, o RestoreOptions, dry bool) (*RestoreResult, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	r := restoring{tree: t, packs: o.Packs, trusting: o.TrustRecord, dry: dry, res: &RestoreResult{Restored: []string{}}}
	err = r.run(ctx, runDir)
	if closeErr := t.close(); err == nil {
		err = closeErr
	}
	if r.res.Dir == "" {
		return nil, err
	}
	return r.res, err
}

type restoring struct {
	*tree
	packs []*Pack
	roots []string // Windows directories
	// trusting and dry are as [RestoreOptions] and [PlanRestore] have them.
	trusting, dry bool

	res  *RestoreResult
	errs []error
}

func (r *restoring) fail(what string, err error) {
	r.res.Failed = append(r.res.Failed, Failure{Path: what, Reason: err.Error()})
	r.errs = append(r.errs, fmt.Errorf("%s: %w", Printable(what), err))
}

func (r *restoring) run(ctx context.Context, runDir string) error {
	name := path.Base(runDir)
	if !runNamePattern.MatchString(name) {
		return fmt.Errorf("%q is not a run: expected a name such as 20240719T181500Z-1a2b3c4d", runDir)
	}
	dir, err := findRun(r.fsys, name)
	if err != nil {
		return fmt.Errorf("run %s is not on this volume: %w", name, err)
	}
	files, err := manifestFiles(r.fsys, dir)
	if err != nil {
		return err
	}
	for _, p := range append(files, dir, path.Join(dir, piecesDir)) {
		if err := r.checkGuard(p); err != nil && !isNotExist(err) && !r.trusting {
			return fmt.Errorf("run %s is not undone, since anybody could have planted it: %w: look at its files and move them by hand", name, err)
		}
	}
	if r.roots, err = windowsRoots(r.fsys); err != nil {
		return err
	}
	runs, err := Runs(r.fsys)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(runs, func(r Record) bool { return r.Dir == dir })
	if i < 0 || runs[i].Manifest == nil {
		_, err := readManifest(r.fsys, dir)
		return fmt.Errorf("run %s cannot be undone: %w", name, err)
	}
	record, m := &runs[i], runs[i].Manifest
	r.res.Dir = dir
	for i := range m.Files {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(r.errs, err)...)
		}
		e := &m.Files[i]
		if record.States[i] == StateElsewhere {
			other := heldElsewhere(runs, record, i)
			r.res.Elsewhere = append(r.res.Elsewhere, Failure{Path: e.Path, Reason: "it lies in " + other.Dir})
			continue
		}
		back, err := r.file(ctx, dir, e)
		switch {
		case err != nil:
			r.fail(e.Path, err)
			var stop *stopError
			if errors.As(err, &stop) || deviceFailed(err) {
				return errors.Join(append(r.errs, errors.New("the disk failed, so no further file was tried"))...)
			}
		case back:
			r.res.Restored = append(r.res.Restored, e.Path)
		default:
			r.res.AlreadyThere = append(r.res.AlreadyThere, e.Path)
		}
	}
	for i := range m.Hives {
		h := m.Hives[i]
		h.Services = slices.DeleteFunc(slices.Clone(h.Services), func(s ManifestService) bool {
			err := r.mayTouchHive(&h, s.Name)
			if err != nil {
				r.fail("service "+s.Name, err)
			}
			return err != nil
		})
		if len(h.Services) == 0 {
			continue
		}
		if err := r.restoreHive(ctx, m.Run, &h, r.res, r.dry); err != nil {
			r.fail(h.Path, err)
		}
	}
	if len(r.res.Restored) > 0 && !r.dry {
		if err := r.flush(); err != nil {
			r.errs = append(r.errs, err)
		}
	}
	return errors.Join(r.errs...)
}

// errNoRule means that nobody who is trusted has ever asked for such a thing.
var errNoRule = errors.New("no rule pack that is known here takes it: give the pack that the run was made with")

// mayRestore makes sure that a rule could have taken a file from a place.
func (r *restoring) mayRestore(ctx context.Context, from string, e *ManifestEntry) error {
	segments := strings.Split(e.Path, "/")
	placed := false
	for _, pack := range r.packs {
		for i := range pack.Rules {
			rule := &pack.Rules[i]
			if rule.Action != ActionQuarantine || !rule.covers(segments, r.roots) {
				continue
			}
			placed = true
			f, info, err := openRegular(r.fsys, from)
			if err != nil {
				return err
			}
			c, err := readContent(ctx, f, rule.headLength())
			times := timesOf(f, info)
			_ = f.Close() // only read
			if err != nil {
				return err
			}
			if _, ok := rule.Identify.check(&subject{content: c, modified: times.Modified}); ok {
				return nil
			}
		}
	}
	if placed {
		return errors.New("the file in the quarantine is not of the kind that the rule for its place takes")
	}
	return errNoRule
}

// covers reports whether a path is one that the rule's glob matches.
func (r *Rule) covers(segments, roots []string) bool {
	if len(segments) != len(r.segments) {
		return false
	}
	for i, s := range segments {
		alias := i == 0 && sameName(r.segments[0], windowsName) && slices.Contains(roots, s)
		if !alias && !matchName(r.segments[i], s) {
			return false
		}
	}
	return true
}

// mayTouchHive makes sure that a rule names the service, and that the hive is where
// services are.
func (r *restoring) mayTouchHive(h *ManifestHive, service string) error {
	segments := strings.Split(h.Path, "/")
	if len(segments) != 4 || !slices.Contains(r.roots, segments[0]) ||
		!sameName(strings.Join(segments[1:], "/"), "System32/config/"+systemName) {
		return errNoRule
	}
	for _, pack := range r.packs {
		for i := range pack.Rules {
			if rule := &pack.Rules[i]; rule.Action == ActionDisableService && sameName(rule.Service, service) {
				return nil
			}
		}
	}
	return errNoRule
}

// file renames one file back; false means that it is there already.
func (r *restoring) file(ctx context.Context, dir string, e *ManifestEntry) (bool, error) {
	same := Action{Path: e.Path, Size: e.Size, SHA256: e.SHA256}
	parts, name := splitDir(e.Path)
	old, _, err := lookupPath(r.fsys, ".", append(parts, name)...)
	switch {
	case err == nil:
		if err := unchanged(ctx, r.fsys, old, same); err != nil {
			return false, errors.New("its place is taken by another file: move that one away first")
		}
		if from := path.Join(dir, e.Quarantined); !r.dry && sameFile(r.fsys, old, from) { // a restore or a quarantine that was cut short
			if err := r.unlink(from); err != nil {
				return false, err
			}
			return true, r.settle(old, path.Dir(from))
		}
		return false, nil
	case !isNotExist(err):
		return false, err
	}
	from := path.Join(dir, e.Quarantined)
	if err := unchanged(ctx, r.fsys, from, same); err != nil {
		if isNotExist(err) {
			return false, errors.New("it lies neither at its place nor in the quarantine")
		}
		return false, fmt.Errorf("the file in the quarantine is not what was put there: %w", err)
	}
	if err := realPath(r.fsys, e.Path); err != nil {
		return false, fmt.Errorf("its folder is gone: %w", err)
	}
	if err := r.mayRestore(ctx, from, e); err != nil {
		return false, err
	}
	if r.dry {
		return true, nil
	}
	if err := r.move(from, e.Path); err != nil {
		return false, err
	}
	return true, nil
}
