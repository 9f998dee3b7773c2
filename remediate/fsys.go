package remediate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
)

// errLinked marks a path that runs through a link or reparse point.
var errLinked = errors.New("is a link or reparse point, which is never followed")

// errNowhere marks a name that a directory holds and that cannot be opened: NTFS was
// not closed in good order, and the file's own record knows nothing of the name.
var errNowhere = errors.New("leads nowhere: have Windows check the volume (chkdsk /f)")

// lookup finds name in the directory dir as Windows would: in any case, the
// exact spelling preferred. It returns the path and the entry's own type, a link
// not followed, and an error that is fs.ErrNotExist where there is none.
func lookup(fsys fs.FS, dir, name string) (string, fs.FileInfo, error) {
	exact := path.Join(dir, name)
	info, err := fs.Lstat(fsys, exact)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return exact, info, err
	}
	names, err := readNames(fsys, dir)
	if err != nil {
		return "", nil, err
	}
	for _, other := range names {
		if other == name {
			return "", nil, &fs.PathError{Op: "find", Path: exact, Err: errNowhere}
		}
		if !sameName(other, name) {
			continue
		}
		p := path.Join(dir, other)
		info, err := fs.Lstat(fsys, p)
		return p, info, err
	}
	return "", nil, &fs.PathError{Op: "find", Path: exact, Err: fs.ErrNotExist}
}

// Lookup finds a file from the top of a volume as Windows would: in any case, and
// not through links. The error is fs.ErrNotExist where there is none.
func Lookup(fsys fs.FS, parts ...string) (string, error) {
	p, _, err := lookupPath(fsys, ".", parts...)
	return p, err
}

// readNames lists a directory, sorted. It asks nothing about the entries: on a volume
// that was not closed in good order one of them may lead nowhere, and that must
// matter only to who needs that one.
func readNames(fsys fs.FS, dir string) ([]string, error) {
	f, err := fsys.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if d, ok := f.(interface{ Readdirnames(int) ([]string, error) }); ok {
		names, err := d.Readdirnames(-1)
		slices.Sort(names)
		return names, err
	}
	entries, err := fs.ReadDir(fsys, dir)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// lookupPath walks a slash-separated path with [lookup]. Every part but the last
// must be a real directory: a link on the way is errLinked.
func lookupPath(fsys fs.FS, dir string, parts ...string) (string, fs.FileInfo, error) {
	var info fs.FileInfo
	for i, part := range parts {
		p, fi, err := lookup(fsys, dir, part)
		if err != nil {
			return "", nil, err
		}
		if i < len(parts)-1 && !fi.IsDir() {
			if fi.Mode().IsRegular() {
				return "", nil, &fs.PathError{Op: "find", Path: p, Err: fs.ErrNotExist}
			}
			return p, fi, &fs.PathError{Op: "find", Path: p, Err: errLinked}
		}
		dir, info = p, fi
	}
	return dir, info, nil
}

// isRealDir reports whether p is a directory and not a link to one. The type in a
// directory entry does not tell: ntfs3 calls a junction a directory there.
func isRealDir(fsys fs.FS, p string) bool {
	info, err := fs.Lstat(fsys, p)
	return err == nil && info.IsDir()
}

// sameFile reports whether two names lead to one file, as a move that was cut short
// leaves it.
func sameFile(fsys fs.FS, a, b string) bool {
	ai, err := fs.Lstat(fsys, a)
	if err != nil {
		return false
	}
	bi, err := fs.Lstat(fsys, b)
	return err == nil && os.SameFile(ai, bi)
}

// openRegular opens a file after making sure that it is one: opening a device or
// a pipe could hang, and a link could lead elsewhere.
func openRegular(fsys fs.FS, name string) (fs.File, fs.FileInfo, error) {
	info, err := fs.Lstat(fsys, name)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, &fs.PathError{Op: "open", Path: name, Err: notRegular(info.Mode())}
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return f, info, nil
}

func notRegular(m fs.FileMode) error {
	if m.IsDir() {
		return errors.New("is a directory")
	}
	if m&(fs.ModeSymlink|fs.ModeIrregular) != 0 {
		return errLinked
	}
	return fmt.Errorf("is not a regular file (%v)", m.Type())
}

// content is what one pass over a file tells.
type content struct {
	head     []byte // the first bytes, as many as asked for
	allZeros bool   // not empty and nothing but zeros
	size     int64
	sha256   string
}

// readContent reads a file once: its first bytes, its hash and whether it is all
// zeros.
func readContent(ctx context.Context, r io.Reader, head int) (*content, error) {
	c := &content{allZeros: true}
	h := sha256.New()
	buf := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := r.Read(buf)
		b := buf[:n]
		if missing := head - len(c.head); missing > 0 {
			c.head = append(c.head, b[:min(missing, n)]...)
		}
		if c.allZeros {
			for _, x := range b {
				if x != 0 {
					c.allZeros = false
					break
				}
			}
		}
		h.Write(b)
		c.size += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	c.allZeros = c.allZeros && c.size > 0
	c.sha256 = hex.EncodeToString(h.Sum(nil))
	return c, nil
}
