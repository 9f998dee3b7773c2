package fve

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
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
		for _, size := range []int{512, 4096} {
			t.Run(fmt.Sprint(name, "/", size), func(t *testing.T) {
				key := random(1, KeySize(method))
				c, err := NewCipher(method, key, size)
				if err != nil {
					t.Fatal(err)
				}
				for _, off := range offsets {
					plain := random(2, 5*size)
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
			})
		}
	}
}

// TestXTSVector is vector 10 of IEEE 1619-2007, annex B: AES-256, data unit 255.
func TestXTSVector(t *testing.T) {
	key := unhex(t, "2718281828459045235360287471352662497757247093699959574966967627"+
		"3141592653589793238462643383279502884197169399375105820974944592")
	c, err := NewCipher(MethodXTS256, key, 512)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 512)
	for i := range b {
		b[i] = byte(i)
	}
	c.Encrypt(b, b, 255*512)
	if want := unhex(t, "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"); !bytes.Equal(b[:32], want) {
		t.Errorf("got %x, want %x", b[:32], want)
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
