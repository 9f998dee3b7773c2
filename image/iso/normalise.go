package iso

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	media "github.com/bootmend/bootmend/image"
)

// extent is where a file lies in the image.
type extent struct{ offset, size int64 }

// normalise makes equal trees equal images, whenever, wherever and by whomever they are built: dates become the
// tree's, owners root, permissions read-only. It also puts the records of each directory into the order that
// ECMA-119 section 9.3 asks for (go-diskfs sorts by the names of the files that it was given), and points the
// files' records to their extents.
func normalise(m *memory, tree *media.Tree, extents map[string]extent) error {
	pvd, err := descriptor(m, pvdBlock, 1)
	if err != nil {
		return err
	}
	// ECMA-119 section 8.4: four dates of 17 characters; those of expiration and effect stay unset.
	unset := append([]byte("0000000000000000"), 0)
	copy(pvd[813:], longDate(tree.Time)) // creation
	copy(pvd[830:], longDate(tree.Time)) // modification
	copy(pvd[847:], unset)
	copy(pvd[864:], unset)
	copy(pvd[156+18:], shortDate(tree.Time)) // the root directory's record
	if _, err := m.WriteAt(pvd, pvdBlock*blockSize); err != nil {
		return err
	}
	w := walker{m: m, date: tree.Time, extents: extents}
	root := pvd[156:]
	if err := w.dir("", le32(root[2:]), le32(root[10:]), 0); err != nil {
		return err
	}
	if w.files != len(tree.Files) {
		return fmt.Errorf("ISO 9660: %d files laid out of %d", w.files, len(tree.Files))
	}
	return nil
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// bothEndian is ECMA-119 section 7.3.3.
func bothEndian(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

// longDate is ECMA-119 section 8.4.26.1, in UTC.
func longDate(t time.Time) []byte {
	return append([]byte(t.UTC().Format("20060102150405")+"00"), 0)
}

// shortDate is ECMA-119 section 9.1.5, in UTC.
func shortDate(t time.Time) []byte {
	t = t.UTC()
	return []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0}
}

type walker struct {
	m       *memory
	date    time.Time
	extents map[string]extent
	files   int    // records of files seen
	cont    []byte // the continuation area being worked on
}

const maxDepth = 8

// dir normalises a directory and everything below it.
func (w *walker) dir(path string, block, size uint32, depth int) error {
	if depth > maxDepth || size > 1<<20 {
		return fmt.Errorf("ISO 9660: directory %s/: too deep or too large", path)
	}
	// A length that is not whole blocks is taken up to the block's end.
	data := make([]byte, (int64(size)+blockSize-1)/blockSize*blockSize)
	if _, err := w.m.ReadAt(data, int64(block)*blockSize); err != nil {
		return err
	}
	var records [][]byte
	for at := 0; at < len(data); {
		n := int(data[at])
		if n == 0 { // no record crosses a block: the rest of this one is empty
			at = (at/blockSize + 1) * blockSize
			continue
		}
		if n < 34 || at+n > len(data) || 33+int(data[at+32]) > n {
			return fmt.Errorf("ISO 9660: directory %s/: record of %d bytes at byte %d", path, n, at)
		}
		records = append(records, data[at:at+n])
		at += n
	}
	if len(records) < 2 {
		return fmt.Errorf("ISO 9660: directory %s/: no records", path)
	}
	for i, rec := range records {
		copy(rec[18:25], shortDate(w.date))
		isDir := rec[25]&2 != 0
		name, err := w.systemUse(rec, path, isDir)
		if err != nil {
			return err
		}
		if i < 2 { // itself and its parent
			continue
		}
		child := path + "/" + name
		if isDir {
			if err := w.dir(child, le32(rec[2:]), le32(rec[10:]), depth+1); err != nil {
				return err
			}
			continue
		}
		e, ok := w.extents[child]
		if !ok {
			return fmt.Errorf("ISO 9660: file %s: not one of the tree's", child)
		}
		w.files++
		bothEndian(rec[2:], uint32(e.offset/blockSize)) // ECMA-119 section 9.1.3
		bothEndian(rec[10:], uint32(e.size))
	}
	slices.SortFunc(records[2:], func(a, b []byte) int { return slices.Compare(identifier(a), identifier(b)) })
	sorted := make([]byte, 0, len(data))
	for _, rec := range records {
		if left := blockSize - len(sorted)%blockSize; len(rec) > left {
			sorted = append(sorted, zeroBlock[:left]...)
		}
		sorted = append(sorted, rec...)
	}
	if len(sorted) > len(data) {
		return fmt.Errorf("ISO 9660: directory %s/: %d bytes of records, room for %d", path, len(sorted), len(data))
	}
	sorted = append(sorted, make([]byte, len(data)-len(sorted))...)
	_, err := w.m.WriteAt(sorted, int64(block)*blockSize)
	return err
}

func identifier(rec []byte) []byte { return rec[33 : 33+int(rec[32])] }

// systemUse normalises the Rock Ridge fields of a record and returns the name that they hold (SUSP 1.12 section 4,
// RRIP 1.12 section 4).
func (w *walker) systemUse(rec []byte, dir string, isDir bool) (name string, err error) {
	start := 33 + int(rec[32])
	start += start & 1
	area := rec[min(start, len(rec)):]
	var block, offset int64 // of a continuation area being worked on
	for range 16 {
		next := []byte(nil)
		for len(area) >= 4 {
			n := int(area[2])
			if n < 4 || n > len(area) {
				return "", fmt.Errorf("ISO 9660: directory %s/: system use field of %d bytes", dir, n)
			}
			field := area[:n]
			switch string(field[:2]) {
			case "PX":
				mode, links := uint32(0o100444), uint32(1)
				if isDir {
					mode, links = 0o40555, 2
				}
				for i, v := range []uint32{mode, links, 0, 0} { // mode, links, user, group
					if 4+8*i+8 <= n {
						bothEndian(field[4+8*i:], v)
					}
				}
			case "TF":
				if n < 5 || field[4]&0x80 != 0 {
					return "", fmt.Errorf("ISO 9660: directory %s/: dates of another form", dir)
				}
				for at := 5; at+7 <= n; at += 7 {
					copy(field[at:], shortDate(w.date))
				}
			case "NM":
				if n >= 5 {
					name += string(field[5:])
				}
			case "CE":
				if n < 28 {
					return "", fmt.Errorf("ISO 9660: directory %s/: continuation field of %d bytes", dir, n)
				}
				next = field
			}
			area = area[n:]
		}
		if block != 0 {
			// Back to where the continuation came from.
			if _, err := w.m.WriteAt(w.cont, block*blockSize+offset); err != nil {
				return "", err
			}
		}
		if next == nil {
			return name, nil
		}
		block, offset = int64(le32(next[4:])), int64(le32(next[12:]))
		size := le32(next[20:])
		if block == 0 || size > blockSize {
			return "", fmt.Errorf("ISO 9660: directory %s/: continuation of %d bytes in block %d", dir, size, block)
		}
		w.cont = make([]byte, size)
		if _, err := w.m.ReadAt(w.cont, block*blockSize+offset); err != nil {
			return "", err
		}
		area = w.cont
	}
	return "", fmt.Errorf("ISO 9660: directory %s/: continuations without end", dir)
}
