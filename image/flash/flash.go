package flash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"
	"unsafe"
)

// Target is a stick to write. Offsets, lengths and buffers are multiples of 4096 bytes, or of 512 at the end of a
// source that is no multiple. *device.Disk is one.
type Target interface {
	io.ReaderAt
	io.WriterAt
	// Size is the capacity in bytes, as the stick tells it.
	Size() int64
	// Sync returns when everything written is on the medium.
	Sync() error
	// Drop makes the next reads come from the medium and not from a cache.
	Drop() error
	// Reread has the system read the partition table again.
	Reread() error
}

// State is how far a stick is.
type State string

// The states, in their order. Good, Bad, Failed and Stopped are final: Failed is no fault of the stick's.
const (
	Testing   State = "testing"
	Writing   State = "writing"
	Verifying State = "verifying"
	Good      State = "good"
	Bad       State = "bad"
	Failed    State = "failed"
	Stopped   State = "stopped"
)

// Status tells how far a stick is: Done of Total bytes within its state. With a final state comes the result; the
// target is not used any more.
type Status struct {
	State       State
	Done, Total int64
	Result      *Result
}

// Result is what became of a stick. Err is nil for a good one, and matches ErrBad where the stick is at fault.
type Result struct {
	Err   error
	Bytes int64 // written, without the test of the capacity
	// WriteTime is how long it took until all were on the medium, VerifyTime until they were read back.
	WriteTime, VerifyTime time.Duration
}

// State is the final state that follows from the result.
func (r Result) State() State {
	switch {
	case r.Err == nil:
		return Good
	case errors.Is(r.Err, context.Canceled) || errors.Is(r.Err, context.DeadlineExceeded):
		return Stopped
	case errors.Is(r.Err, ErrBad):
		return Bad
	}
	return Failed
}

// ErrBad is a stick that does not take data, does not return what it took, or is smaller than it says.
var ErrBad = errors.New("bad stick")

type badError struct {
	text string
	err  error
}

func (e *badError) Error() string   { return e.text }
func (e *badError) Unwrap() []error { return []error{ErrBad, e.err} }

func badf(err error, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if err != nil {
		text += ": " + err.Error()
	}
	return &badError{text, err}
}

// ErrTooSmall is a stick that the source does not fit on.
var ErrTooSmall = errors.New("too small")

// Write writes a source to all targets at once, reads each back, and says what became of each. The source is read
// once; a stick that keeps the others waiting for long goes on by itself and reads for itself. What ails one stick
// stops no other.
//
// The partition table comes last, when the rest was read back and found right: a stick that was pulled, or failed,
// or was stopped by ctx, has none and starts no machine.
//
// report, if not nil, is called by several goroutines with the index of a target and how far it is.
func Write(ctx context.Context, s Source, targets []Target, report func(i int, s Status)) []Result {
	if report == nil {
		report = func(int, Status) {}
	}
	results := make([]Result, len(targets))
	if err := checkExtents(s); err != nil {
		for i := range results {
			results[i].Err = err
			report(i, Status{State: Failed, Result: &results[i]})
		}
		return results
	}
	g := newGroup(ctx, s)
	for i, t := range targets {
		g.sticks = append(g.sticks, &stick{
			group: g, target: t, joined: true, sums: make([]uint32, len(g.body)), result: &results[i],
			report: func(state State, done, total int64) { report(i, Status{State: state, Done: done, Total: total}) },
		})
	}
	g.fill(ringSize + len(targets))
	// A stick that waits for its turn is woken when the person stops it all.
	defer context.AfterFunc(ctx, g.wake)()
	var wg sync.WaitGroup
	wg.Go(g.read)
	for i, st := range g.sticks {
		wg.Go(func() {
			results[i].Err = st.run(ctx)
			g.leave(st)
			report(i, Status{State: results[i].State(), Result: &results[i]})
		})
	}
	wg.Wait()
	return results
}

// ringSize is how many blocks are read ahead of the slowest stick: few, so that they are still in the processor's cache
// when they are written.
const ringSize = 2

// patience is how long sticks wait for a slower one before it has to go on by itself.
var patience = 2 * time.Second

// group is a set of sticks that get the same bytes.
type group struct {
	ctx        context.Context
	source     Source
	head, body []Extent
	headData   [][]byte // the blocks of the head, read before anything else
	sticks     []*stick

	mu   sync.Mutex
	cond sync.Cond // a buffer is free, a queue is not empty, or something ended
	free [][]byte
	err  error // from the source
}

// block is a piece of the source on its way to the sticks.
type block struct {
	data []byte
	sum  uint32
	uses int
	buf  []byte
}

func newGroup(ctx context.Context, s Source) *group {
	g := &group{ctx: ctx, source: s}
	g.cond.L = &g.mu
	g.head, g.body = blocks(s)
	return g
}

