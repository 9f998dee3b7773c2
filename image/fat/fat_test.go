package fat

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
)

var epoch = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)

func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	return path
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=0", "LC_ALL=C.UTF-8", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func content(size int64, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func fileEntry(path string, data []byte) Entry {
	return Entry{Path: path, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// sample is a tree with what has gone wrong in other writers: nested "..", dotfiles, aliases that clash, long and
// non-Latin names, empty files, sizes around a cluster.
func sample() ([]Entry, map[string][]byte) {
	files := map[string][]byte{}
	var list []Entry
	add := func(path string, data []byte) {
		files[path] = data
		list = append(list, fileEntry(path, data))
	}
	add("EFI/BOOT/BOOTX64.EFI", content(5000, 1))
	add("EFI/BOOT/grub.cfg", content(512, 2))
	add("a/b/c/d/deep file with spaces.text", content(1, 3))
	add(".hidden", content(10, 4))
	add("long name number one.txt", content(4096, 5))
	add("long name number two.txt", content(4097, 6))
	add("LONGNA~1.TXT", content(3, 7))
	add("two.dots.tar", content(2048, 8))
	add("Größe-ключ-鍵-🔑.csv", content(100, 9))
	add("empty", nil)
	list = append(list, Entry{Path: "bootmend/logs", Dir: true})
	for i := range 100 {
		add(fmt.Sprintf("many/some rather long file name that takes entries %03d.json", i), content(int64(i), uint64(i)))
	}
	return list, files
}

func write(t testing.TB, v *Volume) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fat.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(v.Size()); err != nil {
		t.Fatal(err)
	}
	writeTo(t, v, f)
	return path
}

// writeTo writes what is in use of a volume, as onto a disk that holds something else.
func writeTo(t testing.TB, v *Volume, f *os.File) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < v.End(); {
		n, err := v.ReadAt(buf[:min(int64(len(buf)), v.End()-off)], off)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(buf[:n], make([]byte, n)) || v.Size() < 1<<30 {
			if _, err := f.WriteAt(buf[:n], off); err != nil {
				t.Fatal(err)
			}
		}
		off += int64(n)
	}
}

// fsck fails the test at whatever fsck.fat would like to change or warn of.
func fsck(t testing.TB, path string) string {
	t.Helper()
	out := run(t, "fsck.fat", "-n", "-v", path)
	for _, bad := range []string{"Free cluster summary wrong", "dirty bit", "Filesystem has", "differences", "warning", "Warning", "uninitialized", "Leaving"} {
		if strings.Contains(out, bad) {
			t.Errorf("fsck.fat: %s", out)
		}
	}
	return out
}

func TestSizes(t *testing.T) {
	tool(t, "fsck.fat")
	const mib = 1 << 20
	sizes := []int64{1 * mib, 2880 * 512, 3 * mib, 4300800, 5*mib + 513, 16 * mib, 17 * mib, 31*mib + 7*512, 33 * mib,
		64 * mib, 128 * mib, 129 * mib, 194 * mib, 256 * mib, 259 * mib, 260*mib + 512, 511 * mib, 512 * mib, 513 * mib, 1 << 30, 2<<30 - 512,
		7 << 30, 8<<30 + 512, 16 << 30, 31_000_000_000, 300 << 30}
	if testing.Short() {
		sizes = sizes[:20]
	}
	list, _ := sample()
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			v, err := Plan(Options{Size: size, Label: "BOOTMEND", VolumeID: 0x12345678, Time: epoch}, list)
			if err != nil {
				t.Fatal(err)
			}
			out := fsck(t, write(t, v))
			if want := fmt.Sprintf("/%d clusters", v.Clusters()); !strings.Contains(out, want) {
				t.Errorf("fsck.fat does not count %s:\n%s", want, out)
			}
			if kind := fmt.Sprintf("%d bit entries", int(v.Kind())); !strings.Contains(out, kind) {
				t.Errorf("fsck.fat sees no %v:\n%s", v.Kind(), out)
			}
		})
	}
}

