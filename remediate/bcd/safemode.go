package bcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"time"

	"github.com/bootmend/bootmend/remediate"
)

// Places of the store on a system partition: the EFI system partition, and the active partition of a BIOS machine.
var places = [][]string{{"EFI", "Microsoft", "Boot", "BCD"}, {"Boot", "BCD"}}

// ErrNoStore says that a file system holds no boot configuration store.
var ErrNoStore = errors.New("no boot configuration store (BCD) on this partition")

// Find returns the path of the store on a system partition.
func Find(fsys fs.FS) (string, error) {
	for _, place := range places {
		p, err := remediate.Lookup(fsys, place...)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		// The file alone may be missing, of a run that was cut short.
		dir, err := remediate.Lookup(fsys, place[:len(place)-1]...)
		if err == nil && remediate.IsCutShort(fsys, path.Join(dir, "BCD")) {
			return path.Join(dir, "BCD"), nil
		}
	}
	return "", ErrNoStore
}

// markerSchema names the form of a marker.
const markerSchema = "bootmend.safemode/v1"

// markerName is the file beside the store that says that Safe Mode was set here, so that one that somebody else has set
// is never taken away.
const markerName = "bootmend-safemode.json"

const maxMarker = 64 << 10

// Marker says what was set.
type Marker struct {
	Schema      string    `json:"schema"`
	ToolVersion string    `json:"tool_version"`
	Run         string    `json:"run"`
	Time        time.Time `json:"time"`
	Mode        Mode      `json:"mode"`
	Entry       string    `json:"entry"` // GUID with braces
	Description string    `json:"description,omitempty"`
	Kept        string    `json:"kept"` // the store as it was
}

var guid = regexp.MustCompile(`^\{[0-9a-fA-F-]{36}\}$`)

// ReadMarker reads the marker of a system partition; fs.ErrNotExist says that Safe Mode was not set here.
func ReadMarker(fsys fs.FS) (*Marker, error) {
	store, err := Find(fsys)
	if err != nil {
		return nil, err
	}
	name := path.Join(path.Dir(store), markerName)
	info, err := fs.Lstat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxMarker {
		return nil, fmt.Errorf("%s: expected a file of at most %d bytes", name, maxMarker)
	}
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	var m Marker
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := m.Mode.number(); m.Schema != markerSchema || !guid.MatchString(m.Entry) || err != nil {
		return nil, fmt.Errorf("%s: not a marker of %s", name, markerSchema)
	}
	return &m, nil
}

// Change is what was done to a store.
type Change struct {
	Store string // its path on the partition
	Kept  string // the store as it was before
	Entry Entry
	Mode  Mode
	// Changed is false where nothing was to be done.
	Changed bool
}

// load reads the store below root, having mended what a run that was cut short left.
func load(root string) (*Store, string, error) {
	fsys := os.DirFS(root)
	name, err := Find(fsys)
	if err != nil {
		return nil, "", err
	}
	if _, err := remediate.PutBack(root, name); err != nil {
		return nil, "", fmt.Errorf("put %s back: %w", name, err)
	}
	s, err := read(fsys, name)
	return s, name, err
}

func read(fsys fs.FS, name string) (*Store, error) {
	data, logs, err := remediate.ReadHive(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s, err := Parse(data, logs...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// Look reads the default entry of the store on a system partition, and whether it starts in Safe Mode. Nothing is
// written.
func Look(fsys fs.FS) (Entry, bool, error) {
	name, err := Find(fsys)
	if err != nil {
		return Entry{}, false, err
	}
	s, err := read(fsys, name)
	if err != nil {
		return Entry{}, false, err
	}
	e, err := s.Default()
	if err != nil {
		return e, false, err
	}
	set, err := s.SafeBoot(e)
	return e, set, err
}

// SetSafeMode makes the default Windows of the system partition mounted at root start in Safe Mode. The store as it was
// stays beside the new one (see [remediate.ReplaceFile]). Where it was set here before, nothing changes; where somebody
// else set it, the error is ErrOthers.
func SetSafeMode(root string, mode Mode, run remediate.Run) (*Change, error) {
	s, name, err := load(root)
	if err != nil {
		return nil, err
	}
	e, err := s.Default()
	if err != nil {
		return nil, err
	}
	c := &Change{Store: name, Entry: e, Mode: mode}
	if m, err := ReadMarker(os.DirFS(root)); err == nil && m.Entry == e.ID {
		if set, err := s.SafeBoot(e); err != nil || set {
			c.Mode, c.Kept = m.Mode, m.Kept
			return c, err
		}
	}
	if err := s.SetSafeBoot(e, mode, run.Time); err != nil {
		return nil, err
	}
	data, err := s.Bytes()
	if err != nil {
		return nil, err
	}
	// The marker comes first: without the element it does no harm, but the element without it would stay for good.
	c.Kept = remediate.KeptName(name, run)
	marker, err := json.MarshalIndent(Marker{
		Schema: markerSchema, ToolVersion: run.ToolVersion, Run: run.ID, Time: run.Time.UTC(),
		Mode: mode, Entry: e.ID, Description: e.Description, Kept: path.Base(c.Kept),
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := remediate.WriteFile(root, path.Join(path.Dir(name), markerName), append(marker, '\n')); err != nil {
		return nil, fmt.Errorf("write the marker: %w", err)
	}
	if _, err := remediate.ReplaceFile(root, name, data, run); err != nil {
		return nil, err
	}
	c.Changed = true
	return c, verify(root, name, e.ID, mode, true)
}

// UndoSafeMode takes away what SetSafeMode set and nothing else. It returns fs.ErrNotExist where nothing was set here.
func UndoSafeMode(root string, run remediate.Run) (*Change, error) {
	m, err := ReadMarker(os.DirFS(root))
	if err != nil {
		return nil, err
	}
	s, name, err := load(root)
	if err != nil {
		return nil, err
	}
	c := &Change{Store: name, Entry: Entry{m.Entry, m.Description}, Mode: m.Mode}
	run.ID += "undo" // the run that set it has kept a store under its own name
	if c.Changed, err = s.ClearSafeBoot(m.Entry, m.Mode, run.Time); err != nil {
		return nil, err
	}
	if c.Changed {
		data, err := s.Bytes()
		if err != nil {
			return nil, err
		}
		if c.Kept, err = remediate.ReplaceFile(root, name, data, run); err != nil {
			return nil, err
		}
		if err := verify(root, name, m.Entry, m.Mode, false); err != nil {
			return nil, err
		}
	}
	return c, remediate.RemoveFile(root, path.Join(path.Dir(name), markerName))
}

// verify reads the store again.
func verify(root, name, id string, mode Mode, want bool) error {
	s, err := read(os.DirFS(root), name)
	if err != nil {
		return fmt.Errorf("read the boot configuration back: %w", err)
	}
	number, err := mode.number()
	if err != nil {
		return err
	}
	n, set, err := s.safeBoot(id)
	if err == nil && (set != want || set && n != number) {
		err = fmt.Errorf("%s: read back, safeboot is not what was written", name)
	}
	return err
}
