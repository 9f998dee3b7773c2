package flash

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"io/fs"
	"math/rand/v2"
	"slices"
)

// Forged sticks announce more than they hold. What is written beyond their end is lost, or lands on top of
// something else, often at the same place modulo a power of two. So marks that all differ are written just below
// every power of two and at the very end, and must all be there afterwards: once before the image is written, to
// save the time, and again after it, when no cache in the stick can hide the loss.

const (
	probeSize  = 64 << 10
	firstProbe = 16 << 20
)

// probes are the marks on one stick.
type probes struct {
	seed    [32]byte
	offsets []int64 // ascending, the last at the end of the stick
}

func newProbes(size int64) probes {
	var p probes
	_, _ = crand.Read(p.seed[:]) // never fails
	end := (size - probeSize) &^ (alignment - 1)
	for limit := int64(firstProbe); limit < end; limit *= 2 {
		p.offsets = append(p.offsets, limit-probeSize)
	}
	if end >= 0 {
		p.offsets = append(p.offsets, end)
	}
	return p
}

// mark fills buf with what is to be at an offset.
func (p probes) mark(buf []byte, off int64) {
	seed := p.seed
	for i := range 8 {
		seed[i] ^= byte(off >> (8 * i))
	}
	_, _ = rand.NewChaCha8(seed).Read(buf) // never fails
}

// testCapacity writes the marks and reads them back.
func (st *stick) testCapacity(ctx context.Context, p probes) error {
	st.report(Testing, 0, int64(len(p.offsets)))
	buf := aligned(probeSize)
	for _, off := range p.offsets {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.mark(buf, off)
		if err := st.write(buf, off); err != nil {
			return err
		}
	}
	if err := st.sync(); err != nil {
		return err
	}
	if err := st.target.Drop(); err != nil {
		return badf(err, "cannot be read back")
	}
	return st.checkMarks(ctx, p, p.offsets)
}

// verifyCapacity reads the marks again where the image did not come over them, and takes them away: the last lies
// where the backup of an older partition table would be found.
func (st *stick) verifyCapacity(ctx context.Context, p probes) error {
	written := slices.Concat(st.group.head, st.group.body, []Extent{{0, headSize}})
	var left []int64
	for _, off := range p.offsets {
		if e := (Extent{off, probeSize}); !overlaps(written, e) {
			left = append(left, off)
		}
	}
	if err := st.checkMarks(ctx, p, left); err != nil {
		return err
	}
	zeros := aligned(probeSize)
	for _, off := range left {
		if err := st.write(zeros, off); err != nil {
			return err
		}
	}
	return nil
}

func (st *stick) checkMarks(ctx context.Context, p probes, offsets []int64) error {
	got, want := aligned(probeSize), aligned(probeSize)
	var good int64
	for _, off := range offsets {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := st.read(got, off); err != nil {
			return err
		}
		p.mark(want, off)
		if !bytes.Equal(got, want) {
			if good == 0 {
				return badf(nil, "lies about its capacity, or keeps nothing: what was written at byte %d of %d is lost", off, st.target.Size())
			}
			return badf(nil, "lies about its capacity: it says %d bytes, but loses what is written somewhere above byte %d", st.target.Size(), good)
		}
		good = off + probeSize
	}
	return nil
}

// cause is an error without operation and path, which the caller says better.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
