package bitlocker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// memory is a disk in memory. Reading past its end is an error, as of a file.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], p), nil
}

// made is a volume for a test: its disk, its clear content, and how it opens.
type made struct {
	disk    memory
	content []byte
	res     *fvetest.Result
}

// makeVolume formats a volume with random content that a clear key opens, for
// that needs no stretch.
func makeVolume(t testing.TB, size int64, opts fvetest.Options) *made {
	t.Helper()
	opts.ClearKey = true
	regions, err := fvetest.Layout(size, opts)
	if err != nil {
		t.Fatal(err)
	}
	v := &made{disk: make(memory, size), content: make([]byte, size)}
	if _, err := io.ReadFull(fvetest.Seed("content"), v.content); err != nil {
		t.Fatal(err)
	}
	for _, r := range regions {
		clear(v.content[r.Off : r.Off+r.Len])
	}
	if v.res, err = fvetest.Format(v.disk, bytes.NewReader(v.content), size, opts); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *made) open(t testing.TB) (*bitlocker.Volume, *bitlocker.Metadata, *bitlocker.VolumeKey) {
	t.Helper()
	m, err := bitlocker.ReadMetadata(v.disk, int64(len(v.disk)))
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := m.UnlockClearKey()
	if err != nil {
		t.Fatal(err)
	}
	vol, err := bitlocker.OpenVolume(v.disk, m, key)
	if err != nil {
		t.Fatal(err)
	}
	return vol, m, key
}

// kinds are all ciphers and sector sizes, and volumes that are partly clear.
// Short mode has one cipher of each sort.
func kinds() map[string]fvetest.Options {
	list := map[string]fvetest.Options{}
	short := map[bitlocker.Method]int{bitlocker.MethodElephant128: 512, bitlocker.MethodCBC128: 4096, bitlocker.MethodXTS128: 512}
	for _, method := range bitlocker.Methods() {
		for _, sector := range []int{512, 4096} {
			if testing.Short() && short[method] != sector {
				continue
			}
			o := fvetest.Options{Method: method, SectorSize: sector}
			list[fmt.Sprintf("%s/%d", method, sector)] = o
			o.EncryptedSize = 1<<20 + 4096
			list[fmt.Sprintf("%s/%d/partly", method, sector)] = o
		}
	}
	return list
}

const testSize = fvetest.MinSize

// places gives ranges of the volume: around every bound there is, and random ones.
func places(v *made) [][2]int {
	r := rand.New(rand.NewPCG(1, 2))
	list := [][2]int{{0, 1}, {0, testSize}, {testSize - 1, 1}, {testSize - 5000, 5000}}
	bounds := []int{8192, 1<<20 + 4096}
	for _, reg := range v.res.Regions {
		bounds = append(bounds, int(reg.Off), int(reg.Off+reg.Len))
	}
	for _, b := range bounds {
		list = append(list, [2]int{b - 1, 2}, [2]int{b - 4096, 8192}, [2]int{b - 3, 3}, [2]int{b, 5}, [2]int{b - 513, 9999})
	}
	for range 100 {
		off := r.IntN(testSize)
		list = append(list, [2]int{off, r.IntN(min(testSize-off, 20000))})
	}
	return list
}

func TestReadAt(t *testing.T) {
	for name, opts := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := makeVolume(t, testSize, opts)
			vol, _, _ := v.open(t)
			if vol.Size() != testSize || vol.SectorSize() != opts.SectorSize {
				t.Errorf("size %d, sectors of %d", vol.Size(), vol.SectorSize())
			}
			for _, p := range places(v) {
				got := make([]byte, p[1])
				if n, err := vol.ReadAt(got, int64(p[0])); err != nil || n != p[1] {
					t.Fatalf("read %d at %d: %d, %v", p[1], p[0], n, err)
				}
				if !bytes.Equal(got, v.content[p[0]:p[0]+p[1]]) {
					t.Fatalf("read %d at %d gives other bytes", p[1], p[0])
				}
			}
			b := make([]byte, 100)
			if n, err := vol.ReadAt(b, testSize-60); n != 60 || !errors.Is(err, io.EOF) || !bytes.Equal(b[:60], v.content[testSize-60:]) {
				t.Errorf("read across the end: %d, %v", n, err)
			}
			if n, err := vol.ReadAt(b, testSize); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("read at the end: %d, %v", n, err)
			}
			if n, err := vol.ReadAt(b, -1); n != 0 || err == nil || errors.Is(err, io.EOF) {
				t.Errorf("read before the start: %d, %v", n, err)
			}
		})
	}
}

