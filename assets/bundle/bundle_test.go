package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// synthetic is a bundle with an entry of every kind.
func synthetic(t testing.TB, change func(*Writer)) []byte {
	t.Helper()
	var w Writer
	for _, name := range required {
		if name != ManifestJSON {
			w.Add(name, []byte("content of "+name), "pkg", name == Kernel || name == ModulesCPIO)
		}
	}
	if change != nil {
		change(&w)
	}
	var b bytes.Buffer
	if err := w.WriteTo(&b, Manifest{Kernel: "6.12", Packages: []Package{{Name: "pkg", Version: "1"}}}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, raw []byte) *Bundle {
	t.Helper()
	b, err := Open(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	raw := synthetic(t, nil)
	b := open(t, raw)
	if err := b.Check(); err != nil {
		t.Error(err)
	}
	m := b.Manifest()
	if m.Kernel != "6.12" || len(m.Packages) != 1 || len(m.Files) != len(required)-1 {
		t.Errorf("manifest %+v", m)
	}
	for _, name := range required {
		data, err := b.ReadFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if name != ManifestJSON && string(data) != "content of "+name {
			t.Errorf("%s holds %q", name, data)
		}
		if sum, ok := b.Sum(name); name != ManifestJSON && (!ok || sum != sha256.Sum256(data)) {
			t.Errorf("Sum(%s) = %x, %t", name, sum, ok)
		}
		if size, err := b.Size(name); err != nil || size != int64(len(data)) {
			t.Errorf("Size(%s) = %d, %v", name, size, err)
		}
	}
	if err := fstest.TestFS(b, required...); err != nil {
		t.Error(err)
	}
	for _, try := range []func() error{
		func() error { _, err := b.ReadFile("none"); return err },
		func() error { _, err := b.Size("none"); return err },
		func() error { _, err := b.Open("none"); return err },
	} {
		if err := try(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an entry that is not there gives %v", err)
		}
	}
}

func TestStoredEntriesAreStored(t *testing.T) {
	raw := synthetic(t, nil)
	if !bytes.Contains(raw, []byte("content of "+Kernel)) {
		t.Error("the kernel does not lie in the bundle as it is")
	}
}

func TestReproducible(t *testing.T) {
	first := synthetic(t, nil)
	for range 5 { // a map's order changes from run to run
		if !bytes.Equal(first, synthetic(t, nil)) {
			t.Fatal("the same entries gave other bytes")
		}
	}
}

func TestCheckFindsDamage(t *testing.T) {
	raw := synthetic(t, nil)
	at := bytes.Index(raw, []byte("content of "+Kernel))
	raw[at]++
	if err := open(t, raw).Check(); err == nil || !strings.Contains(err.Error(), Kernel) {
		t.Errorf("a changed kernel gives %v", err)
	}
}

func TestRefused(t *testing.T) {
	good := synthetic(t, nil)
	manifest := func(text string) []byte { return rezip(t, good, ManifestJSON, text) }
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":     {nil, "zip"},
		"text":      {[]byte(strings.Repeat("not a zip ", 100)), "zip"},
		"cut":       {good[:len(good)-100], "zip"},
		"no kernel": {rezip(t, good, Kernel, ""), "no " + Kernel},
		"no json":   {manifest("{"), ManifestJSON},
		"schema":    {manifest(`{"schema":2}`), "make the bundle again"},
		"path":      {synthetic(t, func(w *Writer) { w.Add("../x", nil, "", true) }), "plain path"},
	} {
		_, err := Open(bytes.NewReader(test.raw), int64(len(test.raw)))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
	extra := open(t, rezip(t, good, "extra", "x"))
	if err := extra.Check(); err == nil || !strings.Contains(err.Error(), "not in the manifest") {
		t.Errorf("an entry that the manifest lacks gives %v", err)
	}
}

// rezip returns the bundle with one entry replaced, added, or with empty text left out.
func rezip(t testing.TB, raw []byte, name, text string) []byte {
	t.Helper()
	b := open(t, raw)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	var names []string
	for _, f := range b.zip.File {
		names = append(names, f.Name)
	}
	if !slices.Contains(names, name) {
		names = append(names, name)
	}
	for _, n := range names {
		data := []byte(text)
		if n != name {
			var err error
			if data, err = b.ReadFile(n); err != nil {
				t.Fatal(err)
			}
		} else if text == "" {
			continue
		}
		w, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func FuzzOpen(f *testing.F) {
	good := synthetic(f, nil)
	f.Add(good)
	f.Add(rezip(f, good, ManifestJSON, `{"schema":1,"files":[{"path":"vmlinuz","size":-1}]}`))
	f.Add(good[:len(good)/2])
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := Open(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		_ = b.Check()
		for _, name := range required {
			r, err := b.Open(name)
			if err != nil {
				continue // its own header is damaged
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			_ = r.Close()
		}
	})
}

// TestLyingSize: an entry that decompresses to more than it says must not fill the memory.
func TestLyingSize(t *testing.T) {
	raw := synthetic(t, func(w *Writer) { w.Add(Shim, bytes.Repeat([]byte("0"), 10<<20), "", false) })
	// The central directory's entry ends in the name; the uncompressed size is 22 bytes before it
	// (APPNOTE.TXT 4.3.12).
	at := bytes.LastIndex(raw, []byte(Shim)) - 22
	copy(raw[at:], []byte{9, 0, 0, 0})
	b := open(t, raw)
	if data, err := b.ReadFile(Shim); err == nil {
		t.Errorf("%d bytes of an entry that says 9", len(data))
	}
	if err := b.Check(); err == nil {
		t.Error("Check finds it good")
	}
}
