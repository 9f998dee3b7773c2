package boottest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Findings is what other people's programs found on a disk after a boot.
type Findings struct {
	Problems  []string // what is not as it must be
	Runs      []string // quarantine folders
	Logs      map[string][]byte
	Untouched int // files that stayed, compared bit by bit
	Moved     int // files found in quarantine
}

// QuarantineDir and LogDir are where a repair leaves its traces on the Windows volume.
const (
	QuarantineDir = "ProgramData/bootmend/quarantine"
	LogDir        = "ProgramData/bootmend"
)

// Examine opens the disk's Windows volume with dislocker and ntfs-3g and compares it with what was put there. Healed
// says whether the faulty files must be in quarantine, or else be where they were.
func Examine(ctx context.Context, d *WindowsDisk, healed bool) (*Findings, error) {
	f := &Findings{Logs: map[string][]byte{}}
	err := withVolume(ctx, d, func(volume string) error {
		// -n only looks; it fails where chkdsk would have work beyond a dirty flag.
		if out, err := run(ctx, "ntfsfix", "-n", volume); err != nil {
			f.problem("ntfsfix -n: %v", err)
		} else if bytes.Contains(out, []byte("FAILED")) {
			f.problem("ntfsfix -n: %s", out)
		}
		return withNTFS(ctx, volume, true, func(root string) error { return f.examine(d, root, healed) })
	})
	return f, err
}

// withWindows mounts the disk's Windows volume, read-only, for as long as use runs.
func withWindows(ctx context.Context, d *WindowsDisk, use func(root string) error) error {
	return withVolume(ctx, d, func(volume string) error { return withNTFS(ctx, volume, true, use) })
}

// withVolume makes an image of the disk's clear Windows volume for as long as use runs.
func withVolume(ctx context.Context, d *WindowsDisk, use func(volume string) error) error {
	if err := need("dislocker-file", "ntfs-3g", "ntfsfix", "umount"); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(d.Path), "examine")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	volume := filepath.Join(work, "volume")
	if err := openVolume(ctx, d, volume); err != nil {
		return err
	}
	return use(volume)
}

// openVolume writes the clear Windows volume of a disk to a file.
func openVolume(ctx context.Context, d *WindowsDisk, to string) error {
	if d.Options.Plain {
		return cutOut(d.Path, to, d.Start, d.Size)
	}
	locked := to + ".locked"
	defer func() { _ = os.Remove(locked) }()
	if err := cutOut(d.Path, locked, d.Start, d.Size); err != nil {
		return err
	}
	if _, err := run(ctx, "dislocker-file", "-q", "-V", locked, "-p"+d.Password, "--", to); err != nil {
		return fmt.Errorf("the volume no longer opens: %w", err)
	}
	return appendRest(to, locked)
}

func (f *Findings) problem(format string, args ...any) {
	f.Problems = append(f.Problems, fmt.Sprintf(format, args...))
}

func (f *Findings) examine(d *WindowsDisk, root string, healed bool) error {
	entries, err := os.ReadDir(filepath.Join(root, QuarantineDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		f.Runs = append(f.Runs, e.Name())
	}
	known := map[string]bool{}
	for _, name := range d.Known {
		known[name] = true
	}
	for _, file := range d.Files {
		known[file.Path] = true
		if file.Fate == Quarantined && healed {
			f.quarantined(root, file)
			continue
		}
		f.unchanged(root, file)
	}
	return filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case known[rel]:
		case strings.HasPrefix(rel, QuarantineDir+"/") && healed:
		case strings.HasPrefix(rel, LogDir+"/") && healed:
			f.Logs[rel], err = os.ReadFile(name)
			f.keyless(d, rel, f.Logs[rel])
		default:
			f.problem("%s: nobody put this file there", rel)
		}
		return err
	})
}

func (f *Findings) unchanged(root string, file File) {
	name := filepath.Join(root, filepath.FromSlash(file.Path))
	data, err := os.ReadFile(name)
	if err != nil {
		f.problem("%s: %v", file.Path, err)
		return
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		f.problem("%s: %v", file.Path, err)
	case !bytes.Equal(data, file.Data):
		f.problem("%s: contents changed", file.Path)
	case !info.ModTime().Equal(file.Time):
		f.problem("%s: modified %v, was %v", file.Path, info.ModTime().UTC(), file.Time)
	default:
		f.Untouched++
	}
}

