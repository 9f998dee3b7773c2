package fat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Write writes the whole volume to w, front to back. progress may be nil.
func (v *Volume) Write(ctx context.Context, w io.Writer, progress func(done, total int64)) error {
	return v.emit(&stream{ctx: ctx, out: w, total: v.size, progress: progress})
}

// WriteDisk writes the volume to w from its offset 0. Free clusters are left as they are. Where w is known to read
// as zeros (a new sparse file) blank says so, and zeros are left out too; the caller sets the file's length.
func (v *Volume) WriteDisk(ctx context.Context, w io.WriterAt, blank bool, progress func(done, total int64)) error {
	return v.emit(&stream{ctx: ctx, at: w, blank: blank, total: v.size, progress: progress})
}

func (v *Volume) emit(s *stream) error {
	g := v.geo
	s.write(v.bootSector())
	if g.kind == FAT32 {
		info := v.fsInfo()
		s.write(info)
		s.zero(4 * SectorSize)
		s.write(v.bootSector()) // BPB_BkBootSec = 6
		s.write(info)
	}
	s.zero(int64(g.reserved)*SectorSize - s.off)
	for range 2 {
		end := s.off + int64(g.fatSectors)*SectorSize
		v.writeFAT(s)
		s.zero(end - s.off)
	}
	if g.kind != FAT32 {
		s.write(v.dirEntries(v.root))
	}
	s.zero(int64(g.dataStart)*SectorSize - s.off)
	for _, n := range v.order {
		end := v.clusterOffset(n.first + n.clusters)
		if n.dir {
			s.write(v.dirEntries(n))
		} else {
			s.file(n)
		}
		s.zero(end - s.off)
	}
	s.skip(v.size - s.off)
	return s.err
}

// bootSector returns sector 0 (fatgen103, "Boot Sector and BPB Structure").
func (v *Volume) bootSector() []byte {
	g, b, le := v.geo, make([]byte, SectorSize), binary.LittleEndian
	fat32 := g.kind == FAT32
	tail := 36 // where the fields after the common part start
	if fat32 {
		tail = 64
	}
	copy(b, []byte{0xeb, byte(tail + 26 - 2), 0x90}) // BS_jmpBoot
	copy(b[3:], "MSWIN4.1")                          // BS_OEMName: the only one that all drivers take
	le.PutUint16(b[11:], SectorSize)                 // BPB_BytsPerSec
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
		le.PutUint32(b[36:], g.fatSectors)   // BPB_FATSz32
		le.PutUint32(b[44:], v.root.first)   // BPB_RootClus
		le.PutUint16(b[48:], 1)              // BPB_FSInfo
		le.PutUint16(b[50:], backupBootSect) // BPB_BkBootSec
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

const backupBootSect = 6

func padLabel(label string) string {
	if label == "" {
		label = "NO NAME"
	}
	return fmt.Sprintf("%-11s", label)
}

// fsInfo returns the FAT32 FSInfo sector.
func (v *Volume) fsInfo() []byte {
	b, le := make([]byte, SectorSize), binary.LittleEndian
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

// writeFAT writes the entries in use of one FAT: two reserved ones, then each run's chain.
func (v *Volume) writeFAT(s *stream) {
	const chunk = 48 << 10 // holds whole entries of all three kinds
	kind := v.geo.kind
	buf := make([]byte, 0, chunk+8)
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
		if len(buf) >= chunk {
			s.write(buf)
			buf = buf[:0]
		}
	}
	const end = 0x0fffffff
	put(0x0ffffff8) // FAT[0]: the media byte
	put(end)        // FAT[1]: cleanly unmounted, no errors
	for _, n := range v.order {
		if s.err != nil {
			return
		}
		for c := n.first; c < n.first+n.clusters-1; c++ {
			put(c + 1)
		}
		put(end)
	}
	if half >= 0 {
		put(0)
	}
	s.write(buf)
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

// stream is where the volume goes: every byte in order, to a writer or, with holes, to a place. The first
// error stays and makes the rest do nothing.
type stream struct {
	ctx      context.Context
	out      io.Writer
	at       io.WriterAt
	blank    bool
	off      int64
	total    int64
	progress func(done, total int64)
	err      error
	buf      []byte
}

var zeros [256 << 10]byte

func (s *stream) write(p []byte) {
	if s.err != nil || len(p) == 0 {
		return
	}
	if s.err = s.ctx.Err(); s.err != nil {
		return
	}
	var n int
	if s.out != nil {
		n, s.err = s.out.Write(p)
	} else {
		n, s.err = s.at.WriteAt(p, s.off)
	}
	if s.err == nil && n != len(p) {
		s.err = io.ErrShortWrite
	}
	if s.err != nil {
		s.err = fmt.Errorf("writing FAT volume at byte %d: %w", s.off+int64(n), s.err)
		return
	}
	s.advance(int64(n))
}

func (s *stream) advance(n int64) {
	s.off += n
	if s.progress != nil {
		s.progress(s.off, s.total)
	}
}

// zero puts n bytes that must read as zeros.
func (s *stream) zero(n int64) {
	if s.at != nil && s.blank {
		s.skip(n)
		return
	}
	for s.err == nil && n > 0 {
		k := min(n, int64(len(zeros)))
		s.write(zeros[:k])
		n -= k
	}
}

// skip puts n bytes that nobody reads.
func (s *stream) skip(n int64) {
	if s.err != nil || n <= 0 {
		return
	}
	if s.at == nil {
		s.zero(n)
		return
	}
	s.advance(n)
}

func (s *stream) file(n *node) {
	if s.err != nil {
		return
	}
	r, err := n.open()
	if err != nil {
		s.err = fmt.Errorf("file %s: %w", n.name, err)
		return
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	if s.buf == nil {
		s.buf = make([]byte, 256<<10)
	}
	for left := n.size; left > 0 && s.err == nil; {
		k, err := io.ReadFull(r, s.buf[:min(left, int64(len(s.buf)))])
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("%w: %d bytes fewer than announced", io.ErrUnexpectedEOF, left-int64(k))
			}
			s.err = fmt.Errorf("file %s: %w", n.name, err)
			return
		}
		s.write(s.buf[:k])
		left -= int64(k)
	}
	if s.err == nil {
		if k, _ := io.ReadFull(r, s.buf[:1]); k != 0 {
			s.err = fmt.Errorf("file %s: longer than the announced %d bytes: it changed while being written", n.name, n.size)
		}
	}
}
