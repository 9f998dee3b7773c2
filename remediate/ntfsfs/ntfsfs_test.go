package ntfsfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

// formatted is an empty volume of 4 MiB.
var formatted = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "ntfsfs")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return format(filepath.Join(dir, "volume"), 4<<20)
})

func format(name string, size int64, options ...string) ([]byte, error) {
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(name, size); err != nil {
		return nil, err
	}
	if out, err := exec.Command("mkntfs", append(append([]string{"-F", "-Q", "-q", "-T"}, options...), name)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mkntfs: %w\n%s", err, out)
	}
	return os.ReadFile(name)
}

func needTools(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
}

// mounted calls use with a volume mounted by ntfs-3g.
func mounted(t *testing.T, image, options string, use func(dir string)) {
	t.Helper()
	needTools(t, "mkntfs", "ntfs-3g", "umount")
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("ntfs-3g", "-o", options, image, dir).CombinedOutput(); err != nil {
		t.Skipf("ntfs-3g does not mount here: %v\n%s", err, out)
	}
	defer func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
		for range 100 { // ntfs-3g writes the rest after umount has returned
			if exec.Command("fuser", "-s", image).Run() != nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	use(dir)
}

func open(t testing.TB, image string) *FS {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := Open(context.Background(), f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

// node is a file as both readers have to see it.
type node struct {
	dir      bool
	size     int64
	modified time.Time
	content  string
}

func walk(t *testing.T, fsys fs.FS) map[string]node {
	t.Helper()
	all := make(map[string]node)
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		if strings.HasPrefix(p, "$") || p == "System Volume Information" {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n := node{dir: d.IsDir(), modified: info.ModTime().UTC()}
		if !n.dir {
			n.size = info.Size()
			data, err := fs.ReadFile(fsys, p)
			if err != nil {
				return err
			}
			n.content = string(data)
		}
		all[p] = n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestAsNTFS3G reads what ntfs-3g has written, and compares with what ntfs-3g reads: large directories with names that
// are gone, sparse and compressed files, attribute lists, streams, names of all kinds.
func TestAsNTFS3G(t *testing.T) {
	for name, options := range map[string][]string{
		"4096":        nil,
		"512":         {"-c", "512"},
		"64k":         {"-c", "65536"},
		"4k sectors":  {"-s", "4096"},
		"compressing": {"-C"},
	} {
		t.Run(name, func(t *testing.T) {
			needTools(t, "mkntfs")
			image := filepath.Join(t.TempDir(), "volume")
			if _, err := format(image, 64<<20, options...); err != nil {
				t.Fatal(err)
			}
			mounted(t, image, "rw,compression,streams_interface=windows", func(dir string) { fill(t, dir) })
			var want map[string]node
			mounted(t, image, "ro,streams_interface=none", func(dir string) { want = walk(t, os.DirFS(dir)) })
			if len(want) < 530 {
				t.Fatalf("only %d files", len(want))
			}
			fsys := open(t, image)
			got := walk(t, fsys)
			for p, w := range want {
				g, ok := got[p]
				switch {
				case !ok:
					t.Errorf("%s is missing", p)
				case g != w:
					t.Errorf("%s: dir %t size %d modified %v, want dir %t size %d modified %v, content equal %t",
						p, g.dir, g.size, g.modified, w.dir, w.size, w.modified, g.content == w.content)
				}
			}
			for p := range got {
				if _, ok := want[p]; !ok {
					t.Errorf("%s is there, and should not be", p)
				}
			}
			// Windows makes no difference between capitals and small letters, ÜÄ included.
			if _, err := fs.Stat(fsys, "WINDOWS/system32/ÜBER.SYS"); err != nil {
				t.Error(err)
			}
			if _, err := fs.Stat(fsys, "windows/missing/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v", err)
			}
			if _, err := fs.Stat(fsys, "Windows/System32/über.sys/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("below a file: %v", err)
			}
		})
	}
}

func fill(t *testing.T, dir string) {
	t.Helper()
	random := rand.New(rand.NewChaCha8([32]byte{29, 1}))
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32() >> (random.Uint32() % 24))
		}
		return b
	}
	write := func(name string, data []byte) {
		t.Helper()
		name = filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if err == nil {
			err = os.WriteFile(name, data, 0o644)
		}
		if err == nil {
			at := time.Date(2024, 7, 19, 4, 9, 0, 123456700, time.UTC)
			err = os.Chtimes(name, at, at)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("Windows/System32/über.sys", []byte("resident"))
	write("Windows/System32/empty.sys", nil)
	write("Windows/System32/日本 – ♥.txt", bytesOf(3000))
	write("Windows/System32/zeros.sys", make([]byte, 300000))
	write("Windows/System32/text.txt", bytes.Repeat([]byte("the same line again and again\r\n"), 20000))
	write("Windows/System32/random.bin", bytesOf(1<<20))
	if err := os.WriteFile(filepath.Join(dir, "Windows/System32/random.bin:stream"), bytesOf(70000), 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range 700 {
		write(fmt.Sprintf("Windows/many/a rather long name to fill the index %04d.sys", i), []byte{byte(i)})
	}
	for i := 0; i < 700; i += 3 { // leaves entries behind in the index
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("Windows/many/a rather long name to fill the index %04d.sys", i))); err != nil {
			t.Fatal(err)
		}
	}
	// A file of so many names that its record is too small for them, so that it needs an attribute list.
	write("Windows/names.bin", bytesOf(100000))
	for i := range 60 {
		long := fmt.Sprintf("Windows/%s%02d", strings.Repeat("name", 40), i)
		if err := os.Link(filepath.Join(dir, "Windows/names.bin"), filepath.Join(dir, long)); err != nil {
			t.Fatal(err)
		}
	}
	sparse, err := os.Create(filepath.Join(dir, "Windows/sparse.bin"))
	if err == nil {
		_, err = sparse.WriteAt([]byte("far away"), 9<<20)
	}
	if err == nil {
		err = sparse.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLinks has links, which ntfs-3g writes as reparse points if asked to: none is followed.
func TestLinks(t *testing.T) {
	needTools(t, "mkntfs")
	image := filepath.Join(t.TempDir(), "volume")
	if _, err := format(image, 16<<20); err != nil {
		t.Fatal(err)
	}
	mounted(t, image, "rw,special_files=wsl", func(dir string) {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o755), os.WriteFile(filepath.Join(dir, "real/x"), []byte("x"), 0o644),
			os.Symlink("real", filepath.Join(dir, "link"))); err != nil {
			t.Fatal(err)
		}
	})
	fsys := open(t, image)
	info, err := fs.Lstat(fsys, "link")
	if err != nil || info.Mode().IsRegular() || info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := fs.ReadFile(fsys, "link"); err == nil {
		t.Error("a link was read")
	}
	if _, err := fs.Stat(fsys, "link/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("followed: %v", err)
	}
	if _, err := fs.Stat(fsys, "real/x"); err != nil {
		t.Error(err)
	}
}

// TestFS lets the standard library look for mistakes.
func TestFS(t *testing.T) {
	needTools(t, "mkntfs")
	data, err := formatted()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := Open(context.Background(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := fsys.ReadDir(".")
	if err != nil || len(entries) < 11 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	mft, err := fs.ReadFile(fsys, "$MFT")
	if err != nil || !bytes.HasPrefix(mft, []byte("FILE")) {
		t.Errorf("%d bytes, %v", len(mft), err)
	}
	if err := fstest.TestFS(onlyUpCase{fsys}, "$UpCase"); err != nil {
		t.Error(err)
	}
}

// onlyUpCase hides all but one file: fstest would read $BadClus, a file as large as the volume, many times, and
// directories are opened for their information alone.
type onlyUpCase struct{ *FS }

func (o onlyUpCase) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := o.FS.ReadDir(name)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.Name() == "$UpCase" {
			return []fs.DirEntry{e}, nil
		}
	}
	return nil, nil
}

func (o onlyUpCase) Open(name string) (fs.File, error) {
	f, err := o.FS.Open(name)
	if err == nil && name == "." {
		list, err := o.ReadDir(".")
		return &dirFile{File: f, list: list}, err
	}
	return f, err
}

type dirFile struct {
	fs.File
	list []fs.DirEntry
}

func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	list := d.list
	if n <= 0 {
		d.list = nil
		return list, nil
	}
	if len(list) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(list))
	d.list = list[n:]
	return list[:n], nil
}

