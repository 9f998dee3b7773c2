// Package ntfsfs reads the files of an NTFS volume where no kernel does: from an image, on any system, without
// administrator rights, through a decrypted BitLocker volume as well. [Open] gives an [io/fs.FS]; nothing is ever
// written.
//
// The structures of the file system are taken apart by www.velocidex.com/golang/go-ntfs. That is made for forensics,
// where half an answer is better than none. Here a directory of which a part cannot be read is an error, and so is a
// file with too few bytes; names that are gone do not show; and what a damaged or hostile volume could cost in time and
// memory is bounded before the library looks at it. Formats: "NTFS Documentation" of the Linux-NTFS project.
package ntfsfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"path"
	"strings"
	"sync"
	"time"
	"unicode"

	"www.velocidex.com/golang/go-ntfs/parser"
)

// What keeps a file from being read although its volume is in order.
var (
	// ErrWOF is a file compressed by CompactOS: its data is not in the file itself.
	ErrWOF = errors.New("is compressed by CompactOS (WOF), which is not read here")
	// ErrEncrypted is a file encrypted by its user.
	ErrEncrypted = errors.New("is encrypted with EFS: only its user can read it")
)

// Attribute types, flags and constants, by their names in the documentation.
const (
	attrStandardInformation = 0x10
	attrAttributeList       = 0x20
	attrData                = 0x80
	attrIndexRoot           = 0x90
	attrIndexAllocation     = 0xa0
	attrBitmap              = 0xb0
	attrReparsePoint        = 0xc0

	flagEncrypted = 0x4000

	recordInUse     = 1
	recordDirectory = 2
	rootRecord      = 5

	namespaceDOS   = 2
	indexEntryLast = 2

	tagMountPoint = 0xa0000003
	tagSymlink    = 0xa000000c
	tagWOF        = 0x80000017
)

// Limits. NTFS itself allows an attribute list 256 KiB; no record holds more attributes than fit.
const (
	minAttributeSize  = 24
	minListEntrySize  = 26
	maxAttributeList  = 256 << 10
	maxIndexBlocks    = 1 << 16
	maxCachedEntries  = 1 << 20
	maxPathComponents = 256
)

// FS is the file tree of a volume. Paths are compared as Windows does, without regard to case. It is safe for use by
// several goroutines, one of which works at a time.
type FS struct {
	mu      sync.Mutex
	ctx     context.Context
	size    int64
	ntfs    *parser.NTFSContext
	records int64 // how many the volume could hold
	dirs    map[int64][]entry
	cached  int
}

// entry is a name in a directory.
type entry struct {
	name     string
	record   int64
	sequence uint16
}

// Open reads an NTFS volume of size bytes. ctx ends reading for good.
func Open(ctx context.Context, r io.ReaderAt, size int64) (*FS, error) {
	f := &FS{ctx: ctx, size: size, dirs: make(map[int64][]entry)}
	err := f.guard(func() error { return f.open(&blocks{ctx: ctx, r: r, size: size}) })
	if err != nil {
		return nil, fmt.Errorf("NTFS volume: %w", err)
	}
	return f, nil
}

// guard runs a step of the library alone and makes an error of its panics.
func (f *FS) guard(step func() error) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged in a way that the NTFS reader does not cope with: %v", p)
		}
		if err != nil && f.ctx.Err() != nil {
			err = f.ctx.Err()
		}
	}()
	return step()
}

func (f *FS) open(r *blocks) error {
	boot := make([]byte, 512)
	if _, err := r.ReadAt(boot, 0); err != nil {
		return fmt.Errorf("read the boot sector: %w", err)
	}
	g, err := readGeometry(boot)
	if err != nil {
		return err
	}
	if g.mft >= f.size {
		return fmt.Errorf("boot sector: the MFT is at byte %d, behind the end of the volume at %d", g.mft, f.size)
	}
	if sectors := binary.LittleEndian.Uint64(boot[40:]); sectors < uint64(g.cluster) {
		return fmt.Errorf("boot sector: a volume of %d sectors, which is too small to be read here", sectors)
	}
	f.records = f.size / g.record
	// Before anything follows its lists, the MFT's own record is checked.
	bare := &parser.NTFSContext{DiskReader: r, Profile: parser.NewNTFSProfile(), ClusterSize: g.cluster, RecordSize: g.record}
	mft, err := parser.GetFixedUpMFTEntry(bare, r, g.mft)
	if err != nil {
		return fmt.Errorf("record of the MFT at byte %d: %w", g.mft, err)
	}
	if _, err := checkRecord(bare, mft); err != nil {
		return fmt.Errorf("record of the MFT at byte %d: %w", g.mft, err)
	}
	if f.ntfs, err = parser.GetNTFSContext(r, 0); err != nil {
		return err
	}
	_, err = f.record(rootRecord, 0)
	return err
}

