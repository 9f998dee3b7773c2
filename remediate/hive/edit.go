package hive

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
)

// Limits of names, as Windows has them.
const (
	maxKeyName   = 255
	maxValueName = 16383
)

// Fields of a key security item.
const (
	securityNext  = 4
	securityPrev  = 8
	securityCount = 12
	securityData  = 20
)

// errReadOnly is what a hive opened by Open answers to every change.
var errReadOnly = errors.New("the registry hive was opened to be read")

// editing is what a hive that can be changed keeps beside its bytes.
type editing struct {
	data []byte // hive bins data
	bins []uint32
	// starts has a bit for each 8 bytes where a cell begins, so that an offset that leads into the middle of one is
	// noticed before anything is written there.
	starts []byte
	free   map[uint32]uint32 // free cells and their sizes
	ends   map[uint32]uint32 // the same by their ends
}

// Load takes a hive into memory for editing. Unlike [Open] it insists on a hive that is sound: every bin and cell must
// lie where it says, no cell may have two owners, and a hive that was not closed cleanly must be completed by its logs,
// or the error is [ErrDirty].
func Load(data []byte, logs ...[]byte) (*Hive, error) {
	h, err := Open(bytes.NewReader(data), int64(len(data)), logs...)
	if err != nil {
		return nil, err
	}
	if h.dirty {
		return nil, ErrDirty
	}
	if minor := h.minor(); minor > 5 {
		return nil, fmt.Errorf("registry hive version 1.%d holds differences to another hive and cannot be edited", minor)
	}
	if h.size > maxEdit {
		return nil, fmt.Errorf("registry hive of %d bytes: at most %d are edited", h.size, maxEdit)
	}
	e := &editing{data: make([]byte, h.size), free: map[uint32]uint32{}, ends: map[uint32]uint32{}}
	if err := h.read(e.data, 0); err != nil {
		return nil, err
	}
	if err := e.index(); err != nil {
		return nil, err
	}
	h.edit, h.r, h.pages = e, nil, nil
	if err := h.check(); err != nil {
		return nil, err
	}
	return h, nil
}

// index looks at every bin and cell once.
func (e *editing) index() error {
	e.starts = make([]byte, len(e.data)/64)
	for at := uint32(0); int(at) < len(e.data); {
		size := le.Uint32(e.data[at+8:])
		if string(e.data[at:at+4]) != "hbin" || le.Uint32(e.data[at+4:]) != at ||
			size < binAlign || size%binAlign != 0 || uint64(at)+uint64(size) > uint64(len(e.data)) {
			return damaged(at, "a hive bin")
		}
		e.bins = append(e.bins, at)
		end := at + size
		for cell := at + binHeader; cell < end; {
			field := int64(int32(le.Uint32(e.data[cell:])))
			length := max(field, -field)
			if length < 8 || length%8 != 0 || length > int64(end-cell) {
				return damaged(cell, "a cell")
			}
			e.setStart(cell, true)
			if field > 0 {
				e.addFree(cell, uint32(length))
			}
			cell += uint32(length)
		}
		at = end
	}
	return nil
}

func (e *editing) setStart(offset uint32, on bool) {
	bit := byte(1) << (offset / 8 % 8)
	if on {
		e.starts[offset/64] |= bit
	} else {
		e.starts[offset/64] &^= bit
	}
}

func (e *editing) addFree(offset, size uint32) {
	le.PutUint32(e.data[offset:], size)
	e.free[offset], e.ends[offset+size] = size, offset
}

func (e *editing) dropFree(offset uint32) {
	delete(e.ends, offset+e.free[offset])
	delete(e.free, offset)
}

func (e *editing) cell(offset uint32) ([]byte, error) {
	if e.starts[offset/64]>>(offset/8%8)&1 == 0 || int32(le.Uint32(e.data[offset:])) >= 0 {
		return nil, damaged(offset, "an allocated cell")
	}
	size := -int32(le.Uint32(e.data[offset:]))
	return e.data[offset+4 : offset+uint32(size)], nil
}