// quarantined looks for the file in quarantine, once, with a manifest that describes it.
func (f *Findings) quarantined(root string, file File) {
	if _, err := os.Lstat(filepath.Join(root, filepath.FromSlash(file.Path))); err == nil {
		f.problem("%s: still in its place", file.Path)
	}
	found := 0
	for _, run := range f.Runs {
		moved := File{Path: path.Join(QuarantineDir, run, file.Path+".quarantined"), Time: file.Time, Data: file.Data}
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(moved.Path))); err != nil {
			continue
		}
		found++
		before := f.Untouched
		f.unchanged(root, moved)
		f.Untouched = before
		f.manifest(root, run, file)
	}
	if found != 1 {
		f.problem("%s: %d times in quarantine, want once", file.Path, found)
		return
	}
	f.Moved++
}

// manifest reads the format as section 5 of the design has it, not with the code that wrote it.
func (f *Findings) manifest(root, run string, file File) {
	name := filepath.Join(root, QuarantineDir, run, "manifest.json")
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) { // on a full volume it comes in pieces
		var pieces []string
		pieces, err = filepath.Glob(strings.TrimSuffix(name, ".json") + "/[1-9]")
		for _, piece := range pieces { // in the order of their names
			var part []byte
			if part, err = os.ReadFile(piece); err != nil {
				break
			}
			data = append(data, part...)
		}
	}
	if err != nil {
		f.problem("manifest of %s: %v", run, err)
		return
	}
	var manifest struct {
		Files []struct {
			Path   string `json:"path"`
			Size   int64  `json:"size"`
			SHA256 string `json:"sha256"`
			Rule   string `json:"rule"`
		} `json:"files"`
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		f.problem("manifest of %s: %v", run, err)
		return
	}
	sum := sha256.Sum256(file.Data)
	for _, m := range manifest.Files {
		if strings.EqualFold(strings.ReplaceAll(m.Path, `\`, "/"), file.Path) {
			if m.SHA256 != hex.EncodeToString(sum[:]) || m.Size != int64(len(file.Data)) {
				f.problem("manifest of %s: %s: size %d and hash %s are not the file's", run, file.Path, m.Size, m.SHA256)
			}
			return
		}
	}
	f.problem("manifest of %s does not name %s: %s", run, file.Path, data)
}

var notDigits = regexp.MustCompile(`[^0-9]+`)

// keyless makes sure that no group of the recovery password has got into the text, in whatever spelling.
func (f *Findings) keyless(d *WindowsDisk, name string, text []byte) {
	if leak := LeakedKey(d.Password, text); leak != "" {
		f.problem("%s: holds %s of the recovery password", name, leak)
	}
}

// LeakedKey tells which part of a recovery password occurs in a text, "" for none. Three groups in a row are a leak,
// also without dashes or as numbers; single groups of six digits may be anything.
func LeakedKey(password string, text []byte) string {
	groups := strings.Split(password, "-")
	digits := notDigits.ReplaceAllString(string(text), "")
	for i := 0; i+2 < len(groups); i++ {
		if strings.Contains(digits, groups[i]+groups[i+1]+groups[i+2]) {
			return fmt.Sprintf("groups %d to %d", i+1, i+3)
		}
	}
	return ""
}

// Sum is the SHA-256 of a whole file.
func Sum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func cutOut(from, to string, offset, size int64) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, io.NewSectionReader(in, offset, size))
	return err
}

// appendRest completes a volume that is encrypted only in part: dislocker gives the encrypted part, and behind that the
// disk itself is clear.
func appendRest(clear, volume string) (err error) {
	out, err := os.OpenFile(clear, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	done, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	in, err := os.Open(volume)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	if _, err := in.Seek(done, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}

// elapsed is for the tables: tenths of seconds are all that emulation is good for.
func elapsed(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
