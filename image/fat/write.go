package fat

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// region is a run of the volume's bytes that are not zero.
type region struct {
	off, size int64
	io.ReaderAt
}

// fill makes the volume readable, once everything has its place.
func (v *Volume) fill() {
	g := v.geo
	sector := int64(g.sector)
	add := func(off, size int64, r io.ReaderAt) {
		if size > 0 {
			v.regions = append(v.regions, region{off, size, r})
		}
	}
	addBytes := func(off int64, b []byte) { add(off, int64(len(b)), bytes.NewReader(b)) }

	addBytes(0, v.bootSector())
	if g.kind == FAT32 {
		addBytes(1*sector, v.fsInfo())
		addBytes(backupBootSector*sector, v.bootSector())
		addBytes((backupBootSector+1)*sector, v.fsInfo())
		addBytes(BootDataSector*sector, v.opts.BootData)
	}
	fat := v.table()
	addBytes(int64(g.reserved)*sector, fat)
	addBytes(int64(g.reserved+g.fatSectors)*sector, fat)
	if g.kind != FAT32 {
		addBytes(int64(g.rootStart)*sector, v.dirEntries(v.root))
	}
	v.end = int64(g.dataStart) * sector
	for _, n := range v.order {
		if at := v.clusterOffset(n.first); n.dir {
			addBytes(at, v.dirEntries(n))
		} else {
			add(at, n.size, &fileReader{node: n})
		}
		v.end = v.clusterOffset(n.first + n.clusters)
	}
}

// ReadAt implements io.ReaderAt. Reading in ascending order is fast; going back opens a file anew.
func (v *Volume) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("FAT volume: read at %d", off)
	}
	done := 0
	i, _ := slices.BinarySearchFunc(v.regions, off, func(r region, off int64) int { return cmp.Compare(r.off+r.size, off+1) })
	for done < len(p) && off < v.size {
		part := p[done:min(int64(len(p)), int64(done)+v.size-off)]
		switch {
		case i == len(v.regions):
			clear(part)
		case off < v.regions[i].off:
			part = part[:min(int64(len(part)), v.regions[i].off-off)]
			clear(part)
		default:
			r := v.regions[i]
			part = part[:min(int64(len(part)), r.off+r.size-off)]
			if n, err := r.ReadAt(part, off-r.off); err != nil {
				return done + n, err
			}
			if off+int64(len(part)) == r.off+r.size {
				i++
			}
		}
		done += len(part)
		off += int64(len(part))
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// Write writes the whole volume to w, front to back. progress may be nil.
func (v *Volume) Write(ctx context.Context, w io.Writer, progress func(done, total int64)) error {
	buf := make([]byte, min(v.size, 256<<10))
	for off := int64(0); off < v.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := v.ReadAt(buf[:min(int64(len(buf)), v.size-off)], off)
		if err != nil {
			return err
		}
		if n, err := w.Write(buf[:n]); err != nil {
			return fmt.Errorf("writing FAT volume at byte %d: %w", off+int64(n), err)
		}
		off += int64(n)
		if progress != nil {
			progress(off, v.size)
		}
	}
	return nil
}