// alloc makes a cell for n bytes of data, all zero. It takes the smallest free cell that is large enough, or makes the
// hive longer by a bin. Slices of other cells are not valid any more.
func (h *Hive) alloc(n int) (uint32, error) {
	e := h.edit
	need := (uint32(n) + 4 + 7) &^ 7
	best, bestSize := uint32(nowhere), uint32(nowhere)
	for offset, size := range e.free {
		if size >= need && (size < bestSize || size == bestSize && offset < best) {
			best, bestSize = offset, size
		}
	}
	if best == nowhere {
		at := h.size
		size := (need + binHeader + binAlign - 1) &^ (binAlign - 1)
		if uint64(at)+uint64(size) > maxEdit {
			return 0, fmt.Errorf("the registry hive would grow beyond %d bytes", maxEdit)
		}
		bin := make([]byte, size)
		copy(bin, "hbin")
		le.PutUint32(bin[4:], at)
		le.PutUint32(bin[8:], size)
		e.data = append(e.data, bin...)
		e.starts = append(e.starts, make([]byte, size/64)...)
		e.bins = append(e.bins, at)
		h.size += size
		best, bestSize = at+binHeader, size-binHeader
		e.setStart(best, true)
		e.addFree(best, bestSize)
	}
	e.dropFree(best)
	if rest := bestSize - need; rest >= 8 {
		e.setStart(best+need, true)
		e.addFree(best+need, rest)
	} else {
		need = bestSize
	}
	clear(e.data[best : best+need])
	le.PutUint32(e.data[best:], -need)
	return best, nil
}

// release frees a cell and joins it with free neighbours in its bin. Offsets that point nowhere are none.
func (h *Hive) release(offset uint32) error {
	if offset == nowhere {
		return nil
	}
	c, err := h.cell(offset)
	if err != nil {
		return err
	}
	e := h.edit
	size := uint32(len(c)) + 4
	i, found := slices.BinarySearch(e.bins, offset)
	if !found {
		i--
	}
	end := h.size
	if i+1 < len(e.bins) {
		end = e.bins[i+1]
	}
	if next := offset + size; next < end && e.free[next] > 0 {
		more := e.free[next]
		e.dropFree(next)
		e.setStart(next, false)
		size += more
	}
	// Between two bins lies a header, so what ends here is of the same bin.
	if before, ok := e.ends[offset]; ok {
		size += e.free[before]
		e.dropFree(before)
		e.setStart(offset, false)
		offset = before
	}
	e.addFree(offset, size)
	return nil
}

// at returns the data of a cell that is known to be one.
func (h *Hive) at(offset uint32) []byte {
	c, err := h.edit.cell(offset)
	if err != nil {
		panic(err) // only offsets that cell or alloc vouched for come here
	}
	return c
}

// touch dates a key.
func (k Key) touch() {
	if !k.h.Now.IsZero() {
		le.PutUint64(k.h.at(k.offset)[nodeTime:], filetime(k.h.Now))
	}
}

func (k Key) editable() ([]byte, error) {
	if k.h.edit == nil {
		return nil, errReadOnly
	}
	return k.h.node(k.offset)
}

// SetValue gives the key a value, new or in place of one of that name in any case. Data of more than 16,344 bytes
// are refused: they need a structure of their own that nothing here writes.
func (k Key) SetValue(name string, t Type, data []byte) error {
	h := k.h
	n, err := k.editable()
	if err != nil {
		return err
	}
	if len(data) > segment {
		return fmt.Errorf("value %s: %d bytes, at most %d are written", name, len(data), segment)
	}
	offsets, err := h.valueList(n)
	if err != nil {
		return err
	}
	i, v, err := k.findValue(offsets, name)
	if errors.Is(err, ErrNotFound) {
		v, err = k.addValue(offsets, name)
	} else if err == nil {
		v = offsets[i]
	}
	if err != nil {
		return err
	}
	if err := h.setData(v, data); err != nil {
		return err
	}
	le.PutUint32(h.at(v)[valueType:], uint32(t))
	n = h.at(k.offset)
	le.PutUint32(n[nodeMaxData:], max(le.Uint32(n[nodeMaxData:]), uint32(len(data))))
	k.touch()
	return nil
}

func (k Key) findValue(offsets []uint32, name string) (int, uint32, error) {
	for i, offset := range offsets {
		v, err := k.h.value(offset)
		if err != nil {
			return 0, 0, err
		}
		if fold(v.Name) == fold(name) {
			return i, offset, nil
		}
	}
	return 0, 0, fmt.Errorf("value %s: %w", name, ErrNotFound)
}