// TestWriteAt writes at any alignment, and reads the volume back through one
// that was opened anew.
func TestWriteAt(t *testing.T) {
	for name, opts := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := makeVolume(t, testSize, opts)
			vol, _, _ := v.open(t)
			src := rand.NewChaCha8([32]byte{9})
			refused := 0
			for _, p := range places(v) {
				b := make([]byte, p[1])
				_, _ = src.Read(b)
				before := bytes.Clone(b)
				hit := false
				for _, r := range v.res.Regions {
					hit = hit || p[1] > 0 && int64(p[0]) < r.Off+r.Len && r.Off < int64(p[0]+p[1])
				}
				n, err := vol.WriteAt(b, int64(p[0]))
				if hit {
					refused++
					if n != 0 || !errors.Is(err, bitlocker.ErrReserved) {
						t.Fatalf("write %d at %d, where BitLocker's own data is: %d, %v", p[1], p[0], n, err)
					}
					continue
				}
				if err != nil || n != p[1] {
					t.Fatalf("write %d at %d: %d, %v", p[1], p[0], n, err)
				}
				if !bytes.Equal(b, before) {
					t.Fatalf("write %d at %d changed the caller's bytes", p[1], p[0])
				}
				copy(v.content[p[0]:], b)
			}
			if refused == 0 {
				t.Error("no write was refused")
			}
			for _, off := range []int64{-1, testSize, testSize - 3} {
				if n, err := vol.WriteAt(make([]byte, 4), off); n != 0 || err == nil {
					t.Errorf("write of 4 bytes at %d: %d, %v", off, n, err)
				}
			}
			again, m, _ := v.open(t)
			if len(m.Problems) > 0 {
				t.Errorf("writing harmed the metadata: %q", m.Problems)
			}
			got := make([]byte, testSize)
			if _, err := again.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, v.content) {
				t.Error("content differs after writing")
			}
		})
	}
}

// TestWriteAtConcurrently writes neighbouring bytes of the same sectors.
func TestWriteAtConcurrently(t *testing.T) {
	v := makeVolume(t, testSize, fvetest.Options{})
	vol, _, _ := v.open(t)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := g; i < 4000; i += 4 {
				if _, err := vol.WriteAt([]byte{byte(i)}, int64(8000+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := make([]byte, 4000)
	if _, err := vol.ReadAt(got, 8000); err != nil {
		t.Fatal(err)
	}
	for i, c := range got {
		if c != byte(i) {
			t.Fatalf("byte %d is %d", i, c)
		}
	}
}

// readerOnly hides that a disk can be written to.
type readerOnly struct{ io.ReaderAt }

func TestReadOnly(t *testing.T) {
	v := makeVolume(t, testSize, fvetest.Options{})
	_, m, key := v.open(t)
	vol, err := bitlocker.OpenVolume(readerOnly{v.disk}, m, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vol.WriteAt([]byte{1}, 0); err == nil {
		t.Error("write to a disk that cannot be written to succeeds")
	}
}

// TestWipedKey makes sure that an open volume outlives its key, and that a
// wiped key opens nothing.
func TestWipedKey(t *testing.T) {
	v := makeVolume(t, testSize, fvetest.Options{})
	vol, m, key := v.open(t)
	key.Wipe()
	b := make([]byte, 512)
	if _, err := vol.ReadAt(b, 0); err != nil || !bytes.Equal(b, v.content[:512]) {
		t.Errorf("open volume reads other bytes: %v", err)
	}
	if _, err := bitlocker.OpenVolume(v.disk, m, key); err == nil {
		t.Error("a wiped key opens the volume")
	}
	if _, err := bitlocker.OpenVolume(v.disk, m, nil); err == nil {
		t.Error("no key opens the volume")
	}
	if _, err := m.Table(key, "/dev/sda1"); err == nil {
		t.Error("a wiped key makes a table")
	}
}

// TestTruncated cuts the image behind the metadata.
func TestTruncated(t *testing.T) {
	v := makeVolume(t, testSize, fvetest.Options{Metadata: [3]int64{1 << 20, 1<<20 + 128<<10, 1<<20 + 256<<10}})
	const cut = 3<<20 + 700
	v.disk = v.disk[:cut]
	vol, m, _ := v.open(t)
	if vol.Size() != testSize {
		t.Errorf("size is %d", vol.Size())
	}
	if len(m.Problems) != 1 || !strings.Contains(m.Problems[0], "truncated") {
		t.Errorf("problems: %q", m.Problems)
	}
	b := make([]byte, 64<<10)
	n, err := vol.ReadAt(b, 3<<20-100)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), fmt.Sprintf("offset %d", cut)) {
		t.Errorf("error does not name offset %d: %v", cut, err)
	}
	if n > 800 || !bytes.Equal(b[:n], v.content[3<<20-100:][:n]) {
		t.Errorf("%d bytes read, or other ones", n)
	}
	if err := vol.Decrypt(context.Background(), make(memory, testSize), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("decrypt: %v", err)
	}
}

func TestDecrypt(t *testing.T) {
	v := makeVolume(t, testSize+512*7, fvetest.Options{Method: bitlocker.MethodXTS256})
	vol, _, _ := v.open(t)
	out := make(memory, len(v.content))
	var last int64
	err := vol.Decrypt(context.Background(), out, func(done, total int64) {
		if done <= last || total != vol.Size() {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil || last != vol.Size() || !bytes.Equal(out, v.content) {
		t.Errorf("progress ends at %d of %d, equal %t, error %v", last, vol.Size(), bytes.Equal(out, v.content), err)
	}
	if err := vol.Decrypt(context.Background(), make(memory, 1<<20), nil); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("output too small: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := vol.Decrypt(ctx, out, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func BenchmarkVolumeDecrypt(b *testing.B) {
	for _, method := range bitlocker.Methods() {
		b.Run(strings.ReplaceAll(method.String(), " ", "-"), func(b *testing.B) {
			const size = 64 << 20
			vol, _, _ := makeVolume(b, size, fvetest.Options{Method: method}).open(b)
			out := make(memory, size)
			b.SetBytes(size)
			for b.Loop() {
				if err := vol.Decrypt(context.Background(), out, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
