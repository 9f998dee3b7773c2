package iso

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	media "github.com/bootmend/bootmend/image"
)

// pipe writes while another goroutine hashes what was written.
type pipe struct {
	ctx      context.Context
	w        io.Writer
	off      int64
	total    int64
	progress func(done, total int64)

	free chan []byte // buffers to fill
	full chan []byte // buffers to hash
	sum  chan [sha256.Size]byte
	none [sha256.Size]byte
}

const (
	pipeBuffers = 4
	pipeBuffer  = 256 << 10
)

func newPipe(ctx context.Context, w io.Writer, total int64, progress func(done, total int64)) *pipe {
	p := &pipe{
		ctx: ctx, w: w, total: total, progress: progress,
		free: make(chan []byte, pipeBuffers), full: make(chan []byte, pipeBuffers), sum: make(chan [sha256.Size]byte, 1),
	}
	for range pipeBuffers {
		p.free <- make([]byte, pipeBuffer)
	}
	go func() {
		h := sha256.New()
		for b := range p.full {
			h.Write(b)
			p.free <- b[:pipeBuffer]
		}
		p.sum <- [sha256.Size]byte(h.Sum(nil))
	}()
	return p
}

// copy writes exactly n bytes of r.
func (p *pipe) copy(r io.Reader, n int64) error {
	for n > 0 {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		b := <-p.free
		b = b[:min(n, pipeBuffer)]
		k, err := io.ReadFull(r, b)
		if err != nil {
			p.free <- b[:pipeBuffer]
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				err = fmt.Errorf("%w: %d bytes fewer than before", io.ErrUnexpectedEOF, n-int64(k))
			}
			return err
		}
		_, err = p.w.Write(b)
		p.full <- b
		if err != nil {
			return err
		}
		n -= int64(k)
		p.off += int64(k)
		if p.progress != nil {
			p.progress(p.off, p.total)
		}
	}
	return nil
}

func (p *pipe) copyFile(f media.File) error {
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("file %s: %w", f.Path, err)
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	if err := p.copy(r, f.Size); err != nil {
		return fmt.Errorf("file %s: %w", f.Path, err)
	}
	return nil
}

// stop ends the hashing goroutine; finish has done so already.
func (p *pipe) stop() {
	if p.full != nil {
		close(p.full)
		p.full = nil
	}
}

func (p *pipe) finish() ([sha256.Size]byte, error) {
	p.stop()
	return <-p.sum, nil
}
