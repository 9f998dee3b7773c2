package remediate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bootmend/bootmend/remediate/hive"
)

// Service is a driver or service that an action disables.
type Service struct {
	// Name is spelled as in the registry.
	Name string `json:"name"`
	// Starts are the start types that change, one for each control set.
	Starts []Start `json:"starts"`
}

// Start is the value Start of a service in one control set: 0 boot, 1 system,
// 2 automatic, 3 manual, 4 disabled (SERVICE_BOOT_START and so on).
type Start struct {
	ControlSet string `json:"control_set"` // "ControlSet001"
	// Was is the value before the action.
	Was uint32 `json:"was"`
}

const startDisabled = 4

var startNames = []string{"at boot", "with the system", "automatically", "by hand", "never"}

func startName(n uint32) string {
	if int(n) < len(startNames) {
		return startNames[n]
	}
	return fmt.Sprintf("in the way %d", n)
}

// describe says how the service starts now.
func (s *Service) describe() string {
	var sets []string
	for _, start := range s.Starts {
		sets = append(sets, fmt.Sprintf("starts %s in %s", startName(start.Was), start.ControlSet))
	}
	return strings.Join(sets, ", ")
}

// systemFile is a SYSTEM hive as it lies on the volume.
type systemFile struct {
	path   string // where it belongs
	size   int64
	sha256 string
	times  Times
	hive   *hive.Hive
}

// loadSystem reads the SYSTEM hive of a Windows directory for editing. Where a run
// was cut short while it replaced the hive, what it kept is read.
func loadSystem(fsys fs.FS, root string) (*systemFile, error) {
	config, _, err := lookupPath(fsys, root, "System32", "config")
	if err != nil {
		return nil, err
	}
	at, _, err := lookup(fsys, config, systemName)
	if isNotExist(err) {
		if kept, ok := cutShort(fsys, config, systemName); ok {
			s, err := loadSystemFile(fsys, kept)
			if err == nil {
				s.path = path.Join(config, systemName)
			}
			return s, err
		}
	}
	if err != nil {
		return nil, err
	}
	return loadSystemFile(fsys, at)
}

const systemName = "SYSTEM"

func loadSystemFile(fsys fs.FS, name string) (*systemFile, error) {
	f, info, err := openRegular(fsys, name)
	if err != nil {
		return nil, err
	}
	times := timesOf(f, info)
	_ = f.Close() // only read
	data, err := readWhole(fsys, name, maxHiveInMemory)
	if err != nil {
		return nil, err
	}
	logs, err := readHiveLogs(fsys, path.Join(path.Dir(name), systemName))
	if err != nil {
		return nil, err
	}
	h, err := hive.Load(data, logs...)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return &systemFile{name, int64(len(data)), hex.EncodeToString(sum[:]), times, h}, nil
}

