package fat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"
	"unicode/utf16"
)

// Contents is what a finished volume holds.
type Contents struct {
	Kind        Kind
	Size        int64 // bytes, by the volume's own account
	SectorSize  int
	ClusterSize int
	Label       string // of the root directory, or else of the boot sector
	VolumeID    uint32
	Time        time.Time // of the label
	BootData    []byte    // of the reserved sectors, without the zeros at its end
	Entries     []Entry   // in the order of the directories; those of a directory follow it
}

// Bounds of what a volume may hold. Media of ours hold a few dozen files; a person may add some.
const (
	maxEntries = 1 << 17
	maxDirSum  = 32 << 20 // bytes of all directories
	maxDepth   = 32
)

// Read reads the tree of the volume in the first size bytes of r, which any system may have written to. Files are
// read when they are opened; their readers are io.ReaderAt and io.Seeker too. An error names what does not fit.
func Read(r io.ReaderAt, size int64) (*Contents, error) {
	f, err := newReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("FAT volume: %w", err)
	}
	if err := f.bootData(); err != nil {
		return nil, fmt.Errorf("FAT volume: reserved sectors: %w", err)
	}
	root := dirRef{path: "", first: f.rootCluster}
	if err := f.dir(root, 0); err != nil {
		return nil, fmt.Errorf("FAT volume: %w", err)
	}
	return &f.Contents, nil
}

// reader is a volume being read.
type reader struct {
	Contents
	r           io.ReaderAt
	geo         geometry
	rootCluster uint32          // FAT32
	seen        map[uint32]bool // directories by their first cluster: none may hold itself

	dirSum int64

	page    int64 // the part of the FAT that is at hand
	pageBuf []byte
}

var errBoot = errors.New("no valid boot sector")

// newReader checks the boot sector (fatgen103, "Boot Sector and BPB Structure") before anything is believed.
func newReader(r io.ReaderAt, size int64) (*reader, error) {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("boot sector: %w", err)
	}
	le := binary.LittleEndian
	sector, spc, fats := uint32(le.Uint16(b[11:])), uint32(b[13]), uint32(b[16])
	if b[510] != 0x55 || b[511] != 0xaa || sector < 512 || sector > 4096 || sector&(sector-1) != 0 || spc == 0 || spc&(spc-1) != 0 ||
		fats < 1 || fats > 2 {
		return nil, errBoot
	}
	total, fatSectors := uint32(le.Uint16(b[19:])), uint32(le.Uint16(b[22:]))
	if total == 0 {
		total = le.Uint32(b[32:])
	}
	rootSecs := (uint32(le.Uint16(b[17:]))*32 + sector - 1) / sector
	fat32 := fatSectors == 0
	if fat32 {
		fatSectors = le.Uint32(b[36:])
	}
	f := &reader{r: r, seen: map[uint32]bool{}, page: -1}
	g := geometry{sector: sector, total: total, spc: spc, reserved: uint32(le.Uint16(b[14:])), fatSectors: fatSectors, rootSecs: rootSecs}
	start := uint64(g.reserved) + uint64(fats)*uint64(fatSectors)
	data := start + uint64(rootSecs)
	switch {
	case g.reserved == 0 || fatSectors == 0 || data+uint64(spc) > uint64(total):
		return nil, fmt.Errorf("%w: its areas do not fit in its %d sectors", errBoot, total)
	case int64(total)*int64(sector) > size:
		return nil, fmt.Errorf("%d bytes where it says to have %d: it is cut short", size, int64(total)*int64(sector))
	}
	g.rootStart, g.dataStart = uint32(start), uint32(data)
	g.clusters = (total - g.dataStart) / spc
	switch {
	case fat32:
		g.kind = FAT32
	case g.clusters < 4085: // fatgen103, "FAT Type Determination"
		g.kind = FAT12
	default:
		g.kind = FAT16
	}
	if uint64(g.clusters+2)*uint64(g.kind) > uint64(fatSectors)*uint64(sector)*8 {
		return nil, fmt.Errorf("%w: a FAT of %d sectors is too short for %d clusters", errBoot, fatSectors, g.clusters)
	}
	tail := b[36:]
	if fat32 {
		tail = b[64:]
		f.rootCluster = le.Uint32(b[44:])
	}
	f.geo = g
	f.Contents = Contents{
		Kind: g.kind, Size: int64(total) * int64(sector), SectorSize: int(sector), ClusterSize: int(spc * sector),
		VolumeID: le.Uint32(tail[3:]), Label: strings.TrimRight(string(tail[7:18]), " "),
	}
	return f, nil
}

