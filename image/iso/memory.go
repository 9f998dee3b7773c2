package iso

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/diskfs/go-diskfs/backend"
)

// memory is a disk that keeps what is not zero. It is what go-diskfs writes to.
type memory struct {
	blocks map[int64]*[blockSize]byte
	size   int64
	pos    int64
}

var (
	_ backend.Storage      = (*memory)(nil)
	_ backend.WritableFile = (*memory)(nil)

	zeroBlock [blockSize]byte
)

func newMemory(size int64) *memory {
	return &memory{blocks: map[int64]*[blockSize]byte{}, size: size}
}

// WriteAt implements io.WriterAt.
func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > m.size {
		return 0, fmt.Errorf("write of %d bytes at %d: outside the %d bytes planned", len(p), off, m.size)
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		i, in := at/blockSize, int(at%blockSize)
		part := p[done:min(len(p), done+blockSize-in)]
		b := m.blocks[i]
		if b == nil && !bytes.Equal(part, zeroBlock[:len(part)]) {
			b = new([blockSize]byte)
			m.blocks[i] = b
		}
		if b != nil {
			copy(b[in:], part)
		}
		done += len(part)
	}
	return done, nil
}

// ReadAt implements io.ReaderAt.
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at < 0 || at >= m.size {
			return done, io.EOF
		}
		i, in := at/blockSize, int(at%blockSize)
		n := int(min(int64(len(p)-done), int64(blockSize-in), m.size-at))
		if b := m.blocks[i]; b != nil {
			copy(p[done:done+n], b[in:])
		} else {
			clear(p[done : done+n])
		}
		done += n
	}
	return done, nil
}

func (m *memory) section(from, to int64) io.Reader { return io.NewSectionReader(m, from, to-from) }

// The rest makes it a disk to go-diskfs.

func (m *memory) Stat() (fs.FileInfo, error)              { return memoryInfo{m.size}, nil }
func (m *memory) Close() error                            { return nil }
func (m *memory) Sys() (*os.File, error)                  { return nil, backend.ErrNotSuitable }
func (m *memory) Writable() (backend.WritableFile, error) { return m, nil }
func (m *memory) Path() string                            { return "" }
func (m *memory) Read(p []byte) (int, error) {
	n, err := m.ReadAt(p, m.pos)
	m.pos += int64(n)
	return n, err
}
func (m *memory) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off += m.pos
	case io.SeekEnd:
		off += m.size
	}
	if off < 0 {
		return m.pos, errors.New("seek before the start")
	}
	m.pos = off
	return off, nil
}

type memoryInfo struct{ size int64 }

func (memoryInfo) Name() string       { return "image" }
func (i memoryInfo) Size() int64      { return i.size }
func (memoryInfo) Mode() fs.FileMode  { return 0o600 }
func (memoryInfo) ModTime() time.Time { return time.Time{} }
func (memoryInfo) IsDir() bool        { return false }
func (memoryInfo) Sys() any           { return nil }
