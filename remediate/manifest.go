package remediate

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ManifestSchema names the JSON form of a [Manifest].
const ManifestSchema = "bootmend.quarantine/v1"

const (
	maxManifestSize  = 16 << 20
	maxManifestFiles = 20000
)

// Manifest is the record that lies in a run's quarantine folder. It is written
// before the first file moves and never changed, so it tells what was planned;
// what was done is told by where each file lies (see [FileState]).
type Manifest struct {
	Schema      string          `json:"schema"`
	ToolVersion string          `json:"tool_version"`
	Run         string          `json:"run"` // identifier
	Time        time.Time       `json:"time"`
	Machine     Identity        `json:"machine"`
	Policy      Policy          `json:"policy,omitempty"`
	Packs       []PackRef       `json:"packs,omitempty"`
	Files       []ManifestEntry `json:"files"`
	// Hives are the registry hives that the run edited.
	Hives []ManifestHive `json:"hives,omitempty"`
}

// ManifestHive is one registry hive of a [Manifest].
type ManifestHive struct {
	// Path is the hive, Kept the hive as it was, both relative to the volume.
	Path   string `json:"path"`
	Kept   string `json:"kept"`
	Size   int64  `json:"size"` // of the hive as it was, like the two after it
	SHA256 string `json:"sha256"`
	Times  Times  `json:"times"`
	// Edited is what was put in its place.
	EditedSize   int64             `json:"edited_size"`
	EditedSHA256 string            `json:"edited_sha256"`
	Services     []ManifestService `json:"services"`
}

// ManifestService is a service that was disabled.
type ManifestService struct {
	Service
	Rules  []string `json:"rules"`
	Reason string   `json:"reason"`
}

// ManifestEntry is one file of a [Manifest].
type ManifestEntry struct {
	// Path is where the file was, relative to the volume.
	Path string `json:"path"`
	// Quarantined is where it goes, relative to the manifest: always Path
	// with ".quarantined" behind it.
	Quarantined string   `json:"quarantined"`
	Size        int64    `json:"size"`
	SHA256      string   `json:"sha256"`
	Times       Times    `json:"times"`
	Rules       []string `json:"rules"`
	Reason      string   `json:"reason"`
}

func newManifest(run Run, plan *Plan, actions []Action, edits []*hiveEdit) *Manifest {
	m := &Manifest{
		Schema: ManifestSchema, ToolVersion: run.ToolVersion, Run: run.ID, Time: run.Time.UTC(),
		Machine: run.Machine, Policy: plan.Policy, Packs: plan.Packs, Files: []ManifestEntry{},
	}
	for _, a := range actions {
		m.add(a)
	}
	for _, e := range edits {
		m.Hives = append(m.Hives, e.ManifestHive)
	}
	return m
}

func (m *Manifest) add(a Action) {
	m.Files = append(m.Files, ManifestEntry{
		Path: a.Path, Quarantined: quarantinedName(a.Path), Size: a.Size, SHA256: a.SHA256,
		Times: a.Times, Rules: a.Rules, Reason: a.Reason,
	})
}

func (m *Manifest) hive(p string) *ManifestHive {
	for i := range m.Hives {
		if m.Hives[i].Path == p {
			return &m.Hives[i]
		}
	}
	return nil
}

func (m *Manifest) entry(p string) *ManifestEntry {
	for i := range m.Files {
		if m.Files[i].Path == p {
			return &m.Files[i]
		}
	}
	return nil
}

