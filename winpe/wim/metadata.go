package wim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"
)

// A directory entry (DIRENTRY), 102 bytes, then the name, the short name, both with a zero behind them, and what newer
// programs add.
const (
	entrySize = 102

	offAttributes = 8
	offSecurity   = 12
	offSubdir     = 16
	offCreation   = 40
	offAccess     = 48
	offWrite      = 56
	offHash       = 64
	offLink       = 88 // group of hard links, or the reparse tag
	offStreams    = 96
	offShortLen   = 98
	offNameLen    = 100
)

// Attributes of a file.
const (
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrReparse   = 0x400
)

const (
	maxDepth   = 512
	maxEntries = 4 << 20
)

// node is a directory entry of an image. What this package does not know of an entry stays in raw, which is written
// back as it was.
type node struct {
	raw      []byte // the entry and its streams, a multiple of 8 bytes
	name     string
	listed   bool // has a list of children, be it empty
	children []*node
	index    map[string]*node // by folded name, once needed
}

func (n *node) attributes() uint32 { return binary.LittleEndian.Uint32(n.raw[offAttributes:]) }

func (n *node) directory() bool { return n.attributes()&attrDirectory != 0 }

func (n *node) reparse() bool { return n.attributes()&attrReparse != 0 }

func (n *node) modified() time.Time {
	return fromFiletime(binary.LittleEndian.Uint64(n.raw[offWrite:]))
}

// content is the hash of the unnamed stream: in the entry itself, or where there are named ones, among them.
func (n *node) content() hash {
	var h hash
	copy(h[:], n.raw[offHash:])
	if h != (hash{}) {
		return h
	}
	_ = n.streams(func(name []byte, sum hash) {
		if len(name) == 0 && h == (hash{}) {
			h = sum
		}
	})
	return h
}

// all are the hashes of every stream.
func (n *node) all() []hash {
	var list []hash
	var h hash
	copy(h[:], n.raw[offHash:])
	if h != (hash{}) {
		list = append(list, h)
	}
	_ = n.streams(func(_ []byte, sum hash) {
		if sum != (hash{}) {
			list = append(list, sum)
		}
	})
	return list
}

// streams walks through the stream entries (STREAMENTRY) behind the entry.
func (n *node) streams(fn func(name []byte, sum hash)) error {
	at := align8(int(binary.LittleEndian.Uint64(n.raw)))
	for range binary.LittleEndian.Uint16(n.raw[offStreams:]) {
		s := n.raw[at:]
		var sum hash
		copy(sum[:], s[16:])
		fn(s[38:38+int(binary.LittleEndian.Uint16(s[36:]))], sum)
		at += align8(int(binary.LittleEndian.Uint64(s)))
	}
	return nil
}

func align8(n int) int { return (n + 7) &^ 7 }

// image is the metadata of an image, parsed.
type image struct {
	security []byte // the block of security descriptors, as it is
	root     *node
}

type metadataParser struct {
	data  []byte
	seen  map[int]bool
	count int
}

// parseMetadata reads the tree of an image.
func parseMetadata(data []byte) (*image, error) {
	if len(data) < 8 {
		return nil, errors.New("no room for the security data")
	}
	length := int64(binary.LittleEndian.Uint32(data))
	// An empty block is written as 8 bytes, or as a length of 0.
	length = max(8, (length+7)&^7)
	if length > int64(len(data)) {
		return nil, fmt.Errorf("security data of %d bytes in metadata of %d", length, len(data))
	}
	p := &metadataParser{data: data, seen: map[int]bool{}}
	root, _, err := p.entry(int(length))
	if err != nil {
		return nil, err
	}
	if root == nil || !root.directory() {
		return nil, errors.New("the root is no directory")
	}
	root.name = ""
	if err := p.children(root, 0); err != nil {
		return nil, err
	}
	return &image{security: data[:length], root: root}, nil
}

// entry reads one entry and says where the next begins; nil is the end of a directory.
func (p *metadataParser) entry(at int) (*node, int, error) {
	if at < 0 || at > len(p.data)-8 {
		return nil, 0, fmt.Errorf("directory entry at byte %d of %d", at, len(p.data))
	}
	length := binary.LittleEndian.Uint64(p.data[at:])
	if length <= 8 {
		return nil, 0, nil
	}
	if length < entrySize || length > uint64(len(p.data)-at) {
		return nil, 0, fmt.Errorf("directory entry at byte %d: %d bytes long", at, length)
	}
	if p.count++; p.count > maxEntries {
		return nil, 0, fmt.Errorf("more than %d directory entries", maxEntries)
	}
	b := p.data[at:]
	nameLen, shortLen := int(binary.LittleEndian.Uint16(b[offNameLen:])), int(binary.LittleEndian.Uint16(b[offShortLen:]))
	if nameLen%2 != 0 || shortLen%2 != 0 || entrySize+nameLen+shortLen > int(length) {
		return nil, 0, fmt.Errorf("directory entry at byte %d: names of %d and %d bytes", at, nameLen, shortLen)
	}
	end := align8(int(length))
	for range binary.LittleEndian.Uint16(b[offStreams:]) {
		if end > len(b)-38 {
			return nil, 0, fmt.Errorf("directory entry at byte %d: its streams reach past the end", at)
		}
		size := binary.LittleEndian.Uint64(b[end:])
		if size < 38+uint64(binary.LittleEndian.Uint16(b[end+36:])) || size > uint64(len(b)-end) {
			return nil, 0, fmt.Errorf("directory entry at byte %d: a stream of %d bytes", at, size)
		}
		end += align8(int(size))
	}
	if end > len(b) {
		return nil, 0, fmt.Errorf("directory entry at byte %d reaches past the end", at)
	}
	n := &node{raw: b[:end:end], name: text16(b[entrySize : entrySize+nameLen])}
	return n, at + end, nil
}