func (g *group) fill(n int) {
	for range min(n, max(len(g.body), 1)) {
		g.free = append(g.free, aligned(blockSize))
	}
}

// aligned makes a buffer that unbuffered input and output takes.
func aligned(n int) []byte {
	buf := make([]byte, n+alignment)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(buf)))) & (alignment - 1)
	return buf[skip : skip+n : skip+n]
}

func (g *group) wake() {
	g.mu.Lock()
	g.cond.Broadcast()
	g.mu.Unlock()
}

// load reads a piece of the source into buf, with zeros up to a whole sector.
func (g *group) load(e Extent, buf []byte) ([]byte, error) {
	n, err := g.source.ReadAt(buf[:e.Len], e.Off)
	if int64(n) < e.Len {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read image at byte %d: %w", e.Off+int64(n), err)
	}
	padded := buf[:padLen(e.Len)]
	clear(padded[e.Len:])
	return padded, nil
}

// checksum stands for a block when it is read back, so that the source need not be read twice. CRC-32C finds every
// damage of up to four bytes in a row, others but for one in four thousand million, and costs next to nothing.
func checksum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// padLen rounds up to whole sectors. Devices with sectors of 4096 bytes get images of whole ones.
func padLen(n int64) int64 { return (n + 511) &^ 511 }

// read reads the source block by block and hands every block to all sticks that keep up.
func (g *group) read() {
	for i, e := range g.body {
		buf := g.buffer()
		if buf == nil {
			return
		}
		data, err := g.load(e, buf)
		sum := checksum(data)
		g.mu.Lock()
		if err != nil {
			g.err = err
			g.cond.Broadcast()
			g.mu.Unlock()
			return
		}
		b := &block{data: data, sum: sum, buf: buf}
		for _, st := range g.sticks {
			if st.joined {
				st.queue = append(st.queue, b)
				st.queued = i + 1
				b.uses++
			}
		}
		if b.uses == 0 {
			g.free = append(g.free, buf)
		}
		g.cond.Broadcast()
		g.mu.Unlock()
	}
}

// buffer waits for a free buffer; nil says that nobody needs one any more.
func (g *group) buffer() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	started := time.Now()
	for {
		joined := 0
		for _, st := range g.sticks {
			if st.joined {
				joined++
			}
		}
		if joined == 0 || g.ctx.Err() != nil {
			return nil
		}
		if n := len(g.free); n > 0 {
			buf := g.free[n-1]
			g.free = g.free[:n-1]
			return buf
		}
		if time.Since(started) >= patience {
			g.part()
			started = time.Now()
			continue
		}
		// The others may all be waiting too: nobody else would wake us.
		timer := time.AfterFunc(patience-time.Since(started), g.wake)
		g.cond.Wait()
		timer.Stop()
	}
}

// part lets the slowest sticks go on by themselves if others have nothing to do meanwhile.
func (g *group) part() {
	starving, last := false, len(g.body)
	for _, st := range g.sticks {
		if st.joined {
			starving = starving || len(st.queue) == 0 && !st.busy
			last = min(last, st.queued-len(st.queue))
		}
	}
	if !starving {
		return
	}
	for _, st := range g.sticks {
		if st.joined && st.queued-len(st.queue) == last {
			g.drop(st)
		}
	}
}

// drop takes a stick out of the group; what is queued for it, it must get by itself.
func (g *group) drop(st *stick) {
	for _, b := range st.queue {
		g.release(b)
	}
	st.queue, st.joined = nil, false
	g.cond.Broadcast()
}

func (g *group) release(b *block) {
	if b.uses--; b.uses == 0 {
		g.free = append(g.free, b.buf)
		g.cond.Broadcast()
	}
}

func (g *group) leave(st *stick) {
	g.mu.Lock()
	g.drop(st)
	g.mu.Unlock()
}

// stick is a target on its way.
type stick struct {
	group  *group
	target Target
	report func(state State, done, total int64)
	result *Result
	sums   []uint32 // of the blocks of the body, as they were written

	// Guarded by group.mu:
	joined bool // gets its blocks from the group
	busy   bool // writes a block of the group
	queue  []*block
	queued int // blocks that were ever queued
}

func (st *stick) run(ctx context.Context) error {
	g := st.group
	if err := ctx.Err(); err != nil {
		return err
	}
	if have := st.target.Size(); have < g.source.Size() {
		return fmt.Errorf("%w: it holds %d bytes, the image needs %d", ErrTooSmall, have, g.source.Size())
	}
	heads, err := g.readHead()
	if err != nil {
		return err
	}
	// From here on the stick is not what it was.
	if err := st.wipeHead(); err != nil {
		return err
	}
	probes := newProbes(st.target.Size())
	if err := st.testCapacity(ctx, probes); err != nil {
		return err
	}
	started := time.Now()
	if err := st.writeBody(ctx); err != nil {
		return err
	}
	if err := st.sync(); err != nil {
		return err
	}
	st.result.WriteTime += time.Since(started)

	started = time.Now()
	if err := st.verifyBody(ctx); err != nil {
		return err
	}
	if err := st.verifyCapacity(ctx, probes); err != nil {
		return err
	}
	st.result.VerifyTime = time.Since(started)
	return st.writeHead(ctx, heads)
}

