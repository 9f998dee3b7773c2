package fve

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"sync"
	"time"
)

// StretchRounds is the work that makes guessing a password slow (BDE,
// "Recovery key"; BITLK_KDF_ITERATION_COUNT).
const StretchRounds = 0x100000

// StretchStep is how many rounds pass between two looks at the context:
// a few milliseconds on a present machine.
const StretchStep = 1 << 14

// Stretch derives the key of a recovery or user password from its hash and
// the protector's salt. It stops with the context's error when that ends.
// The caller wipes the result.
func Stretch(ctx context.Context, initial [32]byte, salt [16]byte, progress func(done, total int64)) ([32]byte, error) {
	return stretch(ctx, initial, salt, StretchRounds, progress)
}

func stretch(ctx context.Context, initial [32]byte, salt [16]byte, rounds int, progress func(done, total int64)) (key [32]byte, err error) {
	l := newLane(initial, salt)
	defer func() { *l = lane{} }()
	run := fastest()
	for i := 0; i < rounds; {
		if err := ctx.Err(); err != nil {
			return key, err
		}
		n := min(StretchStep, rounds-i)
		run(l, uint64(i), uint64(n))
		i += n
		if progress != nil {
			progress(int64(i), int64(rounds))
		}
	}
	return l.key(), nil
}

// Job is one of several stretches that are done at once.
type Job struct {
	Initial [32]byte
	Salt    [16]byte
	Key     [32]byte // the result
}

// StretchJobs does n stretches in one goroutine, interleaved as the processor
// does them best: give it a multiple of [StretchLanes]. progress is told of
// rounds done with the sum of all jobs as total.
func StretchJobs(ctx context.Context, jobs []*Job, progress func(done, total int64)) error {
	return stretchJobs(ctx, jobs, StretchRounds, progress)
}

func stretchJobs(ctx context.Context, jobs []*Job, rounds int, progress func(done, total int64)) error {
	width := StretchLanes()
	total := int64(len(jobs)) * int64(rounds)
	var done int64
	for len(jobs) > 0 {
		some := jobs[:min(width, len(jobs))]
		jobs = jobs[len(some):]
		many := newMany(some)
		for i := 0; i < rounds; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(StretchStep, rounds-i)
			many.run(uint64(i), uint64(n))
			i += n
			done += int64(n) * int64(len(some))
			if progress != nil {
				progress(done, total)
			}
		}
		many.finish(some)
	}
	return nil
}

// lane is the state of one stretch: words of BDE, "Recovery key",
// bitlk_kdf_data, as SHA-256 reads them.
type lane struct {
	last, initial [8]uint32
	salt          [4]uint32
}

func newLane(initial [32]byte, salt [16]byte) *lane {
	l := &lane{}
	for i := range l.initial {
		l.initial[i] = binary.BigEndian.Uint32(initial[4*i:])
	}
	for i := range l.salt {
		l.salt[i] = binary.BigEndian.Uint32(salt[4*i:])
	}
	return l
}

func (l *lane) key() (key [32]byte) {
	for i, w := range l.last {
		binary.BigEndian.PutUint32(key[4*i:], w)
	}
	return key
}

// many runs several lanes.
type many interface {
	run(count, rounds uint64)
	finish(jobs []*Job) // takes the keys and wipes the lanes
}

// oneByOne is many for processors on which several lanes gain nothing.
type oneByOne []*lane

func newOneByOne(jobs []*Job) oneByOne {
	list := make(oneByOne, len(jobs))
	for i, j := range jobs {
		list[i] = newLane(j.Initial, j.Salt)
	}
	return list
}

func (m oneByOne) run(count, rounds uint64) {
	for _, l := range m {
		fastest()(l, count, rounds)
	}
}

func (m oneByOne) finish(jobs []*Job) {
	for i, l := range m {
		jobs[i].Key = l.key()
		*l = lane{}
	}
}

// stretcher does so many rounds of one stretch, from a count on.
type stretcher func(l *lane, count, rounds uint64)

// fastest is the stretch that runs best on this processor. Where there are several to choose from, they are timed
// once, for a few milliseconds on slow machines: which is best depends on the processor, and under emulation the
// standard library, which uses vector instructions, takes five times as long as the best.
var fastest = sync.OnceValue(func() stretcher {
	kinds := stretchers()
	if len(kinds) == 1 {
		return kinds[0]
	}
	best, least := kinds[0], time.Duration(1<<62)
	for range 3 { // the shortest of three, so that an interruption does not count
		for _, f := range kinds {
			start := time.Now()
			f(&lane{}, 0, 48)
			if took := time.Since(start); took < least {
				best, least = f, took
			}
		}
	}
	return best
})

// stretchLibrary uses crypto/sha256.
func stretchLibrary(l *lane, count, rounds uint64) {
	buf := make([]byte, 88)
	defer clear(buf)
	for i := range l.last {
		binary.BigEndian.PutUint32(buf[4*i:], l.last[i])
		binary.BigEndian.PutUint32(buf[32+4*i:], l.initial[i])
	}
	for i, w := range l.salt {
		binary.BigEndian.PutUint32(buf[64+4*i:], w)
	}
	h := sha256.New()
	for end := count + rounds; count < end; count++ {
		binary.LittleEndian.PutUint64(buf[80:], count)
		h.Reset()
		h.Write(buf)
		h.Sum(buf[:0])
	}
	for i := range l.last {
		l.last[i] = binary.BigEndian.Uint32(buf[4*i:])
	}
}

// stretchPlain keeps the hash in words from one round to the next.
func stretchPlain(l *lane, count, rounds uint64) {
	var w [16]uint32
	defer clear(w[:])
	for end := count + rounds; count < end; count++ {
		copy(w[:8], l.last[:])
		copy(w[8:], l.initial[:])
		l.last = firstHash
		compress(&l.last, &w)
		w = [16]uint32{l.salt[0], l.salt[1], l.salt[2], l.salt[3],
			4: bits.ReverseBytes32(uint32(count)), 5: bits.ReverseBytes32(uint32(count >> 32)),
			6: 0x80000000, 15: 88 * 8}
		compress(&l.last, &w)
	}
}
