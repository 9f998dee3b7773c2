package fve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
)

// TestStretchFewRounds compares with the definition, written plainly.
func TestStretchFewRounds(t *testing.T) {
	initial, salt := sha256.Sum256([]byte("initial")), [16]byte([]byte("sixteen bytes ok"))
	var last [32]byte
	for i := range 1000 {
		b := append(append(append(last[:], initial[:]...), salt[:]...), make([]byte, 8)...)
		binary.LittleEndian.PutUint64(b[80:], uint64(i))
		last = sha256.Sum256(b)
	}
	got, err := stretch(context.Background(), initial, salt, 1000, nil)
	if err != nil || got != last {
		t.Errorf("got %x, %v, want %x", got, err, last)
	}
}

func TestStretchProgressAndCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var seen []int64
	_, err := Stretch(ctx, [32]byte{}, [16]byte{}, func(done, total int64) {
		if total != StretchRounds {
			t.Errorf("total %d", total)
		}
		if seen = append(seen, done); len(seen) == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(seen) != 2 || seen[0] != StretchStep || seen[1] != 2*StretchStep {
		t.Errorf("progress %v, error %v", seen, err)
	}
}

// TestStretchAllocates makes sure that rounds cost no memory.
func TestStretchAllocates(t *testing.T) {
	allocs := func(rounds int) float64 {
		return testing.AllocsPerRun(5, func() {
			if _, err := stretch(context.Background(), [32]byte{}, [16]byte{}, rounds, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocs(10), allocs(10000); many > few {
		t.Errorf("%.0f allocations for 10 rounds, %.0f for 10000", few, many)
	}
}

// TestHashVectors are protectors of volumes that Windows made, with what they
// open to.
func TestHashVectors(t *testing.T) {
	root := os.Getenv("BOOTMEND_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "shared", "testdata")
	}
	b, err := os.ReadFile(filepath.Join(root, "bitlocker", "bitlocker-hash-vectors", "vectors.json"))
	if err != nil {
		t.Skipf("no test vectors (set BOOTMEND_TESTDATA): %v", err)
	}
	var vectors []struct {
		What, Hash, Secret, Kind string
		Initial                  string `json:"initial_hash"`
		Stretched                string `json:"stretched_key"`
		MACOK                    any    `json:"mac_ok"` // true, or a string: not recorded
		VMK                      string `json:"vmk_plaintext"`
	}
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) == 0 {
		t.Fatal("no vectors")
	}
	for i, v := range vectors {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			if testing.Short() && i > 0 {
				t.Skip("one vector only in short mode")
			}
			t.Parallel()
			// $bitlocker$type$16$salt$rounds$12$nonce$60$tag and data
			f := strings.Split(v.Hash, "$")
			salt, nonce, sealed := unhex(t, f[4]), unhex(t, f[7]), unhex(t, f[9])
			initial := unhex(t, v.Initial)
			if v.Kind == "password" {
				var p []byte
				for _, c := range utf16.Encode([]rune(v.Secret)) {
					p = binary.LittleEndian.AppendUint16(p, c)
				}
				once := sha256.Sum256(p)
				if twice := sha256.Sum256(once[:]); !bytes.Equal(twice[:], initial) {
					t.Errorf("initial hash %x, want %x", twice, initial)
				}
			}
			key, err := Stretch(context.Background(), [32]byte(initial), [16]byte(salt), nil)
			if err != nil || !bytes.Equal(key[:], unhex(t, v.Stretched)) {
				t.Fatalf("%s: stretched to %x, %v, want %s", v.What, key, err, v.Stretched)
			}
			got, err := Open(key[:], nonce, sealed[:TagSize], sealed[TagSize:])
			if v.MACOK != true {
				if !errors.Is(err, ErrTag) {
					t.Errorf("%s: a missing tag is accepted: %v", v.What, err)
				}
				c, err := newCCM(key[:], nonce, TagSize, len(sealed)-TagSize)
				if err != nil {
					t.Fatal(err)
				}
				c.ctr(sealed[TagSize:], sealed[TagSize:])
				if !bytes.Equal(sealed[TagSize:], unhex(t, v.VMK)) {
					t.Errorf("%s: decrypts to %x, want %s", v.What, sealed[TagSize:], v.VMK)
				}
				return
			}
			if err != nil || !bytes.Equal(got, unhex(t, v.VMK)) {
				t.Errorf("%s: opens to %x, %v, want %s", v.What, got, err, v.VMK)
			}
		})
	}
}

func BenchmarkStretch(b *testing.B) {
	for b.Loop() {
		if _, err := Stretch(context.Background(), [32]byte{1}, [16]byte{2}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