func (m *Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseManifest reads a manifest and refuses one whose paths could lead out of
// the volume or out of its own folder. Fields that it does not know are ignored:
// a newer program may have written them.
func ParseManifest(data []byte) (*Manifest, error) {
	if len(data) > maxManifestSize {
		return nil, fmt.Errorf("manifest: larger than %d bytes", maxManifestSize)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("manifest: not valid JSON: %w", err)
	}
	if m.Schema != ManifestSchema {
		return nil, fmt.Errorf("manifest: schema %q is not supported: expected %s", m.Schema, ManifestSchema)
	}
	if len(m.Files) > maxManifestFiles {
		return nil, fmt.Errorf("manifest: more than %d files", maxManifestFiles)
	}
	seen := make(map[string]bool, len(m.Files))
	for i := range m.Files {
		e := &m.Files[i]
		if err := checkVolumePath(e.Path); err != nil {
			return nil, fmt.Errorf("manifest: file %d: %w", i+1, err)
		}
		if seen[e.Path] {
			return nil, fmt.Errorf("manifest: file %d: path %q appears twice", i+1, e.Path)
		}
		seen[e.Path] = true
		if e.Quarantined != quarantinedName(e.Path) {
			return nil, fmt.Errorf("manifest: file %d: quarantined as %q, expected %q", i+1, e.Quarantined, quarantinedName(e.Path))
		}
		if b, err := hex.DecodeString(e.SHA256); err != nil || len(b) != 32 || e.SHA256 != strings.ToLower(e.SHA256) {
			return nil, fmt.Errorf("manifest: file %d: sha256 is not 64 lower-case hexadecimal digits", i+1)
		}
		if e.Size < 0 {
			return nil, fmt.Errorf("manifest: file %d: negative size", i+1)
		}
	}
	return &m, m.checkHives()
}

// checkHives does for hives what ParseManifest does for files.
func (m *Manifest) checkHives() error {
	for i, h := range m.Hives {
		if err := checkVolumePath(h.Path); err != nil {
			return fmt.Errorf("manifest: hive %d: %w", i+1, err)
		}
		if h.Kept != keptName(h.Path, m.Run) {
			return fmt.Errorf("manifest: hive %d: kept as %q, expected %q", i+1, h.Kept, keptName(h.Path, m.Run))
		}
		for _, s := range h.Services {
			if len(s.Starts) == 0 || len(s.Starts) > 10 || s.Name == "" {
				return fmt.Errorf("manifest: hive %d: service %q with %d start types", i+1, s.Name, len(s.Starts))
			}
		}
	}
	return nil
}

// checkVolumePath refuses a path that is not a plain one below the volume, on any
// platform that may read it.
func checkVolumePath(p string) error {
	if !fs.ValidPath(p) || p == "." || strings.ContainsAny(p, "\\\x00") || !filepath.IsLocal(filepath.FromSlash(p)) {
		return fmt.Errorf("path %q does not lie on the volume", p)
	}
	if strings.Contains(p, ":") {
		return fmt.Errorf("path %q holds a colon, which no Windows name has", p)
	}
	return nil
}

// readManifest reads the manifest of a run directory, whole or in pieces.
func readManifest(fsys fs.FS, runDir string) (*Manifest, error) {
	files, err := manifestFiles(fsys, runDir)
	if err != nil {
		return nil, err
	}
	var data []byte
	for _, name := range files {
		part, err := readRegular(fsys, name, maxManifestSize+1-int64(len(data)))
		if err != nil {
			return nil, err
		}
		data = append(data, part...)
	}
	return ParseManifest(data)
}

// manifestFiles are the files that the manifest of a run directory is in: one, or its pieces in order.
func manifestFiles(fsys fs.FS, runDir string) ([]string, error) {
	whole := manifestPath(runDir)
	dir := path.Join(runDir, piecesDir)
	if _, err := fs.Lstat(fsys, whole); !isNotExist(err) || !isRealDir(fsys, dir) {
		return []string{whole}, nil // what is wrong with it, its reader finds
	}
	names, err := readNames(fsys, dir)
	if err != nil {
		return nil, err
	}
	files := make([]string, len(names))
	for i := range files {
		files[i] = path.Join(dir, strconv.Itoa(i+1)) // a name that is missing is one that is too many
	}
	return files, nil
}

// readRegular reads up to limit bytes of a regular file.
func readRegular(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, _, err := openRegular(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	return data, nil
}

// isNotExist also covers a path one of whose directories is missing or a file.
func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// splitDir splits a slash path into the parts of its directory and its name.
func splitDir(p string) (dirs []string, name string) {
	dir, name := path.Split(p)
	if dir = strings.Trim(dir, "/"); dir != "" {
		dirs = strings.Split(dir, "/")
	}
	return dirs, name
}
