package remediate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrBeyondRadius says that a plan reaches beyond the blast radius of a rule pack and that nobody has agreed to it,
// so nothing was written.
var ErrBeyondRadius = errors.New("the plan reaches beyond the blast radius of a rule pack")

// DefaultMaxFiles is how many files of one machine a pack may take that does not say. An incident takes a handful;
// a glob that is too wide takes hundreds.
const DefaultMaxFiles = 32

// defaultPaths are the folders that a pack may touch that does not say: where Windows keeps drivers and programs,
// and not what people have written.
var defaultPaths = []string{"Windows", "Program Files", "Program Files (x86)", "ProgramData"}

// BlastRadius bounds what a rule pack may do to one machine. What is beyond is done only after a person agreed.
type BlastRadius struct {
	// MaxFiles is how many files of one machine the pack may take; a service that it
	// disables counts as one.
	MaxFiles int `json:"max_files"`
	// Paths are the folders below which they may lie, slash-separated; a first segment "Windows" stands for the
	// Windows directory of the volume.
	Paths []string `json:"paths"`
}

// Beyond is what a plan asks for beyond the blast radius of one rule pack.
type Beyond struct {
	Pack string `json:"pack"`
	// Files counts what the pack would take on this machine, MaxFiles what it may.
	Files    int `json:"files"`
	MaxFiles int `json:"max_files"`
	// Outside are the paths that lie in none of the pack's folders, which are Paths.
	Outside []string `json:"outside,omitempty"`
	Paths   []string `json:"paths"`
}

// String says it in one sentence.
func (b Beyond) String() string {
	var parts []string
	if b.Files > b.MaxFiles {
		parts = append(parts, fmt.Sprintf("wants %s of this machine where at most %s are allowed", plural(b.Files, "file"), groupDigits(int64(b.MaxFiles))))
	}
	if n := len(b.Outside); n > 0 {
		parts = append(parts, fmt.Sprintf("wants %s outside of %s, such as %s", plural(n, "file"), strings.Join(b.Paths, ", "), Printable(b.Outside[0])))
	}
	return fmt.Sprintf("rule pack %s %s", b.Pack, strings.Join(parts, ", and "))
}

// Measure compares the plan with the blast radius of each pack. The radius is that of a machine: earlier counts, by
// pack, the files that its other volumes have given already.
func (p *Plan) Measure(packs []*Pack, earlier map[string]int) {
	p.Beyond = nil
	for _, pack := range packs {
		b := Beyond{Pack: pack.ID, Files: earlier[pack.ID], MaxFiles: pack.BlastRadius.MaxFiles, Paths: pack.BlastRadius.Paths}
		taken := 0
		for i := range p.Actions {
			if !p.Actions[i].of(pack.ID) {
				continue
			}
			taken++
			if p.Actions[i].Kind == ActionQuarantine && !pack.BlastRadius.covers(p.Actions[i].Path, p.roots) {
				b.Outside = append(b.Outside, p.Actions[i].Path)
			}
		}
		if b.Files += taken; taken > 0 && (b.Files > b.MaxFiles || len(b.Outside) > 0) {
			p.Beyond = append(p.Beyond, b)
		}
	}
}

// Taken counts the plan's actions by pack, for [Plan.Measure] of the machine's next volume.
func (p *Plan) Taken() map[string]int {
	counts := make(map[string]int)
	for _, pack := range p.Packs {
		for i := range p.Actions {
			if p.Actions[i].of(pack.ID) {
				counts[pack.ID]++
			}
		}
	}
	return counts
}

// of reports whether a rule of the pack asks for the action.
func (a *Action) of(pack string) bool {
	return slices.ContainsFunc(a.Rules, func(rule string) bool {
		id, _, _ := strings.Cut(rule, "/")
		return id == pack
	})
}

// covers reports whether a path of a volume lies in one of the folders.
func (r BlastRadius) covers(p string, roots []string) bool {
	segments := strings.Split(p, "/")
	return slices.ContainsFunc(r.Paths, func(dir string) bool {
		prefix := strings.Split(dir, "/")
		if len(segments) <= len(prefix) {
			return false
		}
		for i, s := range prefix {
			if !sameName(s, segments[i]) && (i > 0 || !sameName(s, windowsName) || !slices.Contains(roots, segments[i])) {
				return false
			}
		}
		return true
	})
}

// reaches reports whether a glob can match anything in one of the folders.
func (r BlastRadius) reaches(glob []string) bool {
	return slices.ContainsFunc(r.Paths, func(dir string) bool {
		prefix := strings.Split(dir, "/")
		if len(glob) <= len(prefix) {
			return false
		}
		for i, s := range prefix {
			if !matchName(glob[i], s) {
				return false
			}
		}
		return true
	})
}
