// Package verify checks finished media against the manifest that was written onto them: [Media] takes an image, a
// stick or a disc, [Folder] a mounted one.
//
// The manifest says what the media were made of, and nothing protects it: this finds a stick that forgets, a copy
// that failed and a file that was replaced, not somebody who rewrites manifest and files together. What firmware
// checks before it starts anything is checked as well, whatever the manifest says: the signatures of shim, GRUB and
// kernel.
package verify

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
	"path"
	"slices"
	"strings"
	"time"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/fat"
	"github.com/bootmend/bootmend/image/iso"
	"github.com/bootmend/bootmend/image/usb"
)

// ErrNoMedia says that something is not media of ours at all.
var ErrNoMedia = errors.New("no bootmend media: neither a stick nor an ISO image with a manifest")

// State is what became of a file since the media were made.
type State string

// The states. Missing and Changed are damage. Replaced is a file that a person may replace, with a date other than the
// media's. Added is harmless, unless it lies where firmware or GRUB look.
const (
	Missing  State = "missing"
	Changed  State = "changed"
	Replaced State = "replaced"
	Added    State = "added"
)

// Finding is a file that is not as it was made.
type Finding struct {
	Path  string `json:"path"`
	State State  `json:"state"`
	What  string `json:"what"` // what the file is: "log", "keys", "boot file", ...
	// Problem says why the media must not be used as they are; empty where they may.
	Problem string `json:"problem,omitempty"`
}

// Signature is what firmware or shim checks of a program.
type Signature struct {
	Path    string   `json:"path"`
	Signers []string `json:"signers,omitempty"`
	// TrustedBy is who vouches for the signers, and is trusted where it matters.
	TrustedBy []string `json:"trusted_by,omitempty"`
	Problem   string   `json:"problem,omitempty"`
}

// Report is the result.
type Report struct {
	Kind       string      `json:"kind"` // "stick", "iso" or "folder"
	WindowsPE  bool        `json:"windows_pe"`
	MediaID    string      `json:"media_id"`
	Made       time.Time   `json:"made"`
	OK         bool        `json:"ok"`
	Checked    int         `json:"checked"` // files and boot code compared with the manifest
	Findings   []Finding   `json:"findings"`
	Signatures []Signature `json:"signatures"`
	// Notes say what could not be looked at.
	Notes []string `json:"notes,omitempty"`
}

// Media checks an image, stick or disc of size bytes. Damage is in the report; an error is what keeps it from being
// made. progress may be nil.
func Media(ctx context.Context, r io.ReaderAt, size int64, progress func(done, total int64)) (*Report, error) {
	files, err := iso.Read(r, size)
	kind, sector := "iso", 512
	if errors.Is(err, iso.ErrNoISO) {
		var stick *usb.Stick
		kind = "stick"
		if stick, err = usb.Open(r, size); err == nil {
			files, sector = stick.Files, stick.SectorSize
		}
	}
	switch {
	case errors.Is(err, usb.ErrNoStick):
		return nil, ErrNoMedia
	case err != nil:
		return nil, err
	}
	c := newCheck(ctx, kind, files, r, progress)
	c.noBIOS = sector != 512
	return c.run()
}

// Folder checks media that are mounted. The boot code outside of files can't be seen there.
func Folder(ctx context.Context, fsys fs.FS, progress func(done, total int64)) (*Report, error) {
	var files []media.File
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && name != "." && role("/"+name) == system: // Windows keeps these to itself
			return fs.SkipDir
		case err != nil || !d.Type().IsRegular():
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files = append(files, media.File{Path: "/" + name, Size: info.Size(), ModTime: info.ModTime(),
			Open: func() (io.ReadCloser, error) { return fsys.Open(name) }})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return newCheck(ctx, "folder", files, nil, progress).run()
}

// check is a check being made.
type check struct {
	ctx         context.Context
	device      io.ReaderAt // nil: none is at hand
	noBIOS      bool        // there is no boot code outside of files on such a device
	files       map[string]media.File
	order       []string // folded paths, as they lie on the media
	manifest    media.Manifest
	report      *Report
	programs    map[string][]byte // by path, those whose signatures matter
	progress    func(done, total int64)
	done, total int64
}

