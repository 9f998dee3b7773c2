package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/bootmend/bootmend/assets/bundle"
)

func TestCompareVersions(t *testing.T) {
	// Each is older than the next: rules of deb-version(7), and versions of Debian's kernels.
	ordered := []string{
		"0~~", "0~", "0", "0.1", "1.0~rc1-1", "1.0-1~bpo12+1", "1.0-1", "1.0-1+b1", "1.0a-1", "1.0+dfsg-1",
		"5.10.9-1", "5.10.10-1", "6.1.170-1", "6.12.9-1~deb12u1", "6.12.117-1~deb12u1", "6.12.117-1", "6.13~rc1-1", "1:0.1",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			got := compareVersions(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("compareVersions(%q, %q) = %d", a, b, got)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "1.0-0"}, {"1.01", "1.1"}, {"0:1", "1"}} {
		if got := compareVersions(same[0], same[1]); got != 0 {
			t.Errorf("compareVersions(%q, %q) = %d, want 0", same[0], same[1], got)
		}
	}
}

func TestCompareVersionsLikeDpkg(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skipf("no dpkg to compare with: %v", err)
	}
	versions := []string{"1.0", "1.0~", "1.0+b1", "1.0-1", "1:0", "2.06-13+deb12u2", "6.12.100", "6.12.99", "1a", "1.a"}
	for _, a := range versions {
		for _, b := range versions {
			want := exec.Command("dpkg", "--compare-versions", a, "lt", b).Run() == nil
			if got := compareVersions(a, b) < 0; got != want {
				t.Errorf("%q lt %q: %t, dpkg says %t", a, b, got, want)
			}
		}
	}
}

func TestChooseKernel(t *testing.T) {
	meta := func(name, version, depends string) stanza {
		return stanza{"Package": name, "Version": version, "Depends": depends}
	}
	old := meta("linux-image-amd64", "6.1.170-1", "linux-image-6.1.0-56-amd64 (= 6.1.170-1)")
	newer := meta("linux-image-6.12-amd64", "6.12.117-1~deb12u1", "linux-base, linux-image-6.12.117+deb12-amd64 (= 6.12.117-1~deb12u1)")
	odd := meta("linux-image-7-amd64", "7", "something-else")
	for _, metas := range [][]stanza{{old, newer}, {newer, old}, {newer, odd, old}} {
		if got, err := chooseKernel(metas); err != nil || got != "linux-image-6.12.117+deb12-amd64" {
			t.Errorf("chose %q, error %v", got, err)
		}
	}
	if got, err := chooseKernel([]stanza{odd}); err == nil {
		t.Errorf("chose %q of nothing", got)
	}
	for name, want := range map[string]bool{
		"linux-image-amd64": true, "linux-image-6.12-amd64": true, "linux-image-6.12.117-amd64": true,
		"linux-image-cloud-amd64": false, "linux-image-6.12-rt-amd64": false, "linux-image-amd64-dbg": false,
		"linux-image-6.12.117+deb12-amd64": false, "linux-image-amd64-signed-template": false, "linux-image-arm64": false,
	} {
		if got := metaKernel.MatchString(name); got != want {
			t.Errorf("%s: meta package %t, want %t", name, got, want)
		}
	}
}

