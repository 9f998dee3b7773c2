package iso

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	media "github.com/bootmend/bootmend/image"
)

// ErrNoISO says that there is no ISO 9660 file system.
var ErrNoISO = errors.New("not an ISO 9660 image")

// Bounds of what an image may hold. Media of ours hold a few dozen files.
const (
	maxDirectory = 1 << 20
	maxFiles     = 1 << 16
)

// Read lists the files of an image of size bytes, or of a disc or stick that it was written to, by the names that Rock
// Ridge gives them, or else ISO 9660. Nothing in it is believed before it is checked.
func Read(r io.ReaderAt, size int64) ([]media.File, error) {
	pvd := make([]byte, blockSize)
	if _, err := r.ReadAt(pvd, pvdBlock*blockSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("ISO 9660: volume descriptor: %w", err)
	}
	if pvd[0] != 1 || string(pvd[1:6]) != "CD001" {
		return nil, ErrNoISO
	}
	rd := &lister{r: r, size: size, seen: map[uint32]bool{}}
	if err := rd.dir("", pvd[156:190], 0); err != nil {
		return nil, fmt.Errorf("ISO 9660: %w", err)
	}
	return rd.files, nil
}

type lister struct {
	r     io.ReaderAt
	size  int64
	seen  map[uint32]bool // directories by their first block: none may hold itself
	files []media.File
}

// dir lists a directory and everything below it, by its record (ECMA-119 section 9.1).
func (l *lister) dir(path string, rec []byte, depth int) error {
	block, size := le32(rec[2:]), int64(le32(rec[10:]))
	if depth > maxDepth || size > maxDirectory || l.seen[block] || int64(block)*blockSize > l.size-size {
		return fmt.Errorf("directory %s/: too deep, too large, in itself or past the end", path)
	}
	l.seen[block] = true
	data := make([]byte, size)
	if _, err := l.r.ReadAt(data, int64(block)*blockSize); err != nil {
		return fmt.Errorf("directory %s/: %w", path, err)
	}
	for at, i := 0, 0; at < len(data); i++ {
		n := int(data[at])
		if n == 0 { // no record crosses a block: the rest of this one is empty
			at = (at/blockSize + 1) * blockSize
			continue
		}
		if n < 34 || at+n > len(data) || 33+int(data[at+32]) > n {
			return fmt.Errorf("directory %s/: record of %d bytes at byte %d", path, n, at)
		}
		rec := data[at : at+n]
		at += n
		if i < 2 { // itself and its parent
			continue
		}
		name := rockName(rec)
		if name == "" {
			name, _, _ = strings.Cut(string(rec[33:33+int(rec[32])]), ";") // a version number
		}
		if name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("directory %s/: record without a name", path)
		}
		child := path + "/" + name
		if rec[25]&2 != 0 {
			if err := l.dir(child, rec, depth+1); err != nil {
				return err
			}
			continue
		}
		off, size := int64(le32(rec[2:]))*blockSize, int64(le32(rec[10:]))
		if len(l.files) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		d := rec[18:25] // ECMA-119 section 9.1.5
		l.files = append(l.files, media.File{
			Path: child, Size: size, ModTime: time.Date(1900+int(d[0]), time.Month(d[1]), int(d[2]), int(d[3]), int(d[4]), int(d[5]), 0, time.UTC),
			Open: func() (io.ReadCloser, error) {
				if off > l.size-size {
					return nil, fmt.Errorf("%w: it lies past the end of the image", io.ErrUnexpectedEOF)
				}
				return openFile{io.NewSectionReader(l.r, off, size)}, nil
			},
		})
	}
	return nil
}

// openFile is an open file.
type openFile struct{ *io.SectionReader }

func (openFile) Close() error { return nil }

// rockName is the name in a record's own system use fields (RRIP 1.12 section 4.1.4); names of ours need no
// continuation.
func rockName(rec []byte) (name string) {
	start := 33 + int(rec[32])
	start += start & 1
	area := rec[min(start, len(rec)):]
	for len(area) >= 4 {
		n := int(area[2])
		if n < 4 || n > len(area) {
			break
		}
		if string(area[:2]) == "NM" && n >= 5 {
			name += string(area[5:n])
		}
		area = area[n:]
	}
	return name
}
