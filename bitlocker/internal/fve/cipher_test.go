package fve

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	xtsoracle "golang.org/x/crypto/xts"
)

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

var methods = map[string]uint16{
	"Elephant128": MethodElephant128, "Elephant256": MethodElephant256,
	"CBC128": MethodCBC128, "CBC256": MethodCBC256,
	"XTS128": MethodXTS128, "XTS256": MethodXTS256,
}

// oracle encrypts one sector by other people's code, as far as there is any.
func oracle(t testing.TB, method uint16, key, sector []byte, off int64) []byte {
	t.Helper()
	out := bytes.Clone(sector)
	switch method {
	case MethodXTS128, MethodXTS256:
		c, err := xtsoracle.NewCipher(aes.NewCipher, key)
		if err != nil {
			t.Fatal(err)
		}
		c.Encrypt(out, sector, uint64(off)/uint64(len(sector)))
		return out
	case MethodElephant128, MethodElephant256:
		diffuse(t, out, key[len(key)/2:], off)
		key = key[:len(key)/2]
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	iv := make([]byte, 16)
	binary.LittleEndian.PutUint64(iv, uint64(off))
	block.Encrypt(iv, iv)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, out)
	return out
}

// diffuse is the diffuser's encryption as Ferguson's paper has it in section
// 4.4: the inverse of its decryption formulas, index by index.
func diffuse(t testing.TB, sector, tweak []byte, off int64) {
	t.Helper()
	block, err := aes.NewCipher(tweak)
	if err != nil {
		t.Fatal(err)
	}
	var key [32]byte
	binary.LittleEndian.PutUint64(key[0:], uint64(off))
	binary.LittleEndian.PutUint64(key[16:], uint64(off))
	key[31] = 128
	block.Encrypt(key[:16], key[:16])
	block.Encrypt(key[16:], key[16:])
	n := len(sector) / 4
	d := make([]uint32, n)
	for i := range sector {
		d[i/4] |= uint32(sector[i]^key[i%32]) << (8 * (i % 4))
	}
	ra, rb := [4]int{9, 0, 13, 0}, [4]int{0, 10, 0, 25}
	for i := 5*n - 1; i >= 0; i-- {
		j := i % n
		d[j] -= d[(j+n-2)%n] ^ bits.RotateLeft32(d[(j+n-5)%n], ra[j%4])
	}
	for i := 3*n - 1; i >= 0; i-- {
		j := i % n
		d[j] -= d[(j+2)%n] ^ bits.RotateLeft32(d[(j+5)%n], rb[j%4])
	}
	for i := range sector {
		sector[i] = byte(d[i/4] >> (8 * (i % 4)))
	}
}

func TestCiphers(t *testing.T) {
	offsets := []int64{0, 4096, 1 << 20, 5<<40 + 12288}
	for name, method := range methods {
		for _, size := range []int{512, 1024, 2048, 4096} {
			test := func(t *testing.T, build func(uint16, []byte, int) (Cipher, error)) {
				key := random(1, KeySize(method))
				c, err := build(method, key, size)
				if err != nil {
					t.Fatal(err)
				}
				for _, off := range offsets {
					plain := random(2, 21*size)
					var want []byte
					for i := 0; i < len(plain); i += size {
						want = append(want, oracle(t, method, key, plain[i:i+size], off+int64(i))...)
					}
					got := make([]byte, len(plain))
					c.Encrypt(got, plain, off)
					if !bytes.Equal(got, want) {
						t.Fatalf("offset %d: encrypts to something else than the oracle", off)
					}
					c.Decrypt(got, got, off)
					if !bytes.Equal(got, plain) {
						t.Fatalf("offset %d: does not decrypt in place", off)
					}
					c.Decrypt(got, want, off)
					if !bytes.Equal(got, plain) {
						t.Fatalf("offset %d: does not decrypt", off)
					}
					c.Encrypt(got, got, off)
					if !bytes.Equal(got, want) {
						t.Fatalf("offset %d: does not encrypt in place", off)
					}
				}
			}
			t.Run(fmt.Sprint(name, "/", size), func(t *testing.T) { test(t, NewCipher) })
			t.Run(fmt.Sprint(name, "/", size, "/plain"), func(t *testing.T) { test(t, newPlain) })
		}
	}
}