// addValue adds an empty value and returns its offset.
func (k Key) addValue(offsets []uint32, name string) (uint32, error) {
	h := k.h
	if len(utf16.Encode([]rune(name))) > maxValueName {
		return 0, fmt.Errorf("value name of more than %d characters", maxValueName)
	}
	if le.Uint16(h.at(k.offset)[nodeFlags:])&nodeIsPredefined != 0 {
		return 0, errors.New("this key stands for a handle and has no values")
	}
	encoded, latin1 := encodeName(name)
	v, err := h.alloc(valueName + len(encoded))
	if err != nil {
		return 0, err
	}
	c := h.at(v)
	copy(c, "vk")
	le.PutUint16(c[valueNameLength:], uint16(len(encoded)))
	le.PutUint32(c[valueSize:], valueInline)
	if latin1 {
		le.PutUint16(c[valueFlags:], valueIsLatin1)
	}
	copy(c[valueName:], encoded)
	if err := k.setValueList(append(offsets, v)); err != nil {
		return 0, err
	}
	n := h.at(k.offset)
	le.PutUint32(n[nodeMaxValue:], max(le.Uint32(n[nodeMaxValue:]), uint32(len(EncodeUTF16(name)))))
	return v, nil
}

// setValueList writes the list of the key's values, in its old cell where that is large enough.
func (k Key) setValueList(offsets []uint32) error {
	h := k.h
	n := h.at(k.offset)
	list := le.Uint32(n[nodeValueList:])
	had := le.Uint32(n[nodeValues:]) > 0
	if len(offsets) == 0 {
		le.PutUint32(n[nodeValues:], 0)
		le.PutUint32(n[nodeValueList:], nowhere)
		return h.release(list)
	}
	if !had || len(h.at(list)) < 4*len(offsets) {
		larger, err := h.alloc(4 * len(offsets))
		if err != nil {
			return err
		}
		if had {
			if err := h.release(list); err != nil {
				return err
			}
		}
		list = larger
	}
	c := h.at(list)
	for i, offset := range offsets {
		le.PutUint32(c[4*i:], offset)
	}
	n = h.at(k.offset)
	le.PutUint32(n[nodeValues:], uint32(len(offsets)))
	le.PutUint32(n[nodeValueList:], list)
	return nil
}

// setData stores a value's data: up to four bytes in the value itself, more in a cell.
func (h *Hive) setData(v uint32, data []byte) error {
	old, size := le.Uint32(h.at(v)[valueData:]), le.Uint32(h.at(v)[valueSize:])
	separate := size&valueInline == 0 && size > 0
	big := separate && size > segment && h.minor() >= bigDataMin
	if separate && !big && len(data) > 4 {
		c, err := h.cell(old)
		if err != nil {
			return err
		}
		if len(data) <= len(c) {
			clear(c[copy(c, data):])
			le.PutUint32(h.at(v)[valueSize:], uint32(len(data)))
			return nil
		}
	}
	field, length := make([]byte, 4), uint32(len(data))|valueInline
	if len(data) > 4 {
		cell, err := h.alloc(len(data))
		if err != nil {
			return err
		}
		copy(h.at(cell), data)
		le.PutUint32(field, cell)
		length = uint32(len(data))
	} else {
		copy(field, data)
	}
	c := h.at(v)
	le.PutUint32(c[valueSize:], length)
	copy(c[valueData:], field)
	switch {
	case big:
		return h.releaseBig(old)
	case separate:
		return h.release(old)
	}
	return nil
}

func (h *Hive) releaseBig(offset uint32) error {
	list, segments, err := h.segments(offset)
	if err != nil {
		return err
	}
	for _, cell := range append(segments, list, offset) {
		if err := h.release(cell); err != nil {
			return err
		}
	}
	return nil
}

// SetDWORD sets a REG_DWORD.
func (k Key) SetDWORD(name string, v uint32) error {
	return k.SetValue(name, DWORD, le.AppendUint32(nil, v))
}

// SetText sets a REG_SZ, with the NUL that readers expect.
func (k Key) SetText(name, text string) error {
	return k.SetValue(name, String, EncodeUTF16(text+"\x00"))
}