func newCheck(ctx context.Context, kind string, files []media.File, device io.ReaderAt, progress func(done, total int64)) *check {
	c := &check{
		ctx: ctx, device: device, files: map[string]media.File{}, progress: progress, programs: map[string][]byte{},
		report: &Report{Kind: kind, Findings: []Finding{}, Signatures: []Signature{}},
	}
	for _, f := range files {
		c.files[fold(f.Path)] = f
		c.order = append(c.order, fold(f.Path))
	}
	return c
}

// fold makes paths comparable as FAT does.
func fold(path string) string { return strings.ToUpper(path) }

func (c *check) run() (*Report, error) {
	if err := c.readManifest(); err != nil {
		return nil, err
	}
	c.report.MediaID, c.report.Made = c.manifest.Media, c.manifest.Time
	c.report.WindowsPE = slices.ContainsFunc(c.manifest.Files, func(f media.ManifestFile) bool {
		return strings.EqualFold(path.Base(f.Path), path.Base(media.PathWIM)) // on a boot server it lies in the root
	})
	known := map[string]bool{fold(media.PathManifest): true}
	for _, want := range c.manifest.Files {
		c.total += want.Size
	}
	for _, want := range c.manifest.Files {
		known[fold(want.Path)] = true
		if err := c.file(want); err != nil {
			return nil, err
		}
	}
	for _, key := range c.order {
		if !known[key] {
			c.added(c.files[key])
		}
	}
	if err := c.bootCode(); err != nil {
		return nil, err
	}
	c.signatures()
	r := c.report
	r.OK = !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Problem != "" }) &&
		!slices.ContainsFunc(r.Signatures, func(s Signature) bool { return s.Problem != "" })
	return r, nil
}

const maxManifest = 16 << 20

// readManifest reads the manifest, and makes sure that nothing in it fell over, not even a blank.
func (c *check) readManifest() error {
	f, ok := c.files[fold(media.PathManifest)]
	if !ok {
		return fmt.Errorf("%w: %s is missing", ErrNoMedia, media.PathManifest)
	}
	data, err := c.content(f, maxManifest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &c.manifest); err != nil {
		return fmt.Errorf("%s is damaged: %w", media.PathManifest, err)
	}
	if again, err := c.manifest.Marshal(); err != nil || !bytes.Equal(again, data) {
		c.problem(media.PathManifest, Changed, "it is not as it was written")
	}
	if c.manifest.Schema != 1 {
		return fmt.Errorf("%s: schema %d, this program reads 1: use the program that made the media, or a newer one", media.PathManifest, c.manifest.Schema)
	}
	return nil
}

func (c *check) problem(path string, s State, problem string) {
	c.report.Findings = append(c.report.Findings, Finding{path, s, role(path), problem})
}

