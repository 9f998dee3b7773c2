package wim

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Image is one image of a WIM: a read-only file system whose names are looked up without regard to case. Reparse
// points are not followed.
type Image struct {
	f    *File
	tree *image
}

// Image reads the tree of an image, which count from 1.
func (f *File) Image(n int) (*Image, error) {
	if n < 1 || n > len(f.metadata) {
		return nil, fmt.Errorf("image %d of %d", n, len(f.metadata))
	}
	tree, err := f.tree(n)
	if err != nil {
		return nil, err
	}
	return &Image{f, tree}, nil
}

func (f *File) tree(n int) (*image, error) {
	b := f.blobs[f.metadata[n-1]]
	what := fmt.Sprintf("metadata of image %d", n)
	if b.original > maxMetadata {
		return nil, fmt.Errorf("%s: %d bytes: the WIM is damaged", what, b.original)
	}
	data, err := f.read(what, b.resource)
	if err != nil {
		return nil, err
	}
	if hash(sha1.Sum(data)) != b.hash {
		return nil, fmt.Errorf("%s: its SHA-1 is another one than the table says: the WIM is damaged", what)
	}
	tree, err := parseMetadata(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return tree, nil
}

func (m *image) lookup(path string) *node {
	n := m.root
	if path == "." {
		return n
	}
	for part := range strings.SplitSeq(path, "/") {
		if n.reparse() {
			return nil
		}
		if n = n.find(part); n == nil {
			return nil
		}
	}
	return n
}

// Open implements fs.FS.
func (i *Image) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	n := i.tree.lookup(name)
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	info := fileInfo{n, i.size(n)}
	if n.directory() {
		return &openDir{info: info, i: i}, nil
	}
	h := n.content()
	if h == (hash{}) {
		return &openFile{info: info, r: strings.NewReader("")}, nil
	}
	at, ok := i.f.byHash[h]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("its content %s is not in the WIM", h)}
	}
	r, err := i.f.open(name, i.f.blobs[at].resource)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{info: info, r: &verified{r: r, want: h}}, nil
}

func (i *Image) size(n *node) int64 {
	if at, ok := i.f.byHash[n.content()]; ok {
		return i.f.blobs[at].original
	}
	return 0
}

// verified reads content and compares its hash at the end.
type verified struct {
	r    io.Reader
	want hash
	sum  interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func (v *verified) Read(p []byte) (int, error) {
	if v.sum == nil {
		v.sum = sha1.New()
	}
	n, err := v.r.Read(p)
	_, _ = v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && hash(v.sum.Sum(nil)) != v.want {
		return n, errors.New("its SHA-1 is another one than the table says: the WIM is damaged")
	}
	return n, err
}

type fileInfo struct {
	n    *node
	size int64
}

func (i fileInfo) Name() string {
	if i.n.name == "" {
		return "."
	}
	return i.n.name
}
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) ModTime() time.Time { return i.n.modified() }
func (i fileInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i fileInfo) Sys() any           { return nil }

func (i fileInfo) Mode() fs.FileMode {
	switch {
	case i.n.reparse():
		return fs.ModeIrregular | 0o444
	case i.n.directory():
		return fs.ModeDir | 0o555
	}
	return 0o444
}

type openFile struct {
	info fileInfo
	r    io.Reader
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Read(p []byte) (int, error) { return f.r.Read(p) }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	info fileInfo
	i    *Image
	at   int
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.Name(), Err: errors.New("is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	left := d.info.n.children[d.at:]
	if n > 0 {
		if len(left) == 0 {
			return nil, io.EOF
		}
		left = left[:min(n, len(left))]
	}
	d.at += len(left)
	entries := make([]fs.DirEntry, len(left))
	for i, c := range left {
		entries[i] = fs.FileInfoToDirEntry(fileInfo{c, d.i.size(c)})
	}
	return entries, nil
}
