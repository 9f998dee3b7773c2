package flash

import (
	"fmt"
	"io"
	"slices"
)

// Extent is a piece of a source, in bytes.
type Extent struct{ Off, Len int64 }

// Source is what is written to a stick.
type Source interface {
	io.ReaderAt
	// Size is the length of the whole image in bytes. The device must be at least as large.
	Size() int64
	// Extents are the pieces that must be written, ascending and not overlapping; offsets and lengths are
	// multiples of 4096, except perhaps the end of the last. The rest of the device may keep what it holds.
	Extents() []Extent
}

// Plain is an image of unknown making. All of it is written, its holes as zeros: what an image does not
// mention may matter to the one who made it.
func Plain(r io.ReaderAt, size int64) Source { return plain{r, size} }

type plain struct {
	io.ReaderAt
	size int64
}

func (p plain) Size() int64       { return p.size }
func (p plain) Extents() []Extent { return []Extent{{0, p.size}} }

// checkExtents makes sure that a source keeps its promises before anything is written.
func checkExtents(s Source) error {
	end := int64(0)
	for i, e := range s.Extents() {
		last := e.Off+e.Len == s.Size()
		if e.Off < end || e.Len <= 0 || e.Off > s.Size()-e.Len || e.Off%alignment != 0 || e.Len%alignment != 0 && !last {
			return fmt.Errorf("image: piece %d, %d bytes at %d, is out of order, out of bounds or not aligned to %d", i, e.Len, e.Off, alignment)
		}
		end = e.Off + e.Len
	}
	return nil
}

const (
	alignment = 4096
	// blockSize is what is read and written at once. Sticks erase in pieces of up to 4 MiB.
	blockSize = 4 << 20
	// mergeGap is the largest gap between extents that is written along: shorter than what a stick needs to
	// begin another write.
	mergeGap = 128 << 10
	// headSize is the beginning of the device, which is written last. It holds the partition table and, on an
	// ISO, the volume descriptors.
	headSize = 1 << 20
)

// blocks cuts a source into writes, all of which begin aligned and none of which crosses a multiple of blockSize
// or the end of the head.
func blocks(s Source) (head, body []Extent) {
	var merged []Extent
	for _, e := range s.Extents() {
		if n := len(merged) - 1; n >= 0 && e.Off-(merged[n].Off+merged[n].Len) <= mergeGap {
			merged[n].Len = e.Off + e.Len - merged[n].Off
			continue
		}
		merged = append(merged, e)
	}
	for _, e := range merged {
		for e.Len > 0 {
			n := min(e.Len, blockSize-e.Off%blockSize)
			if e.Off < headSize {
				n = min(n, headSize-e.Off)
				head = append(head, Extent{e.Off, n})
			} else {
				body = append(body, Extent{e.Off, n})
			}
			e.Off += n
			e.Len -= n
		}
	}
	return head, body
}

// total is the number of bytes in extents.
func total(list []Extent) (n int64) {
	for _, e := range list {
		n += e.Len
	}
	return n
}

// overlaps reports whether a piece has bytes in common with one of list.
func overlaps(list []Extent, e Extent) bool {
	return slices.ContainsFunc(list, func(o Extent) bool { return e.Off < o.Off+o.Len && o.Off < e.Off+e.Len })
}