// controlSets are the control sets that Windows may start with: the one for the
// next start, the one of the last, and the last one that worked, to which Windows
// turns when a start fails. A driver that is disabled in only one of them would
// come back.
func controlSets(h *hive.Hive) ([]string, error) {
	k, err := h.Key("Select")
	if err != nil {
		return nil, err
	}
	var sets []string
	for _, name := range []string{"Default", "Current", "LastKnownGood"} {
		v, err := k.Value(name)
		if errors.Is(err, hive.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		n, err := v.Uint32()
		if err != nil {
			return nil, err
		}
		if set := controlSetName(n); n > 0 && n < 1000 && !slices.Contains(sets, set) {
			sets = append(sets, set)
		}
	}
	if len(sets) == 0 {
		return nil, errors.New("the key Select names no control set")
	}
	slices.Sort(sets)
	return sets, nil
}

// starts reads how a service starts in each control set that has it, and its name
// as the registry spells it.
func starts(h *hive.Hive, service string) (string, []Start, error) {
	sets, err := controlSets(h)
	if err != nil {
		return "", nil, err
	}
	var found []Start
	for _, set := range sets {
		k, err := h.Key(set, "Services", service)
		if errors.Is(err, hive.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if service, err = k.Name(); err != nil {
			return "", nil, err
		}
		n, err := readStart(k)
		if errors.Is(err, hive.ErrNotFound) {
			continue // a key with parameters only
		}
		if err != nil {
			return "", nil, err
		}
		found = append(found, Start{set, n})
	}
	return service, found, nil
}

func readStart(k hive.Key) (uint32, error) {
	v, err := k.Value("Start")
	if err != nil {
		return 0, err
	}
	return v.Uint32()
}

// service decides about a rule that disables a service.
func (e *evaluation) service(m *match) error {
	reason := "the rule names it"
	if m.rule.Path != "" {
		hits := 0
		m.hit = func(p, why string) {
			if hits++; hits == 1 {
				reason = path.Base(p) + ": " + why
			}
		}
		if err := e.descend(".", m.rule.segments, m); err != nil {
			return err
		}
		if hits == 0 {
			return nil
		}
	}
	for _, root := range e.roots {
		s, err := e.system(root)
		if err != nil {
			e.problem(path.Join(root, "System32/config", systemName), m, err)
			continue
		}
		e.disable(s, m, reason)
	}
	return nil
}

// putBack plans to put a hive back that a run cut short took away, before all else.
func (e *evaluation) putBack() {
	for _, root := range e.roots {
		config, _, err := lookupPath(e.fsys, root, "System32", "config")
		if err != nil {
			continue
		}
		kept, ok := cutShort(e.fsys, config, systemName)
		if !ok {
			continue
		}
		a := Action{Kind: ActionPutBack, Path: path.Join(config, systemName), Reason: "a run was cut short; the hive lies in " + kept}
		if s, err := e.system(root); err == nil {
			a.Size, a.SHA256, a.Times = s.size, s.sha256, s.times
		}
		e.plan.Actions = slices.Insert(e.plan.Actions, 0, a)
	}
}

// system loads the hive of a Windows directory once.
func (e *evaluation) system(root string) (*systemFile, error) {
	if l, ok := e.hives[root]; ok {
		return l.hive, l.err
	}
	s, err := loadSystem(e.fsys, root)
	if e.hives == nil {
		e.hives = make(map[string]loadedHive)
	}
	e.hives[root] = loadedHive{s, err}
	return s, err
}

type loadedHive struct {
	hive *systemFile
	err  error
}

func (e *evaluation) disable(s *systemFile, m *match, reason string) {
	name, found, err := starts(s.hive, m.rule.Service)
	if err != nil {
		e.problem(s.path, m, fmt.Errorf("service %s: %w", m.rule.Service, err))
		return
	}
	if len(found) == 0 {
		return // not on this machine
	}
	enabled := slices.DeleteFunc(slices.Clone(found), func(s Start) bool { return s.Was == startDisabled })
	if len(enabled) == 0 {
		e.keep(s.path, m, nil, "service "+name+" is disabled already")
		return
	}
	for i := range e.plan.Actions {
		a := &e.plan.Actions[i]
		if a.Service != nil && a.Path == s.path && a.Service.Name == name {
			if !slices.Contains(a.Rules, m.name) {
				a.Rules = append(a.Rules, m.name)
			}
			return
		}
	}
	e.plan.Actions = append(e.plan.Actions, Action{
		Kind: ActionDisableService, Path: s.path, Size: s.size, SHA256: s.sha256, Times: s.times,
		Rules: []string{m.name}, Reason: reason, Service: &Service{name, enabled},
	})
}

// hiveEdit is one hive and what a run changes in it.
type hiveEdit struct {
	ManifestHive
	data    []byte // the edited hive
	actions []Action
}

// editHives works out the edited hives of a plan's services. Nothing is written.
func editHives(fsys fs.FS, actions []Action, run Run) ([]*hiveEdit, error) {
	var edits []*hiveEdit
	for _, a := range actions {
		i := slices.IndexFunc(edits, func(e *hiveEdit) bool { return e.Path == a.Path })
		if i < 0 {
			i = len(edits)
			edits = append(edits, &hiveEdit{ManifestHive: ManifestHive{
				Path: a.Path, Kept: keptName(a.Path, run.ID), Size: a.Size, SHA256: a.SHA256, Times: a.Times,
			}})
		}
		edits[i].actions = append(edits[i].actions, a)
		edits[i].Services = append(edits[i].Services, ManifestService{Service: *a.Service, Rules: a.Rules, Reason: a.Reason})
	}
	for _, e := range edits {
		s, err := loadSystemFile(fsys, e.Path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", Printable(e.Path), err)
		}
		if s.sha256 != e.SHA256 {
			return nil, fmt.Errorf("%s: changed: its SHA-256 is not the expected one", Printable(e.Path))
		}
		s.hive.Now = run.Time
		for _, service := range e.Services {
			for _, start := range service.Starts {
				if err := setStart(s.hive, service.Name, start.ControlSet, start.Was, startDisabled); err != nil {
					return nil, fmt.Errorf("%s: %w", Printable(e.Path), err)
				}
			}
		}
		if e.data, err = s.hive.Bytes(); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(e.data)
		e.EditedSize, e.EditedSHA256 = int64(len(e.data)), hex.EncodeToString(sum[:])
	}
	return edits, nil
}

// setStart changes a service's start type, if it is what it is expected to be.
func setStart(h *hive.Hive, service, set string, from, to uint32) error {
	k, err := h.Key(set, "Services", service)
	var now uint32
	if err == nil {
		now, err = readStart(k)
	}
	if err != nil {
		return fmt.Errorf("service %s in %s: %w", service, set, err)
	}
	if now != from {
		return fmt.Errorf("service %s in %s: it starts %s now, expected %s", service, set, startName(now), startName(from))
	}
	return k.SetDWORD("Start", to)
}

// disableServices puts the edited hives in place.
func (q *quarantining) disableServices(ctx context.Context, edits []*hiveEdit) error {
	for _, e := range edits {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := unchanged(ctx, q.fsys, e.Path, Action{Path: e.Path, Size: e.Size, SHA256: e.SHA256, Times: e.Times})
		if err == nil {
			err = q.replace(e.Path, e.Kept, e.data)
		}
		if err == nil {
			q.disabled(&e.ManifestHive)
			continue
		}
		for _, a := range e.actions {
			q.fail(a.Target(), err)
		}
		var stop *stopError
		if errors.As(err, &stop) || deviceFailed(err) {
			return err
		}
	}
	return nil
}

func (q *quarantining) disabled(m *ManifestHive) {
	for _, s := range m.Services {
		q.res.Disabled = append(q.res.Disabled, Disabled{Service: s.Service, Hive: m.Path, Kept: m.Kept, Size: m.EditedSize, SHA256: m.EditedSHA256})
	}
}

// verifyDisabled checks a service on a freshly mounted tree.
func verifyDisabled(fsys fs.FS, d Disabled) error {
	s, err := loadSystemFile(fsys, d.Hive)
	if err != nil {
		return err
	}
	if s.sha256 != d.SHA256 {
		return errors.New("the registry hive on the disk is not the one that was written")
	}
	for _, start := range d.Starts {
		k, err := s.hive.Key(start.ControlSet, "Services", d.Name)
		if err != nil {
			return err
		}
		if n, err := readStart(k); err != nil || n != startDisabled {
			return errors.Join(fmt.Errorf("in %s it starts %s", start.ControlSet, startName(n)), err)
		}
	}
	_, err = fs.Lstat(fsys, d.Kept)
	return err
}

// done reports whether the run got to the hive: the old one is kept where the new
// one was put in place.
func (m *ManifestHive) done(fsys fs.FS) bool { return present(fsys, m.Kept) && present(fsys, m.Path) }

// stillDisabled counts the services of the hive that are disabled now. Where the replacing of the hive was cut short, all
// are taken for it, so that the run can be undone.
func (m *ManifestHive) stillDisabled(fsys fs.FS) (int, error) {
	n := 0
	if _, cut := cutShort(fsys, path.Dir(m.Path), path.Base(m.Path)); cut {
		return len(m.Services), nil
	}
	if !m.done(fsys) {
		return 0, nil
	}
	err := withHive(fsys, m.Path, func(h *hive.Hive) error {
		for _, s := range m.Services {
			for _, start := range s.Starts {
				k, err := h.Key(start.ControlSet, "Services", s.Name)
				if errors.Is(err, hive.ErrNotFound) {
					continue
				}
				if err != nil {
					return err
				}
				if now, err := readStart(k); err == nil && now == startDisabled {
					n++
					break
				}
			}
		}
		return nil
	})
	return n, err
}

// restoreHive gives the services of one hive their start types back. As long as
// Windows has not written to the hive since, the old one comes back bit for bit;
// else only the values, and what Windows wrote stays.
func (t *tree) restoreHive(ctx context.Context, run string, m *ManifestHive, res *RestoreResult, dry bool) error {
	if err := realPath(t.fsys, m.Path); err != nil {
		return err
	}
	if _, cut := cutShort(t.fsys, path.Dir(m.Path), path.Base(m.Path)); cut {
		// An earlier try, or the run itself, ended between the renames: Windows cannot start without its hive.
		if dry {
			for _, service := range m.Services {
				res.Services = append(res.Services, service.Name)
			}
			return nil
		}
		if err := t.putBack(m.Path); err != nil {
			return err
		}
	}
	if !m.done(t.fsys) {
		for _, service := range m.Services {
			res.Elsewhere = append(res.Elsewhere, Failure{Path: "service " + service.Name, Reason: "this run was cut short before it changed the registry"})
		}
		return nil
	}
	s, err := loadSystemFile(t.fsys, m.Path)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var back, there, failed []string
	var errs []error
	for _, service := range m.Services {
		changed := false
		for _, start := range service.Starts {
			now, err := startIn(s.hive, service.Name, start.ControlSet)
			if err == nil && now == start.Was {
				continue
			}
			if err == nil {
				err = setStart(s.hive, service.Name, start.ControlSet, startDisabled, start.Was)
			}
			if err != nil {
				errs = append(errs, err)
				failed = append(failed, service.Name)
				continue
			}
			changed = true
		}
		switch {
		case slices.Contains(failed, service.Name):
		case changed:
			back = append(back, service.Name)
		default:
			there = append(there, service.Name)
		}
	}
	res.ServicesThere = append(res.ServicesThere, there...)
	if dry {
		res.Services = append(res.Services, back...)
		return errors.Join(errs...)
	}
	if len(back) > 0 {
		data, times, err := t.oldHive(ctx, m, s)
		if err == nil {
			err = t.replace(m.Path, keptName(m.Path, run+"-undone"), data)
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if !times.IsZero() {
			if err := t.root.Chtimes(m.Path, times, times); err != nil {
				errs = append(errs, err)
			}
		}
		res.Services = append(res.Services, back...)
	}
	return errors.Join(errs...)
}

func startIn(h *hive.Hive, service, set string) (uint32, error) {
	k, err := h.Key(set, "Services", service)
	if err != nil {
		return 0, err
	}
	return readStart(k)
}

// oldHive is what a restore writes: the kept hive where the edited one is untouched,
// else the edited one as s has it now.
func (t *tree) oldHive(ctx context.Context, m *ManifestHive, s *systemFile) ([]byte, time.Time, error) {
	kept := Action{Path: m.Kept, Size: m.Size, SHA256: m.SHA256}
	if s.sha256 == m.EditedSHA256 && unchanged(ctx, t.fsys, m.Kept, kept) == nil {
		data, err := readWhole(t.fsys, m.Kept, maxHiveInMemory)
		return data, m.Times.Modified, err
	}
	s.hive.Now = time.Now()
	data, err := s.hive.Bytes()
	return data, time.Time{}, err
}
