// Package wim reads Windows Imaging files and adds files to an image in them without unpacking it.
//
// [Open] reads the header, the list of blobs and the XML; [File.Image] the tree of one image, which is an [fs.FS].
// [File.Add] plans an addition: what it gives reads as the changed WIM, and is written to a new file or appended to
// the old one by [Patched.Commit]. Nothing that was there is moved or recompressed.
//
// The format is that of Microsoft's "Windows Imaging File Format (WIM)" white paper, with what wimlib's header
// comments add to it. LZX and XPRESS are decompressed; solid resources (LZMS), split and pipable WIMs are recognised
// and refused.
package wim

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
)

// ErrUnsupported is wrapped by errors that are about kinds of WIM that this package does not read.
var ErrUnsupported = errors.New("kind of WIM not supported")

// Compression is how the resources of a WIM are compressed.
type Compression int

// The compressions.
const (
	None Compression = iota
	XPRESS
	LZX
)

// String names the compression.
func (c Compression) String() string { return [...]string{"none", "XPRESS", "LZX"}[c] }

// The header, 208 bytes (WIMHEADER_V1_PACKED).
const (
	headerSize = 208

	offFlags     = 16
	offChunkSize = 20
	offGUID      = 24
	offPart      = 40
	offParts     = 42
	offImages    = 44
	offTable     = 48  // rhOffsetTable
	offXML       = 72  // rhXmlData
	offBoot      = 96  // rhBootMetadata
	offBootIndex = 120 // dwBootIndex
	offIntegrity = 124 // rhIntegrity
)

// Flags of the header.
const (
	flagCompressed = 0x2
	flagSpanned    = 0x8
	flagWriting    = 0x40
	flagXPRESS     = 0x20000
	flagLZX        = 0x40000
	flagLZMS       = 0x80000
)

// Flags of a resource.
const (
	resourceMetadata   = 0x02
	resourceCompressed = 0x04
	resourceSpanned    = 0x08
	resourceSolid      = 0x10
)

// Bounds on what is read into memory.
const (
	maxTable    = 256 << 20
	maxXML      = 64 << 20
	maxMetadata = 256 << 20
	maxImages   = 10000
)

type hash [sha1.Size]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

// resource is where something lies in the file (RESHDR_DISK_SHORT, 24 bytes).
type resource struct {
	size     int64 // as stored
	flags    byte
	off      int64
	original int64
}

func parseResource(b []byte) resource {
	packed := binary.LittleEndian.Uint64(b)
	return resource{
		size:     int64(packed & (1<<56 - 1)),
		flags:    byte(packed >> 56),
		off:      int64(binary.LittleEndian.Uint64(b[8:])),
		original: int64(binary.LittleEndian.Uint64(b[16:])),
	}
}

func (r resource) put(b []byte) {
	binary.LittleEndian.PutUint64(b, uint64(r.size)|uint64(r.flags)<<56)
	binary.LittleEndian.PutUint64(b[8:], uint64(r.off))
	binary.LittleEndian.PutUint64(b[16:], uint64(r.original))
}

// blob is an entry of the offset table: a piece of content, or the metadata of an image.
type blob struct {
	resource
	part uint16
	refs uint32
	hash hash
}

const blobSize = 50

// File is a WIM.
type File struct {
	r           io.ReaderAt
	size        int64
	header      [headerSize]byte
	flags       uint32
	compression Compression
	chunk       int
	blobs       []blob
	byHash      map[hash]int
	metadata    []int // of the images, in their order: indexes of blobs
	xml         []byte
	table       resource
	xmlAt       resource
	integrity   resource
	bootIndex   int
}

// Open reads what is common to all images. size is the file's, in bytes.
func Open(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: size, byHash: map[hash]int{}}
	if size < headerSize {
		return nil, fmt.Errorf("a WIM begins with a header of %d bytes, this file has %d", headerSize, size)
	}
	if _, err := r.ReadAt(f.header[:], 0); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	if err := f.parseHeader(); err != nil {
		return nil, err
	}
	if err := f.readTable(); err != nil {
		return nil, err
	}
	return f, f.readXML()
}