// children reads the list of a directory. A list that is met twice is a circle, or a directory with two parents.
func (p *metadataParser) children(n *node, depth int) error {
	at := binary.LittleEndian.Uint64(n.raw[offSubdir:])
	if at == 0 || !n.directory() {
		return nil
	}
	if depth >= maxDepth {
		return fmt.Errorf("directories are more than %d deep", maxDepth)
	}
	if at > uint64(len(p.data)) || p.seen[int(at)] {
		return fmt.Errorf("directory %q: its list at byte %d is outside the metadata, or another one's", n.name, at)
	}
	p.seen[int(at)] = true
	n.listed = true
	names := map[string]bool{}
	for at := int(at); ; {
		child, next, err := p.entry(at)
		if err != nil {
			return err
		}
		if child == nil {
			return nil
		}
		if err := checkName(child.name); err != nil {
			return err
		}
		if names[child.name] {
			return fmt.Errorf("directory %q holds two entries named %q", n.name, child.name)
		}
		names[child.name] = true
		n.children = append(n.children, child)
		if err := p.children(child, depth+1); err != nil {
			return err
		}
		at = next
	}
}

// checkName refuses names that would lead elsewhere.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00") {
		return fmt.Errorf("an entry is named %q: the WIM is damaged or hostile", name)
	}
	return nil
}

// marshal writes the metadata, directories after their parents.
func (m *image) marshal() []byte {
	var out bytes.Buffer
	out.Write(m.security)
	// The root stands alone, in a list of its own.
	next := out.Len() + len(m.root.raw) + 8
	type dir struct{ n *node }
	queue := []dir{{m.root}}
	put := func(n *node) {
		raw := bytes.Clone(n.raw)
		at := uint64(0)
		if n.listed {
			at = uint64(next)
			for _, c := range n.children {
				next += len(c.raw)
			}
			next += 8
			queue = append(queue, dir{n})
		}
		binary.LittleEndian.PutUint64(raw[offSubdir:], at)
		out.Write(raw)
	}
	queue = queue[:0]
	put(m.root)
	out.Write(make([]byte, 8))
	for len(queue) > 0 {
		n := queue[0].n
		queue = queue[1:]
		for _, c := range n.children {
			put(c)
		}
		out.Write(make([]byte, 8))
	}
	return out.Bytes()
}

// find looks a child up as Windows does, without regard to case.
func (n *node) find(name string) *node {
	if n.index == nil {
		n.index = make(map[string]*node, len(n.children))
		for _, c := range n.children {
			if f := fold(c.name); n.index[f] == nil {
				n.index[f] = c
			}
		}
	}
	return n.index[fold(name)]
}

func fold(s string) string { return strings.ToUpper(s) }

func (n *node) add(c *node) {
	n.children = append(n.children, c)
	n.listed = true
	if n.index != nil {
		n.index[fold(c.name)] = c
	}
}

// newNode makes an entry. like, which may be nil, is the entry that it replaces: its attributes, security descriptor,
// creation time and short name stay.
func newNode(name string, directory bool, content hash, when time.Time, security uint32, like *node) *node {
	var short []byte
	stamp := filetime(when)
	attributes, created := uint32(attrArchive), stamp
	if directory {
		attributes = attrDirectory
	}
	if like != nil {
		attributes, security = like.attributes()&^attrReparse, binary.LittleEndian.Uint32(like.raw[offSecurity:])
		created = binary.LittleEndian.Uint64(like.raw[offCreation:])
		name = like.name
		nameLen := int(binary.LittleEndian.Uint16(like.raw[offNameLen:]))
		if shortLen := int(binary.LittleEndian.Uint16(like.raw[offShortLen:])); shortLen > 0 {
			if at := entrySize + nameLen + 2; at+shortLen <= len(like.raw) {
				short = like.raw[at : at+shortLen]
			}
		}
	}
	units := utf16.Encode([]rune(name))
	length := entrySize + 2*len(units) + 2
	if len(short) > 0 {
		length += len(short) + 2
	}
	length = align8(length)
	raw := make([]byte, length)
	le := binary.LittleEndian
	le.PutUint64(raw, uint64(length))
	le.PutUint32(raw[offAttributes:], attributes)
	le.PutUint32(raw[offSecurity:], security)
	le.PutUint64(raw[offCreation:], created)
	le.PutUint64(raw[offAccess:], stamp)
	le.PutUint64(raw[offWrite:], stamp)
	copy(raw[offHash:], content[:])
	le.PutUint16(raw[offShortLen:], uint16(len(short)))
	le.PutUint16(raw[offNameLen:], uint16(2*len(units)))
	copy(raw[entrySize:], bytes16(name))
	copy(raw[entrySize+2*len(units)+2:], short)
	return &node{raw: raw, name: name, listed: directory}
}

// filetime is 100-nanosecond steps since 1601.
func filetime(t time.Time) uint64 {
	return uint64(t.Unix()+11644473600)*10_000_000 + uint64(t.Nanosecond()/100)
}

func fromFiletime(v uint64) time.Time {
	return time.Unix(int64(v/10_000_000)-11644473600, int64(v%10_000_000)*100).UTC()
}