// DeleteValue removes a value; one that is not there is ErrNotFound.
func (k Key) DeleteValue(name string) error {
	n, err := k.editable()
	if err != nil {
		return err
	}
	offsets, err := k.h.valueList(n)
	if err != nil {
		return err
	}
	i, v, err := k.findValue(offsets, name)
	if err != nil {
		return err
	}
	if err := k.h.setData(v, nil); err != nil {
		return err
	}
	if err := k.setValueList(slices.Delete(offsets, i, i+1)); err != nil {
		return err
	}
	k.touch()
	return k.h.release(v)
}

// CreateSubkey returns the subkey of that name, made if it does not exist. A new key has the security of its parent.
func (k Key) CreateSubkey(name string) (Key, error) {
	if k.h.edit == nil {
		return Key{}, errReadOnly
	}
	sub, err := k.Subkey(name)
	if !errors.Is(err, ErrNotFound) {
		return sub, err
	}
	if name == "" || strings.ContainsAny(name, "\\\x00") || len(utf16.Encode([]rune(name))) > maxKeyName {
		return Key{}, fmt.Errorf("%q cannot be the name of a registry key", name)
	}
	h := k.h
	n := h.at(k.offset)
	entries, err := h.wholeList(n)
	if err != nil {
		return Key{}, err
	}
	security := le.Uint32(n[nodeSecurity:])
	if security != nowhere {
		s, err := h.record(security, "sk", securityData)
		if err != nil {
			return Key{}, err
		}
		le.PutUint32(s[securityCount:], le.Uint32(s[securityCount:])+1)
	}
	sub = Key{h, 0}
	if sub.offset, err = h.newNode(name, k.offset, security); err != nil {
		return Key{}, err
	}
	if !h.Now.IsZero() {
		sub.touch()
	} else {
		copy(h.at(sub.offset)[nodeTime:][:8], h.at(k.offset)[nodeTime:])
	}
	if err := k.setSubkeys(append(entries, sub.offset)); err != nil {
		return Key{}, err
	}
	n = h.at(k.offset)
	le.PutUint16(n[nodeMaxSubkey:], max(le.Uint16(n[nodeMaxSubkey:]), uint16(len(EncodeUTF16(name)))))
	k.touch()
	return sub, nil
}

func (h *Hive) newNode(name string, parent, security uint32) (uint32, error) {
	encoded, latin1 := encodeName(name)
	offset, err := h.alloc(nodeName + len(encoded))
	if err != nil {
		return 0, err
	}
	c := h.at(offset)
	copy(c, "nk")
	if latin1 {
		le.PutUint16(c[nodeFlags:], nodeIsLatin1)
	}
	le.PutUint32(c[nodeParent:], parent)
	for _, field := range []int{nodeSubkeyList, nodeSubkeyList + 4, nodeValueList, nodeClass} {
		le.PutUint32(c[field:], nowhere)
	}
	le.PutUint32(c[nodeSecurity:], security)
	le.PutUint16(c[nodeNameLength:], uint16(len(encoded)))
	copy(c[nodeName:], encoded)
	return offset, nil
}

// wholeList is the list of subkeys of a key whose count and list agree, which is what may be written anew.
func (h *Hive) wholeList(n []byte) ([]uint32, error) {
	entries, err := h.subkeys(n)
	if err != nil {
		return nil, err
	}
	if count := int(le.Uint32(n[nodeSubkeys:])); count != len(entries) {
		return nil, fmt.Errorf("damaged registry hive: a key with %d subkeys lists %d", count, len(entries))
	}
	offsets := make([]uint32, len(entries))
	for i, e := range entries {
		offsets[i] = e.key
	}
	return offsets, nil
}

// Leaves are kept this small by Windows too; what is more goes under an index root.
const maxLeaf = 500