// geometry is what the boot sector says, in bytes.
type geometry struct{ cluster, record, mft int64 }

// readGeometry checks the fields that everything is computed from.
func readGeometry(boot []byte) (geometry, error) {
	var g geometry
	if string(boot[3:11]) != "NTFS    " {
		return g, errors.New("boot sector: no NTFS signature at byte 3")
	}
	sector := int64(binary.LittleEndian.Uint16(boot[11:]))
	perCluster := int64(boot[13])
	if sector < 256 || sector > 4096 || bits.OnesCount64(uint64(sector)) != 1 {
		return g, fmt.Errorf("boot sector: sectors of %d bytes", sector)
	}
	if perCluster == 0 || perCluster > 128 || bits.OnesCount64(uint64(perCluster)) != 1 {
		return g, fmt.Errorf("boot sector: clusters of %d sectors, which is not read here", perCluster)
	}
	g.cluster = sector * perCluster
	if n := int8(boot[64]); n > 0 {
		g.record = int64(n) * g.cluster
	} else if n >= -15 {
		g.record = 1 << -n
	}
	if g.record < 512 || g.record > 4096 || bits.OnesCount64(uint64(g.record)) != 1 {
		return g, fmt.Errorf("boot sector: records of %d bytes", g.record)
	}
	mft := binary.LittleEndian.Uint64(boot[48:])
	if mft > 1<<40 {
		return g, fmt.Errorf("boot sector: the MFT is at cluster %d", mft)
	}
	g.mft = int64(mft) * g.cluster
	return g, nil
}

// checkRecord walks the attributes of a record without following any, and returns the records that its attribute list
// leads to.
func checkRecord(ntfs *parser.NTFSContext, e *parser.MFT_ENTRY) ([]int64, error) {
	if !e.Magic().IsValid() {
		return nil, errors.New("no file record: the signature FILE is missing")
	}
	var refs []int64
	end := int64(e.Mft_entry_size())
	lists := 0
	for at := int64(e.Attribute_offset()); at+minAttributeSize <= end; {
		a := e.Profile.NTFS_ATTRIBUTE(e.Reader, at)
		if a.Type().Value == 0xffffffff {
			break
		}
		size := int64(a.Length())
		if size < minAttributeSize || at+size > end {
			return nil, fmt.Errorf("attribute at byte %d has %d bytes", at, size)
		}
		if a.Type().Value == attrAttributeList {
			if lists++; lists > 1 {
				return nil, errors.New("more than one attribute list")
			}
			var err error
			if refs, err = checkList(ntfs, e, a); err != nil {
				return nil, err
			}
		}
		at += size
	}
	return refs, nil
}

func checkList(ntfs *parser.NTFSContext, e *parser.MFT_ENTRY, a *parser.NTFS_ATTRIBUTE) ([]int64, error) {
	size := a.DataSize()
	if size < 0 || size > maxAttributeList {
		return nil, fmt.Errorf("attribute list of %d bytes", size)
	}
	list := make([]byte, size)
	if n, err := a.Data(ntfs).ReadAt(list, 0); n < len(list) {
		return nil, fmt.Errorf("attribute list: %w", cmpErr(err, io.ErrUnexpectedEOF))
	}
	var refs []int64
	own := int64(e.Record_number())
	for at := 0; at < len(list); {
		if len(list)-at < minListEntrySize {
			return nil, fmt.Errorf("attribute list: entry at byte %d is cut off", at)
		}
		length := int(binary.LittleEndian.Uint16(list[at+4:]))
		if length < minListEntrySize || length > len(list)-at {
			return nil, fmt.Errorf("attribute list: entry at byte %d has %d bytes", at, length)
		}
		if ref := int64(binary.LittleEndian.Uint64(list[at+16:]) & (1<<48 - 1)); ref != own {
			refs = append(refs, ref)
		}
		at += length
	}
	return refs, nil
}

func cmpErr(err, otherwise error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return otherwise
	}
	return err
}

