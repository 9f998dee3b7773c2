package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// arFile is one member for makeAr.
type arFile struct{ name, data string }

func makeAr(files ...arFile) []byte {
	var b bytes.Buffer
	b.WriteString(arMagic)
	for _, f := range files {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", f.name, 0, 0, 0, 0o100644, len(f.data))
		b.WriteString(f.data)
		if len(f.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func makeTar(t testing.TB, headers []tar.Header, data ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, h := range headers {
		h.Size = int64(len(data[i]))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func pack(t testing.TB, ext, data string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case "":
		return data
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func makeDeb(t testing.TB, controlExt, dataExt string) []byte {
	control := makeTar(t, []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./"},
		{Typeflag: tar.TypeReg, Name: "./control"},
	}, "", "Package: hello\nVersion: 1\n")
	data := makeTar(t, []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./usr/"},
		{Typeflag: tar.TypeReg, Name: "./usr/bin/hello"},
		{Typeflag: tar.TypeSymlink, Name: "./usr/share/doc/hello", Linkname: "hello-common"},
		{Typeflag: tar.TypeLink, Name: "./usr/bin/hi", Linkname: "./usr/bin/hello"},
		{Typeflag: tar.TypeReg, Name: "./../../etc/passwd"},
	}, "", "hello world", "", "", "x")
	return makeAr(
		arFile{"debian-binary", "2.0\n"},
		arFile{"control.tar" + controlExt, pack(t, controlExt, control)},
		arFile{"_odd", "!"},
		arFile{"data.tar" + dataExt + "/", pack(t, dataExt, data)},
	)
}

func TestPackage(t *testing.T) {
	for _, ext := range []string{"", ".gz", ".xz", ".zst"} {
		t.Run("tar"+ext, func(t *testing.T) {
			raw := makeDeb(t, ext, ext)
			p, err := Open(bytes.NewReader(raw), int64(len(raw)))
			if err != nil {
				t.Fatal(err)
			}
			control, err := p.Control()
			if err != nil || string(control) != "Package: hello\nVersion: 1\n" {
				t.Errorf("Control() = %q, %v", control, err)
			}
			var got []string
			for range 2 { // the same again: reading leaves nothing behind
				got = nil
				if err := p.Files(func(f File, r io.Reader) error {
					data, err := io.ReadAll(r)
					got = append(got, fmt.Sprintf("%s %q %s %t", f.Name, data, f.Link, f.Hard))
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			want := []string{
				`usr/bin/hello "hello world"  false`,
				`usr/share/doc/hello "" hello-common false`,
				`usr/bin/hi "" usr/bin/hello true`,
				`etc/passwd "x"  false`,
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("Files:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			boom := errors.New("boom")
			if err := p.Files(func(File, io.Reader) error { return boom }); !errors.Is(err, boom) {
				t.Errorf("error of the callback came back as %v", err)
			}
		})
	}
}

func TestBroken(t *testing.T) {
	good := makeDeb(t, ".gz", ".gz")
	longMember := append([]byte(nil), good...)
	copy(longMember[8+48:], "9999999999")
	badSize := append([]byte(nil), good...)
	copy(badSize[8+48:], "4x        ")
	badEnd := append([]byte(nil), good...)
	badEnd[8+58] = 'x'
	for name, test := range map[string]struct {
		raw  []byte
		want string
	}{
		"empty":        {nil, "shorter than its signature"},
		"not ar":       {[]byte("PK\x03\x04 not an ar archive"), "expected \"!<arch>"},
		"cut header":   {good[:30], "offset 8"},
		"cut data":     {good[:len(good)-50], "are left"},
		"long member":  {longMember, "offset 68"},
		"size":         {badSize, "not a number"},
		"header end":   {badEnd, "offset 8"},
		"first member": {makeAr(arFile{"control.tar", ""}), "first member"},
		"version":      {makeAr(arFile{"debian-binary", "3.0\n"}), "expected 2.0"},
		"no data":      {makeAr(arFile{"debian-binary", "2.0\n"}, arFile{"control.tar", ""}), "no data.tar"},
		"members":      {makeAr(make([]arFile, maxMembers+1)...), "more than"},
	} {
		_, err := Open(bytes.NewReader(test.raw), int64(len(test.raw)))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}

	for name, test := range map[string]struct {
		control arFile
		want    string
	}{
		"compression":  {arFile{"control.tar.bz2", "x"}, "not known"},
		"not gzip":     {arFile{"control.tar.gz", "not gzip at all"}, "gzip"},
		"not xz":       {arFile{"control.tar.xz", "not xz at all"}, "xz"},
		"no control":   {arFile{"control.tar", makeTar(t, nil)}, "no control file"},
		"huge control": {arFile{"control.tar", makeTar(t, []tar.Header{{Typeflag: tar.TypeReg, Name: "control"}}, strings.Repeat(" ", maxControl+1))}, "expected at most"},
	} {
		raw := makeAr(arFile{"debian-binary", "2.0\n"}, test.control, arFile{"data.tar", ""})
		p, err := Open(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := p.Control(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(makeDeb(f, ".gz", ".zst"))
	f.Add(makeDeb(f, "", ""))
	f.Add(makeAr(arFile{"debian-binary", "2.0\n"}, arFile{"control.tar.zst", "x"}, arFile{"data.tar.gz", ""}))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := Open(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		if c, err := p.Control(); err == nil && len(c) > maxControl {
			t.Errorf("control file of %d bytes", len(c))
		}
		_ = p.Files(func(f File, r io.Reader) error {
			if strings.HasPrefix(f.Name, "/") || strings.HasPrefix(f.Name, "..") {
				t.Errorf("name %q leads out of the package", f.Name)
			}
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return err
		})
	})
}