// bootSector returns the first 512 bytes of sector 0 (fatgen103, "Boot Sector and BPB Structure").
func (v *Volume) bootSector() []byte {
	g, b, le := v.geo, make([]byte, 512), binary.LittleEndian
	fat32 := g.kind == FAT32
	tail := 36 // where the fields after the common part start
	if fat32 {
		tail = 64
	}
	copy(b, []byte{0xeb, byte(tail + 26 - 2), 0x90}) // BS_jmpBoot
	copy(b[3:], "MSWIN4.1")                          // BS_OEMName: the only one that all drivers take
	le.PutUint16(b[11:], uint16(g.sector))           // BPB_BytsPerSec
	b[13] = byte(g.spc)                              // BPB_SecPerClus
	le.PutUint16(b[14:], uint16(g.reserved))         // BPB_RsvdSecCnt
	b[16] = 2                                        // BPB_NumFATs
	if !fat32 {
		le.PutUint16(b[17:], rootEntries)          // BPB_RootEntCnt
		le.PutUint16(b[22:], uint16(g.fatSectors)) // BPB_FATSz16
	}
	if !fat32 && g.total < 0x10000 {
		le.PutUint16(b[19:], uint16(g.total)) // BPB_TotSec16
	} else {
		le.PutUint32(b[32:], g.total) // BPB_TotSec32
	}
	b[21] = 0xf8                               // BPB_Media: fixed
	le.PutUint16(b[24:], 63)                   // BPB_SecPerTrk
	le.PutUint16(b[26:], 255)                  // BPB_NumHeads
	le.PutUint32(b[28:], v.opts.HiddenSectors) // BPB_HiddSec
	if fat32 {
		le.PutUint32(b[36:], g.fatSectors)     // BPB_FATSz32
		le.PutUint32(b[44:], v.root.first)     // BPB_RootClus
		le.PutUint16(b[48:], 1)                // BPB_FSInfo
		le.PutUint16(b[50:], backupBootSector) // BPB_BkBootSec
	}
	b[tail] = 0x80                                 // BS_DrvNum
	b[tail+2] = 0x29                               // BS_BootSig
	le.PutUint32(b[tail+3:], v.opts.VolumeID)      // BS_VolID
	copy(b[tail+7:], padLabel(v.opts.Label))       // BS_VolLab
	copy(b[tail+18:], fmt.Sprintf("%-8s", g.kind)) // BS_FilSysType
	// Whoever boots this volume by itself is sent to the next boot device: int 18h, then a loop.
	copy(b[tail+26:], []byte{0xcd, 0x18, 0xeb, 0xfe})
	b[510], b[511] = 0x55, 0xaa
	return b
}

const backupBootSector = 6

func padLabel(label string) string {
	if label == "" {
		label = "NO NAME"
	}
	return fmt.Sprintf("%-11s", label)
}

// fsInfo returns the first 512 bytes of the FAT32 FSInfo sector.
func (v *Volume) fsInfo() []byte {
	b, le := make([]byte, 512), binary.LittleEndian
	le.PutUint32(b[0:], 0x41615252)              // FSI_LeadSig
	le.PutUint32(b[484:], 0x61417272)            // FSI_StrucSig
	le.PutUint32(b[488:], v.geo.clusters-v.used) // FSI_Free_Count
	next := v.used + 2
	if v.used == v.geo.clusters {
		next = 2
	}
	le.PutUint32(b[492:], next)       // FSI_Nxt_Free
	le.PutUint32(b[508:], 0xaa550000) // FSI_TrailSig
	return b
}

// table returns the entries in use of a FAT: two reserved ones, then each run's chain.
func (v *Volume) table() []byte {
	kind := v.geo.kind
	buf := make([]byte, 0, (int(v.used)+2)*int(kind)/8+4)
	half := -1 // FAT12: the even entry waiting for its odd neighbour
	put := func(e uint32) {
		switch {
		case kind == FAT32:
			buf = binary.LittleEndian.AppendUint32(buf, e&0x0fffffff)
		case kind == FAT16:
			buf = binary.LittleEndian.AppendUint16(buf, uint16(e))
		case half < 0:
			half = int(e & 0xfff)
		default:
			buf = append(buf, byte(half), byte(half>>8)|byte(e<<4), byte(e>>4))
			half = -1
		}
	}
	const end = 0x0fffffff
	put(0x0ffffff8) // FAT[0]: the media byte
	put(end)        // FAT[1]: cleanly unmounted, no errors
	for _, n := range v.order {
		for c := n.first; c < n.first+n.clusters-1; c++ {
			put(c + 1)
		}
		put(end)
	}
	if half >= 0 {
		put(0)
	}
	return buf
}

// dirEntries returns the entries of a directory (fatgen103, "FAT Directory Structure").
func (v *Volume) dirEntries(n *node) []byte {
	out := make([]byte, 0, n.dirBytes())
	switch {
	case n.parent != nil:
		// "..": a parent that is the root is written as cluster 0, on FAT32 too.
		up := uint32(0)
		if n.parent.parent != nil {
			up = n.parent.first
		}
		out = append(out, entry(pad(".", ""), attrDir, n.mod, n.first, 0)...)
		out = append(out, entry(pad("..", ""), attrDir, n.mod, up, 0)...)
	case n.label != "":
		var name [11]byte
		copy(name[:], padLabel(n.label))
		out = append(out, entry(name, attrVolumeID, n.mod, 0, 0)...)
	}
	for _, c := range n.children {
		out = append(out, longName(c)...)
		if c.dir {
			out = append(out, entry(c.short, attrDir|c.attr, c.mod, c.first, 0)...)
		} else {
			out = append(out, entry(c.short, attrArchive|c.attr, c.mod, c.first, uint32(c.size))...)
		}
	}
	return out
}

