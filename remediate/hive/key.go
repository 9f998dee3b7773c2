package hive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Fields of a key node.
const (
	nodeFlags       = 2
	nodeTime        = 4
	nodeParent      = 16
	nodeSubkeys     = 20
	nodeSubkeyList  = 28
	nodeValues      = 36
	nodeValueList   = 40
	nodeSecurity    = 44
	nodeClass       = 48
	nodeMaxSubkey   = 52 // 16 bits; flags follow
	nodeMaxValue    = 60
	nodeMaxData     = 64
	nodeNameLength  = 72
	nodeClassLength = 74
	nodeName        = 76

	nodeIsRoot       = 0x04
	nodeNoDelete     = 0x08
	nodeIsLatin1     = 0x20 // the name is extended ASCII, else UTF-16
	nodeIsPredefined = 0x40 // the number of values is a handle
)

// Fields of a key value.
const (
	valueNameLength = 2
	valueSize       = 4
	valueData       = 8
	valueType       = 12
	valueFlags      = 16
	valueName       = 20

	valueIsLatin1 = 1
	valueInline   = 1 << 31 // the data lies in the field for its offset
)

// Type is the type of a value's data.
type Type uint32

// The types that are used here (REG_SZ and so on).
const (
	String       Type = 1
	ExpandString Type = 2
	Binary       Type = 3
	DWORD        Type = 4
	MultiString  Type = 7
	QWORD        Type = 11
)

// Key is a key of a hive.
type Key struct {
	h      *Hive
	offset uint32
}

func (h *Hive) node(offset uint32) ([]byte, error) {
	n, err := h.record(offset, "nk", nodeName)
	if err != nil {
		return nil, err
	}
	if nodeName+int(le.Uint16(n[nodeNameLength:])) > len(n) {
		return nil, damaged(offset, "a key node with its name")
	}
	return n, nil
}

func nodeNameOf(n []byte) string {
	return decodeName(n[nodeName:nodeName+int(le.Uint16(n[nodeNameLength:]))], le.Uint16(n[nodeFlags:])&nodeIsLatin1 != 0)
}

// Name is the key's name.
func (k Key) Name() (string, error) {
	n, err := k.h.node(k.offset)
	if err != nil {
		return "", err
	}
	return nodeNameOf(n), nil
}

// entry is an element of a subkeys list.
type entry struct {
	key  uint32 // offset of the key node
	hash uint32 // of its name, in a hash leaf
	leaf byte   // the second letter of the list's signature
}