// record reads a record that is in use; sequence 0 is any. All that it leads to has been checked then.
func (f *FS) record(id int64, sequence uint16) (*parser.MFT_ENTRY, error) {
	e, refs, err := f.checked(id)
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		if _, _, err := f.checked(ref); err != nil {
			return nil, fmt.Errorf("record %d: its attribute list: %w", id, err)
		}
	}
	if e.Flags().Value&recordInUse == 0 {
		return nil, fmt.Errorf("record %d is not in use: %w", id, fs.ErrNotExist)
	}
	if sequence != 0 && e.Sequence_value() != sequence {
		return nil, fmt.Errorf("record %d belongs to another file by now: %w", id, fs.ErrNotExist)
	}
	return e, nil
}

func (f *FS) checked(id int64) (*parser.MFT_ENTRY, []int64, error) {
	if id < 0 || id >= f.records {
		return nil, nil, fmt.Errorf("record %d: the volume holds no more than %d", id, f.records)
	}
	e, err := f.ntfs.GetMFT(id)
	if err != nil {
		return nil, nil, fmt.Errorf("record %d: %w", id, err)
	}
	refs, err := checkRecord(f.ntfs, e)
	if err != nil {
		return nil, nil, fmt.Errorf("record %d: %w", id, err)
	}
	return e, refs, nil
}

// list reads the names in a directory.
func (f *FS) list(dir int64, sequence uint16) ([]entry, error) {
	if l, ok := f.dirs[dir]; ok {
		return l, nil
	}
	e, err := f.record(dir, sequence)
	if err != nil {
		return nil, err
	}
	var root *parser.NTFS_ATTRIBUTE
	var allocated, bitmap int64 = -1, -1
	for _, a := range e.EnumerateAttributes(f.ntfs) {
		if a.Name() != "$I30" {
			continue
		}
		switch kind := a.Type().Value; {
		case kind == attrIndexRoot:
			root = a
		case kind == attrIndexAllocation && !a.IsResident() && a.Runlist_vcn_start() == 0:
			allocated = a.DataSize()
		case kind == attrBitmap && (a.IsResident() || a.Runlist_vcn_start() == 0):
			bitmap = a.DataSize()
		}
	}
	if root == nil || !root.IsResident() {
		return nil, fmt.Errorf("record %d: a directory without an index", dir)
	}
	l := &lister{seen: make(map[entry]bool)}
	index := f.ntfs.Profile.INDEX_ROOT(root.Data(f.ntfs), 0)
	if err := l.add(f.ntfs, index.Node()); err != nil {
		return nil, fmt.Errorf("record %d: index: %w", dir, err)
	}
	if allocated > 0 {
		if err := f.listBlocks(l, e, int64(index.Idxalloc_size_b()), allocated, bitmap); err != nil {
			return nil, fmt.Errorf("record %d: index: %w", dir, err)
		}
	}
	if f.cached+len(l.entries) > maxCachedEntries {
		f.dirs, f.cached = make(map[int64][]entry), 0
	}
	f.dirs[dir] = l.entries
	f.cached += len(l.entries)
	return l.entries, nil
}

// listBlocks reads the index blocks that are in use; the others hold what was deleted.
func (f *FS) listBlocks(l *lister, e *parser.MFT_ENTRY, blockSize, size, bitmapSize int64) error {
	if blockSize < 512 || blockSize > 64<<10 || bits.OnesCount64(uint64(blockSize)) != 1 {
		return fmt.Errorf("blocks of %d bytes", blockSize)
	}
	count := size / blockSize
	if size > f.size || count > maxIndexBlocks {
		return fmt.Errorf("%d blocks", count)
	}
	if bitmapSize*8 < count {
		return fmt.Errorf("%d blocks and a bitmap of %d bytes", count, bitmapSize)
	}
	used := make([]byte, (count+7)/8)
	if err := f.readStream(e, attrBitmap, used); err != nil {
		return fmt.Errorf("bitmap: %w", err)
	}
	blocks, err := parser.OpenStream(f.ntfs, e, attrIndexAllocation, parser.WILDCARD_STREAM_ID, "$I30")
	if err != nil {
		return err
	}
	for i := range count {
		if used[i/8]>>(i%8)&1 == 0 {
			continue
		}
		header, err := parser.DecodeSTANDARD_INDEX_HEADER(f.ntfs, blocks, i*blockSize, blockSize)
		if err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		if err := l.add(f.ntfs, header.Node()); err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
	}
	return nil
}

