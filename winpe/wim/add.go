package wim

import (
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"
	"time"
)

// Addition is a file to put into an image.
type Addition struct {
	Path string // slash-separated, below the root of the image; missing directories are made
	Data io.ReaderAt
	Size int64
}

// Patched is a changed WIM: the old one, with another header and something behind it. It is read as a whole with
// ReadAt, or committed onto the old file.
type Patched struct {
	old      *File
	header   [headerSize]byte
	segments []segment // behind the old file, without gaps
	size     int64
	image    int      // that was added to
	metadata resource // of that image
}

type segment struct {
	off, size int64
	data      io.ReaderAt
}

// Add plans the addition of files to an image, which count from 1; files that are there are replaced, with their
// attributes, security descriptor, creation time and short name kept. New ones get the security descriptor of the
// directory that they go into. when is the time of the new entries.
func (f *File) Add(ctx context.Context, image int, files []Addition, when time.Time) (*Patched, error) {
	if image < 1 || image > len(f.metadata) {
		return nil, fmt.Errorf("image %d of %d", image, len(f.metadata))
	}
	tree, err := f.tree(image)
	if err != nil {
		return nil, err
	}
	a := &adder{f: f, tree: tree, when: when, p: &Patched{old: f, header: f.header, size: f.size},
		blobs: append([]blob(nil), f.blobs...), byHash: make(map[hash]int, len(f.byHash))}
	for h, i := range f.byHash {
		a.byHash[h] = i
	}
	for _, file := range files {
		if err := a.add(ctx, file); err != nil {
			return nil, fmt.Errorf("%s: %w", file.Path, err)
		}
	}
	return a.p, a.finish(ctx, image)
}

type adder struct {
	f      *File
	tree   *image
	when   time.Time
	p      *Patched
	blobs  []blob
	byHash map[hash]int
	delta  delta
}

func (a *adder) add(ctx context.Context, file Addition) error {
	clean := path.Clean(strings.ReplaceAll(file.Path, `\`, "/"))
	parts := strings.Split(strings.TrimPrefix(clean, "/"), "/")
	dir := a.tree.root
	for i, name := range parts {
		if err := checkName(name); err != nil {
			return err
		}
		if len(name) > 255 || strings.ContainsAny(name, `<>:"|?*`) {
			return fmt.Errorf("%q is no name that Windows allows", name)
		}
		if i == len(parts)-1 {
			break
		}
		next := dir.find(name)
		switch {
		case next == nil:
			next = newNode(name, true, hash{}, a.when, binary.LittleEndian.Uint32(dir.raw[offSecurity:]), nil)
			dir.add(next)
			a.delta.directories++
		case next.reparse():
			return fmt.Errorf("%s is a link: name the place that it leads to", strings.Join(parts[:i+1], "/"))
		case !next.directory():
			return fmt.Errorf("%s is a file in the image", strings.Join(parts[:i+1], "/"))
		}
		dir = next
	}
	sum, err := hashOf(ctx, file)
	if err != nil {
		return err
	}
	name := parts[len(parts)-1]
	old := dir.find(name)
	if old != nil {
		if old.directory() {
			return errors.New("is a directory in the image")
		}
		a.release(old)
	}
	security := binary.LittleEndian.Uint32(dir.raw[offSecurity:])
	entry := newNode(name, false, sum, a.when, security, old)
	if old == nil {
		dir.add(entry)
		a.delta.files++
	} else {
		*old = node{raw: entry.raw, name: entry.name}
	}
	a.delta.bytes += file.Size
	a.keep(sum, file)
	return nil
}

// release takes back what an entry that is replaced refers to.
func (a *adder) release(n *node) {
	for _, h := range n.all() {
		if i, ok := a.byHash[h]; ok {
			a.delta.bytes -= a.blobs[i].original
			if a.blobs[i].refs > 0 {
				a.blobs[i].refs--
			}
		}
	}
}

// keep adds content, once. An empty file has none.
func (a *adder) keep(sum hash, file Addition) {
	if sum == (hash{}) {
		return
	}
	if i, ok := a.byHash[sum]; ok {
		a.blobs[i].refs++
		return
	}
	a.byHash[sum] = len(a.blobs)
	at := a.p.append(file.Data, file.Size)
	a.blobs = append(a.blobs, blob{resource: resource{size: file.Size, off: at, original: file.Size}, part: 1, refs: 1, hash: sum})
}

func hashOf(ctx context.Context, file Addition) (hash, error) {
	if file.Size == 0 {
		return hash{}, nil
	}
	h := sha1.New()
	r := io.NewSectionReader(file.Data, 0, file.Size)
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return hash{}, err
		}
		n, err := r.Read(buf)
		_, _ = h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return hash{}, err
		}
	}
	if got, _ := r.Seek(0, io.SeekCurrent); got != file.Size {
		return hash{}, fmt.Errorf("%d bytes where %d were announced", got, file.Size)
	}
	return hash(h.Sum(nil)), nil
}

