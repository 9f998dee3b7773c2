package wim

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var when = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)

// uncounted is what wimlib tells of a file that follows from other files.
var uncounted = regexp.MustCompile(`(?m)^(Link Group ID|Reference Count) .*\n`)

var security = regexp.MustCompile(`(?m)^Security Descriptor = \w+`)

// details is all that wimlib knows of each file of an image: attributes, security descriptor, short name, times, link
// count, and of each stream name, hash, size and place in the WIM.
func details(t *testing.T, path string, image int) map[string]string {
	t.Helper()
	files := map[string]string{}
	for block := range strings.SplitSeq(tool(t, "wimlib-imagex", "dir", path, fmt.Sprint(image), "--detailed"), strings.Repeat("-", 76)) {
		if _, rest, ok := strings.Cut(block, "Full Path           = \""); ok {
			name, _, _ := strings.Cut(rest, "\"\n")
			files[name] = uncounted.ReplaceAllString(block, "")
		}
	}
	if len(files) == 0 {
		t.Fatalf("wimlib lists nothing of image %d of %s", image, path)
	}
	return files
}

// append to a WIM in place, and have wimlib and 7-Zip find it sound, with every file of every image as it was but for
// those replaced, and the new ones there.
func testKeeps(t *testing.T, path string, image int, list []Addition, replaced ...string) {
	t.Helper()
	old, r := open(t, path)
	before := map[int]map[string]string{}
	for i := 1; i <= old.Images(); i++ {
		before[i] = details(t, path, i)
	}
	head := make([]byte, old.Size()-headerSize)
	if _, err := r.ReadAt(head, headerSize); err != nil {
		t.Fatal(err)
	}
	p, err := old.Add(t.Context(), image, list, when)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	again := make([]byte, len(head))
	if _, err := r.ReadAt(again, headerSize); err != nil || !bytes.Equal(head, again) {
		t.Errorf("something behind the header changed (%v)", err)
	}
	tool(t, "wimlib-imagex", "verify", path)
	for i, want := range before {
		got := details(t, path, i)
		for name, block := range want {
			if got[name] != block && !slices.Contains(replaced, name) {
				t.Errorf("image %d: %s was\n%s\nand is\n%s", i, name, block, got[name])
			}
			delete(got, name)
		}
		if i != image && len(got) > 0 {
			t.Errorf("image %d has %q, too", i, slices.Sorted(maps.Keys(got)))
		}
		for _, a := range list {
			name := "/" + strings.TrimPrefix(a.Path, "/")
			if _, ok := got[name]; i == image && !ok && !slices.Contains(replaced, name) {
				t.Errorf("image %d has no %s", i, name)
			}
		}
	}
	f, _ := open(t, path)
	tree, err := f.Image(image)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		want, err := io.ReadAll(io.NewSectionReader(a.Data, 0, a.Size))
		if err != nil {
			t.Fatal(err)
		}
		r, err := tree.Open(strings.TrimPrefix(a.Path, "/"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d, %v", a.Path, len(got), len(want), err)
		}
	}
	if _, err := exec.LookPath("7z"); err == nil && !strings.Contains(tool(t, "7z", "t", path), "Everything is Ok") {
		t.Error("7-Zip does not take it")
	}
}

func addition(name, content string) Addition {
	return Addition{name, strings.NewReader(content), int64(len(content))}
}

// TestChunkSizes: every size of chunks that each compression has, with and without an integrity table, in a WIM of three
// images of which the middle one grows and another one boots.
func TestChunkSizes(t *testing.T) {
	dir, other := tree(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "other.txt"), bytes.Repeat([]byte("another image "), 9000), 0o600); err != nil {
		t.Fatal(err)
	}
	sizes := map[string][]int{"none": {0}}
	for size := 4 << 10; size <= 64<<10; size *= 2 {
		sizes["xpress"] = append(sizes["xpress"], size)
	}
	for size := 32 << 10; size <= 2<<20; size *= 2 {
		sizes["lzx"] = append(sizes["lzx"], size)
	}
	if testing.Short() {
		sizes = map[string][]int{"xpress": {8 << 10}, "lzx": {128 << 10}}
	}
	for kind, list := range sizes {
		for _, size := range list {
			for _, check := range []string{"--check", "--nocheck"} {
				t.Run(fmt.Sprintf("%s/%d/%s", kind, size, check), func(t *testing.T) {
					path := filepath.Join(t.TempDir(), "boot.wim")
					args := []string{"--compress=" + kind, check}
					if size > 0 {
						args = append(args, fmt.Sprintf("--chunk-size=%d", size))
					}
					tool(t, "wimlib-imagex", append([]string{"capture", other, path, "first", "--boot"}, args...)...)
					tool(t, "wimlib-imagex", "append", dir, path, "second", check)
					tool(t, "wimlib-imagex", "append", other, path, "third", check)
					f, _ := open(t, path)
					image, err := f.Image(2)
					if err != nil {
						t.Fatal(err)
					}
					compare(t, image, os.DirFS(dir))
					testKeeps(t, path, 2, additions(), "/Windows/System32/winpeshl.ini", "/windows/system32/WINPESHL.INI")
					info := strings.Join(strings.Fields(tool(t, "wimlib-imagex", "info", path)), " ")
					if !strings.Contains(info, "Boot Index: 1") || strings.Contains(info, "Integrity info") != (check == "--check") {
						t.Errorf("%s", info)
					}
					if size > 0 && !strings.Contains(info, fmt.Sprintf("Chunk Size: %d bytes", size)) {
						t.Errorf("%s", info)
					}
					applied := filepath.Join(t.TempDir(), "applied")
					tool(t, "wimlib-imagex", "apply", path, "2", applied)
					compare(t, os.DirFS(applied), os.DirFS(dir), "Windows/System32/winpeshl.ini", "Windows/System32/mend.exe", "bootmend", "bootmend/rules",
						"bootmend/rules/new", "bootmend/rules/new/pack.yaml", "bootmend/copy.txt", "bootmend/empty.log")
				})
			}
		}
	}
}