func TestStanzas(t *testing.T) {
	list, err := parseStanzas([]byte(`Package: grub-efi-amd64-signed
Version: 1+2.06+13+deb12u2
Architecture: amd64
Built-Using: grub2 (= 2.06-13+deb12u2)
Description: GRUB
 first line
 .
# a comment
	second line

Package: shim-signed
Source: shim-signed (1.51)
Version: 1.51+16.1
Depends: debconf (>= 0.5) | debconf-2.0, mokutil:any, libc6


`))
	if err != nil || len(list) != 2 {
		t.Fatalf("%d stanzas, error %v", len(list), err)
	}
	if got := list[0]["Description"]; got != "GRUB\nfirst line\n.\nsecond line" {
		t.Errorf("Description %q", got)
	}
	if got := append(list[0].builtUsing(), list[0].source()); !slices.Equal(got, []sourceRef{
		{"grub2", "2.06-13+deb12u2"}, {"grub-efi-amd64-signed", "1+2.06+13+deb12u2"},
	}) {
		t.Errorf("sources %v", got)
	}
	if got := list[1].source(); got != (sourceRef{"shim-signed", "1.51"}) {
		t.Errorf("source %v", got)
	}
	if got := parseDepends(list[1]["Depends"]); !slices.Equal(got, []dependency{{"debconf", "0.5"}, {"mokutil", ""}, {"libc6", ""}}) {
		t.Errorf("depends %v", got)
	}
	for _, bad := range []string{" continues nothing\n", "no colon\n"} {
		if _, err := parseStanzas([]byte(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: error %v, want one that names line 1", bad, err)
		}
	}
}

func FuzzStanzas(f *testing.F) {
	f.Add([]byte("Package: a\nDepends: b (= 1) | c, d:any\n e\n\nX: y\n"))
	f.Add([]byte(" x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseStanzas(data)
		if err != nil {
			return
		}
		for _, s := range list {
			for _, d := range parseDepends(s["Depends"]) {
				if d.Name == "" {
					t.Error("a dependency without name")
				}
			}
			_, _ = s.source(), s.builtUsing()
			_ = licences(data)
		}
	})
}

func TestLicences(t *testing.T) {
	text := `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: lib/zlib/*
Copyright: x
License: Zlib

Files: *
Copyright: x
License: GPL-2
 full text

Files: debian/*
License: Expat

Files: more/*
License: Zlib

License: Zlib
 text
`
	if got := strings.Join(licences([]byte(text)), ", "); got != "GPL-2, Zlib" {
		t.Errorf("licences %q", got)
	}
	if got := licences([]byte("This package was debianised by hand.\n\nIt is free: see below.\n")); got != nil {
		t.Errorf("licences of free text: %q", got)
	}
}

func TestReferredTo(t *testing.T) {
	texts := map[string][]byte{"GPL": nil, "GPL-2": nil, "GPL-3": nil, "LGPL-2": nil, "LGPL-2.1": nil}
	got := referredTo([][]byte{
		[]byte("see `/usr/share/common-licenses/GPL-2'."),
		[]byte("in /usr/share/common-licenses/LGPL-2.1"),
	}, texts)
	if !slices.Equal(got, []string{"GPL-2", "LGPL-2.1"}) {
		t.Errorf("referred to %v", got)
	}
}

func TestLibraryPackages(t *testing.T) {
	for soname, want := range map[string]string{
		"liblzma.so.5": "liblzma5", "libdevmapper.so.1.02.1": "libdevmapper1.02.1", "libpcre2-8.so.0": "libpcre2-8-0",
		"libc.so.6": "libc6", "libm.so.6": "libc6", "ld-linux-x86-64.so.2": "libc6", "ld-linux-aarch64.so.1": "libc6",
		"libgcc_s.so.1": "libgcc-s1", "libfuse3.so.3": "libfuse3-3",
	} {
		if got := libraryPackages(soname)[0]; got != want {
			t.Errorf("%s: package %s, want %s", soname, got, want)
		}
	}
}

func TestAptConfig(t *testing.T) {
	system := `APT "";
APT::Architecture "arm64";
APT::Update::Post-Invoke:: "rm -f /var/cache/apt/*.bin";
DPkg::Post-Invoke:: "touch /x";
Dir::Cache "var/cache/apt";
dir::state "var/lib/apt";
Dir::Etc "etc/apt";
Dir::Etc::parts "apt.conf.d";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::IndexTargets::deb::DEP-11::MetaKey "x";
`
	got := string(aptConfig([]byte(system), `/a "b"`, "amd64"))
	for _, bad := range []string{"Post-Invoke", "DPkg", "var/lib/apt", "var/cache/apt", "apt.conf.d", "DEP-11", `"arm64"`} {
		if strings.Contains(got, bad) {
			t.Errorf("%q of the system came through:\n%s", bad, got)
		}
	}
	for _, want := range []string{"proxy.example", `Dir::Etc "etc/apt"`, `Dir::State "/a \"b\"/state"`, `APT::Architecture "amd64"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in:\n%s", want, got)
		}
	}
	if got := string(aptConfig(nil, "/a", "arm64")); !strings.Contains(got, `APT::Architectures:: "arm64"`) {
		t.Errorf("the machine's own architecture is missing:\n%s", got)
	}
}

func TestCommands(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	exe := filepath.Join(t.TempDir(), "mend.exe.zst")
	if err := run(ctx, []string{"pack", "-o", exe, "mkbundle_test.go"}); err != nil {
		t.Fatal(err)
	}
	packed, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	want, err := os.ReadFile("mkbundle_test.go")
	if got, unpackErr := d.DecodeAll(packed, nil); err != nil || unpackErr != nil || !bytes.Equal(got, want) {
		t.Errorf("packed and unpacked, a file is another: %v, %v", err, unpackErr)
	}
	if err := run(ctx, []string{"frobnicate"}); err == nil || !strings.Contains(err.Error(), "bundle, agent, pack, licences or check") {
		t.Errorf("unknown command: %v", err)
	}
	for _, args := range [][]string{{"agent"}, {"check"}, {"agent", filepath.Join(dir, "none")}, {"check", filepath.Join(dir, "none")}} {
		if err := run(ctx, args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
	if err := run(ctx, []string{"check", "-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("check -h: %v", err)
	}

	program, segment := filepath.Join(dir, "mend"), filepath.Join(dir, "new", "mend.cpio.zst")
	if err := os.WriteFile(program, []byte("\x7fELF and so on"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := run(ctx, []string{"agent", "-o", segment, program}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(segment); err != nil || !bytes.HasPrefix(data, []byte{0x28, 0xB5, 0x2F, 0xFD}) {
		t.Errorf("segment: %v", err)
	}

	good, bad, copied := filepath.Join(dir, "good.zip"), filepath.Join(dir, "bad.zip"), filepath.Join(dir, "embedded", "bundle.zip")
	var w bundle.Writer
	for _, name := range []string{bundle.Kernel, bundle.ModulesCPIO, bundle.NetworkCPIO, bundle.Shim, bundle.Grub, bundle.ElTorito, bundle.BootHybrid, bundle.GrubNet, bundle.GrubPXE, bundle.Notice} {
		w.Add(name, []byte("content of "+name), "", true)
	}
	var b bytes.Buffer
	if err := w.WriteTo(&b, bundle.Manifest{}); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(b.Bytes(), []byte("content of vmlinuz"), []byte("contempt of vmlinu"), 1)
	for name, data := range map[string][]byte{good: b.Bytes(), bad: damaged} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(ctx, []string{"check", "-o", copied, bad}); err == nil {
		t.Error("a damaged bundle was found good")
	}
	if _, err := os.Stat(copied); err == nil {
		t.Error("a damaged bundle was copied")
	}
	if err := run(ctx, []string{"check", "-o", copied, good}); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(copied); err != nil || !bytes.Equal(data, b.Bytes()) {
		t.Errorf("the copy differs, or error %v", err)
	}
}
