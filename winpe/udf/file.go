package udf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"time"
	"unicode/utf16"
)

// entry is a file or directory (File Entry and Extended File Entry, ECMA-167 4/14.9 and 4/14.17).
type entry struct {
	fsys     *FS
	kind     byte // ICB file type, ECMA-167 4/14.6.6
	size     int64
	mod      time.Time
	embedded []byte // the content, where it lies in the entry itself
	areas    []area // else
}

// area is a piece of a file.
type area struct {
	off, size int64 // in the file
	at        address
	hole      bool // reads as zeros
}

const (
	typeDirectory = 4
	typeRegular   = 5
	typeLink      = 12
)

func (f *FS) entry(at address) (*entry, error) {
	b, err := f.read(at, int(f.block))
	if err == nil {
		err = checkTag(b)
	}
	if err != nil {
		return nil, fmt.Errorf("file entry: %w", err)
	}
	e := &entry{fsys: f, kind: b[27], size: int64(le.Uint64(b[56:]))}
	var head int
	switch le.Uint16(b) {
	case tagFileEntry:
		head, e.mod = 176, timestamp(b[84:])
	case tagExtendedEntry:
		head, e.mod = 216, timestamp(b[92:])
	default:
		return nil, fmt.Errorf("file entry: tag %d: the volume is damaged", le.Uint16(b))
	}
	if strategy := le.Uint16(b[20:]); strategy != 4 {
		return nil, fmt.Errorf("%w: ICB strategy %d", ErrUnsupported, strategy)
	}
	attributes, length := int64(le.Uint32(b[head-8:])), int64(le.Uint32(b[head-4:]))
	from := int64(head) + attributes
	if e.size < 0 || from+length > int64(len(b)) {
		return nil, errors.New("file entry: its lengths make no sense: the volume is damaged")
	}
	list := b[from : from+length]
	form := le.Uint16(b[34:]) & 7
	if form == 3 {
		if e.size > length {
			return nil, errors.New("file entry: more content than it holds: the volume is damaged")
		}
		e.embedded = list[:e.size]
		return e, nil
	}
	if e.areas, err = f.areas(list, form, at.part, e.size); err != nil {
		return nil, fmt.Errorf("file entry: %w", err)
	}
	return e, nil
}

// areas reads a list of extents: short_ad or long_ad (ECMA-167 4/14.14), whose upper two bits of the length tell what
// kind it is of.
func (f *FS) areas(list []byte, form, part uint16, size int64) (areas []area, err error) {
	width := 8
	switch form {
	case 0:
	case 1:
		width = 16
	default:
		return nil, fmt.Errorf("%w: allocation descriptors of form %d", ErrUnsupported, form)
	}
	var off int64
	for chain := 0; len(list) >= width && off < size; {
		word := le.Uint32(list)
		kind, length := word>>30, int64(word&(1<<30-1))
		at := address{le.Uint32(list[4:]), part}
		if form == 1 {
			at = longAddress(list)
		}
		list = list[width:]
		if length == 0 {
			break
		}
		if kind == 3 { // the list goes on there (Allocation Extent Descriptor, ECMA-167 4/14.5)
			if chain++; chain > maxChain {
				return nil, errors.New("list of extents without end: the volume is damaged")
			}
			b, err := f.read(at, int(f.block))
			if err == nil {
				err = checkTag(b)
			}
			if err != nil {
				return nil, fmt.Errorf("list of extents: %w", err)
			}
			n := int64(le.Uint32(b[20:]))
			if le.Uint16(b) != tagAllocation || n > f.block-24 {
				return nil, errors.New("list of extents goes on where none is: the volume is damaged")
			}
			list = b[24 : 24+n]
			continue
		}
		if len(areas) == maxAreas {
			return nil, fmt.Errorf("file of more than %d extents: the volume is damaged", maxAreas)
		}
		areas = append(areas, area{off, length, at, kind != 0})
		off += length
	}
	if off < size {
		return nil, fmt.Errorf("extents of %d bytes for a file of %d: the volume is damaged", off, size)
	}
	return areas, nil
}

// ReadAt implements io.ReaderAt.
func (e *entry) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read before the start")
	}
	done := 0
	for done < len(b) && off < e.size {
		part := b[done:min(int64(len(b)), int64(done)+e.size-off)]
		if e.embedded != nil {
			part = part[:copy(part, e.embedded[off:])]
		} else {
			i := sort.Search(len(e.areas), func(i int) bool { return e.areas[i].off+e.areas[i].size > off })
			a := e.areas[i] // areas has made sure that they reach to the end
			part = part[:min(int64(len(part)), a.off+a.size-off)]
			if a.hole {
				clear(part)
			} else if err := e.fsys.readAt(part, a.at, off-a.off); err != nil {
				return done, err
			}
		}
		done += len(part)
		off += int64(len(part))
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

// timestamp is ECMA-167 1/7.3.
func timestamp(b []byte) time.Time {
	word := le.Uint16(b)
	zone := int(int16(word<<4) >> 4) // minutes; 12 bits with sign
	if word>>12 != 1 || zone < -1440 || zone > 1440 {
		zone = 0
	}
	t := time.Date(int(int16(le.Uint16(b[2:]))), time.Month(b[4]), int(b[5]), int(b[6]), int(b[7]), int(b[8]), int(b[9])*1e7, time.UTC)
	return t.Add(-time.Duration(zone) * time.Minute)
}

// characters reads compressed unicode (OSTA UDF 2.1.1).
func characters(b []byte) (string, error) {
	switch {
	case len(b) == 0:
		return "", nil
	case b[0] == 8:
		runes := make([]rune, len(b)-1)
		for i, c := range b[1:] {
			runes[i] = rune(c)
		}
		return string(runes), nil
	case b[0] == 16 && len(b)%2 == 1:
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = uint16(b[1+2*i])<<8 | uint16(b[2+2*i])
		}
		return string(utf16.Decode(units)), nil
	}
	return "", fmt.Errorf("name in encoding %d: the volume is damaged", b[0])
}