// setSubkeys writes the key's list of subkeys anew, sorted as Windows looks them up.
func (k Key) setSubkeys(offsets []uint32) error {
	h := k.h
	type named struct {
		offset uint32
		name   string
		sort   []uint16
	}
	keys := make([]named, len(offsets))
	for i, offset := range offsets {
		n, err := h.node(offset)
		if err != nil {
			return err
		}
		name := nodeNameOf(n)
		keys[i] = named{offset, name, utf16.Encode([]rune(fold(name)))}
	}
	slices.SortStableFunc(keys, func(a, b named) int { return slices.Compare(a.sort, b.sort) })
	n := h.at(k.offset)
	old, had := le.Uint32(n[nodeSubkeyList:]), le.Uint32(n[nodeSubkeys:]) > 0
	var leaves []uint32
	for part := range slices.Chunk(keys, maxLeaf) {
		leaf, err := h.alloc(4 + 8*len(part))
		if err != nil {
			return err
		}
		c := h.at(leaf)
		signature := "lh"
		if h.minor() < 5 {
			signature = "lf"
		}
		copy(c, signature)
		le.PutUint16(c[2:], uint16(len(part)))
		for i, key := range part {
			le.PutUint32(c[4+8*i:], key.offset)
			if signature == "lh" {
				le.PutUint32(c[8+8*i:], nameHash(key.name))
			} else {
				copy(c[8+8*i:12+8*i], nameHint(key.name))
			}
		}
		leaves = append(leaves, leaf)
	}
	list := uint32(nowhere)
	switch {
	case len(leaves) == 1:
		list = leaves[0]
	case len(leaves) > 1:
		var err error
		if list, err = h.alloc(4 + 4*len(leaves)); err != nil {
			return err
		}
		c := h.at(list)
		copy(c, "ri")
		le.PutUint16(c[2:], uint16(len(leaves)))
		for i, leaf := range leaves {
			le.PutUint32(c[4+4*i:], leaf)
		}
	}
	n = h.at(k.offset)
	le.PutUint32(n[nodeSubkeys:], uint32(len(keys)))
	le.PutUint32(n[nodeSubkeyList:], list)
	if !had {
		return nil
	}
	return h.releaseList(old)
}

// nameHint is the first four characters of a name; none where one of them has no single byte.
func nameHint(name string) []byte {
	runes := []rune(name)
	hint, latin1 := encodeName(string(runes[:min(4, len(runes))]))
	if !latin1 {
		return nil
	}
	return hint
}

// releaseList frees a list of subkeys with the lists below it.
func (h *Hive) releaseList(offset uint32) error {
	c, err := h.cell(offset)
	if err != nil {
		return err
	}
	for _, leaf := range rootLeaves(c) {
		if err := h.release(leaf); err != nil {
			return err
		}
	}
	return h.release(offset)
}

