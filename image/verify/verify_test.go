package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/assets"
	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/iso"
	"github.com/bootmend/bootmend/image/usb"
)

func testSpec(t testing.TB) media.Spec {
	t.Helper()
	bundle, err := assets.OpenBundle()
	if err != nil {
		t.Skipf("signed programs come with the boot bundle: %v", err)
	}
	return media.Spec{
		Bundle: bundle, GrubConfig: assets.GrubConfig, Agent: media.FromBytes("", []byte("in place of an agent")), Config: []byte("countdown: 5s\n"),
		Keys:  media.Keys("KeyID,RecoveryKey\n"),
		Rules: []media.RulePack{{Name: "a.yaml", Data: []byte("apiVersion: bootmend/v1\n")}},
		Time:  time.Date(2024, 7, 19, 5, 27, 1, 0, time.UTC),
	}
}

// made is an image of each kind.
func made(t testing.TB, spec media.Spec) map[string]string {
	t.Helper()
	dir := t.TempDir()
	images := map[string]string{"stick": filepath.Join(dir, "stick.img"), "iso": filepath.Join(dir, "disc.iso")}
	if _, err := usb.Write(context.Background(), images["stick"], spec, 0, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := iso.Write(context.Background(), images["iso"], spec, nil); err != nil {
		t.Fatal(err)
	}
	return images
}

func checkFile(t testing.TB, path string) (*Report, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return Media(context.Background(), f, info.Size(), nil)
}

func mustCheck(t testing.TB, path string) *Report {
	t.Helper()
	r, err := checkFile(t, path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAsMade(t *testing.T) {
	for kind, path := range made(t, testSpec(t)) {
		r := mustCheck(t, path)
		if !r.OK || r.Kind != kind || len(r.Findings) != 0 || len(r.Signatures) != 3 || r.Checked < 12 || len(r.MediaID) != 32 {
			t.Errorf("%s: %+v", kind, r)
		}
		for _, s := range r.Signatures {
			if len(s.Signers) == 0 || len(s.TrustedBy) == 0 || s.Problem != "" {
				t.Errorf("%s: %+v", kind, s)
			}
		}
		if !strings.Contains(r.Signatures[0].TrustedBy[0], "Microsoft") || !isShim(r.Signatures[0].Path) {
			t.Errorf("%s: %+v", kind, r.Signatures[0])
		}
	}
}

// flipped is an image with one bit that is wrong.
type flipped struct {
	*bytes.Reader
	at int64
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.Reader.ReadAt(p, off)
	if f.at >= off && f.at < off+int64(n) {
		p[f.at-off] ^= 1
	}
	return n, err
}

// TestFlippedBit turns one bit in each file, at its start, middle and end: each is found and named.
func TestFlippedBit(t *testing.T) {
	spec := testSpec(t)
	small := func(b []byte) []byte { return b[1<<20 : 1<<20+300_000] } // in little time
	spec.Bundle = edited{edited{spec.Bundle, assets.Kernel, small}, assets.ModulesCPIO, small}
	for kind, path := range made(t, spec) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pieces := map[string][2]int64{} // offset, size
		var files []media.File
		if kind == "iso" {
			files, err = iso.Read(bytes.NewReader(data), int64(len(data)))
			pieces["boot code in the MBR"] = [2]int64{0, 440}
		} else {
			var s *usb.Stick
			if s, err = usb.Open(bytes.NewReader(data), int64(len(data))); err == nil {
				files = s.Files
			}
			pieces["boot code in the MBR"] = [2]int64{0, 440}
			pieces["GRUB for BIOS"] = [2]int64{1<<20 + 32*512, 200_000}
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			at := place(data, content)
			if s, ok := r.(interface {
				Outer() (io.ReaderAt, int64, int64)
			}); ok && kind == "iso" { // whose ESP holds copies of some
				_, at, _ = s.Outer()
			}
			if len(content) > 0 {
				pieces[f.Path] = [2]int64{at, f.Size}
			}
		}
		if len(pieces) < 12 {
			t.Fatalf("%s: only %d pieces", kind, len(pieces))
		}
		for name, p := range pieces {
			places := []int64{p[0], p[0] + p[1]/2, p[0] + p[1] - 1}
			for _, at := range places {
				r, err := Media(context.Background(), flipped{bytes.NewReader(data), at}, int64(len(data)), nil)
				if name == media.PathManifest && err != nil {
					continue
				}
				if err != nil {
					t.Errorf("%s, %s at %d: %v", kind, name, at, err)
				} else if !slices.ContainsFunc(r.Findings, func(f Finding) bool {
					return f.Problem != "" && (strings.HasPrefix(f.Path, name) && f.State == Changed || name == media.PathManifest)
				}) {
					t.Errorf("%s, %s at %d: not found: %+v", kind, name, at, r.Findings)
				}
			}
		}
	}
}

// place finds a file's content, which begins at a sector.
func place(data, content []byte) int64 {
	for at := 0; ; at++ {
		n := bytes.Index(data[at:], content)
		if at += n; n < 0 || at%512 == 0 {
			return int64(at)
		}
	}
}

// TestUsedStick is what happens to a stick: a log, newer keys and rules, what Windows leaves; and what must not.
func TestUsedStick(t *testing.T) {
	path := made(t, testSpec(t))["stick"]
	put := func(name string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte("something newer\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "mcopy", "-o", "-i", path+"@@1M", file, "::/"+name)
	}
	run(t, "mmd", "-i", path+"@@1M", "::/System Volume Information")
	put("System Volume Information/WPSettings.dat")
	put("bootmend/logs/20240719T052700Z-12345678.jsonl")
	put("bootmend/keys/site-b.csv")
	put("bootmend/rules/next.yaml")
	put("bootmend/keys.csv") // in the place of the one there
	put("holiday.jpg")
	r := mustCheck(t, path)
	want := map[string]Finding{
		"/System Volume Information/WPSettings.dat":      {State: Added, What: system},
		"/bootmend/logs/20240719T052700Z-12345678.jsonl": {State: Added, What: logFile},
		"/bootmend/keys/site-b.csv":                      {State: Added, What: keyFile},
		"/bootmend/rules/next.yaml":                      {State: Added, What: ruleFile},
		"/bootmend/keys.csv":                             {State: Replaced, What: keyFile},
		"/holiday.jpg":                                   {State: Added, What: other},
	}
	for _, f := range r.Findings {
		w, ok := want[f.Path]
		if w.Path = f.Path; !ok || f != w {
			t.Errorf("found %+v, want %+v", f, w)
		}
		delete(want, f.Path)
	}
	if !r.OK || len(want) > 0 {
		t.Errorf("OK %v, not found: %v", r.OK, want)
	}

	put("EFI/BOOT/other.efi")
	put("bootmend/agent.img")
	run(t, "mdel", "-i", path+"@@1M", "::/bootmend/modules.img")
	r = mustCheck(t, path)
	bad := map[string]State{}
	for _, f := range r.Findings {
		if f.Problem != "" {
			bad[f.Path] = f.State
		}
	}
	if r.OK || len(bad) != 3 || bad["/EFI/BOOT/other.efi"] != Added || bad["/bootmend/agent.img"] != Changed || bad["/bootmend/modules.img"] != Missing {
		t.Errorf("problems %v", bad)
	}
	run(t, "mdel", "-i", path+"@@1M", "::/bootmend/manifest.json")
	if _, err := checkFile(t, path); !errors.Is(err, ErrNoMedia) {
		t.Errorf("without manifest: %v", err)
	}
}

// TestUsedISO is an ISO image that was a stick: its log came into the EFI system partition.
func TestUsedISO(t *testing.T) {
	path := made(t, testSpec(t))["iso"]
	out := run(t, "sgdisk", "-i", "1", path)
	_, after, _ := strings.Cut(out, "First sector: ")
	esp := path + "@@" + strings.Fields(after)[0] + "s"
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "mcopy", "-i", esp, file, "::/bootmend/logs/1.jsonl")
	r := mustCheck(t, path)
	if !r.OK || len(r.Findings) != 1 || r.Findings[0] != (Finding{Path: "/boot/efi.img/bootmend/logs/1.jsonl", State: Added, What: logFile}) {
		t.Errorf("with a log: %+v", r.Findings)
	}
	run(t, "mcopy", "-o", "-i", esp, file, "::/EFI/BOOT/BOOTX64.EFI")
	if r = mustCheck(t, path); r.OK {
		t.Errorf("without shim: %+v", r)
	}
}

// edited is a bundle with one program made into something else.
type edited struct {
	fs.FS
	name string
	edit func([]byte) []byte
}

func (e edited) Open(name string) (fs.File, error) {
	f, err := e.FS.Open(name)
	if err != nil || name != e.name {
		return f, err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return memory{bytes.NewReader(e.edit(data)), f}, f.Close()
}

type memory struct {
	*bytes.Reader
	fs.File
}

func (m memory) Read(p []byte) (int, error) { return m.Reader.Read(p) }
func (m memory) Close() error               { return nil }
func (m memory) Stat() (fs.FileInfo, error) {
	info, err := m.File.Stat()
	return sized{info, m.Size()}, err
}

type sized struct {
	fs.FileInfo
	n int64
}

func (s sized) Size() int64 { return s.n }

// TestSignatures: media whose manifest is right, but whose programs firmware or shim would refuse.
func TestSignatures(t *testing.T) {
	grub, err := fs.ReadFile(testSpec(t).Bundle, assets.Grub)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		program string
		edit    func([]byte) []byte
		want    string
	}{
		"unsigned kernel": {assets.Kernel, unsigned, "not signed"},
		"unsigned GRUB":   {assets.Grub, unsigned, "not signed"},
		"edited kernel":   {assets.Kernel, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "changed after it was signed"},
		"edited signature": {assets.Kernel, func(b []byte) []byte {
			at := len(b) - 200
			b[at] ^= 1
			return b
		}, "signature"},
		"no program":   {assets.Kernel, func([]byte) []byte { return []byte("#!/bin/sh\n") }, "not an EFI program"},
		"GRUB as shim": {assets.Shim, func([]byte) []byte { return grub }, "not shim"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := testSpec(t)
			spec.Bundle = edited{spec.Bundle, tc.program, tc.edit}
			path := filepath.Join(t.TempDir(), "stick.img")
			if _, err := usb.Write(context.Background(), path, spec, 0, nil); err != nil {
				t.Fatal(err)
			}
			r := mustCheck(t, path)
			if r.OK || len(r.Findings) != 0 || !slices.ContainsFunc(r.Signatures, func(s Signature) bool { return strings.Contains(s.Problem, tc.want) }) {
				t.Errorf("want %q in %+v, findings %+v", tc.want, r.Signatures, r.Findings)
			}
		})
	}
}

// unsigned takes the certificate table off a program.
func unsigned(b []byte) []byte {
	le := binary.LittleEndian
	entry := int(le.Uint32(b[60:])) + 24 + 112 + 8*4 // PE32+
	b = b[:le.Uint32(b[entry:])]
	clear(b[entry : entry+8])
	return b
}

func TestFolder(t *testing.T) {
	path := made(t, testSpec(t))["stick"]
	dir := t.TempDir()
	run(t, "mcopy", "-s", "-m", "-i", path+"@@1M", "::", dir)
	r, err := Folder(context.Background(), os.DirFS(dir), nil)
	if err != nil || !r.OK || len(r.Findings) != 0 || len(r.Notes) != 1 || len(r.Signatures) != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bootmend/config.yaml"), []byte("countdown: 9s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err = Folder(context.Background(), os.DirFS(dir), nil)
	if err != nil || !r.OK || len(r.Findings) != 1 || r.Findings[0].State != Replaced || r.Findings[0].What != settings {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Folder(context.Background(), os.DirFS(t.TempDir()), nil); !errors.Is(err, ErrNoMedia) {
		t.Errorf("an empty folder: %v", err)
	}
}

// TestLargeSectors lays a stick out for sectors of 4096 bytes, which no BIOS starts from.
func TestLargeSectors(t *testing.T) {
	tree, err := testSpec(t).StickTree(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	l, err := usb.Plan(tree, usb.Device{Size: 8 << 30, SectorSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Media(context.Background(), l, l.Size(), nil)
	if err != nil || !r.OK || len(r.Findings) != 0 || len(r.Notes) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestNoMedia(t *testing.T) {
	for name, data := range map[string][]byte{"empty": nil, "zeros": make([]byte, 1<<20)} {
		if _, err := Media(context.Background(), bytes.NewReader(data), int64(len(data)), nil); !errors.Is(err, ErrNoMedia) {
			t.Errorf("%s: %v", name, err)
		}
	}
	path := made(t, testSpec(t))["stick"]
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := Media(ctx, f, usb.MinSize, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