func (f *File) parseHeader() error {
	h := f.header[:]
	switch magic := string(h[:8]); {
	case magic == "WLPWM\x00\x00\x00":
		return fmt.Errorf("%w: a pipable WIM: export it with wimlib-imagex first", ErrUnsupported)
	case magic != "MSWIM\x00\x00\x00":
		return errors.New("not a WIM: it does not begin with MSWIM")
	}
	if n := binary.LittleEndian.Uint32(h[8:]); n != headerSize {
		return fmt.Errorf("%w: a header of %d bytes where %d are expected", ErrUnsupported, n, headerSize)
	}
	switch version := binary.LittleEndian.Uint32(h[12:]); version {
	case 0x10d00:
	case 0xe00:
		return fmt.Errorf("%w: solid (an ESD, compressed with LZMS): export it to a WIM with \"dism /export-image /compress:max\" or \"wimlib-imagex export\" first", ErrUnsupported)
	default:
		return fmt.Errorf("%w: format version %#x", ErrUnsupported, version)
	}
	f.flags = binary.LittleEndian.Uint32(h[offFlags:])
	f.chunk = int(binary.LittleEndian.Uint32(h[offChunkSize:]))
	if f.flags&flagSpanned != 0 || binary.LittleEndian.Uint16(h[offParts:]) > 1 {
		return fmt.Errorf("%w: part %d of %d of a split WIM: join them first", ErrUnsupported,
			binary.LittleEndian.Uint16(h[offPart:]), binary.LittleEndian.Uint16(h[offParts:]))
	}
	if f.flags&flagWriting != 0 {
		return errors.New("the WIM is marked as being written to: another program has not finished, or was interrupted")
	}
	if f.flags&flagCompressed != 0 {
		switch {
		case f.flags&flagLZMS != 0:
			return fmt.Errorf("%w: compressed with LZMS: export it with LZX first", ErrUnsupported)
		case f.flags&flagLZX != 0:
			f.compression = LZX
		case f.flags&flagXPRESS != 0:
			f.compression = XPRESS
		default:
			return fmt.Errorf("%w: unknown compression (flags %#x)", ErrUnsupported, f.flags)
		}
		// XPRESS goes from 4 KiB to 64 KiB, LZX from 32 KiB to 2 MiB.
		if f.chunk < 4096 || f.chunk > 2<<20 || f.chunk&(f.chunk-1) != 0 || f.compression == XPRESS && f.chunk > 1<<16 {
			return fmt.Errorf("%w: chunks of %d bytes with %s", ErrUnsupported, f.chunk, f.compression)
		}
	}
	if n := binary.LittleEndian.Uint32(h[offImages:]); n > maxImages {
		return fmt.Errorf("the header tells of %d images: it is damaged", n)
	}
	f.table = parseResource(h[offTable:])
	f.xmlAt = parseResource(h[offXML:])
	f.integrity = parseResource(h[offIntegrity:])
	f.bootIndex = int(binary.LittleEndian.Uint32(h[offBootIndex:]))
	return nil
}

// inside checks a resource against the file before anything of it is believed.
func (f *File) inside(what string, r resource) error {
	if r.off < 0 || r.size < 0 || r.original < 0 || r.off > f.size || r.size > f.size-r.off {
		return fmt.Errorf("%s: bytes %d to %d of a file of %d: the WIM is cut or damaged", what, r.off, r.off+r.size, f.size)
	}
	return nil
}

func (f *File) readTable() error {
	if f.table.original > maxTable {
		return fmt.Errorf("table of %d bytes: the WIM is damaged", f.table.original)
	}
	table, err := f.read("table of resources", f.table)
	if err != nil {
		return err
	}
	if len(table)%blobSize != 0 {
		return fmt.Errorf("table of resources: %d bytes are no whole number of entries: the WIM is damaged", len(table))
	}
	f.blobs = make([]blob, 0, len(table)/blobSize)
	for at := 0; at < len(table); at += blobSize {
		e := table[at:]
		b := blob{resource: parseResource(e), part: binary.LittleEndian.Uint16(e[24:]), refs: binary.LittleEndian.Uint32(e[26:])}
		copy(b.hash[:], e[30:])
		if b.flags&resourceSolid != 0 {
			return fmt.Errorf("%w: solid resources", ErrUnsupported)
		}
		if b.flags&resourceSpanned != 0 || b.part > 1 {
			return fmt.Errorf("%w: resources in other parts", ErrUnsupported)
		}
		if err := f.inside(fmt.Sprintf("resource %d", at/blobSize+1), b.resource); err != nil {
			return err
		}
		if b.flags&resourceMetadata != 0 {
			f.metadata = append(f.metadata, len(f.blobs))
		} else {
			f.byHash[b.hash] = len(f.blobs)
		}
		f.blobs = append(f.blobs, b)
	}
	if images := int(binary.LittleEndian.Uint32(f.header[offImages:])); images != len(f.metadata) {
		return fmt.Errorf("the header tells of %d images, the table of %d: the WIM is damaged", images, len(f.metadata))
	}
	if f.bootIndex > len(f.metadata) {
		return fmt.Errorf("image %d is to be booted, and there are %d: the WIM is damaged", f.bootIndex, len(f.metadata))
	}
	return nil
}