// TestManyFiles has as many files as Windows PE.
func TestManyFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range 5000 {
		name := filepath.Join(dir, fmt.Sprintf("Windows/%02d/%d/file-%04d.dat", i%50, i%7, i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.Repeat(fmt.Appendf(nil, "content %d\n", i/3), 1+i%200), 0o600); err != nil { // three of each
			t.Fatal(err)
		}
	}
	path := capture(t, dir, "--compress=lzx", "--check")
	testKeeps(t, path, 1, []Addition{addition("Windows/07/0/file-0007.new", "one"), addition("Windows/new/file", "two"), addition("mend.exe", "MZ")})
	applied := filepath.Join(t.TempDir(), "applied")
	tool(t, "wimlib-imagex", "apply", path, "1", applied, "--unix-data")
	compare(t, os.DirFS(applied), os.DirFS(dir), "Windows/07/0/file-0007.new", "Windows/new", "Windows/new/file", "mend.exe")
}

// TestStreams keeps named data streams, hard links and security descriptors as an NTFS volume has them, and gives them back
// to one; ntfs-3g reads what comes out.
func TestStreams(t *testing.T) {
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		t.Setenv("PATH", os.Getenv("PATH")+":"+dir)
	}
	volume := func() string {
		path := filepath.Join(t.TempDir(), "volume.ntfs")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 48<<20); err != nil {
			t.Fatal(err)
		}
		tool(t, "mkntfs", "--quick", "--force", path)
		return path
	}
	dir, from, to, small := tree(t), volume(), volume(), filepath.Join(t.TempDir(), "small")
	tool(t, "wimlib-imagex", "apply", capture(t, dir, "--compress=none"), "1", from)
	if err := os.WriteFile(small, []byte("[ZoneTransfer]"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "Windows/System32/code.dll")
	tool(t, "ntfscp", "-f", "-N", "Zone.Identifier", from, small, "linked.txt")
	tool(t, "ntfscp", "-f", "-N", "large", from, large, "linked.txt")
	tool(t, "ntfscp", "-f", "-N", "old", from, small, "Windows/System32/winpeshl.ini")
	for _, kind := range []string{"xpress", "lzx"} {
		path := filepath.Join(t.TempDir(), "boot.wim")
		tool(t, "wimlib-imagex", "capture", from, path, "NTFS", "--compress="+kind, "--check", "--boot")
		if list := details(t, path, 1)["/Windows/System32/text.txt"]; !strings.Contains(list, `stream "large"`) || !strings.Contains(list, "Link Count          = 2") {
			t.Fatalf("the WIM has not what is tested: %s", list)
		}
		before := details(t, path, 1)
		testKeeps(t, path, 1, additions(), "/Windows/System32/winpeshl.ini", "/windows/system32/WINPESHL.INI")
		after := details(t, path, 1)
		for name, like := range map[string]string{
			"/Windows/System32/mend.exe":     after["/Windows/System32"],
			"/Windows/System32/winpeshl.ini": before["/Windows/System32/winpeshl.ini"],
			"/bootmend/rules/new/pack.yaml":  after["/"],
		} {
			if got, want := security.FindString(after[name]), security.FindString(like); got != want || got == "" {
				t.Errorf("%s: %s: %q, want %q", kind, name, got, want)
			}
		}
		tool(t, "wimlib-imagex", "apply", path, "1", to)
		for stream, file := range map[string]string{"Zone.Identifier": small, "large": large} {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"linked.txt", "Windows/System32/text.txt"} {
				if got := tool(t, "ntfscat", "-n", stream, to, name); got != string(want) {
					t.Errorf("%s: stream %s of %s has %d bytes, want %d", kind, stream, name, len(got), len(want))
				}
			}
		}
		if got := tool(t, "ntfscat", to, "Windows/System32/winpeshl.ini"); got != "[LaunchApps]\r\nmend.exe\r\n" {
			t.Errorf("%s: winpeshl.ini: %q", kind, got)
		}
		to = volume()
	}
}

// TestAddToSamples adds to WIMs that others made, with short names and attributes that no test here makes.
func TestAddToSamples(t *testing.T) {
	for _, name := range []string{"BootLZX.wim", "LZX.wim", "XPRESS.wim", "MultiImage.wim", "TestData.wim", "VerifySuccess.wim"} {
		t.Run(name, func(t *testing.T) {
			data := sharedWIM(t, name)
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			f, _ := open(t, path)
			testKeeps(t, path, f.Images(), []Addition{addition("mend.exe", "MZ"), addition("bootmend/rules/a.yaml", "id: x\n")})
		})
	}
}
