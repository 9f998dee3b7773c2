package fat

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// node is a file or directory being laid out.
type node struct {
	name     string
	short    [11]byte
	long     []uint16 // nil where the short name says it all
	dir      bool
	size     int64
	open     func() (io.ReadCloser, error)
	mod      time.Time
	attr     byte
	parent   *node
	children []*node
	byName   map[string]*node // upper-case names of children

	first    uint32 // first cluster, 0 for none
	clusters uint32
	label    string // root only
}

// maxDirBytes: a directory holds 65,536 entries of 32 bytes (fatgen103, "Other Notes").
const maxDirBytes = 65536 * 32

func tree(opts Options, entries []Entry) (*node, error) {
	root := &node{dir: true, mod: opts.Time, label: opts.Label, byName: map[string]*node{}}
	for _, e := range entries {
		if e.Size < 0 || e.Size > MaxFileSize {
			return nil, fmt.Errorf("file %s: %d bytes is outside what FAT can hold (4 GiB less one byte): split it", e.Path, e.Size)
		}
		if e.Dir && e.Size != 0 {
			return nil, fmt.Errorf("directory %s: has a size", e.Path)
		}
		if !e.Dir && e.Size > 0 && e.Open == nil {
			return nil, fmt.Errorf("file %s: has a size and no content", e.Path)
		}
		parts := strings.Split(strings.Trim(e.Path, "/"), "/")
		at := root
		for i, part := range parts {
			last := i == len(parts)-1
			if err := checkName(part); err != nil {
				return nil, fmt.Errorf("path %q: %w", e.Path, err)
			}
			key := fold(part)
			child := at.byName[key]
			switch {
			case child == nil:
				child = &node{name: part, dir: !last || e.Dir, mod: opts.Time, parent: at}
				if child.dir {
					child.byName = map[string]*node{}
				}
				at.byName[key] = child
				at.children = append(at.children, child)
			case last && (!child.dir || !e.Dir):
				return nil, fmt.Errorf("path %q: listed twice (FAT ignores case)", e.Path)
			case !last && !child.dir:
				return nil, fmt.Errorf("path %q: %s is a file", e.Path, child.name)
			}
			at = child
		}
		at.size, at.open, at.attr = e.Size, e.Open, e.Attr&(AttrReadOnly|AttrHidden|AttrSystem)
		if !e.ModTime.IsZero() {
			at.mod = e.ModTime
		}
	}
	var err error
	root.walk(func(n *node) {
		if !n.dir || err != nil {
			return
		}
		if err = n.nameChildren(); err == nil && n.dirBytes() > maxDirBytes {
			err = fmt.Errorf("directory %s: more than 65,536 entries: spread them over folders", n.name)
		}
	})
	return root, err
}

func (n *node) walk(f func(*node)) {
	f(n)
	for _, c := range n.children {
		c.walk(f)
	}
}

func (n *node) find(path string) *node {
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if n = n.byName[fold(part)]; n == nil {
			return nil
		}
	}
	return n
}

// contentBytes is the size of all files.
func (n *node) contentBytes() (total int64) {
	n.walk(func(n *node) { total += n.size })
	return total
}

// dirBytes is the size of a directory's entries.
func (n *node) dirBytes() int64 {
	entries := 0
	if n.parent != nil {
		entries = 2 // "." and ".."
	} else if n.label != "" {
		entries = 1
	}
	for _, c := range n.children {
		entries += 1 + longEntries(c.long)
	}
	return int64(entries) * 32
}