// Compression is how the resources are compressed.
func (f *File) Compression() Compression { return f.compression }

// Images is how many images there are.
func (f *File) Images() int { return len(f.metadata) }

// BootIndex is the image that boots, from 1; 0 is none.
func (f *File) BootIndex() int { return f.bootIndex }

// Size is the file's size in bytes.
func (f *File) Size() int64 { return f.size }

// read reads a whole resource and decompresses it.
func (f *File) read(what string, r resource) ([]byte, error) {
	if err := f.inside(what, r); err != nil {
		return nil, err
	}
	if r.flags&resourceCompressed == 0 {
		if r.original != r.size {
			return nil, fmt.Errorf("%s: %d bytes stored as %d without compression: the WIM is damaged", what, r.original, r.size)
		}
		data := make([]byte, r.size)
		if _, err := f.r.ReadAt(data, r.off); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return data, nil
	}
	var out bytes.Buffer
	rd, err := f.open(what, r)
	if err != nil {
		return nil, err
	}
	// The buffer grows with what there really is: the size in the table may be anything.
	if _, err := io.Copy(&out, rd); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// open reads a resource chunk by chunk.
func (f *File) open(what string, r resource) (io.Reader, error) {
	if err := f.inside(what, r); err != nil {
		return nil, err
	}
	if r.flags&resourceCompressed == 0 {
		return io.NewSectionReader(f.r, r.off, min(r.size, r.original)), nil
	}
	if f.compression == None {
		return nil, fmt.Errorf("%s: compressed in a WIM that says it is not: the WIM is damaged", what)
	}
	c := &chunks{f: f, what: what, r: r, width: 4}
	c.count = (r.original + int64(f.chunk) - 1) / int64(f.chunk)
	if r.original > 1<<32-1 {
		c.width = 8
	}
	c.start = (c.count - 1) * c.width // the table has no entry for the first chunk
	if r.original == 0 || c.start > r.size {
		return nil, fmt.Errorf("%s: no room for a table of %d chunks: the WIM is damaged", what, c.count)
	}
	return c, nil
}

// chunks reads a compressed resource: a table of where the chunks begin, and the chunks.
type chunks struct {
	f     *File
	what  string
	r     resource
	width int64
	count int64
	start int64 // of the chunks, behind the table
	next  int64
	out   []byte
	left  []byte
	in    []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		if c.next == c.count {
			return 0, io.EOF
		}
		if err := c.decompress(); err != nil {
			return 0, fmt.Errorf("%s, chunk %d of %d: %w", c.what, c.next+1, c.count, err)
		}
		c.next++
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// begin is where a chunk begins, from the start of the resource.
func (c *chunks) begin(i int64) (int64, error) {
	switch i {
	case 0:
		return c.start, nil
	case c.count:
		return c.r.size, nil
	}
	var b [8]byte
	if _, err := c.f.r.ReadAt(b[:c.width], c.r.off+(i-1)*c.width); err != nil {
		return 0, err
	}
	at := binary.LittleEndian.Uint64(b[:])
	if at > uint64(c.r.size-c.start) {
		return 0, errCorrupt
	}
	return c.start + int64(at), nil
}

func (c *chunks) decompress() error {
	from, err := c.begin(c.next)
	if err != nil {
		return err
	}
	to, err := c.begin(c.next + 1)
	if err != nil {
		return err
	}
	size := min(int64(c.f.chunk), c.r.original-c.next*int64(c.f.chunk))
	if to <= from || to-from > size {
		return errCorrupt
	}
	if c.out == nil {
		c.out, c.in = make([]byte, min(int64(c.f.chunk), c.r.original)), make([]byte, c.f.chunk)
	}
	in := c.in[:to-from]
	if _, err := c.f.r.ReadAt(in, c.r.off+from); err != nil {
		return err
	}
	out := c.out[:size]
	switch {
	case int64(len(in)) == size: // stored, because it does not get smaller
		copy(out, in)
	case c.f.compression == XPRESS:
		err = xpress(out, in)
	default:
		err = lzx(out, in, c.f.chunk)
	}
	c.left = out
	return err
}

// text16 decodes UTF-16LE.
func text16(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

func bytes16(s string) []byte {
	units := utf16.Encode([]rune(s))
	b := make([]byte, 0, 2*len(units))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