func (f *FS) readStream(e *parser.MFT_ENTRY, kind uint64, p []byte) error {
	r, err := parser.OpenStream(f.ntfs, e, kind, parser.WILDCARD_STREAM_ID, "$I30")
	if err != nil {
		return err
	}
	if n, err := r.ReadAt(p, 0); n < len(p) {
		return cmpErr(err, io.ErrUnexpectedEOF)
	}
	return nil
}

// lister gathers the entries of an index.
type lister struct {
	entries []entry
	seen    map[entry]bool
}

func (l *lister) add(ntfs *parser.NTFSContext, node *parser.INDEX_NODE_HEADER) error {
	for _, r := range node.GetRecords(ntfs) {
		if r.Flags()&indexEntryLast != 0 {
			break
		}
		if r.SizeOfIndexEntry() < 16+66 {
			return fmt.Errorf("entry at byte %d has %d bytes", r.Offset, r.SizeOfIndexEntry())
		}
		name := r.File()
		if name.NameType().Value == namespaceDOS {
			continue // the short name of a file that has a long one
		}
		e := entry{name.Name(), int64(r.MftReference()), r.Seq_num()}
		if e.name == "" || strings.ContainsAny(e.name, "/\x00") {
			return fmt.Errorf("entry at byte %d has the name %q", r.Offset, e.name)
		}
		if e.name != "." && !l.seen[e] {
			l.seen[e] = true
			l.entries = append(l.entries, e)
		}
	}
	return nil
}

// find walks a path from the root.
func (f *FS) find(name string) (entry, error) {
	at := entry{name: ".", record: rootRecord}
	if name == "." {
		return at, nil
	}
	parts := strings.Split(name, "/")
	if len(parts) > maxPathComponents {
		return at, fs.ErrNotExist
	}
	for i, part := range parts {
		if i > 0 {
			info, _, err := f.stat(at)
			if err != nil {
				return at, err
			}
			if !info.IsDir() {
				return at, fs.ErrNotExist // links are not followed
			}
		}
		entries, err := f.list(at.record, at.sequence)
		if err != nil {
			return at, err
		}
		next, ok := pick(entries, part)
		if !ok {
			return at, fs.ErrNotExist
		}
		at = next
	}
	return at, nil
}

// pick prefers the exact spelling.
func pick(entries []entry, name string) (entry, bool) {
	folded, found, ok := fold(name), entry{}, false
	for _, e := range entries {
		if e.name == name {
			return e, true
		}
		if !ok && fold(e.name) == folded {
			found, ok = e, true
		}
	}
	return found, ok
}

// fold stands for the volume's table of capitals.
func fold(s string) string { return strings.Map(unicode.ToUpper, s) }

// stat reads what a record says of its file. The error in the result is why its data cannot be read.
func (f *FS) stat(e entry) (*info, error, error) {
	record, err := f.record(e.record, e.sequence)
	if err != nil {
		return nil, nil, err
	}
	i := &info{name: e.name, mode: 0o444}
	if record.Flags().Value&recordDirectory != 0 {
		i.mode = fs.ModeDir | 0o555
	}
	var unreadable error
	dated := false
	for _, a := range record.EnumerateAttributes(f.ntfs) {
		switch a.Type().Value {
		case attrStandardInformation:
			si := f.ntfs.Profile.STANDARD_INFORMATION(a.Data(f.ntfs), 0)
			i.modified, i.accessed, i.created = si.File_altered_time().Time, si.File_accessed_time().Time, si.Create_time().Time
			dated = true
		case attrData:
			if a.Name() != "" || !a.IsResident() && a.Runlist_vcn_start() != 0 {
				continue
			}
			i.size = a.DataSize()
			if uint64(*a.Flags())&flagEncrypted != 0 {
				unreadable = ErrEncrypted
			}
		case attrReparsePoint:
			tag := make([]byte, 4)
			if n, err := a.Data(f.ntfs).ReadAt(tag, 0); n < len(tag) {
				return nil, nil, fmt.Errorf("record %d: reparse point: %w", e.record, cmpErr(err, io.ErrUnexpectedEOF))
			}
			switch binary.LittleEndian.Uint32(tag) {
			case tagWOF:
				unreadable = ErrWOF
			case tagMountPoint, tagSymlink:
				i.mode = fs.ModeSymlink | 0o777
			default:
				i.mode = fs.ModeIrregular | 0o444
			}
		}
	}
	if !dated {
		return nil, nil, fmt.Errorf("record %d: no standard information", e.record)
	}
	if i.size < 0 {
		return nil, nil, fmt.Errorf("record %d: a file of %d bytes", e.record, i.size)
	}
	if i.size > f.size && unreadable == nil {
		unreadable = fmt.Errorf("has %d bytes, more than its volume", i.size)
	}
	return i, unreadable, nil
}