func entry(name [11]byte, attr byte, t time.Time, first, size uint32) []byte {
	b, le := make([]byte, 32), binary.LittleEndian
	date, clock := dosTime(t)
	copy(b, name[:])
	b[11] = attr
	le.PutUint16(b[14:], clock) // DIR_CrtTime
	le.PutUint16(b[16:], date)  // DIR_CrtDate
	le.PutUint16(b[18:], date)  // DIR_LstAccDate
	le.PutUint16(b[20:], uint16(first>>16))
	le.PutUint16(b[22:], clock) // DIR_WrtTime
	le.PutUint16(b[24:], date)  // DIR_WrtDate
	le.PutUint16(b[26:], uint16(first))
	le.PutUint32(b[28:], size)
	return b
}

// longName returns the long entries that precede a short one, last part first.
func longName(n *node) []byte {
	count, le := longEntries(n.long), binary.LittleEndian
	out := make([]byte, 0, count*32)
	for i := count; i > 0; i-- {
		b := make([]byte, 32)
		b[0] = byte(i)
		if i == count {
			b[0] |= 0x40 // LAST_LONG_ENTRY
		}
		b[11], b[13] = attrLongName, checksum(n.short)
		for k := range 13 {
			at := 1 + 2*k // LDIR_Name1: 5 characters, Name2: 6, Name3: 2
			switch {
			case k >= 11:
				at = 28 + 2*(k-11)
			case k >= 5:
				at = 14 + 2*(k-5)
			}
			c := uint16(0xffff)
			switch p := (i-1)*13 + k; {
			case p < len(n.long):
				c = n.long[p]
			case p == len(n.long):
				c = 0
			}
			le.PutUint16(b[at:], c)
		}
		out = append(out, b...)
	}
	return out
}

// dosTime is a time in UTC as FAT writes it: from 1980 to 2107, in steps of two seconds.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	switch y := t.Year(); {
	case y < 1980:
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	case y > 2107:
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	date = uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day())
	clock = uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
	return date, clock
}

// fileReader is a file's content. It keeps the file open from one read to the next, since most are ascending.
type fileReader struct {
	*node
	mu  sync.Mutex
	r   io.ReadCloser
	pos int64
}

// ReadAt implements io.ReaderAt. Reading the end makes sure that the file ends there.
func (c *fileReader) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.read(p, off)
	if err != nil {
		c.close()
		return n, fmt.Errorf("file %s: %w", c.name, err)
	}
	return n, nil
}

func (c *fileReader) read(p []byte, off int64) (int, error) {
	if err := c.seek(off); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(c.r, p)
	c.pos += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return n, fmt.Errorf("%w: %d bytes fewer than announced", io.ErrUnexpectedEOF, c.size-c.pos)
	}
	if err != nil || c.pos < c.size {
		return n, err
	}
	var more [1]byte
	k, err := io.ReadFull(c.r, more[:])
	if k != 0 {
		return n, fmt.Errorf("longer than the announced %d bytes: it changed while being written", c.size)
	}
	c.close()
	if !errors.Is(err, io.EOF) {
		return n, err // such as a wrong checksum
	}
	return n, nil
}

// seek opens the file, unless it is, and goes to an offset.
func (c *fileReader) seek(off int64) (err error) {
	if c.r != nil && c.pos == off {
		return nil
	}
	if s, ok := c.r.(io.Seeker); ok {
		c.pos, err = s.Seek(off, io.SeekStart)
		return err
	}
	if c.r == nil || c.pos > off {
		c.close()
		if c.r, err = c.open(); err != nil {
			return err
		}
	}
	n, err := io.CopyN(io.Discard, c.r, off-c.pos)
	c.pos += n
	return err
}

func (c *fileReader) close() {
	if c.r != nil {
		_ = c.r.Close() // read only: nothing is lost
	}
	c.r, c.pos = nil, 0
}