// content reads a small file.
func (c *check) content(f media.File, limit int64) ([]byte, error) {
	if f.Size > limit {
		return nil, fmt.Errorf("%s: %d bytes, expected at most %d", f.Path, f.Size, limit)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return data, nil
}

// file compares a file with its entry in the manifest.
func (c *check) file(want media.ManifestFile) error {
	c.report.Checked++
	f, ok := c.files[fold(want.Path)]
	if !ok {
		c.problem(want.Path, Missing, "the media were made with it")
		return nil
	}
	same, err := c.same(f, want)
	switch {
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case err != nil:
		c.problem(want.Path, Changed, "it cannot be read: "+err.Error())
	case same:
	case len(want.Inside) > 0:
		before := len(c.report.Findings)
		if err := c.inside(f, want); err != nil {
			return err
		}
		// A log explains other bytes in the file system, nothing else does.
		if len(c.report.Findings) == before {
			c.problem(want.Path, Changed, "its file system is not as it was made")
		}
	case replaceable(want.Path) && c.report.Kind != "iso" && !sameTime(f.ModTime, c.manifest.Time):
		c.report.Findings = append(c.report.Findings, Finding{want.Path, Replaced, role(want.Path), ""})
	default:
		c.problem(want.Path, Changed, "its content is not what the media were made with")
	}
	// On an ISO image these two lie in the EFI system partition.
	if same && len(want.Inside) > 0 {
		return c.inside(f, want)
	}
	return nil
}

// sameTime allows for what FAT makes of a time: steps of two seconds, and the hours, halves and quarters
// of a time zone where a system takes it for local time.
func sameTime(a, b time.Time) bool {
	const zones, step = 15 * time.Minute, 2 * time.Second
	d := a.Sub(b).Abs()
	return d < 15*time.Hour && (d%zones <= step || d%zones >= zones-step)
}

// maxProgram is the largest program whose signature is looked at.
const maxProgram = 128 << 20

func (c *check) same(f media.File, want media.ManifestFile) (bool, error) {
	c.advance(0)
	r, err := f.Open()
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	h := sha256.New()
	var keep *bytes.Buffer
	if isProgram(want.Path) && f.Size <= maxProgram {
		keep = bytes.NewBuffer(make([]byte, 0, f.Size))
	}
	buf := make([]byte, 256<<10)
	var size int64
	for {
		if err := c.ctx.Err(); err != nil {
			return false, err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if keep != nil {
			keep.Write(buf[:n])
		}
		size += int64(n)
		c.advance(int64(n))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, err
		}
	}
	if keep != nil {
		c.programs[want.Path] = keep.Bytes()
	}
	return size == want.Size && hex.EncodeToString(h.Sum(nil)) == want.SHA256, nil
}

func (c *check) advance(n int64) {
	c.done += n
	if c.progress != nil && c.total > 0 {
		c.progress(min(c.done, c.total), c.total)
	}
}

// inside looks into a file that is a FAT volume, to which logs may have come.
func (c *check) inside(f media.File, want media.ManifestFile) error {
	r, err := f.Open()
	if err != nil {
		c.problem(want.Path, Changed, "it cannot be read: "+err.Error())
		return nil
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	at, ok := r.(io.ReaderAt)
	if !ok {
		c.problem(want.Path, Changed, "its content is not what the media were made with")
		return nil
	}
	volume, err := fat.Read(at, f.Size)
	if err != nil {
		c.problem(want.Path, Changed, err.Error())
		return nil
	}
	outer := *c
	defer func() { c.files, c.order = outer.files, outer.order }()
	c.files, c.order = map[string]media.File{}, nil
	for _, e := range volume.Entries {
		if !e.Dir {
			name := path.Join(want.Path, e.Path)
			c.files[fold(name)] = media.File{Path: name, Size: e.Size, ModTime: e.ModTime, Open: e.Open}
			c.order = append(c.order, fold(name))
		}
	}
	known := map[string]bool{}
	for _, w := range want.Inside {
		w.Path = path.Join(want.Path, w.Path)
		known[fold(w.Path)] = true
		c.total += w.Size
		if err := c.file(w); err != nil {
			return err
		}
	}
	for _, key := range c.order {
		if !known[key] {
			c.added(c.files[key])
		}
	}
	return nil
}

func (c *check) added(f media.File) {
	what, problem := role(f.Path), ""
	switch {
	case what == bootFile && strings.HasPrefix(fold(f.Path), "/BOOTMEND/"):
		what = other // nothing looks for it there
	case what == bootFile:
		problem = "it lies where firmware or GRUB look, and the media were made without it"
	}
	c.report.Findings = append(c.report.Findings, Finding{f.Path, Added, what, problem})
}

// bootCode compares what lies outside of files.
func (c *check) bootCode() error {
	if c.device == nil {
		if len(c.manifest.Boot) > 0 {
			c.report.Notes = append(c.report.Notes, "what a BIOS starts lies outside of files and was not looked at: name the stick itself to check it")
		}
		return nil
	}
	if c.noBIOS {
		c.report.Notes = append(c.report.Notes, "no BIOS starts from a stick with sectors of 4096 bytes; UEFI does")
		return nil
	}
	for _, want := range c.manifest.Boot {
		if want.Size < 0 || want.Size > 16<<20 || want.Offset < 0 {
			return fmt.Errorf("%s is damaged: %s of %d bytes at %d", media.PathManifest, want.Name, want.Size, want.Offset)
		}
		c.report.Checked++
		b := make([]byte, want.Size)
		if _, err := c.device.ReadAt(b, want.Offset); err != nil && !errors.Is(err, io.EOF) {
			c.problem(want.Name, Changed, "it cannot be read: "+err.Error())
			continue
		}
		if media.NewBootCode(want.Name, want.Offset, b).SHA256 != want.SHA256 {
			c.report.Findings = append(c.report.Findings, Finding{want.Name, Changed, bootFile, "firmware does not start these media as they were made"})
		}
	}
	return nil
}