func (f *FS) do(op, name string, step func(entry) error) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	err := f.guard(func() error {
		e, err := f.find(name)
		if err != nil {
			return err
		}
		if name != "." {
			e.name = path.Base(name)
		}
		return step(e)
	})
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// Lstat describes a file or directory; a link is described itself.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	var i *info
	err := f.do("lstat", name, func(e entry) (err error) {
		i, _, err = f.stat(e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Stat is Lstat: links are not followed, since they may lead off the volume.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.Lstat(name) }

// ReadLink is not offered: where a link leads is of no use here.
func (f *FS) ReadLink(name string) (string, error) {
	return "", &fs.PathError{Op: "readlink", Path: name, Err: errors.ErrUnsupported}
}

// ReadDir lists a directory in the order of the index, which is that of names.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	var all []fs.DirEntry
	err := f.do("readdir", name, func(e entry) error {
		i, _, err := f.stat(e)
		if err != nil {
			return err
		}
		if !i.IsDir() {
			return errors.New("is not a directory")
		}
		entries, err := f.list(e.record, e.sequence)
		for _, e := range entries {
			all = append(all, &dirEntry{fsys: f, entry: e})
		}
		return err
	})
	return all, err
}

// Open opens a file for reading, or a directory for its information alone ([FS.ReadDir] lists it).
func (f *FS) Open(name string) (fs.File, error) {
	file := &file{fsys: f, name: name}
	err := f.do("open", name, func(e entry) error {
		var err, unreadable error
		if file.info, unreadable, err = f.stat(e); err != nil || !file.info.Mode().IsRegular() {
			return err
		}
		if unreadable != nil {
			return unreadable
		}
		if file.info.size == 0 {
			file.data = strings.NewReader("") // also a file without data, as NTFS has some of its own
			return nil
		}
		record, err := f.record(e.record, e.sequence)
		if err != nil {
			return err
		}
		file.data, err = parser.OpenStream(f.ntfs, record, attrData, parser.WILDCARD_STREAM_ID, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// info describes a file.
type info struct {
	name                        string
	size                        int64
	mode                        fs.FileMode
	modified, accessed, created time.Time
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return i.size }
func (i *info) Mode() fs.FileMode  { return i.mode }
func (i *info) ModTime() time.Time { return i.modified }
func (i *info) IsDir() bool        { return i.mode.IsDir() }
func (i *info) Sys() any           { return nil }

// dirEntry finds out about its file when asked.
type dirEntry struct {
	fsys *FS
	entry
	once sync.Once
	info *info
	err  error
}

func (d *dirEntry) Name() string { return d.name }
func (d *dirEntry) IsDir() bool  { return d.Type().IsDir() }

func (d *dirEntry) Type() fs.FileMode {
	i, err := d.Info()
	if err != nil {
		return fs.ModeIrregular
	}
	return i.Mode().Type()
}

func (d *dirEntry) Info() (fs.FileInfo, error) {
	d.once.Do(func() {
		d.err = d.fsys.guard(func() (err error) {
			d.info, _, err = d.fsys.stat(d.entry)
			return err
		})
	})
	if d.err != nil {
		return nil, &fs.PathError{Op: "stat", Path: d.name, Err: d.err}
	}
	return d.info, nil
}

// file is an open file.
type file struct {
	fsys *FS
	name string
	info *info
	data io.ReaderAt // nil for what is no regular file
	at   int64
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

func (f *file) Read(p []byte) (int, error) {
	if f.data == nil {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: errors.New("is not a regular file")}
	}
	if f.at >= f.info.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), f.info.size-f.at)]
	var n int
	err := f.fsys.guard(func() (err error) {
		if err = f.fsys.ctx.Err(); err == nil {
			n, err = f.data.ReadAt(p, f.at)
		}
		if n == len(p) {
			return nil
		}
		return fmt.Errorf("byte %d of %d: %w", f.at+int64(n), f.info.size, cmpErr(err, io.ErrUnexpectedEOF))
	})
	if err != nil {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: err}
	}
	f.at += int64(n)
	return n, nil
}
