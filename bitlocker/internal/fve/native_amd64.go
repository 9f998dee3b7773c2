package fve

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/cpu"
)

// Instructions of this processor; tests switch them off.
var (
	hasAES  = cpu.X86.HasAES && cpu.X86.HasSSE2
	hasAVX2 = cpu.X86.HasAVX2
	hasBMI2 = cpu.X86.HasAVX2 && cpu.X86.HasBMI2
)

// Groups are of eight blocks; keys, rounds, dst and src as aes_amd64.s has them.
//
//go:noescape
func ecbEncrypt(keys *byte, rounds int, dst, src *byte, groups int)

//go:noescape
func xtsEncrypt(keys *byte, rounds int, dst, src, tweaks *byte, sectors, groups int)

//go:noescape
func xtsDecrypt(keys *byte, rounds int, dst, src, tweaks *byte, sectors, groups int)

//go:noescape
func cbcDecrypt(keys *byte, rounds int, dst, src, ivs *byte, sectors, groups int)

//go:noescape
func cbcEncrypt(keys *byte, rounds int, dst, src, ivs *byte, stride, blocks int)

//go:noescape
func diffuseDecrypt8(dst, keys, scratch *byte, stride, words int)

func keyWord(w uint32) uint32

//go:noescape
func inverseKey(dst, src *byte)

// group is how many bytes the assembly encrypts at a time.
const group = 128

// schedule holds the round keys of both directions.
type schedule struct {
	rounds   int
	enc, dec [15 * 16]byte
}

// newSchedule expands a key of 16 or 32 bytes (FIPS 197, 5.2 and 5.3.5).
func newSchedule(key []byte) *schedule {
	s := &schedule{rounds: len(key)/4 + 6}
	n := len(key) / 4
	le := binary.LittleEndian
	copy(s.enc[:], key)
	constant := byte(1)
	for i := n; i < 4*(s.rounds+1); i++ {
		w := le.Uint32(s.enc[4*i-4:])
		switch {
		case i%n == 0:
			w = bits.RotateLeft32(keyWord(w), -8) ^ uint32(constant)
			constant = constant<<1 ^ constant>>7*0x1b
		case n > 6 && i%n == 4:
			w = keyWord(w)
		}
		le.PutUint32(s.enc[4*i:], w^le.Uint32(s.enc[4*(i-n):]))
	}
	last := 16 * s.rounds
	copy(s.dec[:16], s.enc[last:])
	copy(s.dec[last:], s.enc[:16])
	for i := 16; i < last; i += 16 {
		inverseKey(&s.dec[i], &s.enc[last-i])
	}
	return s
}

// encrypt encrypts the blocks of b, a multiple of group.
func (s *schedule) encrypt(b []byte) {
	ecbEncrypt(&s.enc[0], s.rounds, &b[0], &b[0], len(b)/group)
}

// batch is for how many sectors tweaks and the like are made at a time.
const batch = 64

// batches calls fn with pieces of at most batch whole sectors.
func batches(dst, src []byte, size int, off int64, fn func(dst, src []byte, sectors int, off int64)) {
	for len(src) > 0 {
		n := min(batch*size, len(src))
		fn(dst[:n], src[:n], n/size, off)
		dst, src, off = dst[n:], src[n:], off+int64(n)
	}
}

// wholeGroups is n blocks of 16 bytes, rounded up to what encrypt takes.
func wholeGroups(n int) int { return (n*16 + group - 1) / group * group }

// nativeXTS is xts by the processor's AES instructions.
type nativeXTS struct {
	data, tweak *schedule
	size        int
}

// tweaks makes the first tweaks of sectors.
func (x *nativeXTS) tweaks(t *[batch * 16]byte, off int64, sectors int) {
	for i := range sectors {
		binary.LittleEndian.PutUint64(t[16*i:], uint64(off)/uint64(x.size)+uint64(i))
		binary.LittleEndian.PutUint64(t[16*i+8:], 0)
	}
	x.tweak.encrypt(t[:wholeGroups(sectors)])
}

