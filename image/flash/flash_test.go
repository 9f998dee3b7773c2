package flash

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fakeStick is a stick in memory whose vices can be chosen.
type fakeStick struct {
	mu     sync.Mutex
	data   []byte
	says   int64 // capacity that it claims; 0 is the true one
	wraps  bool  // what is beyond the true capacity lands at its beginning; otherwise it is lost
	dieAt  int64 // the first write at or after this byte fails, and all that come later
	flipAt int64 // this byte is returned changed
	slow   func(off int64)
	dead   bool
	writes []Extent
	syncs  int
	reread bool
}

func (f *fakeStick) Size() int64 {
	if f.says > 0 {
		return f.says
	}
	return int64(len(f.data))
}

func (f *fakeStick) WriteAt(p []byte, off int64) (int, error) {
	if f.slow != nil {
		f.slow(off)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead = f.dead || f.dieAt > 0 && off+int64(len(p)) > f.dieAt; f.dead {
		return 0, syscall.EIO
	}
	if off%512 != 0 || len(p)%512 != 0 || off+int64(len(p)) > f.Size() {
		return 0, syscall.EINVAL
	}
	f.writes = append(f.writes, Extent{off, int64(len(p))})
	f.pieces(p, off, func(held, given []byte) { copy(held, given) })
	return len(p), nil
}

// pieces calls do for the parts of p and the memory that they lie in.
func (f *fakeStick) pieces(p []byte, off int64, do func(held, given []byte)) {
	for len(p) > 0 && (f.wraps || off < int64(len(f.data))) {
		held := f.data[off%int64(len(f.data)):]
		n := min(len(p), len(held))
		do(held[:n], p[:n])
		p, off = p[n:], off+int64(n)
	}
}

func (f *fakeStick) ReadAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return 0, syscall.ENXIO
	}
	clear(p)
	f.pieces(p, off, func(held, given []byte) { copy(given, held) })
	if f.flipAt > 0 && off <= f.flipAt && f.flipAt < off+int64(len(p)) {
		p[f.flipAt-off] ^= 1
	}
	return len(p), nil
}

func (f *fakeStick) Sync() error   { f.syncs++; return nil }
func (f *fakeStick) Drop() error   { return nil }
func (f *fakeStick) Reread() error { f.reread = true; return nil }

// counted counts how often each byte of a source is read.
type counted struct {
	pieces
	read atomic.Int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.read.Add(int64(len(p)))
	return c.pieces.ReadAt(p, off)
}

// testImage is 13 MiB and a bit, with a hole from 6 to 9 MiB.
func testImage() (*counted, []byte) {
	data := make([]byte, 13<<20+512)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	clear(data[6<<20 : 9<<20])
	return &counted{pieces: pieces{bytes.NewReader(data), []Extent{{0, 6 << 20}, {9 << 20, 4<<20 + 512}}}}, data
}

func newStick(size int64) *fakeStick { return &fakeStick{data: bytes.Repeat([]byte{0xa5}, int(size))} }

func TestWrite(t *testing.T) {
	image, data := testImage()
	sticks := []*fakeStick{newStick(16 << 20), newStick(64 << 20), newStick(int64(len(data)))}
	var mu sync.Mutex
	states := make([][]State, len(sticks))
	results := Write(context.Background(), image, targets(sticks...), func(i int, s Status) {
		mu.Lock()
		defer mu.Unlock()
		if n := len(states[i]); n == 0 || states[i][n-1] != s.State {
			states[i] = append(states[i], s.State)
		}
		if s.Done > s.Total {
			t.Errorf("%d of %d bytes done", s.Done, s.Total)
		}
	})
	for i, r := range results {
		if r.Err != nil {
			t.Errorf("stick %d: %v", i, r.Err)
		}
		if want := int64(10<<20 + 512); r.Bytes != want {
			t.Errorf("stick %d: %d bytes written, want %d", i, r.Bytes, want)
		}
		if want := []State{Testing, Writing, Verifying, Good}; !slices.Equal(states[i], want) {
			t.Errorf("stick %d: %v, want %v", i, states[i], want)
		}
		f := sticks[i]
		for _, e := range image.Extents() {
			if !bytes.Equal(f.data[e.Off:e.Off+e.Len], data[e.Off:e.Off+e.Len]) {
				t.Errorf("stick %d: other bytes in %v", i, e)
			}
		}
		if f.data[7<<20] != 0xa5 {
			t.Errorf("stick %d: the hole was written", i)
		}
		if !f.reread {
			t.Errorf("stick %d: the partition table was not read again", i)
		}
		if last := f.writes[len(f.writes)-1]; last != (Extent{0, headSize}) {
			t.Errorf("stick %d: the last write is %v, not the head", i, last)
		}
		// The backup of an old partition table is gone.
		if tail := f.data[len(f.data)-512:]; i < 2 && !bytes.Equal(tail, make([]byte, 512)) {
			t.Errorf("stick %d: the end still holds something", i)
		}
	}
	if n := image.read.Load(); n != 10<<20+512 {
		t.Errorf("%d bytes of the source were read for three sticks, want each once", n)
	}
}

func targets(sticks ...*fakeStick) (list []Target) {
	for _, s := range sticks {
		list = append(list, s)
	}
	return list
}

