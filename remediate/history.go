package remediate

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// FileState says where a file of a manifest lies now.
type FileState string

const (
	// StateQuarantined is a file that lies in the quarantine.
	StateQuarantined FileState = "quarantined"
	// StateInPlace is a file that is not in the quarantine while something
	// lies at its old place: it was never moved, or was restored.
	StateInPlace FileState = "in place"
	// StateBoth is a file in the quarantine while something lies at its old
	// place too, as after the vendor brought a corrected one.
	StateBoth FileState = "replaced"
	// StateElsewhere is a file that a later run moved, after this one was cut
	// short.
	StateElsewhere FileState = "moved by another run"
	// StateMissing is a file that lies at none of these places.
	StateMissing FileState = "missing"
)

// Record is one run found in a quarantine.
type Record struct {
	// Dir is the folder of the run on the volume.
	Dir string `json:"dir"`
	// Manifest is nil where it could not be read; Problem then says why.
	Manifest *Manifest `json:"manifest,omitempty"`
	Problem  string    `json:"problem,omitempty"`
	// States has one entry for each of Manifest.Files.
	States []FileState `json:"states,omitempty"`
	// Disabled counts the services of Manifest.Hives that are disabled now.
	Disabled int `json:"disabled,omitempty"`
}

// Moved counts the files of the run that lie in the quarantine.
func (r *Record) Moved() int {
	n := 0
	for _, s := range r.States {
		if s == StateQuarantined || s == StateBoth {
			n++
		}
	}
	return n
}

// Runs lists what earlier runs left on a volume, the oldest first. A volume that
// was never healed has none.
func Runs(fsys fs.FS) ([]Record, error) {
	bases, err := quarantines(fsys)
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, base := range bases {
		found, err := runsIn(fsys, base)
		if err != nil {
			return nil, fmt.Errorf("look into the quarantine: %w", err)
		}
		records = append(records, found...)
	}
	slices.SortFunc(records, func(a, b Record) int { return strings.Compare(path.Base(a.Dir), path.Base(b.Dir)) })
	for i := range records {
		for j, s := range records[i].States {
			if s == StateMissing && heldElsewhere(records, &records[i], j) != nil {
				records[i].States[j] = StateElsewhere
			}
		}
	}
	return records, nil
}

func runsIn(fsys fs.FS, base string) ([]Record, error) {
	names, err := readNames(fsys, base)
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, name := range names {
		if !runNamePattern.MatchString(name) || !isRealDir(fsys, path.Join(base, name)) {
			continue
		}
		r := Record{Dir: path.Join(base, name)}
		if r.Manifest, err = readManifest(fsys, r.Dir); err != nil {
			r.Problem = err.Error()
		} else {
			for i := range r.Manifest.Files {
				r.States = append(r.States, stateOf(fsys, r.Dir, &r.Manifest.Files[i]))
			}
			for i := range r.Manifest.Hives {
				n, err := r.Manifest.Hives[i].stillDisabled(fsys)
				if err != nil {
					r.Problem = err.Error()
				}
				r.Disabled += n
			}
		}
		records = append(records, r)
	}
	return records, nil
}

// heldElsewhere finds the run, other than r, that holds the i-th file of r.
func heldElsewhere(records []Record, r *Record, i int) *Record {
	e := &r.Manifest.Files[i]
	for k := range records {
		other := &records[k]
		if other.Dir == r.Dir || other.Manifest == nil {
			continue
		}
		for j := range other.Manifest.Files {
			f := &other.Manifest.Files[j]
			if f.Path == e.Path && f.SHA256 == e.SHA256 && (other.States[j] == StateQuarantined || other.States[j] == StateBoth) {
				return other
			}
		}
	}
	return nil
}

// Healed lists the earlier runs whose work still holds, so that a machine booted again can say what was done.
func Healed(fsys fs.FS) ([]Record, error) {
	records, err := Runs(fsys)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(records, func(r Record) bool { return r.Moved()+r.Disabled == 0 }), nil
}

func stateOf(fsys fs.FS, runDir string, e *ManifestEntry) FileState {
	in := present(fsys, path.Join(runDir, e.Quarantined))
	old := present(fsys, e.Path)
	switch {
	case in && old && sameFile(fsys, path.Join(runDir, e.Quarantined), e.Path):
		return StateInPlace // a move that was cut short: the file has both names
	case in && old:
		return StateBoth
	case in:
		return StateQuarantined
	case old:
		return StateInPlace
	}
	return StateMissing
}

// present reports whether anything lies at p, in any case, through directories
// only.
func present(fsys fs.FS, p string) bool {
	dirs, name := splitDir(p)
	_, _, err := lookupPath(fsys, ".", append(dirs, name)...)
	return err == nil
}
