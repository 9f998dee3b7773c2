package wim

import (
	"bytes"
	"context"
	"crypto/sha1"
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

// tool runs a program that checks or makes what this package reads and writes.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// tree makes a directory with what compressors find hard: machine code full of calls, noise, runs, text, files of
// odd sizes, hard links.
func tree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	write := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code := make([]byte, 300_000)
	for i := range code {
		switch rnd.IntN(8) {
		case 0:
			code[i] = 0xe8
		case 1:
			code[i] = byte(rnd.IntN(256))
		default:
			code[i] = byte(i >> 8)
		}
	}
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	write("Windows/System32/code.dll", code)
	write("Windows/System32/noise.bin", noise)
	write("Windows/System32/zeros.bin", make([]byte, 1_200_000))
	write("Windows/System32/text.txt", []byte(strings.Repeat("the quick brown fox jumps over the lazy dog\r\n", 5000)))
	write("Windows/System32/drivers/odd.sys", code[:32768+1])
	write("Windows/System32/winpeshl.ini", []byte("[LaunchApp]\r\n"))
	write("Übung/Ж.txt", []byte("non-English"))
	write("empty.txt", nil)
	for i := range 200 {
		write(fmt.Sprintf("many/%03d.txt", i), fmt.Appendf(nil, "file %d", i))
	}
	if err := os.Mkdir(filepath.Join(dir, "nothing"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "Windows/System32/text.txt"), filepath.Join(dir, "linked.txt")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t testing.TB, path string) (*File, *os.File) {
	t.Helper()
	r, err := os.OpenFile(path, os.O_RDWR, 0)
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
	return f, r
}

// compare walks through both trees and fails where they differ.
func compare(t testing.TB, got, want fs.FS, ignore ...string) {
	t.Helper()
	seen := map[string]bool{}
	err := fs.WalkDir(want, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen[path] = true
		if slices.Contains(ignore, path) {
			return nil
		}
		info, err := fs.Stat(got, path)
		if err != nil {
			return err
		}
		if info.IsDir() != d.IsDir() {
			t.Errorf("%s: directory %t", path, info.IsDir())
		}
		if d.IsDir() {
			return nil
		}
		a, err := fs.ReadFile(got, path)
		if err != nil {
			return err
		}
		b, err := fs.ReadFile(want, path)
		if err != nil {
			return err
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs: %d and %d bytes", path, len(a), len(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(got, ".", func(path string, _ fs.DirEntry, err error) error {
		if !seen[path] && !slices.Contains(ignore, path) {
			t.Errorf("%s should not be there", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kinds are the ways in which wimlib can compress.
var kinds = map[string][]string{
	"none":         {"--compress=none"},
	"xpress-4k":    {"--compress=xpress", "--chunk-size=4096"},
	"xpress":       {"--compress=xpress"},
	"xpress-64k":   {"--compress=xpress", "--chunk-size=65536"},
	"lzx":          {"--compress=lzx"},
	"lzx-slow":     {"--compress=lzx:100"},
	"lzx-64k":      {"--compress=lzx", "--chunk-size=65536"},
	"lzx-2m":       {"--compress=lzx", "--chunk-size=2097152"},
	"lzx-checked":  {"--compress=lzx", "--check"},
	"none-checked": {"--compress=none", "--check"},
}

// some leaves the slower kinds to the longer test runs.
func some() map[string][]string {
	if !testing.Short() {
		return kinds
	}
	return map[string][]string{"xpress": kinds["xpress"], "lzx-checked": kinds["lzx-checked"]}
}

func capture(t testing.TB, dir string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "boot.wim")
	tool(t, "wimlib-imagex", append([]string{"capture", dir, path, "Microsoft Windows PE (x64)", "--boot", "--unix-data"}, args...)...)
	return path
}

func TestRead(t *testing.T) {
	dir := tree(t)
	for name, args := range some() {
		t.Run(name, func(t *testing.T) {
			f, _ := open(t, capture(t, dir, args...))
			image, err := f.Image(1)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, image, os.DirFS(dir))
			info, err := f.Info()
			if err != nil || len(info) != 1 || info[0].Name != "Microsoft Windows PE (x64)" || f.BootIndex() != 1 {
				t.Errorf("info %+v, boot index %d, error %v", info, f.BootIndex(), err)
			}
			if _, err := fs.Stat(image, "windows/SYSTEM32/WinPEshl.INI"); err != nil {
				t.Errorf("another case: %v", err)
			}
		})
	}
	f, _ := open(t, capture(t, dir, "--compress=lzx"))
	image, err := f.Image(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(image, "Windows/System32/winpeshl.ini", "many/007.txt", "empty.txt"); err != nil {
		t.Error(err)
	}
}

func additions() []Addition {
	mend := bytes.Repeat([]byte("MZ mend.exe "), 50_000)
	return []Addition{
		{"Windows/System32/mend.exe", bytes.NewReader(mend), int64(len(mend))},
		{"windows/system32/WINPESHL.INI", strings.NewReader("[LaunchApps]\r\nmend.exe\r\n"), 24},
		{"bootmend/rules/new/pack.yaml", strings.NewReader("id: x\n"), 6},
		{"bootmend/copy.txt", strings.NewReader("non-English"), 11}, // content that is there already
		{"bootmend/empty.log", strings.NewReader(""), 0},
	}
}

// TestAdd adds to WIMs of every kind, twice, in a new file and in place, and has wimlib and 7-Zip look at the result.
func TestAdd(t *testing.T) {
	dir := tree(t)
	when := time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
	for name, args := range some() {
		for _, inPlace := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/in place %t", name, inPlace), func(t *testing.T) {
				path := capture(t, dir, args...)
				for round := range 2 {
					f, r := open(t, path)
					list := additions()
					if round == 1 {
						list = []Addition{{"bootmend/second.txt", strings.NewReader("again"), 5}}
					}
					p, err := f.Add(t.Context(), 1, list, when)
					if err != nil {
						t.Fatal(err)
					}
					if inPlace {
						err = p.Commit(t.Context(), r)
					} else {
						path = filepath.Join(t.TempDir(), "new.wim")
						var whole []byte
						if whole, err = io.ReadAll(io.NewSectionReader(p, 0, p.Size())); err == nil {
							err = os.WriteFile(path, whole, 0o600)
						}
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				checkAdded(t, path, dir, strings.Contains(name, "checked"))
			})
		}
	}
}

func checkAdded(t *testing.T, path, dir string, checked bool) {
	t.Helper()
	info := tool(t, "wimlib-imagex", "info", path)
	if checked != strings.Contains(info, "Integrity info") {
		t.Errorf("integrity table: %t expected\n%s", checked, info)
	}
	tool(t, "wimlib-imagex", "verify", path)
	list := tool(t, "wimlib-imagex", "dir", path, "1")
	if !strings.Contains(list, "/Windows/System32/winpeshl.ini") || strings.Contains(list, "WINPESHL") {
		t.Error("the name of the file that was replaced did not stay")
	}
	to := filepath.Join(t.TempDir(), "applied")
	tool(t, "wimlib-imagex", "apply", path, "1", to, "--unix-data")
	added := []string{"Windows/System32/winpeshl.ini", "Windows/System32/mend.exe", "bootmend", "bootmend/rules", "bootmend/rules/new",
		"bootmend/rules/new/pack.yaml", "bootmend/copy.txt", "bootmend/empty.log", "bootmend/second.txt"}
	compare(t, os.DirFS(to), os.DirFS(dir), added...)
	for name, want := range map[string]string{"Windows/System32/winpeshl.ini": "[LaunchApps]\r\nmend.exe\r\n", "bootmend/copy.txt": "non-English",
		"bootmend/second.txt": "again", "bootmend/empty.log": "", "bootmend/rules/new/pack.yaml": "id: x\n"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	a, errA := os.Stat(filepath.Join(to, "linked.txt"))
	b, errB := os.Stat(filepath.Join(to, "Windows/System32/text.txt"))
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Errorf("the hard link is gone (%v, %v)", errA, errB)
	}
	f, _ := open(t, path)
	image, err := f.Image(1)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, image, os.DirFS(to))
	// What the XML says and what is there.
	infos, err := f.Info()
	if err != nil {
		t.Fatal(err)
	}
	var files int64
	dirs := int64(1) // the root counts
	_ = fs.WalkDir(image, ".", func(path string, d fs.DirEntry, _ error) error {
		switch {
		case path == ".":
		case d.IsDir():
			dirs++
		default:
			files++
		}
		return nil
	})
	if infos[0].Files != files || infos[0].Directories != dirs {
		t.Errorf("the XML counts %d files and %d directories, there are %d and %d", infos[0].Files, infos[0].Directories, files, dirs)
	}
	if _, err := exec.LookPath("7z"); err == nil && !strings.Contains(tool(t, "7z", "t", path), "Everything is Ok") {
		t.Error("7-Zip does not take it")
	}
}

// TestCancel leaves the old WIM as it was.
func TestCancel(t *testing.T) {
	path := capture(t, tree(t), "--compress=lzx")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, r := open(t, path)
	p, err := f.Add(t.Context(), 1, additions(), time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Commit(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the WIM changed (%v)", err)
	}
}

func TestAddRefuses(t *testing.T) {
	f, _ := open(t, capture(t, tree(t), "--compress=none"))
	for _, name := range []string{"../x", "a/../../x", "", "/", "Windows", "empty.txt/x", "a:b", "con?"} {
		if _, err := f.Add(t.Context(), 1, []Addition{{name, strings.NewReader("x"), 1}}, time.Now()); err == nil {
			t.Errorf("%q was added", name)
		}
	}
	if _, err := f.Add(t.Context(), 2, nil, time.Now()); err == nil {
		t.Error("an image that is not there")
	}
	if _, err := f.Add(t.Context(), 1, []Addition{{"x", strings.NewReader("x"), 2}}, time.Now()); err == nil {
		t.Error("a file that is shorter than announced")
	}
}

// TestRefused has WIMs of the kinds that are not read, which say so.
func TestRefused(t *testing.T) {
	dir := tree(t)
	for name, args := range map[string][]string{"solid": {"--solid"}, "lzms": {"--compress=lzms"}, "pipable": {"--pipable"}} {
		path := capture(t, dir, args...)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(bytes.NewReader(data), int64(len(data))); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sharedWIM(t testing.TB, name string) []byte {
	t.Helper()
	root := os.Getenv("BOOTMEND_TESTDATA")
	if root == "" {
		root = "../../../shared/testdata"
	}
	data, err := os.ReadFile(filepath.Join(root, "wim", name))
	if err != nil {
		t.Skipf("the samples of others are not here (BOOTMEND_TESTDATA): %v", err)
	}
	return data
}

// TestSamples reads WIMs that others made.
func TestSamples(t *testing.T) {
	for name, test := range map[string]struct {
		images, boot int
		fails        string
	}{
		"BootLZX.wim": {1, 1, ""}, "LZX.wim": {1, 0, ""}, "XPRESS.wim": {1, 0, ""}, "MultiImage.wim": {3, 0, ""},
		"TestData.wim": {1, 0, ""}, "VerifySuccess.wim": {1, 0, ""}, "VerifyFail.wim": {1, 0, "damaged"},
		"cyclic.wim": {1, 0, "another one's"}, "dotdot.wim": {1, 0, "hostile"},
	} {
		t.Run(name, func(t *testing.T) {
			data := sharedWIM(t, name)
			f, err := Open(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			if f.Images() != test.images || f.BootIndex() != test.boot {
				t.Errorf("%d images, %d boots", f.Images(), f.BootIndex())
			}
			var failed error
			for i := 1; i <= f.Images(); i++ {
				image, err := f.Image(i)
				if err == nil {
					err = readAll(image)
				}
				failed = errors.Join(failed, err)
			}
			if test.fails == "" && failed != nil || test.fails != "" && (failed == nil || !strings.Contains(failed.Error(), test.fails)) {
				t.Errorf("error %v, expected %q", failed, test.fails)
			}
		})
	}
}

func readAll(image fs.FS) error {
	return fs.WalkDir(image, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		_, err = fs.ReadFile(image, path)
		return err
	})
}

// TestDamage flips bytes: what is read is right or an error, never a panic.
func TestDamage(t *testing.T) {
	dir := tree(t)
	for _, kind := range []string{"xpress", "lzx"} {
		data, err := os.ReadFile(capture(t, dir, kinds[kind]...))
		if err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(3, 4))
		for range 60 {
			bad := bytes.Clone(data)
			for range 1 + rnd.IntN(4) {
				bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
			}
			f, err := Open(bytes.NewReader(bad), int64(len(bad)))
			if err != nil {
				continue
			}
			image, err := f.Image(1)
			if err != nil {
				continue
			}
			_ = fs.WalkDir(image, ".", func(path string, _ fs.DirEntry, _ error) error {
				got, err := fs.ReadFile(image, path)
				want, wantErr := os.ReadFile(filepath.Join(dir, path))
				if err == nil && wantErr == nil && len(got) > 0 && !bytes.Equal(got, want) {
					t.Errorf("%s is wrong, and nothing says so", path)
				}
				return nil
			})
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"none", "xpress-4k", "lzx-checked"} {
		dir := f.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a.txt"), []byte(strings.Repeat("ab\xe8", 100)), 0o600); err != nil {
			f.Fatal(err)
		}
		if _, err := exec.LookPath("wimlib-imagex"); err == nil {
			data, err := os.ReadFile(capture(f, dir, kinds[name]...))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		_, _ = w.Info()
		for i := 1; i <= min(3, w.Images()); i++ {
			image, err := w.Image(i)
			if err != nil {
				continue
			}
			_ = readAll(image)
			p, err := w.Add(t.Context(), i, []Addition{{"new/file", strings.NewReader("content"), 7}}, time.Unix(0, 0))
			if err != nil {
				continue
			}
			again, err := Open(p, p.Size())
			if err != nil {
				t.Fatalf("what was written does not open: %v", err)
			}
			added, err := again.Image(i)
			if err != nil {
				t.Fatalf("what was written does not read: %v", err)
			}
			if got, err := fs.ReadFile(added, "new/file"); err != nil || string(got) != "content" {
				t.Fatalf("%q, %v", got, err)
			}
		}
	})
}

// FuzzDecoders gives the decoders chunks of anything.
func FuzzDecoders(f *testing.F) {
	f.Add([]byte{0x30, 0, 1, 2, 3}, uint16(100))
	f.Fuzz(func(_ *testing.T, data []byte, size uint16) {
		out := make([]byte, int(size)+1)
		_ = xpress(out, data)
		_ = lzx(out, data, 1<<15)
		_ = lzx(out, data, 1<<17)
	})
}

func TestHashOf(t *testing.T) {
	data := []byte("content")
	h, err := hashOf(t.Context(), Addition{"x", bytes.NewReader(data), 7})
	if err != nil || h != sha1.Sum(data) {
		t.Errorf("%s, %v", h, err)
	}
}