// TestBadSticks has a good stick among bad ones of all kinds.
func TestBadSticks(t *testing.T) {
	image, data := testImage()
	for name, c := range map[string]struct {
		stick *fakeStick
		state State
		want  string
	}{
		"good":      {newStick(32 << 20), Good, ""},
		"dies":      {&fakeStick{data: make([]byte, 14<<20), dieAt: 10 << 20}, Bad, "cannot be written at byte"},
		"dies late": {&fakeStick{data: make([]byte, 32<<20), dieAt: 32<<20 - 1}, Bad, "cannot be written at byte 33488896: input/output error"},
		"flips":     {&fakeStick{data: make([]byte, 32<<20), flipAt: 12<<20 + 77}, Bad, "returns other bytes than were written, at byte 12582989"},
		"flips in the head": {&fakeStick{data: make([]byte, 32<<20), flipAt: 513}, Bad,
			"returns other bytes than were written, at byte 513"},
		"loses what is beyond": {&fakeStick{data: make([]byte, 20<<20), says: 64 << 20}, Bad,
			"lies about its capacity: it says 67108864 bytes, but loses what is written somewhere above byte 16777216"},
		"wraps":     {&fakeStick{data: make([]byte, 32<<20), says: 128 << 20, wraps: true}, Bad, "lies about its capacity"},
		"too small": {newStick(13 << 20), Failed, "too small: it holds 13631488 bytes, the image needs 13632000"},
	} {
		t.Run(name, func(t *testing.T) {
			good := newStick(14 << 20)
			results := Write(context.Background(), image, targets(c.stick, good), nil)
			r := results[0]
			if r.State() != c.state || r.Err != nil && !strings.Contains(r.Err.Error(), c.want) || c.want != "" && r.Err == nil {
				t.Errorf("%s: %v, want %s: %s", r.State(), r.Err, c.state, c.want)
			}
			if c.state != Good && name != "flips in the head" && bytes.Equal(c.stick.data[:512], data[:512]) {
				t.Error("the bad stick has a partition table")
			}
			if results[1].Err != nil || !bytes.Equal(good.data[:6<<20], data[:6<<20]) {
				t.Errorf("the good stick: %v", results[1].Err)
			}
		})
	}
}

// TestForgedAfterwards is a stick with a cache large enough to pass the first test of its capacity.
func TestForgedAfterwards(t *testing.T) {
	image, _ := testImage()
	f := newStick(64 << 20)
	forgets := &forgetful{fakeStick: f, after: 4}
	r := Write(context.Background(), image, []Target{forgets}, nil)[0]
	if r.State() != Bad || !strings.Contains(r.Err.Error(), "lies about its capacity") {
		t.Errorf("got %v", r.Err)
	}
}

type forgetful struct {
	*fakeStick
	after int
}

func (f *forgetful) Sync() error {
	// After the wiped head and the marks, the third is that after the body.
	if f.syncs++; f.syncs == 3 {
		clear(f.data[20<<20:])
	}
	return nil
}

// TestLaggard has a stick that hangs in the middle: the other must not wait for it.
func TestLaggard(t *testing.T) {
	defer func(d time.Duration) { patience = d }(patience)
	patience = 20 * time.Millisecond
	data := make([]byte, 64<<20)
	for i := range data {
		data[i] = byte(i >> 20)
	}
	image := &counted{pieces: pieces{bytes.NewReader(data), []Extent{{0, 64 << 20}}}}
	fast, slow := newStick(64<<20), newStick(64<<20)
	done := make(chan struct{})
	slow.slow = func(off int64) {
		if off == 8<<20 {
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Error("the fast stick waited for the slow one")
			}
		}
	}
	results := Write(context.Background(), image, targets(slow, fast), func(i int, s Status) {
		if i == 1 && s.State == Good {
			close(done)
		}
	})
	for i, f := range []*fakeStick{slow, fast} {
		if results[i].Err != nil || !bytes.Equal(f.data, data) {
			t.Errorf("stick %d: %v", i, results[i].Err)
		}
	}
	if n := image.read.Load(); n <= 64<<20 || n > 128<<20 {
		t.Errorf("%d bytes of the source were read", n)
	}
}

func TestStop(t *testing.T) {
	image, data := testImage()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a, b := newStick(16<<20), newStick(16<<20)
	copy(a.data, data[:1<<20]) // was flashed before
	results := Write(ctx, image, targets(a, b), func(_ int, s Status) {
		if s.State == Writing && s.Done > 0 {
			cancel()
		}
	})
	for i, r := range results {
		if r.State() != Stopped {
			t.Errorf("stick %d: %s, %v", i, r.State(), r.Err)
		}
	}
	if len(a.writes) > 0 && !bytes.Equal(a.data[:headSize], make([]byte, headSize)) {
		t.Error("a stopped stick has a partition table")
	}
	if r := Write(ctx, image, targets(a), nil); r[0].State() != Stopped {
		t.Errorf("started although stopped: %v", r[0].Err)
	}
}

type failing struct {
	Source
	at int64
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.at && f.at < off+int64(len(p)) {
		return int(f.at - off), io.ErrUnexpectedEOF
	}
	return f.Source.ReadAt(p, off)
}

func TestSourceFails(t *testing.T) {
	for _, at := range []int64{100, 5 << 20} {
		image, _ := testImage()
		a, b := newStick(16<<20), newStick(16<<20)
		for i, r := range Write(context.Background(), failing{image, at}, targets(a, b), nil) {
			if r.State() != Failed || !errors.Is(r.Err, io.ErrUnexpectedEOF) || !strings.Contains(r.Err.Error(), "read image at byte") {
				t.Errorf("at %d, stick %d: %s, %v", at, i, r.State(), r.Err)
			}
		}
	}
}

func TestBadExtents(t *testing.T) {
	image := pieces{bytes.NewReader(make([]byte, 1<<20)), []Extent{{4096, 8192}, {0, 4096}}}
	f := newStick(2 << 20)
	if r := Write(context.Background(), image, targets(f), nil); r[0].State() != Failed || len(f.writes) > 0 {
		t.Errorf("got %v after %d writes", r[0].Err, len(f.writes))
	}
}