func TestNotNTFS(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty": nil, "short": make([]byte, 100), "zeros": make([]byte, 1<<20),
	} {
		if _, err := Open(context.Background(), bytes.NewReader(data), int64(len(data))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	needTools(t, "mkntfs")
	good, err := formatted()
	if err != nil {
		t.Fatal(err)
	}
	for name, poke := range map[string]func([]byte){
		"sector size":   func(b []byte) { binary.LittleEndian.PutUint16(b[11:], 513) },
		"cluster size":  func(b []byte) { b[13] = 3 },
		"record size":   func(b []byte) { b[64] = 0x80 },
		"MFT far away":  func(b []byte) { binary.LittleEndian.PutUint64(b[48:], 1<<39) },
		"MFT elsewhere": func(b []byte) { binary.LittleEndian.PutUint64(b[48:], 1) },
	} {
		bad := bytes.Clone(good)
		poke(bad)
		if _, err := Open(context.Background(), bytes.NewReader(bad), int64(len(bad))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	fsys, err := Open(ctx, bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := fsys.ReadDir("."); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
	// An image that was cut off is an error, not a file of zeros.
	cut, err := Open(context.Background(), bytes.NewReader(good), int64(len(good))/2)
	if err == nil {
		_, err = fs.ReadFile(cut, "$LogFile")
	}
	if err == nil {
		_, err = fs.ReadFile(cut, "$UpCase")
	}
	if err == nil {
		t.Error("half an image reads as a whole one")
	}
}

// TestSamples reads volumes that Windows made.
func TestSamples(t *testing.T) {
	dir := os.Getenv("BOOTMEND_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	for _, name := range []string{"ntfs.img.xz", "ntfs.raw.xz"} {
		t.Run(name, func(t *testing.T) {
			packed := filepath.Join(dir, "ntfs", name)
			if _, err := os.Stat(packed); err != nil {
				t.Skipf("shared test data is absent: %v", err)
			}
			needTools(t, "xz")
			data, err := exec.Command("xz", "-dc", packed).Output()
			if err != nil {
				t.Fatal(err)
			}
			fsys, err := Open(context.Background(), bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			files := 0
			err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				if d.Type().IsRegular() && !strings.HasPrefix(p, "$Bad") {
					files++
					_, err = fs.ReadFile(fsys, p)
				}
				return err
			})
			if err != nil || files < 8 {
				t.Errorf("%d files, %v", files, err)
			}
		})
	}
}

// FuzzVolume changes bytes of the places of a volume that the reader looks at. Whatever they say, it ends, in little
// memory, without a panic.
func FuzzVolume(f *testing.F) {
	if _, err := exec.LookPath("mkntfs"); err != nil {
		f.Skip("mkntfs is not installed")
	}
	good, err := formatted()
	if err != nil {
		f.Fatal(err)
	}
	mft := int(binary.LittleEndian.Uint64(good[48:])) * int(good[13]) * int(binary.LittleEndian.Uint16(good[11:]))
	f.Add([]byte{})
	f.Add([]byte{0, 0, 13, 0, 1})
	f.Add([]byte{1, 20, 4, 0, 255, 1, 20, 5, 0, 0})
	f.Add([]byte{6, 0, 20, 0, 0x20, 6, 0, 24, 0, 0x48})
	f.Fuzz(func(t *testing.T, pokes []byte) {
		data := bytes.Clone(good)
		for ; len(pokes) >= 5; pokes = pokes[5:] {
			// Which block: the boot sector or one of the first records of the MFT; then where in it, and the byte.
			at := int(binary.LittleEndian.Uint16(pokes[2:])) % 1024
			if block := int(pokes[0]) % 32; block > 0 {
				at += mft + (block-1)*1024
			}
			data[at] = pokes[4]
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		fsys, err := Open(ctx, bytes.NewReader(data), int64(len(data)))
		if err == nil {
			entries, _ := fsys.ReadDir(".")
			for i, e := range entries {
				if i == 40 {
					break
				}
				if file, err := fsys.Open(e.Name()); err == nil {
					_, _ = io.Copy(io.Discard, io.LimitReader(file, 1<<20))
				}
			}
			_, _ = fsys.Lstat("$Extend/$ObjId")
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}