// TestRandomSizes is the property: whatever the size, kind and cluster size that Plan accepts, fsck.fat agrees.
func TestRandomSizes(t *testing.T) {
	tool(t, "fsck.fat")
	r := rand.New(rand.NewPCG(291, 2024))
	rounds := 60
	if testing.Short() {
		rounds = 25
	}
	list, _ := sample()
	planned := 0
	for range rounds {
		size := int64(600_000) << r.IntN(16)
		size += r.Int64N(size)
		opts := Options{Size: size, Kind: []Kind{Auto, FAT12, FAT16, FAT32}[r.IntN(4)], Time: epoch}
		if r.IntN(2) == 0 {
			opts.ClusterSize = SectorSize << r.IntN(7)
		}
		v, err := Plan(opts, list)
		if errors.Is(err, ErrTooSmall) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		planned++
		if path := write(t, v); t.Failed() {
			return
		} else if fsck(t, path); t.Failed() {
			t.Fatalf("options %+v: %v, %d clusters of %d", opts, v.Kind(), v.Clusters(), v.ClusterSize())
		} else {
			_ = os.Remove(path)
		}
	}
	if planned < rounds/3 {
		t.Errorf("only %d of %d rounds made a volume", planned, rounds)
	}
}

// TestAutoAlwaysFinds: with no kind asked for, every size from 64 KiB on has a volume, and its FAT is long enough.
func TestAutoAlwaysFinds(t *testing.T) {
	for size := int64(64 << 10); size < 2<<40; size += size/97 + 511 {
		g, err := choose(Options{}, size)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if uint64(g.fatSectors)*SectorSize*8 < uint64(g.clusters+2)*uint64(g.kind) {
			t.Errorf("%d bytes: FAT of %d sectors for %d clusters", size, g.fatSectors, g.clusters)
		}
		if end := uint64(g.dataStart) + uint64(g.clusters)*uint64(g.spc); end > uint64(g.total) || uint64(g.total)-end >= uint64(g.spc) {
			t.Errorf("%d bytes: clusters end at sector %d of %d", size, end, g.total)
		}
		if g.kind == FAT16 && g.fatSectors > 0xffff {
			t.Errorf("%d bytes: FAT16 with %d sectors", size, g.fatSectors)
		}
	}
}

func TestReadBack(t *testing.T) {
	list, files := sample()
	for _, opts := range []Options{
		{Kind: FAT12, Free: 1 << 20},
		{Kind: FAT16, Free: 1 << 20},
		{Kind: FAT32},
		{Size: 40 << 20, ClusterSize: 8192},
	} {
		opts.Label, opts.VolumeID, opts.Time = "BOOTMEND", 0xcafe0291, epoch
		t.Run(opts.Kind.String(), func(t *testing.T) {
			v, err := Plan(opts, list)
			if err != nil {
				t.Fatal(err)
			}
			if v.FreeBytes() < opts.Free {
				t.Errorf("%d bytes free, asked for %d", v.FreeBytes(), opts.Free)
			}
			image := write(t, v)
			fsck(t, image)
			out := t.TempDir()
			run(t, "mcopy", "-s", "-n", "-i", image, "::", out)
			seen := 0
			err = filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				got, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				rel, _ := filepath.Rel(out, path)
				want, ok := files[filepath.ToSlash(rel)]
				if !ok && !strings.ContainsRune(rel, '_') { // mtools shows 🔑 as _
					t.Errorf("unexpected file %q", rel)
				} else if ok && !bytes.Equal(got, want) {
					t.Errorf("%s differs", rel)
				}
				seen++
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if seen != len(files) {
				t.Errorf("mtools sees %d files, want %d", seen, len(files))
			}
			listing := run(t, "mdir", "-i", image, "::")
			for _, want := range []string{"BOOTMEND", "CAFE-0291", "2024-07-19", "LONGNA~1 TXT", "LONGNA~2 TXT", "LONGNA~3 TXT"} {
				if !strings.Contains(listing, want) {
					t.Errorf("mdir does not show %s:\n%s", want, listing)
				}
			}
		})
	}
}

func TestLibraryReadsFAT32(t *testing.T) {
	list, files := sample()
	v, err := Plan(Options{Kind: FAT32, Label: "BOOTMEND", Time: epoch}, list)
	if err != nil {
		t.Fatal(err)
	}
	b, err := file.OpenFromPath(write(t, v), true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	fsys, err := fat32.Read(b, v.Size(), 0, 512)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"EFI/BOOT/BOOTX64.EFI", "a/b/c/d/deep file with spaces.text", "long name number two.txt"} {
		got, err := fs.ReadFile(fsys, path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		} else if !bytes.Equal(got, files[path]) {
			t.Errorf("%s differs", path)
		}
	}
}

