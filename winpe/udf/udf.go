// Package udf reads the UDF file system of discs and their images, above all of Windows installation media: UDF 1.02
// up to 2.60 (OSTA), on ECMA-167.
//
// [Open] finds the volume; the [FS] that it gives is an [fs.FS], whose files can be read at any offset. Everything is
// read when it is asked for, so that an image of many gigabytes costs no more than a small one.
//
// Read are plain and metadata partitions. Virtual and sparable ones, which only written-to discs have, are recognised
// and refused, as are the other strategies of ICBs (ECMA-167 4/8.10) than the one that OSTA allows on read-only media.
package udf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrNoUDF says that something holds no UDF file system.
var ErrNoUDF = errors.New("no UDF file system")

// ErrUnsupported is wrapped by errors about kinds of UDF that this package does not read.
var ErrUnsupported = errors.New("kind of UDF not supported")

// Bounds on what a volume may make its reader do.
const (
	maxSequence  = 1 << 20  // bytes of a volume descriptor sequence
	maxMaps      = 16       // partition maps
	maxDirectory = 32 << 20 // bytes
	maxAreas     = 64 << 10 // extents of a file
	maxChain     = 1024     // continuations of a list of extents
	maxDepth     = 64       // of paths: directories may be linked in a circle
)

// Tag identifiers (ECMA-167 3/7.2.1 and 4/7.2.1).
const (
	tagAnchor        = 2
	tagPointer       = 3
	tagPartition     = 5
	tagLogicalVolume = 6
	tagTerminating   = 8
	tagFileSet       = 256
	tagIdentifier    = 257
	tagAllocation    = 258
	tagFileEntry     = 261
	tagExtendedEntry = 266
)

var le = binary.LittleEndian

// FS is a volume. Names are told apart by case, as they are recorded.
type FS struct {
	r     io.ReaderAt
	size  int64
	block int64
	maps  []mapping
	root  address
	label string
}

// mapping is how blocks of a partition reference are found.
type mapping struct {
	start, length uint32 // blocks of the volume
	// metadata is the file whose content the partition is (OSTA UDF 2.50, 2.2.10); nil for a plain partition.
	metadata *entry
}

// address is where something is recorded (lb_addr, ECMA-167 4/7.1).
type address struct {
	block uint32
	part  uint16
}

// Open finds the volume on a medium of size bytes. What holds none gives ErrNoUDF.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	for _, block := range []int64{2048, 512, 4096} {
		f := &FS{r: r, size: size, block: block}
		// ECMA-167 3/8.4.2.1: an anchor lies at two of these places.
		for _, at := range []int64{256, size/block - 1, size/block - 257} {
			anchor, err := f.descriptor(at, tagAnchor)
			if err != nil {
				continue
			}
			main, reserve := anchor[16:24], anchor[24:32]
			err = f.sequence(main)
			if err != nil && !errors.Is(err, ErrUnsupported) {
				if f.sequence(reserve) == nil {
					err = nil
				}
			}
			return f, err
		}
	}
	return nil, ErrNoUDF
}

// Label is the name of the volume.
func (f *FS) Label() string { return f.label }

// descriptor reads a block of the volume that must begin with a tag of a kind.
func (f *FS) descriptor(block int64, kind uint16) ([]byte, error) {
	b, got, err := f.anyDescriptor(block)
	if err == nil && got != kind {
		err = fmt.Errorf("block %d: tag %d where %d belongs: the volume is damaged", block, got, kind)
	}
	return b, err
}

func (f *FS) anyDescriptor(block int64) ([]byte, uint16, error) {
	if block < 0 || block >= f.size/f.block {
		return nil, 0, fmt.Errorf("block %d: outside of the volume: it is cut off or damaged", block)
	}
	b := make([]byte, f.block)
	if err := full(f.r, b, block*f.block); err != nil {
		return nil, 0, fmt.Errorf("block %d: %w", block, err)
	}
	if err := checkTag(b); err != nil {
		return nil, 0, fmt.Errorf("block %d: %w", block, err)
	}
	return b, le.Uint16(b), nil
}

// checkTag makes sure that a descriptor is one and is whole (tag, ECMA-167 3/7.2).
func checkTag(b []byte) error {
	if len(b) < 16 {
		return errors.New("too short for a descriptor: the volume is damaged")
	}
	var sum byte
	for i, c := range b[:16] {
		if i != 4 {
			sum += c
		}
	}
	length := int(le.Uint16(b[10:]))
	if sum != b[4] || le.Uint16(b) == 0 || length > len(b)-16 || crc(b[16:16+length]) != le.Uint16(b[8:]) {
		return errors.New("checksum of a descriptor is wrong: the volume is damaged")
	}
	return nil
}

// crc is that of ITU-T V.41 (ECMA-167 3/7.2.6): polynomial 0x1021, beginning with 0.
func crc(b []byte) (v uint16) {
	for _, c := range b {
		v = v<<8 ^ crcTable[byte(v>>8)^c]
	}
	return v
}

// crcTable is the remainder of each byte: x^16+x^12+x^5+1.
var crcTable = func() (table [256]uint16) {
	for i := range table {
		v := uint16(i) << 8
		for range 8 {
			if v&0x8000 != 0 {
				v = v<<1 ^ 0x1021
			} else {
				v <<= 1
			}
		}
		table[i] = v
	}
	return table
}()