// finish writes the new metadata, table, XML and integrity table, and the header that leads to them.
func (a *adder) finish(ctx context.Context, image int) error {
	f, p, le := a.f, a.p, binary.LittleEndian
	metadata := a.tree.marshal()
	entry := &a.blobs[f.metadata[image-1]]
	entry.resource = p.appendBytes(metadata, resourceMetadata)
	entry.hash = sha1.Sum(metadata)
	p.image, p.metadata = image, entry.resource
	if image == f.bootIndex {
		entry.put(p.header[offBoot:])
	}

	table := make([]byte, 0, len(a.blobs)*blobSize)
	for _, b := range a.blobs {
		if b.refs == 0 && b.flags&resourceMetadata == 0 {
			continue // nothing refers to it any more
		}
		var e [blobSize]byte
		b.put(e[:])
		le.PutUint16(e[24:], b.part)
		le.PutUint32(e[26:], b.refs)
		copy(e[30:], b.hash[:])
		table = append(table, e[:]...)
	}
	at := p.appendBytes(table, f.table.flags&^resourceCompressed)
	at.put(p.header[offTable:])
	checked := at.off + at.size

	text := append([]byte{0xff, 0xfe}, bytes16(string(updateXML(f.xml, image, a.delta, a.when, checked)))...)
	p.appendBytes(text, f.xmlAt.flags&^resourceCompressed).put(p.header[offXML:])

	if f.integrity.size == 0 {
		return nil
	}
	sums, err := p.integrity(ctx, checked)
	if err != nil {
		return err
	}
	p.appendBytes(sums, f.integrity.flags&^resourceCompressed).put(p.header[offIntegrity:])
	return nil
}

// SetBoot makes the image that was added to the one that boots.
func (p *Patched) SetBoot() {
	p.metadata.put(p.header[offBoot:])
	binary.LittleEndian.PutUint32(p.header[offBootIndex:], uint32(p.image))
}

func (p *Patched) append(data io.ReaderAt, size int64) (at int64) {
	at = p.size
	p.segments = append(p.segments, segment{at, size, data})
	p.size += size
	return at
}

func (p *Patched) appendBytes(data []byte, flags byte) resource {
	size := int64(len(data))
	return resource{size: size, flags: flags, off: p.append(strings.NewReader(string(data)), size), original: size}
}

// integrity hashes what lies between the header and end in pieces (INTEGRITY_TABLE). Pieces that the old table covers
// and that did not change are taken from there.
func (p *Patched) integrity(ctx context.Context, end int64) ([]byte, error) {
	le := binary.LittleEndian
	old, err := p.old.read("integrity table", p.old.integrity)
	if err != nil {
		return nil, err
	}
	if len(old) < 12 {
		return nil, errors.New("integrity table: too short: the WIM is damaged")
	}
	chunk := int64(le.Uint32(old[8:]))
	known := old[12:]
	covered := p.old.table.off + p.old.table.size
	if chunk < 4096 || chunk > 1<<30 || int64(le.Uint32(old[4:]))*sha1.Size > int64(len(known)) {
		return nil, errors.New("integrity table: its counts make no sense: the WIM is damaged")
	}
	count := (end - headerSize + chunk - 1) / chunk
	out := make([]byte, 12, 12+count*sha1.Size)
	le.PutUint32(out, uint32(12+count*sha1.Size))
	le.PutUint32(out[4:], uint32(count))
	le.PutUint32(out[8:], uint32(chunk))
	buf := make([]byte, chunk)
	for i := range count {
		from := headerSize + i*chunk
		to := min(from+chunk, end)
		if to <= covered && int64(len(known)) >= (i+1)*sha1.Size && to == from+chunk {
			out = append(out, known[i*sha1.Size:(i+1)*sha1.Size]...)
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := p.ReadAt(buf[:to-from], from); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		sum := sha1.Sum(buf[:to-from])
		out = append(out, sum[:]...)
	}
	return out, nil
}

// Size is the size of the changed WIM in bytes.
func (p *Patched) Size() int64 { return p.size }

// ReadAt implements io.ReaderAt over the changed WIM.
func (p *Patched) ReadAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) && off < p.size {
		n, err := p.readSome(b[done:], off)
		done += n
		off += int64(n)
		if err != nil {
			return done, err
		}
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

func (p *Patched) readSome(b []byte, off int64) (int, error) {
	if off < headerSize {
		return copy(b, p.header[off:]), nil
	}
	if off < p.old.size {
		return full(p.old.r, b[:min(int64(len(b)), p.old.size-off)], off)
	}
	i := sort.Search(len(p.segments), func(i int) bool { return p.segments[i].off+p.segments[i].size > off })
	s := p.segments[i]
	return full(s.data, b[:min(int64(len(b)), s.off+s.size-off)], off-s.off)
}

// full makes a short read an error, and io.EOF none where all was read.
func full(r io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Target is the old WIM, opened for writing.
type Target interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error
}

// Commit appends the addition to the file that the WIM was opened from. The header goes last, in one write: until
// then, and whatever fails, the file is the old WIM with something behind it, which every program takes.
func (p *Patched) Commit(ctx context.Context, t Target) (err error) {
	begun := false // the new header may have reached the file
	defer func() {
		if err != nil && !begun {
			err = errors.Join(err, t.Truncate(p.old.size))
		}
	}()
	buf := make([]byte, 1<<20)
	for off := p.old.size; off < p.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := p.ReadAt(buf[:min(int64(len(buf)), p.size-off)], off)
		if err != nil {
			return err
		}
		if _, err := t.WriteAt(buf[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	if err := t.Sync(); err != nil {
		return err
	}
	begun = true
	if _, err := t.WriteAt(p.header[:], 0); err != nil {
		return err
	}
	return t.Sync()
}