// DeleteSubkey removes a subkey with everything below it; one that is not there is ErrNotFound.
func (k Key) DeleteSubkey(name string) error {
	h := k.h
	n, err := k.editable()
	if err != nil {
		return err
	}
	offsets, err := h.wholeList(n)
	if err != nil {
		return err
	}
	sub, err := k.Subkey(name)
	if err != nil {
		return err
	}
	// All that is to go is looked at before the first of it does.
	doomed := map[uint32]bool{}
	if err := sub.walk(nil, doomed, func(path []string, key Key) error {
		n, err := h.node(key.offset)
		if err != nil {
			return err
		}
		if flags := le.Uint16(n[nodeFlags:]); flags&(nodeIsRoot|nodeNoDelete) != 0 || key.offset == k.offset {
			return fmt.Errorf("key %s: it must not be deleted", strings.Join(append([]string{name}, path...), `\`))
		}
		return nil
	}); err != nil {
		return err
	}
	offsets = slices.DeleteFunc(offsets, func(o uint32) bool { return o == sub.offset })
	if err := k.setSubkeys(offsets); err != nil {
		return err
	}
	k.touch()
	for _, offset := range slices.SortedFunc(maps.Keys(doomed), cmp.Compare[uint32]) {
		if err := h.releaseNode(offset); err != nil {
			return err
		}
	}
	return nil
}

// releaseNode frees a key node and what belongs to it alone.
func (h *Hive) releaseNode(offset uint32) error {
	n, err := h.node(offset)
	if err != nil {
		return err
	}
	offsets, err := h.valueList(n)
	if err != nil {
		return err
	}
	for _, v := range offsets {
		if _, err := h.value(v); err != nil {
			return err
		}
		if err := h.setData(v, nil); err != nil {
			return err
		}
		if err := h.release(v); err != nil {
			return err
		}
	}
	if len(offsets) > 0 {
		if err := h.release(le.Uint32(n[nodeValueList:])); err != nil {
			return err
		}
	}
	if le.Uint32(n[nodeSubkeys:]) > 0 {
		if err := h.releaseList(le.Uint32(n[nodeSubkeyList:])); err != nil {
			return err
		}
	}
	if le.Uint16(n[nodeClassLength:]) > 0 {
		if err := h.release(le.Uint32(n[nodeClass:])); err != nil {
			return err
		}
	}
	if err := h.releaseSecurity(le.Uint32(n[nodeSecurity:])); err != nil {
		return err
	}
	return h.release(offset)
}

// releaseSecurity takes one reference off a security item; the last one takes it out of the ring of such items.
func (h *Hive) releaseSecurity(offset uint32) error {
	if offset == nowhere {
		return nil
	}
	s, err := h.record(offset, "sk", securityData)
	if err != nil {
		return err
	}
	if count := le.Uint32(s[securityCount:]); count > 1 {
		le.PutUint32(s[securityCount:], count-1)
		return nil
	}
	next, prev := le.Uint32(s[securityNext:]), le.Uint32(s[securityPrev:])
	for _, end := range []struct {
		item  uint32
		field int
		to    uint32
	}{{next, securityPrev, prev}, {prev, securityNext, next}} {
		neighbour, err := h.record(end.item, "sk", securityData)
		if err != nil {
			return err
		}
		le.PutUint32(neighbour[end.field:], end.to)
	}
	return h.release(offset)
}

// Bytes is the hive as a file: closed cleanly, and with a sequence number above that of every log.
//
// The logs may so stay where they are beside the new file. Windows looks at them only for a hive that is dirty; should
// that one become dirty later, the old entries have numbers below the hive's, and logs of the old format another time.
func (h *Hive) Bytes() ([]byte, error) {
	if h.edit == nil {
		return nil, errReadOnly
	}
	base := slices.Clone(h.base)
	number := h.newest + 1
	if number == 0 {
		number = 1
	}
	le.PutUint32(base[basePrimary:], number)
	le.PutUint32(base[baseSecondary:], number)
	le.PutUint32(base[baseType:], typePrimary)
	le.PutUint32(base[baseBins:], h.size)
	if !h.Now.IsZero() {
		le.PutUint64(base[baseTime:], filetime(h.Now))
	}
	le.PutUint32(base[baseChecksum:], checksum(base))
	return append(base, h.edit.data...), nil
}

// New makes an empty hive of version 1.5 whose top key has the given name, as a place to build one for another use.
func New(root string) (*Hive, error) { return NewVersion(root, 5) }

// NewVersion is New for version 1.minor. Boot configuration stores are of version 1.3.
func NewVersion(root string, minor uint32) (*Hive, error) {
	h := &Hive{base: make([]byte, baseSize), edit: &editing{free: map[uint32]uint32{}, ends: map[uint32]uint32{}}}
	copy(h.base, "regf")
	le.PutUint32(h.base[baseMajor:], 1)
	le.PutUint32(h.base[baseMinor:], minor)
	le.PutUint32(h.base[32:], 1) // format: direct memory load
	le.PutUint32(h.base[44:], 1) // clustering factor
	top, err := h.newNode(root, nowhere, nowhere)
	if err != nil {
		return nil, err
	}
	n := h.at(top)
	le.PutUint16(n[nodeFlags:], le.Uint16(n[nodeFlags:])|nodeIsRoot|nodeNoDelete)
	le.PutUint32(h.base[baseRoot:], top)
	// One security item, which every key inherits: full control for everyone (a self-relative descriptor with owner and
	// group BUILTIN\Administrators and one access-allowed entry for Everyone).
	descriptor := []byte{
		1, 0, 0x04, 0x80, 48, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0,
		2, 0, 28, 0, 1, 0, 0, 0, 0, 2, 20, 0, 0x3f, 0, 0x0f, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
		1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0,
		1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0,
	}
	security, err := h.alloc(securityData + len(descriptor))
	if err != nil {
		return nil, err
	}
	s := h.at(security)
	copy(s, "sk")
	le.PutUint32(s[securityNext:], security)
	le.PutUint32(s[securityPrev:], security)
	le.PutUint32(s[securityCount:], 1)
	le.PutUint32(s[securityCount+4:], uint32(len(descriptor)))
	copy(s[securityData:], descriptor)
	le.PutUint32(h.at(top)[nodeSecurity:], security)
	return h, nil
}
