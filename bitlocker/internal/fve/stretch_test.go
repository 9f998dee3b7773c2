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

// TestStretchKinds compares all that may run with the standard library's SHA-256, in one piece and in several, from the
// first count and across one where its second byte changes.
func TestStretchKinds(t *testing.T) {
	for i, run := range append(stretchers(), stretchPlain) {
		for seed := range byte(20) {
			got := newLane([32]byte(random(seed, 32)), [16]byte(random(seed+100, 16)))
			want := *got
			start := uint64(seed) * 65430
			stretchLibrary(&want, start, 300)
			run(got, start, 7)
			run(got, start+7, 293)
			if *got != want {
				t.Errorf("kind %d: seed %d gives another key", i, seed)
			}
		}
	}
}

// jobs makes stretches, each with another password and some with another salt.
func jobs(n int) []*Job {
	list := make([]*Job, n)
	for i := range list {
		list[i] = &Job{Initial: [32]byte(random(byte(i), 32)), Salt: [16]byte(random(byte(i/3), 16))}
	}
	return list
}

func TestStretchJobs(t *testing.T) {
	for n := range 20 {
		list := jobs(n)
		const rounds = 700
		var last int64
		err := stretchJobs(context.Background(), list, rounds, func(done, total int64) {
			if done <= last || total != int64(n)*rounds {
				t.Errorf("%d jobs: progress %d of %d after %d", n, done, total, last)
			}
			last = done
		})
		if err != nil || last != int64(n)*rounds {
			t.Errorf("%d jobs: progress ends at %d, error %v", n, last, err)
		}
		for i, j := range list {
			want, err := stretch(context.Background(), j.Initial, j.Salt, rounds, nil)
			if err != nil || j.Key != want {
				t.Errorf("job %d of %d gives another key, %v", i, n, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := StretchJobs(ctx, jobs(1), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
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
	kinds := map[string]func(*lane, uint64, uint64){"library": stretchLibrary, "plain": stretchPlain, "chosen": fastest()}
	for name, run := range kinds {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				run(&lane{}, 0, StretchRounds)
			}
		})
	}
	b.Run("lanes", func(b *testing.B) {
		list := jobs(StretchLanes())
		for b.Loop() {
			if err := StretchJobs(context.Background(), list, nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(list)), "ns/stretch")
	})
}