// subkeys lists the subkeys of a key node in the order of the file.
func (h *Hive) subkeys(n []byte) ([]entry, error) {
	count := le.Uint32(n[nodeSubkeys:])
	if count == 0 {
		return nil, nil
	}
	// Every subkey has a node of its own, so a list that is longer refers to some of them twice.
	if count > h.size/minNode {
		return nil, fmt.Errorf("damaged registry hive: a key with %d subkeys", count)
	}
	list := le.Uint32(n[nodeSubkeyList:])
	c, err := h.cell(list)
	if err != nil {
		return nil, err
	}
	var entries []entry
	add := func(offset uint32, c []byte) error {
		more, err := leafEntries(offset, c)
		if entries = append(entries, more...); err == nil && len(entries) > int(count) {
			err = damaged(offset, fmt.Sprintf("a list of %d subkeys", count))
		}
		return err
	}
	if len(c) < 4 || string(c[:2]) != "ri" {
		return entries, add(list, c)
	}
	for i := range int(le.Uint16(c[2:])) {
		if 8+4*i > len(c) {
			return nil, damaged(list, "an index root")
		}
		// A copy, since an index root must not point to another.
		offset := le.Uint32(c[4+4*i:])
		leaf, err := h.cell(offset)
		if err == nil {
			err = add(offset, leaf)
		}
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}

func leafEntries(offset uint32, c []byte) ([]entry, error) {
	step := 8
	if len(c) >= 4 && string(c[:2]) == "li" {
		step = 4
	} else if len(c) < 4 || string(c[:2]) != "lf" && string(c[:2]) != "lh" {
		return nil, damaged(offset, "a list of subkeys")
	}
	n := int(le.Uint16(c[2:]))
	if 4+n*step > len(c) {
		return nil, damaged(offset, "a list of subkeys")
	}
	entries := make([]entry, n)
	for i := range entries {
		e := c[4+i*step:]
		entries[i] = entry{key: le.Uint32(e), leaf: c[1]}
		if step == 8 {
			entries[i].hash = le.Uint32(e[4:])
		}
	}
	return entries, nil
}

// Subkeys lists the key's subkeys in the order of the file, which is that of their names.
func (k Key) Subkeys() ([]Key, error) {
	n, err := k.h.node(k.offset)
	if err != nil {
		return nil, err
	}
	entries, err := k.h.subkeys(n)
	if err != nil {
		return nil, err
	}
	keys := make([]Key, len(entries))
	for i, e := range entries {
		keys[i] = Key{k.h, e.key}
	}
	return keys, nil
}

// Subkey finds a subkey by its name, in any case.
func (k Key) Subkey(name string) (Key, error) {
	n, err := k.h.node(k.offset)
	if err != nil {
		return Key{}, err
	}
	entries, err := k.h.subkeys(n)
	if err != nil {
		return Key{}, err
	}
	want, hash := fold(name), nameHash(name)
	for _, e := range entries {
		if e.leaf == 'h' && e.hash != hash {
			continue
		}
		n, err := k.h.node(e.key)
		if err != nil {
			return Key{}, err
		}
		if fold(nodeNameOf(n)) == want {
			return Key{k.h, e.key}, nil
		}
	}
	return Key{}, fmt.Errorf("key %s: %w", name, ErrNotFound)
}

// Value is a value of a key. Its data are read by [Value.Data].
type Value struct {
	Name string // "" is the key's default value
	Type Type
	Size int // of its data

	h      *Hive
	offset uint32
}

// valueList reads the offsets of a key's values.
func (h *Hive) valueList(n []byte) ([]uint32, error) {
	count := le.Uint32(n[nodeValues:])
	if count == 0 || le.Uint16(n[nodeFlags:])&nodeIsPredefined != 0 {
		return nil, nil
	}
	list := le.Uint32(n[nodeValueList:])
	c, err := h.cell(list)
	if err != nil {
		return nil, err
	}
	if int64(count)*4 > int64(len(c)) {
		return nil, damaged(list, fmt.Sprintf("a list of %d values", count))
	}
	offsets := make([]uint32, count)
	for i := range offsets {
		offsets[i] = le.Uint32(c[4*i:])
	}
	return offsets, nil
}

func (h *Hive) value(offset uint32) (Value, error) {
	v, err := h.record(offset, "vk", valueName)
	if err != nil {
		return Value{}, err
	}
	length := int(le.Uint16(v[valueNameLength:]))
	if valueName+length > len(v) {
		return Value{}, damaged(offset, "a value with its name")
	}
	size := le.Uint32(v[valueSize:])
	if size&valueInline != 0 {
		if size &^= valueInline; size > 4 {
			return Value{}, damaged(offset, "a value of at most 4 bytes")
		}
	}
	if size > h.size {
		return Value{}, damaged(offset, "a value that is smaller than the hive")
	}
	return Value{
		Name: decodeName(v[valueName:valueName+length], le.Uint16(v[valueFlags:])&valueIsLatin1 != 0),
		Type: Type(le.Uint32(v[valueType:])), Size: int(size), h: h, offset: offset,
	}, nil
}

// Values lists the key's values in the order of the file.
func (k Key) Values() ([]Value, error) {
	n, err := k.h.node(k.offset)
	if err != nil {
		return nil, err
	}
	offsets, err := k.h.valueList(n)
	if err != nil {
		return nil, err
	}
	values := make([]Value, len(offsets))
	for i, offset := range offsets {
		if values[i], err = k.h.value(offset); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Value finds a value by its name, in any case; "" is the key's default value.
func (k Key) Value(name string) (Value, error) {
	values, err := k.Values()
	if err != nil {
		return Value{}, err
	}
	i := slices.IndexFunc(values, func(v Value) bool { return fold(v.Name) == fold(name) })
	if i < 0 {
		return Value{}, fmt.Errorf("value %s: %w", name, ErrNotFound)
	}
	return values[i], nil
}

// Data reads the value's data, up to 64 MiB.
func (v Value) Data() ([]byte, error) {
	c, err := v.h.record(v.offset, "vk", valueName)
	if err != nil {
		return nil, err
	}
	if le.Uint32(c[valueSize:])&valueInline != 0 {
		return slices.Clone(c[valueData : valueData+min(v.Size, 4)]), nil
	}
	if v.Size == 0 {
		return nil, nil
	}
	if v.Size > maxData {
		return nil, fmt.Errorf("value %s: %d bytes, more than the %d that are read", v.Name, v.Size, maxData)
	}
	offset := le.Uint32(c[valueData:])
	if v.Size > segment && v.h.minor() >= bigDataMin {
		return v.h.bigData(offset, v.Size)
	}
	data, err := v.h.cell(offset)
	if err != nil {
		return nil, err
	}
	if v.Size > len(data) {
		return nil, damaged(offset, fmt.Sprintf("a cell with %d bytes of data", v.Size))
	}
	return slices.Clone(data[:v.Size]), nil
}

// segments lists the cells of big data.
func (h *Hive) segments(offset uint32) (list uint32, segments []uint32, err error) {
	db, err := h.record(offset, "db", 8)
	if err != nil {
		return 0, nil, err
	}
	count := int(le.Uint16(db[2:]))
	list = le.Uint32(db[4:])
	c, err := h.cell(list)
	if err != nil {
		return 0, nil, err
	}
	if 4*count > len(c) {
		return 0, nil, damaged(list, fmt.Sprintf("a list of %d segments", count))
	}
	for i := range count {
		segments = append(segments, le.Uint32(c[4*i:]))
	}
	return list, segments, nil
}

func (h *Hive) bigData(offset uint32, size int) ([]byte, error) {
	_, segments, err := h.segments(offset)
	if err != nil {
		return nil, err
	}
	var data []byte
	for _, at := range segments {
		c, err := h.cell(at)
		if err != nil {
			return nil, err
		}
		data = append(data, c[:min(len(c), segment, size-len(data))]...)
		if len(data) == size {
			return data, nil
		}
	}
	return nil, damaged(offset, fmt.Sprintf("segments with %d bytes of data", size))
}

// Text is the value as text, up to its NUL. The value must be a string of some type.
func (v Value) Text() (string, error) {
	if v.Type != String && v.Type != ExpandString && v.Type != MultiString {
		return "", fmt.Errorf("value %s: type %d, expected a string", v.Name, v.Type)
	}
	data, err := v.Data()
	if err != nil {
		return "", err
	}
	text, _, _ := strings.Cut(decodeName(data, false), "\x00")
	return text, nil
}

// Uint32 is the value as a number. The value must be a DWORD.
func (v Value) Uint32() (uint32, error) {
	data, err := v.Data()
	if err != nil {
		return 0, err
	}
	if v.Type != DWORD || len(data) != 4 {
		return 0, fmt.Errorf("value %s: type %d with %d bytes, expected a DWORD", v.Name, v.Type, len(data))
	}
	return le.Uint32(data), nil
}

// maxDepth is how deep keys may lie; Windows allows 512.
const maxDepth = 512

// Walk calls visit for every key, parents first. A hive whose keys contain each other is an error.
func (h *Hive) Walk(visit func(path []string, k Key) error) error {
	root, err := h.Root()
	if err != nil {
		return err
	}
	return root.walk(nil, map[uint32]bool{}, visit)
}

func (k Key) walk(path []string, seen map[uint32]bool, visit func([]string, Key) error) error {
	if seen[k.offset] {
		return damaged(k.offset, "a key that has one parent")
	}
	if len(path) > maxDepth {
		return errors.New("damaged registry hive: keys lie deeper than Windows allows")
	}
	seen[k.offset] = true
	if err := visit(path, k); err != nil {
		return err
	}
	subkeys, err := k.Subkeys()
	if err != nil {
		return err
	}
	for _, sub := range subkeys {
		name, err := sub.Name()
		if err != nil {
			return err
		}
		if err := sub.walk(append(path[:len(path):len(path)], name), seen, visit); err != nil {
			return err
		}
	}
	return nil
}

// decodeName reads extended ASCII or UTF-16.
func decodeName(b []byte, latin1 bool) string {
	if latin1 {
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		return string(runes)
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = le.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// encodeName is the shorter of the two forms.
func encodeName(name string) (b []byte, latin1 bool) {
	latin1 = true
	for _, r := range name {
		latin1 = latin1 && r < 256
	}
	if !latin1 {
		return EncodeUTF16(name), false
	}
	for _, r := range name {
		b = append(b, byte(r))
	}
	return b, true
}

// EncodeUTF16 gives text the form of string data (little-endian), without a NUL.
func EncodeUTF16(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = le.AppendUint16(b, u)
	}
	return b
}

// fold makes names comparable.
func fold(name string) string { return strings.Map(unicode.ToUpper, name) }

// nameHash is the hash of a hash leaf.
func nameHash(name string) (h uint32) {
	for _, u := range utf16.Encode([]rune(fold(name))) {
		h = 37*h + uint32(u)
	}
	return h
}
