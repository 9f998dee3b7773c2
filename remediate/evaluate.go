package remediate

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Evaluate looks for what the rule packs describe and returns the plan. It writes
// nothing, enters only the directories that the path globs name, in any case, and
// follows no link: a link on the way is a finding.
//
// A first segment "Windows" stands for the Windows directory of the volume, also
// where that has another name.
//
// The error is for what makes a plan impossible: a cancelled context, or a volume
// whose top directory cannot be read. Places further down that cannot be read are
// the plan's Problems.
func Evaluate(ctx context.Context, fsys fs.FS, packs []*Pack, policy Policy) (*Plan, error) {
	e, err := evaluate(ctx, fsys, packs, policy)
	if err != nil {
		return nil, err
	}
	return e.plan, nil
}

func evaluate(ctx context.Context, fsys fs.FS, packs []*Pack, policy Policy) (*evaluation, error) {
	policy, err := ParsePolicy(string(policy))
	if err != nil {
		return nil, err
	}
	e := &evaluation{
		ctx:     ctx,
		fsys:    fsys,
		plan:    &Plan{Schema: PlanSchema, Policy: policy, Packs: []PackRef{}, Actions: []Action{}},
		dirs:    make(map[string]*listing),
		actions: make(map[string]int),
	}
	if e.roots, err = windowsRoots(fsys); err != nil {
		return nil, err
	}
	e.plan.roots = e.roots
	for _, pack := range packs {
		e.plan.Packs = append(e.plan.Packs, PackRef{ID: pack.ID, Title: pack.Title, SHA256: pack.SHA256})
		for i := range pack.Rules {
			r := &pack.Rules[i]
			m := &match{rule: r, name: pack.ID + "/" + r.ID}
			if r.Action == ActionDisableService {
				err = e.service(m)
			} else {
				err = e.descend(".", r.segments, m)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	e.putBack()
	e.finish()
	e.plan.Measure(packs, nil)
	return e, nil
}

type evaluation struct {
	ctx     context.Context
	fsys    fs.FS
	roots   []string // Windows directories at the top
	plan    *Plan
	dirs    map[string]*listing
	actions map[string]int // path → index in plan.Actions
	hives   map[string]loadedHive
}

type listing struct {
	names []string
	err   error
}

// match is the rule being evaluated.
type match struct {
	rule *Rule
	name string // "pack/rule"
	// hit is called for a matching file in place of planning to quarantine it.
	hit func(path, why string)
}

func (e *evaluation) readDir(dir string) ([]string, error) {
	l := e.dirs[dir]
	if l == nil {
		l = &listing{}
		l.names, l.err = readNames(e.fsys, dir)
		e.dirs[dir] = l
	}
	return l.names, l.err
}

// descend follows the segments of a glob below dir.
func (e *evaluation) descend(dir string, segments []string, m *match) error {
	if err := e.ctx.Err(); err != nil {
		return err
	}
	names, err := e.readDir(dir)
	if err != nil {
		e.problem(dir, m, err)
		return nil
	}
	for _, name := range names {
		if !e.matches(dir, segments[0], name) {
			continue
		}
		p := path.Join(dir, name)
		if !utf8.ValidString(name) {
			e.keep(p, m, nil, "its name is not valid Unicode, so it cannot be named safely")
			continue
		}
		if len(segments) == 1 {
			if err := e.file(p, m); err != nil {
				return err
			}
			continue
		}
		// The entry's own type does not tell a junction from a directory.
		info, err := fs.Lstat(e.fsys, p)
		switch {
		case err != nil:
			e.problem(p, m, err)
		case info.IsDir() && !isOwn(p):
			if err := e.descend(p, segments[1:], m); err != nil {
				return err
			}
		case info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) != 0:
			e.keep(p, m, nil, errLinked.Error())
		}
	}
	return nil
}

func (e *evaluation) matches(dir, segment, name string) bool {
	if matchName(segment, name) {
		return true
	}
	return dir == "." && sameName(segment, windowsName) && slices.Contains(e.roots, name)
}

// file decides about one path whose name matched.
func (e *evaluation) file(p string, m *match) error {
	info, err := fs.Lstat(e.fsys, p)
	if err != nil {
		e.problem(p, m, err)
		return nil
	}
	if !info.Mode().IsRegular() {
		if !info.IsDir() {
			e.keep(p, m, nil, notRegular(info.Mode()).Error())
		}
		return nil
	}
	f, _, err := openRegular(e.fsys, p)
	if err != nil {
		e.problem(p, m, err)
		return nil
	}
	defer f.Close()
	c, err := readContent(e.ctx, f, m.rule.headLength())
	if err != nil {
		if e.ctx.Err() != nil {
			return e.ctx.Err()
		}
		e.problem(p, m, err)
		return nil
	}
	times := timesOf(f, info)
	subject := subject{content: c, modified: times.Modified}
	why, ok := m.rule.Identify.check(&subject)
	if !ok {
		e.keep(p, m, info, "not the kind of file that the rule is about: "+why)
		return nil
	}
	reasons := why
	if e.plan.Policy == FaultyOnly {
		why, ok = m.rule.Faulty.check(&subject)
		if !ok {
			e.keep(p, m, info, "not faulty: "+why)
			return nil
		}
		reasons = strings.Trim(reasons+"; "+why, "; ")
	}
	if reasons == "" {
		reasons = "its name matches"
	}
	if m.hit != nil {
		m.hit(p, reasons)
		return nil
	}
	if i, ok := e.actions[p]; ok {
		a := &e.plan.Actions[i]
		if !slices.Contains(a.Rules, m.name) {
			a.Rules = append(a.Rules, m.name)
		}
		return nil
	}
	e.actions[p] = len(e.plan.Actions)
	e.plan.Actions = append(e.plan.Actions, Action{
		Kind: m.rule.Action, Path: p, Size: c.size, SHA256: c.sha256, Times: times,
		Rules: []string{m.name}, Reason: reasons,
	})
	return nil
}

func (e *evaluation) keep(p string, m *match, info fs.FileInfo, why string) {
	f := Finding{Path: p, Rule: m.name, Why: why}
	if info != nil {
		f.Size, f.Modified = info.Size(), info.ModTime().UTC()
	}
	e.plan.Kept = append(e.plan.Kept, f)
}

func (e *evaluation) problem(p string, m *match, err error) {
	// The path is already in the finding.
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	e.plan.Problems = append(e.plan.Problems, Finding{Path: p, Rule: m.name, Why: err.Error()})
}

// finish sorts the plan and drops near misses of one rule that another took.
func (e *evaluation) finish() {
	p := e.plan
	p.Kept = slices.DeleteFunc(p.Kept, func(f Finding) bool {
		_, taken := e.actions[f.Path]
		return taken
	})
	slices.SortStableFunc(p.Actions, func(a, b Action) int { return strings.Compare(a.Path, b.Path) })
	order := func(a, b Finding) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(a.Rule, b.Rule)
	}
	for _, list := range []*[]Finding{&p.Kept, &p.Problems} {
		slices.SortFunc(*list, order)
		*list = slices.CompactFunc(*list, func(a, b Finding) bool { return a == b })
	}
	for i := range p.Actions {
		slices.Sort(p.Actions[i].Rules)
	}
}

// headLength is how many leading bytes the rule compares.
func (r *Rule) headLength() int {
	n := 8
	for _, c := range []*Conditions{&r.Identify, &r.Faulty} {
		for _, l := range c.LeadingBytes {
			n = max(n, len(l.Bytes))
		}
	}
	return n
}

// explain joins the names of what was expected.
func explain(list []LeadingBytes) string {
	names := make([]string, len(list))
	for i, l := range list {
		names[i] = l.String()
	}
	return strings.Join(names, " or ")
}