// sequence reads a volume descriptor sequence (ECMA-167 3/8.4.2), whose place is an extent_ad.
func (f *FS) sequence(extent []byte) error {
	f.maps = nil
	var volume []byte
	partitions := map[uint16][]byte{}
	newest := map[uint16]uint32{} // of partitions, and under 0xffff of the volume
	length, at := int64(le.Uint32(extent)), int64(le.Uint32(extent[4:]))
	if length > maxSequence {
		return fmt.Errorf("volume descriptors of %d bytes: the volume is damaged", length)
	}
	for n := length / f.block; n > 0; n-- {
		b, kind, err := f.anyDescriptor(at)
		if err != nil {
			break // what is not recorded ends the sequence
		}
		at++
		number := le.Uint32(b[16:])
		switch kind {
		case tagPartition:
			id := le.Uint16(b[22:])
			if old, ok := newest[id]; !ok || number >= old {
				partitions[id], newest[id] = b, number
			}
		case tagLogicalVolume:
			if old, ok := newest[0xffff]; !ok || number >= old {
				volume, newest[0xffff] = b, number
			}
		case tagPointer:
			return fmt.Errorf("%w: volume descriptors in several places", ErrUnsupported)
		}
		if kind == tagTerminating {
			break
		}
	}
	if volume == nil {
		return errors.New("no logical volume is described: the volume is damaged")
	}
	return f.logicalVolume(volume, partitions)
}

// logicalVolume takes in the partition maps (ECMA-167 3/10.6) and finds the root directory.
func (f *FS) logicalVolume(b []byte, partitions map[uint16][]byte) error {
	if size := int64(le.Uint32(b[212:])); size != f.block {
		return fmt.Errorf("%w: logical blocks of %d bytes on sectors of %d", ErrUnsupported, size, f.block)
	}
	f.label = dstring(b[84:212])
	length, count := le.Uint32(b[264:]), le.Uint32(b[268:])
	if count > maxMaps || int64(length) > f.block-440 {
		return fmt.Errorf("%d partition maps of %d bytes: the volume is damaged", count, length)
	}
	maps := b[440 : 440+length]
	type late struct {
		index int
		part  uint16
		entry []byte
	}
	var metadata []late
	plain := func(id uint16) (mapping, error) {
		p, ok := partitions[id]
		if !ok {
			return mapping{}, fmt.Errorf("partition %d is not described: the volume is damaged", id)
		}
		return mapping{start: le.Uint32(p[188:]), length: le.Uint32(p[192:])}, nil
	}
	for i := range int(count) {
		if len(maps) < 2 || int(maps[1]) > len(maps) || maps[1] < 6 {
			return errors.New("partition map: too short: the volume is damaged")
		}
		m := maps[:maps[1]]
		maps = maps[maps[1]:]
		var id uint16
		switch {
		case m[0] == 1:
			id = le.Uint16(m[4:])
		case m[0] == 2 && len(m) >= 64: // OSTA UDF 2.2.8 to 2.2.10
			kind := strings.TrimRight(string(m[5:28]), "\x00")
			if kind != "*UDF Metadata Partition" {
				return fmt.Errorf("%w: %q", ErrUnsupported, kind)
			}
			id = le.Uint16(m[38:])
			metadata = append(metadata, late{i, id, m})
		default:
			return fmt.Errorf("%w: partition map of type %d", ErrUnsupported, m[0])
		}
		p, err := plain(id)
		if err != nil {
			return err
		}
		f.maps = append(f.maps, p)
	}
	for _, m := range metadata {
		e, err := f.metadataFile(m.entry, f.maps[m.index])
		if err != nil {
			return fmt.Errorf("metadata partition: %w", err)
		}
		f.maps[m.index].metadata = e
	}
	set, err := f.read(longAddress(b[248:]), int(f.block))
	if err == nil {
		err = checkTag(set)
	}
	if err == nil && le.Uint16(set) != tagFileSet {
		err = fmt.Errorf("tag %d where %d belongs: the volume is damaged", le.Uint16(set), tagFileSet)
	}
	if err != nil {
		return fmt.Errorf("file set: %w", err)
	}
	f.root = longAddress(set[400:])
	_, err = f.entry(f.root)
	return err
}

// metadataFile reads the file that a metadata partition is, or its mirror. Both lie in the plain partition in.
func (f *FS) metadataFile(m []byte, in mapping) (e *entry, err error) {
	// Its extents are short_ads, which stay in the partition of the file: here that is the only one.
	below := *f
	below.maps = []mapping{in}
	for _, at := range []uint32{le.Uint32(m[40:]), le.Uint32(m[44:])} {
		if e, err = below.entry(address{at, 0}); err == nil {
			return e, nil
		}
	}
	return nil, err
}

func longAddress(b []byte) address { return address{le.Uint32(b[4:]), le.Uint16(b[8:])} }

// read reads n bytes from a block of a partition on.
func (f *FS) read(at address, n int) ([]byte, error) {
	b := make([]byte, n)
	return b, f.readAt(b, at, 0)
}

// readAt reads from an offset behind the beginning of a block, which must all lie in the partition.
func (f *FS) readAt(b []byte, at address, off int64) error {
	if int(at.part) >= len(f.maps) {
		return fmt.Errorf("partition %d of %d: the volume is damaged", at.part, len(f.maps))
	}
	m := f.maps[at.part]
	from := int64(at.block)*f.block + off
	if m.metadata != nil {
		if from+int64(len(b)) > m.metadata.size {
			return fmt.Errorf("block %d of the metadata partition: outside of it: the volume is damaged", at.block)
		}
		return full(m.metadata, b, from)
	}
	if from < 0 || from+int64(len(b)) > int64(m.length)*f.block {
		return fmt.Errorf("block %d of partition %d: outside of it: the volume is damaged", at.block, at.part)
	}
	return full(f.r, b, int64(m.start)*f.block+from)
}

// full makes a short read an error, and io.EOF none where all was read.
func full(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}