// dstring is a field of characters whose last byte is the count of those before (OSTA UDF 2.1.3).
func dstring(b []byte) string {
	n := int(b[len(b)-1])
	if n >= len(b) {
		return ""
	}
	text, err := characters(b[:n])
	if err != nil {
		return ""
	}
	return strings.TrimRight(text, "\x00")
}

// named is an entry of a directory.
type named struct {
	name string
	dir  bool
	at   address
}

// names reads a directory: File Identifier Descriptors (ECMA-167 4/14.4), one behind the other.
func (e *entry) names() ([]named, error) {
	if e.size > maxDirectory {
		return nil, fmt.Errorf("directory of %d bytes: the volume is damaged", e.size)
	}
	data := make([]byte, e.size)
	if err := full(e, data, 0); err != nil {
		return nil, err
	}
	const (
		head    = 38
		deleted = 0x04
		parent  = 0x08
	)
	var list []named
	seen := map[string]bool{}
	for len(data) >= head {
		name := int(data[19])
		use := int(le.Uint16(data[36:]))
		length := head + use + name
		padded := min((length+3)&^3, len(data))
		if length > len(data) {
			return nil, errors.New("directory: cut off: the volume is damaged")
		}
		if err := checkTag(data[:padded]); err != nil {
			return nil, fmt.Errorf("directory: %w", err)
		}
		if le.Uint16(data) != tagIdentifier {
			return nil, fmt.Errorf("directory: tag %d: the volume is damaged", le.Uint16(data))
		}
		flags := data[18]
		n := named{dir: flags&2 != 0, at: longAddress(data[20:])}
		if flags&(deleted|parent) == 0 {
			var err error
			if n.name, err = characters(data[head+use : length]); err != nil {
				return nil, fmt.Errorf("directory: %w", err)
			}
			// A name that leads elsewhere, or comes twice, is nobody's mistake.
			if n.name == "" || n.name == "." || n.name == ".." || strings.ContainsAny(n.name, "/\x00") || seen[n.name] {
				return nil, fmt.Errorf("directory: name %q: the volume is damaged", n.name)
			}
			seen[n.name] = true
			list = append(list, n)
		}
		data = data[padded:]
	}
	return list, nil
}

// find walks to a path.
func (f *FS) find(name string) (*entry, error) {
	e, err := f.entry(f.root)
	if err != nil || name == "." {
		return e, err
	}
	if strings.Count(name, "/") >= maxDepth {
		return nil, fmt.Errorf("more than %d folders deep", maxDepth)
	}
	for part := range strings.SplitSeq(name, "/") {
		if e.kind != typeDirectory {
			return nil, fs.ErrNotExist
		}
		list, err := e.names()
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list, func(n named) bool { return n.name == part })
		if i < 0 {
			return nil, fs.ErrNotExist
		}
		if e, err = f.entry(list[i].at); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Open implements fs.FS. Files are an [io.ReaderAt] and an [io.Seeker] too.
func (f *FS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	e, err := f.find(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	info := info{path.Base(name), e}
	if e.kind == typeDirectory {
		return &directory{info: info}, nil
	}
	return &file{io.NewSectionReader(e, 0, e.size), info}, nil
}

// info implements fs.FileInfo.
type info struct {
	name string
	e    *entry
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.e.size }
func (i info) ModTime() time.Time { return i.e.mod }
func (i info) IsDir() bool        { return i.e.kind == typeDirectory }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	switch i.e.kind {
	case typeDirectory:
		return fs.ModeDir | 0o555
	case typeRegular, 0: // not told
		return 0o444
	case typeLink:
		return fs.ModeSymlink | 0o444
	}
	return fs.ModeIrregular | 0o444
}

type file struct {
	*io.SectionReader
	info info
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

type directory struct {
	info info
	list []fs.DirEntry
	read bool
}

func (d *directory) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *directory) Close() error               { return nil }
func (d *directory) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a folder")}
}

// ReadDir implements fs.ReadDirFile.
func (d *directory) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		names, err := d.info.e.names()
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: d.info.name, Err: err}
		}
		for _, n := range names {
			d.list = append(d.list, dirEntry{n, d.info.e.fsys})
		}
		slices.SortFunc(d.list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		d.read = true
	}
	if n <= 0 {
		list := d.list
		d.list = nil
		return list, nil
	}
	if len(d.list) == 0 {
		return nil, io.EOF
	}
	list := d.list[:min(n, len(d.list))]
	d.list = d.list[len(list):]
	return list, nil
}

// dirEntry reads the file's entry only when it is asked for more than the name.
type dirEntry struct {
	named
	fsys *FS
}

func (e dirEntry) Name() string { return e.name }
func (e dirEntry) IsDir() bool  { return e.dir }
func (e dirEntry) Type() fs.FileMode {
	if e.dir {
		return fs.ModeDir
	}
	if info, err := e.Info(); err == nil {
		return info.Mode().Type()
	}
	return fs.ModeIrregular
}
func (e dirEntry) Info() (fs.FileInfo, error) {
	entry, err := e.fsys.entry(e.at)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: e.name, Err: err}
	}
	return info{e.name, entry}, nil
}