func (x *nativeXTS) Encrypt(dst, src []byte, off int64) {
	var t [batch * 16]byte
	batches(dst, src, x.size, off, func(dst, src []byte, sectors int, off int64) {
		x.tweaks(&t, off, sectors)
		xtsEncrypt(&x.data.enc[0], x.data.rounds, &dst[0], &src[0], &t[0], sectors, x.size/group)
	})
}

func (x *nativeXTS) Decrypt(dst, src []byte, off int64) {
	var t [batch * 16]byte
	batches(dst, src, x.size, off, func(dst, src []byte, sectors int, off int64) {
		x.tweaks(&t, off, sectors)
		xtsDecrypt(&x.data.dec[0], x.data.rounds, &dst[0], &src[0], &t[0], sectors, x.size/group)
	})
}

// nativeCBC is cbc by the processor's AES instructions. Less than eight sectors are encrypted by plain.
type nativeCBC struct {
	plain cbc
	data  *schedule
}

func (c *nativeCBC) ivs(t *[batch * 16]byte, off int64, sectors int) {
	for i := range sectors {
		binary.LittleEndian.PutUint64(t[16*i:], uint64(off)+uint64(i*c.plain.size))
		binary.LittleEndian.PutUint64(t[16*i+8:], 0)
	}
	c.data.encrypt(t[:wholeGroups(sectors)])
}

func (c *nativeCBC) Encrypt(dst, src []byte, off int64) {
	var t [batch * 16]byte
	size := c.plain.size
	batches(dst, src, size, off, func(dst, src []byte, sectors int, off int64) {
		c.ivs(&t, off, sectors)
		i := 0
		for ; i+8 <= sectors; i += 8 {
			cbcEncrypt(&c.data.enc[0], c.data.rounds, &dst[i*size], &src[i*size], &t[16*i], size, size/16)
		}
		c.plain.Encrypt(dst[i*size:], src[i*size:], off+int64(i*size))
	})
}

func (c *nativeCBC) Decrypt(dst, src []byte, off int64) {
	var t [batch * 16]byte
	batches(dst, src, c.plain.size, off, func(dst, src []byte, sectors int, off int64) {
		c.ivs(&t, off, sectors)
		cbcDecrypt(&c.data.dec[0], c.data.rounds, &dst[0], &src[0], &t[0], sectors, c.plain.size/group)
	})
}

// nativeElephant decrypts by the processor's AES and AVX2 instructions; encryption has only the former.
type nativeElephant struct {
	plain elephant
	cbc   nativeCBC
	tweak *schedule
}

func (e *nativeElephant) Encrypt(dst, src []byte, off int64) {
	e.plain.diffuse(dst, src, off)
	e.cbc.Encrypt(dst, dst, off)
}

func (e *nativeElephant) Decrypt(dst, src []byte, off int64) {
	size := e.plain.size
	// The rows of eight of the largest sectors, and five more.
	var scratch [(4096/4 + 5) * 32]byte
	var keys [8 * 32]byte
	for len(src) >= 8*size {
		// One after the other, as long as the sectors are in the nearest cache.
		e.cbc.Decrypt(dst[:8*size], src[:8*size], off)
		for i := range 8 {
			at := uint64(off) + uint64(i*size)
			k := keys[32*i:][:32]
			clear(k)
			binary.LittleEndian.PutUint64(k, at)
			binary.LittleEndian.PutUint64(k[16:], at)
			k[31] = 0x80
		}
		e.tweak.encrypt(keys[:])
		diffuseDecrypt8(&dst[0], &keys[0], &scratch[0], size, size/4)
		dst, src, off = dst[8*size:], src[8*size:], off+int64(8*size)
	}
	if len(src) > 0 {
		e.plain.Decrypt(dst, src, off)
	}
}