func (f *reader) bootData() error {
	n := (int64(f.geo.reserved) - BootDataSector) * int64(f.geo.sector)
	if f.Kind != FAT32 || n <= 0 {
		return nil
	}
	b := make([]byte, min(n, maxBootData))
	if _, err := f.r.ReadAt(b, BootDataSector*int64(f.geo.sector)); err != nil {
		return err
	}
	f.BootData = bytes.TrimRight(b, "\x00")
	return nil
}

// next returns what follows a cluster in its chain; done at its end.
func (f *reader) next(c uint32) (n uint32, done bool, err error) {
	bit := int64(c) * int64(f.Kind)
	at := bit / 8
	const page = 4 << 10
	if p := at / page; p != f.page {
		size := min(int64(f.geo.fatSectors)*int64(f.geo.sector)-p*page, page+4)
		f.pageBuf = append(f.pageBuf[:0], make([]byte, max(size, 0)+4)...)
		if _, err := f.r.ReadAt(f.pageBuf[:size], int64(f.geo.reserved)*int64(f.geo.sector)+p*page); err != nil {
			f.page = -1
			return 0, false, fmt.Errorf("FAT entry %d: %w", c, err)
		}
		f.page = p
	}
	b, le := f.pageBuf[at%page:], binary.LittleEndian
	var last uint32
	switch f.Kind {
	case FAT32:
		n, last = le.Uint32(b)&0x0fffffff, 0x0ffffff8
	case FAT16:
		n, last = uint32(le.Uint16(b)), 0xfff8
	default:
		n, last = uint32(le.Uint16(b))>>(bit%8)&0xfff, 0xff8
	}
	if n >= last {
		return 0, true, nil
	}
	return n, false, nil
}

// fragment is a piece of a file that lies in one place.
type fragment struct{ at, off, size int64 } // in the file, in the volume

// chain follows the clusters from first on, up to limit bytes.
func (f *reader) chain(first uint32, limit int64) ([]fragment, error) {
	var runs []fragment
	cluster, at := int64(f.ClusterSize), int64(0)
	for c := first; at < limit; {
		if c < 2 || c-2 >= f.geo.clusters {
			return nil, fmt.Errorf("cluster %d after %d bytes: there is none of that number", c, at)
		}
		off := (int64(f.geo.dataStart) + int64(c-2)*int64(f.geo.spc)) * int64(f.geo.sector)
		if k := len(runs) - 1; k >= 0 && runs[k].off+runs[k].size == off {
			runs[k].size += cluster
		} else {
			runs = append(runs, fragment{at, off, cluster})
		}
		at += cluster
		if at > f.Size {
			return nil, errors.New("its clusters run in a circle")
		}
		n, done, err := f.next(c)
		if err != nil {
			return nil, err
		}
		if done {
			break
		}
		c = n
	}
	return runs, nil
}

type dirRef struct {
	path  string // "" for the root, else with a '/' at its end
	first uint32
}