// TestNativeIsPlain compares this processor's cipher with the one that runs
// everywhere, for every number of sectors around what is done at a time.
func TestNativeIsPlain(t *testing.T) {
	for name, method := range methods {
		for _, size := range []int{512, 4096} {
			key := random(3, KeySize(method))
			native, err := NewCipher(method, key, size)
			if err != nil {
				t.Fatal(err)
			}
			plain, err := newPlain(method, key, size)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%T", native) == fmt.Sprintf("%T", plain) {
				t.Skipf("this processor has no instructions for %s", name)
			}
			src := random(4, 150*size)
			got, want := make([]byte, len(src)), make([]byte, len(src))
			for n := 0; n <= 150; n += 1 + n/20 {
				for _, off := range []int64{0, int64(size) * 12345, 1<<45 + int64(size)} {
					for _, step := range []struct {
						what          string
						native, plain func(dst, src []byte, off int64)
					}{{"encrypt", native.Encrypt, plain.Encrypt}, {"decrypt", native.Decrypt, plain.Decrypt}} {
						clear(got)
						clear(want)
						step.native(got[:n*size], src[:n*size], off)
						step.plain(want[:n*size], src[:n*size], off)
						if !bytes.Equal(got, want) {
							t.Fatalf("%s/%d: %d sectors at offset %d %s to something else", name, size, n, off, step.what)
						}
					}
				}
			}
		}
	}
}

// TestXTSVectors are vectors of IEEE 1619-2007, annex B, by their numbers. Those with data units of less than a sector are
// the start of one: blocks do not depend on later ones.
func TestXTSVectors(t *testing.T) {
	counting := make([]byte, 512)
	for i := range counting {
		counting[i] = byte(i)
	}
	fours := bytes.Repeat([]byte{0x44}, 32)
	key4 := "2718281828459045235360287471352631415926535897932384626433832795"
	for _, v := range []struct {
		number int
		key    string
		unit   int64
		plain  []byte // nil: what vector 4 encrypts to
		want   string
	}{
		{1, strings.Repeat("00", 32), 0, make([]byte, 32), "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e"},
		{2, strings.Repeat("11", 16) + strings.Repeat("22", 16), 0x3333333333, fours, "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"},
		{3, "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0" + strings.Repeat("22", 16), 0x3333333333, fours, "af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89"},
		{4, key4, 0, counting, "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89cc78cf7f5e543445f8333d8fa7f56000005279fa5d8b5e4ad40e736ddb4d35412"},
		{5, key4, 1, nil, "264d3ca8512194fec312c8c9891f279fefdd608d0c027b60483a3fa811d65ee59d52d9e40ec5672d81532b38b6b089ce951f0f9c35590b8b978d175213f329bb"},
		{10, "27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592", 0xff, counting,
			"1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd"},
	} {
		for name, build := range map[string]func(uint16, []byte, int) (Cipher, error){"native": NewCipher, "plain": newPlain} {
			method := uint16(MethodXTS128)
			if len(v.key) == 128 {
				method = MethodXTS256
			}
			b := make([]byte, 512)
			copy(b, v.plain)
			if v.plain == nil {
				c, err := build(method, unhex(t, v.key), 512)
				if err != nil {
					t.Fatal(err)
				}
				c.Encrypt(b, counting, 0)
			}
			c, err := build(method, unhex(t, v.key), 512)
			if err != nil {
				t.Fatal(err)
			}
			c.Encrypt(b, b, v.unit*512)
			if want := unhex(t, v.want); !bytes.Equal(b[:len(want)], want) {
				t.Errorf("vector %d, %s: got %x, want %x", v.number, name, b[:len(want)], want)
			}
		}
	}
}

func TestNewCipherRefuses(t *testing.T) {
	for _, tt := range []struct {
		method uint16
		key    int
		sector int
	}{{MethodXTS128, 31, 512}, {MethodXTS128, 64, 512}, {0, 0, 512}, {0x8006, 32, 512}, {MethodCBC128, 16, 520}, {MethodCBC128, 16, 0}, {MethodElephant128, 32, 8192}} {
		if _, err := NewCipher(tt.method, make([]byte, tt.key), tt.sector); err == nil {
			t.Errorf("method %04x with %d bytes of key and sectors of %d is accepted", tt.method, tt.key, tt.sector)
		}
	}
}

func BenchmarkDecrypt(b *testing.B) {
	for name, method := range methods {
		for _, size := range []int{512, 4096} {
			b.Run(fmt.Sprint(name, "/", size), func(b *testing.B) {
				c, err := NewCipher(method, random(1, KeySize(method)), size)
				if err != nil {
					b.Fatal(err)
				}
				buf := random(2, 1<<20)
				b.SetBytes(int64(len(buf)))
				for b.Loop() {
					c.Decrypt(buf, buf, 1<<30)
				}
			})
		}
	}
}

// BenchmarkOracleXTS is x/crypto's XTS, for comparison.
func BenchmarkOracleXTS(b *testing.B) {
	c, err := xtsoracle.NewCipher(aes.NewCipher, random(1, 32))
	if err != nil {
		b.Fatal(err)
	}
	buf := random(2, 1<<20)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		for i := 0; i < len(buf); i += 512 {
			c.Decrypt(buf[i:i+512], buf[i:i+512], uint64(i))
		}
	}
}