// newNative gives the cipher that uses what this processor has; c is the plain one, and is given back where it has nothing.
func newNative(c Cipher, key []byte) Cipher {
	if !hasAES {
		return c
	}
	half := key[:len(key)/2]
	switch c := c.(type) {
	case *xts:
		return &nativeXTS{newSchedule(half), newSchedule(key[len(half):]), c.size}
	case *cbc:
		return &nativeCBC{*c, newSchedule(key)}
	case *elephant:
		if hasAVX2 {
			return &nativeElephant{*c, nativeCBC{c.cbc, newSchedule(half)}, newSchedule(key[len(half):])}
		}
	}
	return c
}

// hasSHA is not among what x/sys/cpu tells: bit 29 of leaf 7.
var hasSHA = cpu.X86.HasSSE41 && cpu.X86.HasSSSE3 && cpuid7()>>29&1 == 1

func cpuid7() (ebx uint32)

//go:noescape
func stretch1(lane *lane, count, rounds uint64)

//go:noescape
func stretch2(a, b *lane, count, rounds uint64)

//go:noescape
func stretch8(lanes *lanes8, count, rounds uint64)

//go:noescape
func expand8(w, wk *[64][8]uint32)

//go:noescape
func stretchScalar(lane *lane, wk *[64][8]uint32, rounds uint64)

// stretchers are the stretches that may be the fastest on this processor. Nothing comes near SHA instructions.
func stretchers() []stretcher {
	if hasSHA {
		return []stretcher{stretch1}
	}
	kinds := []stretcher{stretchLibrary, stretchPlain}
	if hasBMI2 {
		kinds = append(kinds, stretchBMI2)
	}
	return kinds
}

// stretchBMI2 is for processors without SHA instructions. The message schedule of the second block depends on nothing but
// the count, and is made for eight rounds at a time.
func stretchBMI2(l *lane, count, rounds uint64) {
	var w, wk [64][8]uint32
	defer func() { clear(w[:]); clear(wk[:]) }()
	for lane := range 8 {
		for i, word := range l.salt {
			w[i][lane] = word
		}
		w[6][lane], w[15][lane] = 0x80000000, 88*8
	}
	for rounds > 0 {
		for lane := range uint64(8) {
			w[4][lane] = bits.ReverseBytes32(uint32(count + lane))
			w[5][lane] = bits.ReverseBytes32(uint32((count + lane) >> 32))
		}
		expand8(&w, &wk)
		n := min(8, rounds)
		stretchScalar(l, &wk, n)
		count, rounds = count+n, rounds-n
	}
}

// StretchLanes is how many stretches at a time are the least work each.
func StretchLanes() int {
	switch {
	case hasSHA:
		return 2
	case hasAVX2:
		return 8
	}
	return 1
}

func newMany(jobs []*Job) many {
	switch {
	case hasSHA && len(jobs) == 2:
		return pair(newOneByOne(jobs))
	case !hasSHA && hasAVX2 && len(jobs) > 1:
		return newLanes8(jobs)
	}
	return newOneByOne(jobs)
}

// pair is two lanes: while an SHA instruction of one waits for its last one, there is time for the other.
type pair oneByOne

func (p pair) run(count, rounds uint64) { stretch2(p[0], p[1], count, rounds) }
func (p pair) finish(jobs []*Job)       { oneByOne(p).finish(jobs) }

// lanes8 is eight lanes as AVX2 has them: each row is one word of all.
type lanes8 struct {
	last, initial [8][8]uint32
	salt          [4][8]uint32
}

func newLanes8(jobs []*Job) *lanes8 {
	m := &lanes8{}
	for i, l := range newOneByOne(jobs) {
		for j, w := range l.initial {
			m.initial[j][i] = w
		}
		for j, w := range l.salt {
			m.salt[j][i] = w
		}
		*l = lane{}
	}
	return m
}

func (m *lanes8) run(count, rounds uint64) { stretch8(m, count, rounds) }

func (m *lanes8) finish(jobs []*Job) {
	for i, j := range jobs {
		var l lane
		for w := range l.last {
			l.last[w] = m.last[w][i]
		}
		j.Key = l.key()
	}
	*m = lanes8{}
}