// entries returns the bytes of a directory.
func (f *reader) entries(d dirRef) ([]byte, error) {
	if d.path == "" && f.Kind != FAT32 {
		b := make([]byte, f.geo.rootSecs*f.geo.sector)
		_, err := f.r.ReadAt(b, int64(f.geo.rootStart)*int64(f.geo.sector))
		return b, err
	}
	if f.seen[d.first] {
		return nil, errors.New("it lies in itself")
	}
	f.seen[d.first] = true
	runs, err := f.chain(d.first, maxDirBytes)
	if err != nil {
		return nil, err
	}
	var b []byte
	for _, r := range runs {
		if f.dirSum += r.size; f.dirSum > maxDirSum {
			return nil, fmt.Errorf("more than %d MiB of directories", maxDirSum>>20)
		}
		at := len(b)
		b = append(b, make([]byte, r.size)...)
		if _, err := f.r.ReadAt(b[at:], r.off); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// dir reads a directory and everything below it (fatgen103, "FAT Directory Structure").
func (f *reader) dir(d dirRef, depth int) error {
	data, err := f.entries(d)
	if err == nil && depth > maxDepth {
		err = fmt.Errorf("deeper than %d directories", maxDepth)
	}
	if err != nil {
		return fmt.Errorf("directory /%s: %w", d.path, err)
	}
	var long longRead
	le := binary.LittleEndian
	for ; len(data) >= 32 && data[0] != 0; data = data[32:] {
		e := data[:32]
		attr := e[11]
		switch {
		case e[0] == 0xe5: // deleted
			long = longRead{}
			continue
		case attr&attrLongName == attrLongName:
			long.add(e)
			continue
		}
		name := long.take(e)
		switch {
		case attr&attrVolumeID != 0:
			if d.path == "" {
				f.Label = strings.TrimRight(latin(e[:11]), " ")
				f.Time = readTime(le.Uint16(e[24:]), le.Uint16(e[22:]))
			}
			continue
		case e[0] == '.' && attr&attrDir != 0: // itself and its parent
			continue
		}
		if err := checkName(name); err != nil {
			return fmt.Errorf("directory /%s: %w", d.path, err)
		}
		if len(f.Entries) == maxEntries {
			return fmt.Errorf("more than %d files", maxEntries)
		}
		first := uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:]))
		if f.Kind != FAT32 {
			first &= 0xffff
		}
		entry := Entry{
			Path: d.path + name, Dir: attr&attrDir != 0, ModTime: readTime(le.Uint16(e[24:]), le.Uint16(e[22:])),
			Attr: attr & (AttrReadOnly | AttrHidden | AttrSystem),
		}
		if !entry.Dir {
			entry.Size = int64(le.Uint32(e[28:]))
			entry.Open = f.opener(first, entry.Size)
		}
		f.Entries = append(f.Entries, entry)
		if entry.Dir {
			if err := f.dir(dirRef{entry.Path + "/", first}, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// opener makes a file's Open. Each has a reader of its own, so that files can be read at the same time.
func (f *reader) opener(first uint32, size int64) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		if size == 0 {
			return openFile{io.NewSectionReader(bytes.NewReader(nil), 0, 0)}, nil
		}
		own := &reader{Contents: f.Contents, r: f.r, geo: f.geo, page: -1}
		runs, err := own.chain(first, size)
		if err != nil {
			return nil, err
		}
		return openFile{io.NewSectionReader(fragments{f.r, runs}, 0, size)}, nil
	}
}

// openFile is an open file.
type openFile struct{ *io.SectionReader }

func (openFile) Close() error { return nil }

// fragments is a file in pieces.
type fragments struct {
	r    io.ReaderAt
	runs []fragment
}

// ReadAt implements io.ReaderAt.
func (f fragments) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	i := sort.Search(len(f.runs), func(i int) bool { return f.runs[i].at+f.runs[i].size > off })
	for ; done < len(p); i++ {
		if i == len(f.runs) {
			return done, io.ErrUnexpectedEOF // the chain is shorter than the file
		}
		in := off - f.runs[i].at
		part := p[done:min(int64(len(p)), int64(done)+f.runs[i].size-in)]
		n, err := f.r.ReadAt(part, f.runs[i].off+in)
		done += n
		off += int64(n)
		if n < len(part) {
			return done, err
		}
	}
	return done, nil
}

// longRead gathers the entries of a long name, which come last part first.
type longRead struct {
	parts [][]uint16
	sum   byte
	next  byte // the number that must come next; 0 after the first part
}

func (l *longRead) add(e []byte) {
	order := e[0] &^ 0x40
	if e[0]&0x40 != 0 {
		*l = longRead{sum: e[13], next: order}
	}
	if order == 0 || order > 20 || order != l.next || e[13] != l.sum {
		*l = longRead{}
		return
	}
	part := make([]uint16, 0, 13)
	for _, at := range longOffsets {
		part = append(part, binary.LittleEndian.Uint16(e[at:]))
	}
	l.parts = append(l.parts, part)
	l.next--
}

// longOffsets is where the 13 characters of a long entry are: LDIR_Name1, LDIR_Name2, LDIR_Name3.
var longOffsets = [13]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// take returns the name of a short entry: the long one where it belongs to it.
func (l *longRead) take(e []byte) string {
	found := *l
	*l = longRead{}
	if len(found.parts) == 0 || found.next != 0 || found.sum != checksum([11]byte(e[:11])) {
		return shortName(e)
	}
	var units []uint16
	for i := len(found.parts) - 1; i >= 0; i-- {
		units = append(units, found.parts[i]...)
	}
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	return string(utf16.Decode(units))
}

// shortName is the 8.3 name, small where Windows NT noted that it is (bits of DIR_NTRes).
func shortName(e []byte) string {
	raw := bytes.Clone(e[:11])
	if raw[0] == 0x05 {
		raw[0] = 0xe5
	}
	base, ext := strings.TrimRight(latin(raw[:8]), " "), strings.TrimRight(latin(raw[8:]), " ")
	if e[12]&0x08 != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&0x10 != 0 {
		ext = strings.ToLower(ext)
	}
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// latin keeps bytes apart whose code page is not known.
func latin(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

// readTime is the reverse of dosTime; the zero time where there is none.
func readTime(date, clock uint16) time.Time {
	month, day := int(date>>5&15), int(date&31)
	if month < 1 || month > 12 || day < 1 {
		return time.Time{}
	}
	return time.Date(1980+int(date>>9), time.Month(month), day, int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}
