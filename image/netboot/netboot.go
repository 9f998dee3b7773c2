// Package netboot makes the folder of a boot server: shim, the network builds of GRUB, kernel and initramfs, and
// configurations to paste into the servers that a site has.
//
// [Write] makes the folder, [Load] the same in memory, for a server of our own. The servers are packages tftp and
// relay.
//
// The names are not free: shim asks for grubx64.efi beside itself, and the signed GRUB for /grub/grub.cfg of the server
// that it came from, so that the folder must be the root of what the server gives out. UEFI HTTP boot takes a disc, which
// is one file with all that is needed.
package netboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/iso"
)

// Info says what Write made.
type Info struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	MediaID string `json:"media_id"`
	Files   int    `json:"files"`
	// HasVault is set where sealed recovery keys are among the files.
	HasVault bool `json:"has_vault"`
}

// ErrNotOurs is the refusal to replace a folder that holds anything else.
var ErrNotOurs = errors.New("there is a folder with other files")

// Write makes the folder dir, with snippets that name server. It appears whole or not at all; a folder that Write made
// before is replaced. progress may be nil.
func Write(ctx context.Context, dir string, spec media.Spec, server netip.Addr, progress func(done, total int64)) (Info, error) {
	dir = filepath.Clean(dir)
	if err := Replaceable(dir); err != nil {
		return Info{}, err
	}
	tree, err := newTree(ctx, spec)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", dir, err)
	}
	snippets, err := snippets(dir, server, tree)
	if err != nil {
		return Info{}, err
	}
	return writeTree(ctx, dir, tree, snippets, progress)
}

// WriteWindowsPE is Write for files that start Windows PE, from [media.WindowsPENetworkTree].
func WriteWindowsPE(ctx context.Context, dir string, tree *media.Tree, progress func(done, total int64)) (Info, error) {
	dir = filepath.Clean(dir)
	if err := Replaceable(dir); err != nil {
		return Info{}, err
	}
	return writeTree(ctx, dir, tree, nil, progress)
}

func writeTree(ctx context.Context, dir string, tree *media.Tree, snippets []media.File, progress func(done, total int64)) (Info, error) {
	files := slices.Concat(tree.Files, snippets)
	info := Info{Path: dir, MediaID: tree.ID, Files: len(files), HasVault: tree.HasVault}
	for _, f := range files {
		info.Size += f.Size
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*.part")
	if err != nil {
		return Info{}, fmt.Errorf("%s: cannot be created: %w: choose a folder that exists and that you may write to", dir, reason(err))
	}
	defer func() { _ = os.RemoveAll(temp) }() // gone already if all went well
	var done int64
	for _, f := range files {
		if err := writeFile(ctx, temp, f); err != nil {
			return Info{}, fmt.Errorf("%s: %w", dir, err)
		}
		if done += f.Size; progress != nil {
			progress(done, info.Size)
		}
	}
	// Boot servers run as users of their own.
	if err := os.Chmod(temp, 0o755); err != nil {
		return Info{}, err
	}
	return info, replace(temp, dir)
}

// newTree is the folder with the disc that UEFI HTTP boot takes. Firmware would start shim from a web server too, but the
// GRUB that distributions sign does not find its files there.
func newTree(ctx context.Context, spec media.Spec) (*media.Tree, error) {
	tree, err := spec.NetworkTree(ctx)
	if err != nil {
		return nil, err
	}
	remote, err := spec.RemoteTree(ctx)
	if err != nil {
		return nil, err
	}
	disc, err := iso.Bytes(ctx, remote)
	if err != nil {
		return nil, err
	}
	return tree, tree.Add(ctx, media.FromBytes(media.PathNetDisc, disc))
}

func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Replaceable says what keeps Write from making dir: it lets nothing be lost that did not come from here. The error is
// [ErrNotOurs], or that of reading dir.
func Replaceable(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return nil
	case err != nil:
		return fmt.Errorf("%s: cannot be a folder: %w", dir, reason(err))
	}
	if _, err := os.Stat(filepath.Join(dir, media.PathManifest)); err != nil {
		return fmt.Errorf("%s: %w: name a new one", dir, ErrNotOurs)
	}
	return nil
}

// replace gives the finished folder its name. What had it before is kept until then.
func replace(temp, dir string) error {
	old := temp + ".old"
	switch err := os.Rename(dir, old); {
	case errors.Is(err, fs.ErrNotExist):
		return os.Rename(temp, dir)
	case err != nil:
		return err
	}
	if err := os.Rename(temp, dir); err != nil {
		return errors.Join(err, os.Rename(old, dir))
	}
	return os.RemoveAll(old)
}

func writeFile(ctx context.Context, root string, f media.File) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stopped, nothing was left behind: %w", err)
	}
	name := filepath.Join(root, filepath.FromSlash(f.Path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("file %s: %w", f.Path, err)
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	w, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

// Files are the files of a boot server, by path, in memory but for the largest of those with Windows PE.
type Files struct {
	ID       string // the media's number
	HasVault bool
	content  map[string][]byte
	large    map[string]media.File
}

// Load makes the files of a spec in memory.
func Load(ctx context.Context, spec media.Spec) (*Files, error) {
	tree, err := newTree(ctx, spec)
	if err != nil {
		return nil, err
	}
	return filesOf(tree, math.MaxInt64)
}

// LoadWindowsPE makes the files of a tree of [media.WindowsPENetworkTree]. Its WIM is read where it lies each time that
// it is asked for, over HTTP only.
func LoadWindowsPE(tree *media.Tree) (*Files, error) { return filesOf(tree, 64<<20) }

// filesOf takes files below a limit into memory.
func filesOf(tree *media.Tree, limit int64) (*Files, error) {
	files := &Files{ID: tree.ID, HasVault: tree.HasVault, content: map[string][]byte{}, large: map[string]media.File{}}
	for _, f := range tree.Files {
		if f.Size >= limit {
			files.large[f.Path] = f
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", f.Path, err)
		}
		data := bytes.NewBuffer(make([]byte, 0, f.Size+bytes.MinRead))
		_, err = data.ReadFrom(r)
		_ = r.Close() // read only: nothing is lost
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", f.Path, err)
		}
		files.content[f.Path] = data.Bytes()
	}
	return files, nil
}

// Size is that of all files.
func (f *Files) Size() (n int64) {
	for _, data := range f.content {
		n += int64(len(data))
	}
	for _, file := range f.large {
		n += file.Size
	}
	return n
}

// Add puts a file in that belongs to this server alone.
func (f *Files) Add(path string, data []byte) { f.content[path] = data }

// open is Get for files of any size.
func (f *Files) open(name string) (io.ReadSeekCloser, error) {
	file, ok := f.large[name]
	if !ok {
		data, err := f.Get(name)
		return inMemory{bytes.NewReader(data)}, err
	}
	r, err := file.Open()
	if err != nil {
		return nil, err
	}
	seeker, ok := r.(io.ReadSeekCloser)
	if !ok {
		return nil, errors.Join(fmt.Errorf("file %s: cannot be read from the middle", name), r.Close())
	}
	return seeker, nil
}

type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// Get returns the content of a file, which the caller must not change. Firmware asks for names with slashes of either
// kind, one, two or none of them in front. Whatever else a name holds, it can only find what is in memory.
func (f *Files) Get(name string) ([]byte, error) {
	name = strings.ReplaceAll(name, `\`, "/")
	data, ok := f.content["/"+strings.TrimLeft(name, "/")]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}