// TestWritersAgree: the stream, the blank disk and the used disk hold the same files, and twice is the same.
func TestWritersAgree(t *testing.T) {
	list, files := sample()
	v, err := Plan(Options{Size: 9 << 20, Time: epoch, Label: "X"}, list)
	if err != nil {
		t.Fatal(err)
	}
	var one, two bytes.Buffer
	for _, w := range []io.Writer{&one, &two} {
		if err := v.Write(context.Background(), w, nil); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two runs differ")
	}
	blank, err := os.ReadFile(write(t, v))
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(blank) != sha256.Sum256(one.Bytes()) {
		t.Error("sparse file and stream differ")
	}
	used := filepath.Join(t.TempDir(), "used.img")
	if err := os.WriteFile(used, content(v.Size(), 77), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(used, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	writeTo(t, v, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	fsck(t, used)
	off, size, ok := v.Extent("efi/boot/bootx64.efi")
	if want := files["EFI/BOOT/BOOTX64.EFI"]; !ok || !bytes.Equal(one.Bytes()[off:off+size], want) {
		t.Error("Extent does not name the place of the file")
	}
}

func TestSparse(t *testing.T) {
	v, err := Plan(Options{Size: 32 << 30, Time: epoch}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var held int64
	for _, r := range v.regions {
		held += r.size
	}
	if held > 64<<10 || v.End() > 64<<20 {
		t.Errorf("an empty volume of 32 GiB holds %d bytes that are not zero, and must be written up to %d", held, v.End())
	}
}

// TestReadAnywhere: a volume reads the same in pieces of any size and order.
func TestReadAnywhere(t *testing.T) {
	list, _ := sample()
	v, err := Plan(Options{Size: 9 << 20, Time: epoch, Label: "X"}, list)
	if err != nil {
		t.Fatal(err)
	}
	var whole bytes.Buffer
	if err := v.Write(context.Background(), &whole, nil); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		off := r.Int64N(v.Size() + 10)
		if r.IntN(2) == 0 {
			off = r.Int64N(v.End())
		}
		got := content(r.Int64N(9000), 5)
		n, err := v.ReadAt(got, off)
		want := whole.Bytes()[min(off, v.Size()):min(off+int64(len(got)), v.Size())]
		if n != len(want) || !bytes.Equal(got[:n], want) || (err == nil) != (n == len(got)) {
			t.Fatalf("%d bytes at %d: %d bytes, %v, or other bytes", len(got), off, n, err)
		}
	}
	if _, err := v.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset was taken")
	}
}

// TestBootData: it lies at its sector, whatever the sector's size, and no driver minds it.
func TestBootData(t *testing.T) {
	list, _ := sample()
	data := content(200_001, 3)
	for _, sector := range []int{512, 4096} {
		v, err := Plan(Options{Kind: FAT32, Size: 1 << 30, SectorSize: sector, BootData: data, Label: "BOOTMEND", Time: epoch}, list)
		if err != nil {
			t.Fatal(err)
		}
		path := write(t, v)
		fsck(t, path)
		got := make([]byte, len(data))
		if _, err := v.ReadAt(got, int64(BootDataSector*sector)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("sectors of %d bytes: boot data differs (%v)", sector, err)
		}
		if out := run(t, "mtype", "-i", path, "::/a/b/c/d/deep file with spaces.text"); out != string(content(1, 3)) {
			t.Errorf("sectors of %d bytes: mtools reads %q", sector, out)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, tc := range []struct {
		name    string
		opts    Options
		entries []Entry
		want    string
	}{
		{"too small", Options{Size: 1 << 20}, []Entry{fileEntry("a", make([]byte, 2<<20))}, "choose a larger size"},
		{"no room for free", Options{Size: 1 << 20, Free: 2 << 20}, nil, "choose a larger size"},
		{"huge file", Options{Size: 8 << 30}, []Entry{{Path: "big", Size: 4 << 30, Open: func() (io.ReadCloser, error) { return nil, nil }}}, "4 GiB"},
		{"twice", Options{}, []Entry{fileEntry("a/B", nil), fileEntry("A/b", nil)}, "twice"},
		{"file as directory", Options{}, []Entry{fileEntry("a", nil), fileEntry("a/b", nil)}, "is a file"},
		{"dot dot", Options{}, []Entry{fileEntry("a/../b", nil)}, "not allowed"},
		{"colon", Options{}, []Entry{fileEntry("a:b", nil)}, "rename it"},
		{"trailing dot", Options{}, []Entry{fileEntry("a.", nil)}, "rename it"},
		{"long label", Options{Label: "TWELVE CHARS"}, nil, "label"},
		{"lower label", Options{Label: "boot"}, nil, "capital"},
		{"small FAT32", Options{Kind: FAT32, Size: 20 << 20}, nil, "another size or kind"},
		{"full root", Options{Kind: FAT16, Size: 32 << 20}, manyFiles(513), "root directory"},
		{"boot data in FAT16", Options{Kind: FAT16, BootData: []byte{1}}, nil, "FAT32"},
		{"odd sectors", Options{SectorSize: 1024}, nil, "512 or 4096"},
		{"beyond 2 TiB", Options{Size: 3 << 40}, nil, "2^32 sectors"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Plan(tc.opts, tc.entries)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error that says %q", err, tc.want)
			}
		})
	}
}

func manyFiles(n int) (list []Entry) {
	for i := range n {
		list = append(list, fileEntry(fmt.Sprintf("F%05d", i), nil))
	}
	return list
}

func TestWriteErrors(t *testing.T) {
	short := Entry{Path: "short", Size: 10, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("123")), nil }}
	long := Entry{Path: "long", Size: 1, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("123")), nil }}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, tc := range []struct {
		name  string
		ctx   context.Context
		entry Entry
		w     io.Writer
		want  string
	}{
		{"short file", context.Background(), short, io.Discard, "file short: unexpected EOF: 7 bytes fewer"},
		{"long file", context.Background(), long, io.Discard, "file long: longer"},
		{"cancelled", ctx, fileEntry("a", []byte{1}), io.Discard, "canceled"},
		{"failing writer", context.Background(), fileEntry("a", []byte{1}), full{}, "no space"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, err := Plan(Options{}, []Entry{tc.entry})
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Write(tc.ctx, tc.w, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestProgressEndsAtTotal(t *testing.T) {
	v, err := Plan(Options{Size: 3 << 20}, []Entry{fileEntry("a", content(1<<20, 1))})
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	if err := v.Write(context.Background(), io.Discard, func(done, total int64) {
		if done < last || total != v.Size() {
			t.Errorf("progress went from %d to %d of %d", last, done, total)
		}
		last = done
	}); err != nil {
		t.Fatal(err)
	}
	if last != v.Size() {
		t.Errorf("progress ended at %d of %d", last, v.Size())
	}
}

// FuzzNames: whatever names Plan accepts, short names are unique and valid.
func FuzzNames(f *testing.F) {
	f.Add("a b.txt", "a  b.txt", "AB~1.TXT")
	f.Add(".x", "..y", "x")
	f.Add("🔑", "鍵", "_~1")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		root, err := tree(Options{}, []Entry{{Path: "d/" + a}, {Path: "d/" + b}, {Path: "d/" + c}})
		if err != nil {
			return
		}
		root.walk(func(n *node) {
			seen := map[[11]byte]bool{}
			for _, c := range n.children {
				if seen[c.short] {
					t.Errorf("short name %q twice for %q %q %q", c.short, a, b, c.name)
				}
				seen[c.short] = true
				if c.short[0] == ' ' {
					t.Errorf("%q: short name %q starts with a space", c.name, c.short)
				}
				for _, r := range string(c.short[:]) {
					if r != ' ' && !shortRune(r) {
						t.Errorf("%q: short name %q", c.name, c.short)
					}
				}
			}
		})
	})
}

func BenchmarkWrite(b *testing.B) {
	data := content(32<<20, 1)
	v, err := Plan(Options{}, []Entry{fileEntry("a", data)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(v.Size())
	for b.Loop() {
		if err := v.Write(context.Background(), io.Discard, nil); err != nil {
			b.Fatal(err)
		}
	}
}