// readHead reads the head once for all sticks.
func (g *group) readHead() ([][]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.headData != nil || g.err != nil {
		return g.headData, g.err
	}
	for _, e := range g.head {
		data, err := g.load(e, aligned(int(padLen(e.Len))))
		if err != nil {
			g.err = err
			g.headData = nil
			return nil, err
		}
		g.headData = append(g.headData, data)
	}
	return g.headData, nil
}

// wipeHead takes the old partition table away before anything of it becomes untrue.
func (st *stick) wipeHead() error {
	zeros := aligned(int(min(headSize, st.target.Size()&^(alignment-1))))
	if err := st.write(zeros, 0); err != nil {
		return err
	}
	return st.sync()
}

func (st *stick) writeBody(ctx context.Context) error {
	g := st.group
	all := total(g.body)
	st.report(Writing, 0, all)
	var own []byte
	for i, e := range g.body {
		b, err := st.next(ctx)
		if err != nil {
			return err
		}
		if b == nil {
			if own == nil {
				own = aligned(blockSize)
			}
			data, err := g.load(e, own)
			if err != nil {
				return err
			}
			b = &block{data: data, sum: checksum(data)}
		}
		st.sums[i] = b.sum
		err = st.write(b.data, e.Off)
		st.finish(b)
		if err != nil {
			return err
		}
		st.result.Bytes += e.Len
		st.report(Writing, st.result.Bytes, all)
	}
	return nil
}

// next waits for the group's next block; nil tells the stick to read for itself.
func (st *stick) next(ctx context.Context) (*block, error) {
	g := st.group
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case len(st.queue) > 0:
			b := st.queue[0]
			st.queue = st.queue[1:]
			st.busy = true
			return b, nil
		case g.err != nil:
			return nil, g.err
		case !st.joined:
			return nil, nil
		}
		g.cond.Wait()
	}
}

func (st *stick) finish(b *block) {
	if b.buf == nil {
		return
	}
	g := st.group
	g.mu.Lock()
	st.busy = false
	g.release(b)
	g.mu.Unlock()
}

func (st *stick) verifyBody(ctx context.Context) error {
	g := st.group
	if err := st.target.Drop(); err != nil {
		return badf(err, "cannot be read back")
	}
	all := total(g.body)
	st.report(Verifying, 0, all)
	buf := aligned(blockSize)
	var done int64
	for i, e := range g.body {
		if err := ctx.Err(); err != nil {
			return err
		}
		data := buf[:padLen(e.Len)]
		if err := st.read(data, e.Off); err != nil {
			return err
		}
		if checksum(data) != st.sums[i] {
			return st.mismatch(e, data)
		}
		done += e.Len
		st.report(Verifying, done, all)
	}
	return nil
}

// mismatch says where a stick returned other bytes than it was given.
func (st *stick) mismatch(e Extent, got []byte) error {
	want, err := st.group.load(e, aligned(blockSize))
	if err != nil {
		return err
	}
	for i := range want {
		if want[i] != got[i] {
			return badf(nil, "returns other bytes than were written, at byte %d", e.Off+int64(i))
		}
	}
	return fmt.Errorf("the image changed while it was written, at byte %d or after", e.Off)
}

func (st *stick) writeHead(ctx context.Context, heads [][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g := st.group
	started := time.Now()
	for i, e := range g.head {
		if err := st.write(heads[i], e.Off); err != nil {
			return err
		}
		st.result.Bytes += e.Len
	}
	if err := st.sync(); err != nil {
		return err
	}
	st.result.WriteTime += time.Since(started)
	if err := st.target.Drop(); err != nil {
		return badf(err, "cannot be read back")
	}
	for i, e := range g.head {
		got := aligned(len(heads[i]))
		if err := st.read(got, e.Off); err != nil {
			return err
		}
		if !bytes.Equal(got, heads[i]) {
			return st.mismatch(e, got)
		}
	}
	// The stick is good whether or not the system looks at it now: it will when it is plugged in again.
	_ = st.target.Reread()
	return nil
}

func (st *stick) write(data []byte, off int64) error {
	if n, err := st.target.WriteAt(data, off); err != nil {
		return badf(cause(err), "cannot be written at byte %d", off+int64(n))
	}
	return nil
}

func (st *stick) read(data []byte, off int64) error {
	if n, err := st.target.ReadAt(data, off); err != nil {
		return badf(cause(err), "cannot be read at byte %d", off+int64(n))
	}
	return nil
}

func (st *stick) sync() error {
	if err := st.target.Sync(); err != nil {
		return badf(cause(err), "did not keep what was written")
	}
	return nil
}
