package remediate

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxNeighbours bounds the other names that a trial tells of one folder.
const maxNeighbours = 10

// Trial is what rule packs would do to a tree, with more about what they would not do than a [Plan] has. It is for
// those who write packs.
type Trial struct {
	Windows *Windows `json:"windows,omitempty"` // nil where the tree holds no Windows
	Plan    *Plan    `json:"plan"`
	// NearMisses are, beside the plan's own, names and folders that a rule just misses.
	NearMisses []Finding `json:"near_misses,omitempty"`
	// Notes are about files that are taken although the rule spells their path differently.
	Notes []Finding `json:"notes,omitempty"`
}

// Try evaluates rule packs as [Evaluate] does, and tells why each near miss is not a hit.
func Try(ctx context.Context, fsys fs.FS, packs []*Pack, policy Policy) (*Trial, error) {
	e, err := evaluate(ctx, fsys, packs, policy)
	if err != nil {
		return nil, err
	}
	t := &Trial{Plan: e.plan}
	if t.Windows, err = FindWindows(fsys); err != nil {
		t.Windows = nil // the packs can be tried on a part of a tree too
	}
	for _, pack := range packs {
		for i := range pack.Rules {
			r := &pack.Rules[i]
			if len(r.segments) == 0 {
				continue
			}
			t.missed(e, ".", r.segments, &match{rule: r, name: pack.ID + "/" + r.ID})
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
	}
	for i := range e.plan.Actions {
		t.noteSpelling(&e.plan.Actions[i], packs)
	}
	return t, nil
}

// missed looks again where the rule looked, for what it did not take.
func (t *Trial) missed(e *evaluation, dir string, segments []string, m *match) {
	names, err := e.readDir(dir)
	if err != nil {
		return // one of the plan's problems
	}
	last := len(segments) == 1
	var others []string
	hit := false
	for _, name := range names {
		switch {
		case !e.matches(dir, segments[0], name):
			if utf8.ValidString(name) {
				others = append(others, name)
			}
			continue
		case last:
			hit = true
			continue
		}
		p := path.Join(dir, name)
		if isRealDir(e.fsys, p) && !isOwn(p) {
			hit = true
			t.missed(e, p, segments[1:], m)
		} else if info, err := fs.Lstat(e.fsys, p); err == nil && info.Mode().IsRegular() {
			t.miss(p, m, fmt.Sprintf("is a file, the rule goes on with a folder of this name: %s", strings.Join(segments, "/")))
		}
	}
	where := Printable(dir)
	if dir == "." {
		where = "the top folder"
	}
	if !hit {
		what := "file"
		if !last {
			what = "folder"
		}
		t.miss(dir, m, fmt.Sprintf("%s has no %s %s", where, what, segments[0]))
	}
	if !last {
		return
	}
	slices.SortStableFunc(others, func(a, b string) int {
		return cmp.Or(cmp.Compare(likeness(segments[0], b), likeness(segments[0], a)), cmp.Compare(a, b))
	})
	for i, name := range others {
		if i == maxNeighbours {
			t.miss(dir, m, fmt.Sprintf("%s more that are not %s", plural(len(others)-i, "name"), segments[0]))
			break
		}
		t.miss(path.Join(dir, name), m, fmt.Sprintf("its name is not %s", segments[0]))
	}
}

func (t *Trial) miss(p string, m *match, why string) {
	t.NearMisses = append(t.NearMisses, Finding{Path: p, Rule: m.name, Why: why})
}

// likeness is how much a name looks like a pattern: what they have in common at the beginning and at the end.
func likeness(pattern, name string) int {
	p, n := []rune(foldName(pattern)), []rune(foldName(name))
	common := 0
	for common < len(p) && common < len(n) && p[common] == n[common] {
		common++
	}
	for i := 1; i <= len(p) && i <= len(n) && p[len(p)-i] == n[len(n)-i]; i++ {
		common++
	}
	return common
}

// noteSpelling tells of a path that another file system would not have matched.
func (t *Trial) noteSpelling(a *Action, packs []*Pack) {
	segments := strings.Split(a.Path, "/")
	for _, pack := range packs {
		for i := range pack.Rules {
			r := &pack.Rules[i]
			name := pack.ID + "/" + r.ID
			if !slices.Contains(a.Rules, name) || len(r.segments) != len(segments) {
				continue
			}
			for j, s := range segments {
				if matchExactly(r.segments[j], s) {
					continue
				}
				why := fmt.Sprintf("taken although the rule spells it %s: Windows makes no difference between capitals and small letters", r.segments[j])
				if j == 0 && !matchName(r.segments[0], s) {
					why = "taken because this is the volume's Windows folder, whatever its name"
				}
				t.Notes = append(t.Notes, Finding{Path: a.Path, Rule: name, Why: why})
				break
			}
		}
	}
}
