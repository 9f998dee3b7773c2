package ntfsfs

import (
	"context"
	"errors"
	"io"
)

// blocks reads whole blocks of a disk, as some systems want it, and keeps the last ones: the library reads its
// structures a few bytes at a time.
type blocks struct {
	ctx    context.Context
	r      io.ReaderAt
	size   int64
	cached map[int64][]byte
	order  []int64
}

const (
	blockSize = 4096
	maxBlocks = 512
)

// ReadAt reads up to the end of the volume; what lies behind it is io.EOF.
func (b *blocks) ReadAt(p []byte, off int64) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= b.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > b.size-off {
		p, end = p[:b.size-off], io.EOF
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at%blockSize == 0 && len(p)-done >= blockSize {
			whole := (len(p) - done) / blockSize * blockSize
			n, err := b.r.ReadAt(p[done:done+whole], at)
			done += n
			if n < whole {
				return done, cmpErr(err, io.ErrUnexpectedEOF)
			}
			continue
		}
		block, err := b.block(at / blockSize)
		if err != nil {
			return done, err
		}
		n := copy(p[done:], block[at%blockSize:])
		if n == 0 {
			return done, io.ErrUnexpectedEOF
		}
		done += n
	}
	return done, end
}

func (b *blocks) block(i int64) ([]byte, error) {
	if block, ok := b.cached[i]; ok {
		return block, nil
	}
	block := make([]byte, min(blockSize, b.size-i*blockSize))
	if n, err := b.r.ReadAt(block, i*blockSize); n < len(block) {
		return nil, cmpErr(err, io.ErrUnexpectedEOF)
	}
	if b.cached == nil {
		b.cached = make(map[int64][]byte)
	}
	if len(b.order) == maxBlocks {
		delete(b.cached, b.order[0])
		b.order = b.order[1:]
	}
	b.cached[i] = block
	b.order = append(b.order, i)
	return block, nil
}
