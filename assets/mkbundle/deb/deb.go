// Package deb reads Debian binary packages: an ar archive of a version, a control tar and a data tar
// (deb(5), format 2.0). [Open] a package, then [Package.Control] and [Package.Files].
package deb

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Package is an open .deb.
type Package struct {
	control, data member
}

// Open reads the table of contents of a package of size bytes.
func Open(r io.ReaderAt, size int64) (*Package, error) {
	members, err := readAr(r, size)
	if err != nil {
		return nil, fmt.Errorf("deb: %w", err)
	}
	if len(members) == 0 || members[0].name != "debian-binary" {
		return nil, errors.New("deb: not a Debian package: first member is not debian-binary")
	}
	version, err := io.ReadAll(io.LimitReader(members[0].SectionReader, 16))
	if err != nil {
		return nil, fmt.Errorf("deb: debian-binary: %w", err)
	}
	if !strings.HasPrefix(string(version), "2.") {
		return nil, fmt.Errorf("deb: debian-binary: version %q, expected 2.0", version)
	}
	var p Package
	for _, m := range members[1:] {
		switch {
		case p.control.SectionReader == nil && strings.HasPrefix(m.name, "control.tar"):
			p.control = m
		case p.data.SectionReader == nil && strings.HasPrefix(m.name, "data.tar"):
			p.data = m
		}
	}
	if p.control.SectionReader == nil || p.data.SectionReader == nil {
		return nil, errors.New("deb: no control.tar or no data.tar")
	}
	return &p, nil
}

// maxControl bounds the control file, which is text of some kilobytes.
const maxControl = 1 << 20

// Control returns the text of the control file.
func (p *Package) Control() ([]byte, error) {
	var text []byte
	err := p.control.walk(func(f File, r io.Reader) error {
		if f.Name != "control" {
			return nil
		}
		if f.Size > maxControl {
			return fmt.Errorf("control file of %d bytes, expected at most %d", f.Size, maxControl)
		}
		var err error
		if text, err = io.ReadAll(r); err != nil {
			return err
		}
		return errStop
	})
	if err != nil {
		return nil, fmt.Errorf("deb: %s: %w", p.control.name, err)
	}
	if text == nil {
		return nil, fmt.Errorf("deb: %s: no control file", p.control.name)
	}
	return text, nil
}

// File is a regular file, or with Link set a symbolic or hard link, of a package.
type File struct {
	Name string // without leading "./" or "/"
	Size int64
	Link string // where a symbolic link points, as it is written; where a hard link points, like Name
	Hard bool
}

// Files calls f for every file and link of the package, in its order. The reader is valid during the call.
func (p *Package) Files(f func(File, io.Reader) error) error {
	if err := p.data.walk(f); err != nil {
		return fmt.Errorf("deb: %s: %w", p.data.name, err)
	}
	return nil
}

var errStop = errors.New("stop")

func (m member) walk(f func(File, io.Reader) error) error {
	plain, done, err := m.decompress()
	if err != nil {
		return err
	}
	defer done()
	t := tar.NewReader(plain)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		file := File{Name: clean(h.Name), Size: h.Size}
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeSymlink:
			file.Link = h.Linkname
		case tar.TypeLink:
			file.Link, file.Hard = clean(h.Linkname), true
		default:
			continue
		}
		if err := f(file, t); err != nil {
			if errors.Is(err, errStop) {
				return nil
			}
			return fmt.Errorf("%s: %w", file.Name, err)
		}
	}
}

// clean makes a name relative; ".." cannot lead out of the package.
func clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

func (m member) decompress() (r io.Reader, done func(), err error) {
	done = func() {}
	// Buffered, since the xz reader asks for single bytes.
	raw := bufio.NewReaderSize(io.NewSectionReader(m.SectionReader, 0, m.Size()), 1<<16)
	switch path.Ext(m.name) {
	case ".tar":
		r = raw
	case ".gz":
		r, err = gzip.NewReader(raw)
	case ".xz":
		r, err = xz.NewReader(raw)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20)); err == nil {
			r, done = z, z.Close
		}
	default:
		err = fmt.Errorf("compression %q is not known", path.Ext(m.name))
	}
	return r, done, err
}
