package udf

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

var when = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)

// content are files of every size that matters, in folders, with names of both encodings.
func content() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	data := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	files := map[string][]byte{
		"bootmgr": data(2048), "empty": {}, "one": data(1), "sources/boot.wim": data(3<<20 + 5),
		"efi/microsoft/boot/BCD": data(24576), "boot/Größe.txt": data(700), "boot/日本語.txt": data(2049),
		"sources/de-de/a name of more characters than ISO 9660 takes.dll.mui": data(4096),
	}
	for i := range 400 {
		files[fmt.Sprintf("sources/many/file %03d", i)] = data(i)
	}
	return files
}

// lay writes files below a folder.
func lay(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// bridge makes what Windows installation media are: UDF and ISO 9660 over the same files.
func bridge(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir, image := t.TempDir(), filepath.Join(t.TempDir(), "windows.iso")
	lay(t, dir, files)
	run(t, "genisoimage", "-quiet", "-udf", "-iso-level", "3", "-J", "-input-charset", "utf-8", "-V", "CCCOMA_X64", "-o", image, dir)
	return image
}

func open(t *testing.T, image string) *FS {
	t.Helper()
	r, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	info, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(r, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func check(t *testing.T, f *FS, files map[string][]byte) {
	t.Helper()
	var names []string
	for name, want := range files {
		names = append(names, name)
		got, err := fs.ReadFile(f, name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, SHA-256 %x, %v; want %d", name, len(got), sha256.Sum256(got), err, len(want))
			continue
		}
		info, err := fs.Stat(f, name)
		if err != nil || !info.ModTime().Equal(when) {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := fstest.TestFS(f, names...); err != nil {
		t.Error(err)
	}
}

func TestBridge(t *testing.T) {
	files := content()
	f := open(t, bridge(t, files))
	check(t, f, files)
	if f.Label() != "CCCOMA_X64" {
		t.Errorf("label %q", f.Label())
	}
	r, err := f.Open("sources/boot.wim")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3000)
	want := files["sources/boot.wim"]
	if _, err := r.(io.ReaderAt).ReadAt(b, 1<<20-7); err != nil || !bytes.Equal(b, want[1<<20-7:][:3000]) {
		t.Error("another content at an offset", err)
	}
	if n, err := r.(io.ReaderAt).ReadAt(b, int64(len(want))-10); n != 10 || !errors.Is(err, io.EOF) {
		t.Error("at the end", n, err)
	}
	for _, name := range []string{"Bootmgr", "bootmgr/x", "sources/none", "sources/de-de/x/y"} {
		if _, err := f.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// composer lays blocks out by hand, for what no program here makes: a metadata partition with its content in extended
// entries, and lists of extents that go on elsewhere.
type composer struct {
	image []byte
	block int
	start int // of the partition
}

func (c *composer) put(block int, tag uint16, fill func(b []byte)) {
	b := c.image[block*c.block:][:c.block]
	le.PutUint16(b, tag)
	le.PutUint16(b[10:], uint16(min(c.block-16, 496)))
	fill(b)
	seal(b)
}

// file writes an extended entry at a block of the image.
func (c *composer) file(block int, kind byte, form uint16, size int, list []byte) {
	c.put(block, tagExtendedEntry, func(b []byte) {
		le.PutUint16(b[20:], 4)
		b[27] = kind
		le.PutUint16(b[34:], form)
		le.PutUint64(b[56:], uint64(size))
		copy(b[92:], []byte{0x78, 0x10, 0xe8, 0x07, 7, 19, 7, 27, 0, 0, 0, 0}) // 120 minutes east of UTC
		le.PutUint32(b[212:], uint32(len(list)))
		copy(b[216:], list)
	})
}

func short(length, block uint32) []byte { return le.AppendUint32(le.AppendUint32(nil, length), block) }

func long(length, block uint32, part uint16) []byte {
	return append(le.AppendUint16(short(length, block), part), 0, 0, 0, 0, 0, 0)
}

func identifier(name string, dir bool, block uint32) []byte {
	b := make([]byte, 38, 64)
	le.PutUint16(b, tagIdentifier)
	if dir {
		b[18] = 2
	}
	b[19] = byte(1 + len(name))
	copy(b[20:], long(2048, block, 1))
	b = append(append(b, 8), name...)
	b = append(b, make([]byte, -len(b)&3)...)
	le.PutUint16(b[10:], uint16(len(b)-16))
	seal(b)
	return b
}

// compose makes a volume of UDF 2.60: partition 0 begins at block 300, and what lies in its metadata file, from its
// block 20 on, is partition 1.
func compose(block int) []byte {
	c := &composer{image: make([]byte, 400*block), block: block, start: 300}
	c.put(256, tagAnchor, func(b []byte) { copy(b[16:], short(uint32(16*block), 32)); copy(b[24:], short(uint32(16*block), 64)) })
	for _, at := range []int{32, 64} {
		c.put(at, tagPartition, func(b []byte) { le.PutUint32(b[188:], 300); le.PutUint32(b[192:], 100) })
		c.put(at+1, tagLogicalVolume, func(b []byte) {
			copy(b[84:], "\x08METADATA")
			b[84+127] = 9
			le.PutUint32(b[212:], uint32(block))
			copy(b[248:], long(uint32(block), 0, 1))
			le.PutUint32(b[264:], 70)
			le.PutUint32(b[268:], 2)
			copy(b[440:], []byte{1, 6, 1, 0, 0, 0, 2, 64, 0, 0})
			m := b[446:]
			copy(m[5:], "*UDF Metadata Partition")
			le.PutUint32(m[40:], 1)
			le.PutUint32(m[44:], 2)
		})
		c.put(at+2, tagTerminating, func([]byte) {})
	}
	for _, at := range []int{301, 302} { // the metadata file and its mirror
		c.file(at, 250, 0, 20*block, append(short(uint32(10*block), 20), short(uint32(10*block), 40)...))
	}
	c.put(320, tagFileSet, func(b []byte) { copy(b[400:], long(uint32(block), 2, 1)) })
	root := slices.Concat(identifier("embedded", false, 3), identifier("dir", true, 11))
	c.file(322, typeDirectory, 3, len(root), root)
	c.file(323, typeRegular, 3, 5, []byte("hello"))
	dir := slices.Concat(identifier("pieces", false, 12), identifier("up", true, 2))
	c.file(341, typeDirectory, 3, len(dir), dir)
	// Content of partition 0: a block, a hole of one, and, in a list that goes on in block 13 of partition 1, ten bytes.
	c.file(342, typeRegular, 1, 2*block+10, slices.Concat(long(uint32(block), 60, 0), long(uint32(block)|2<<30, 0, 0), long(uint32(block)|3<<30, 13, 1)))
	c.put(343, tagAllocation, func(b []byte) { le.PutUint32(b[20:], 16); copy(b[24:], long(10, 61, 0)) })
	for i := range block {
		c.image[360*block+i] = 'a'
		c.image[361*block+i] = 'z'
	}
	return c.image
}

func TestMetadataPartition(t *testing.T) {
	for _, block := range []int{512, 2048, 4096} {
		image := compose(block)
		for _, damage := range []int{-1, 32 * block, 301 * block} { // the copies of these are used
			if damage >= 0 {
				image[damage] ^= 0xff
			}
			f, err := Open(bytes.NewReader(image), int64(len(image)))
			if err != nil {
				t.Fatalf("blocks of %d, damage at %d: %v", block, damage, err)
			}
			if f.Label() != "METADATA" {
				t.Errorf("label %q", f.Label())
			}
			want := slices.Concat(bytes.Repeat([]byte("a"), block), make([]byte, block), []byte("zzzzzzzzzz"))
			for name, want := range map[string][]byte{"embedded": []byte("hello"), "dir/pieces": want, "dir/up/embedded": []byte("hello")} {
				got, err := fs.ReadFile(f, name)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %q, %v", name, got, err)
				}
				if info, err := fs.Stat(f, name); err != nil || !info.ModTime().Equal(when) {
					t.Errorf("%s: %v, %v", name, info, err)
				}
			}
			// Folders in a circle end somewhere.
			if _, err := f.Open(strings.Repeat("dir/up/", 40) + "embedded"); err == nil || !strings.Contains(err.Error(), "deep") {
				t.Errorf("a circle: %v", err)
			}
		}
		image[302*block] ^= 0xff
		if _, err := Open(bytes.NewReader(image), int64(len(image))); err == nil || errors.Is(err, ErrNoUDF) {
			t.Errorf("both metadata files damaged: %v", err)
		}
	}
}

// TestRevisions opens what mkudffs makes, which holds no files.
func TestRevisions(t *testing.T) {
	for _, revision := range []string{"0x0102", "0x0150", "0x0200", "0x0201"} {
		for _, block := range []string{"512", "2048", "4096"} {
			image := filepath.Join(t.TempDir(), "udf.img")
			if err := os.WriteFile(image, make([]byte, 8<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "mkudffs", "--utf8", "--media-type=hd", "--udfrev="+revision, "--blocksize="+block, "--label=Größe", image)
			f := open(t, image)
			if f.Label() != "Größe" {
				t.Errorf("%s: label %q", revision, f.Label())
			}
			if list, err := fs.ReadDir(f, "."); err != nil || len(list) > 1 { // lost+found, of some versions
				t.Errorf("%s, blocks of %s: %v, %v", revision, block, list, err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	if _, err := Open(bytes.NewReader(make([]byte, 1<<20)), 1<<20); !errors.Is(err, ErrNoUDF) {
		t.Errorf("zeros: %v", err)
	}
	if _, err := Open(bytes.NewReader(nil), 0); !errors.Is(err, ErrNoUDF) {
		t.Errorf("nothing: %v", err)
	}
	for kind, args := range map[string][]string{
		"Virtual":  {"--media-type=cdr", "--udfrev=0x0150"},
		"Sparable": {"--media-type=cdrw", "--udfrev=0x0150"},
	} {
		image := filepath.Join(t.TempDir(), "udf.img")
		if err := os.WriteFile(image, make([]byte, 16<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "mkudffs", append(args, image)...)
		data, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(bytes.NewReader(data), int64(len(data))); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), kind) {
			t.Errorf("%s partition: %v", kind, err)
		}
	}
}

// TestDamage cuts and changes an image everywhere: nothing may hang, panic or read as another content without an error
// where a checksum guards it.
func TestDamage(t *testing.T) {
	data, err := os.ReadFile(bridge(t, map[string][]byte{"a": []byte("a"), "dir/b": make([]byte, 5000)}))
	if err != nil {
		t.Fatal(err)
	}
	for size := 0; size < len(data); size += 30 << 10 {
		walk(bytes.NewReader(data[:size]), int64(size))
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 400 {
		changed := bytes.Clone(data)
		for range 1 + random.IntN(4) {
			changed[256*2048+random.IntN(64*2048)] ^= byte(1 << random.IntN(8))
		}
		walk(bytes.NewReader(changed), int64(len(changed)))
	}
}

// walk reads everything, up to a bound.
func walk(r io.ReaderAt, size int64) {
	f, err := Open(r, size)
	if err != nil {
		return
	}
	left := 100
	_ = fs.WalkDir(f, ".", func(name string, e fs.DirEntry, err error) error {
		if left--; left < 0 {
			return fs.SkipAll
		}
		if err == nil && !e.IsDir() {
			if file, err := f.Open(name); err == nil {
				_, _ = io.CopyN(io.Discard, file.(io.Reader), 8<<10)
			}
		}
		return nil // what cannot be read is left out
	})
}

// FuzzOpen leaves checksums out of the way: each input is patched onto a good image, whose tags are then made right.
func FuzzOpen(f *testing.F) {
	good := compose(512)
	f.Add(uint16(256), uint16(16), []byte{1, 2, 3})
	f.Add(uint16(342), uint16(56), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(_ *testing.T, block, off uint16, patch []byte) {
		image := bytes.Clone(good)
		at := int(block)*512 + int(off)
		if at >= len(image) {
			at %= len(image)
		}
		end := at + copy(image[at:], patch)
		for at -= at % 512; at < end; at += 512 { // the descriptors that it went into
			seal(image[at:min(at+512, len(image))])
		}
		walk(bytes.NewReader(image), int64(len(image)))
	})
}

// seal makes the checksums of a descriptor right, where there is one.
func seal(b []byte) {
	if length := int(le.Uint16(b[10:])); le.Uint16(b) != 0 && le.Uint16(b) < 300 && length <= len(b)-16 {
		le.PutUint16(b[8:], crc(b[16:16+length]))
		b[4] = 0
		var sum byte
		for _, c := range b[:16] {
			sum += c
		}
		b[4] = sum
	}
}
