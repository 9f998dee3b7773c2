package usb

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/bootmend/bootmend/assets"
	media "github.com/bootmend/bootmend/image"
)

// benchSpec has the sizes of the real thing: the boot bundle where there is one.
func benchSpec(b testing.TB) media.Spec {
	b.Helper()
	spec := testSpec(b)
	spec.Agent = media.FromBytes("", noise(3<<20, 8))
	bundle, err := assets.OpenBundle()
	if err != nil {
		b.Logf("%v: a stand-in is measured", err)
		return spec
	}
	spec.Bundle = bundle
	return spec
}

// BenchmarkWrite and BenchmarkMtools make the same image; the second is the peer.
func BenchmarkWrite(b *testing.B) {
	spec := benchSpec(b)
	path := filepath.Join(b.TempDir(), "out.img")
	b.ReportAllocs()
	for b.Loop() {
		remove(b, path)
		info, err := Write(context.Background(), path, spec, 0, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(info.Written)
	}
}

func BenchmarkMtools(b *testing.B) {
	run(b, "mkfs.vfat", "--help")
	tree, err := benchSpec(b).StickTree(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	dir, path := b.TempDir(), filepath.Join(b.TempDir(), "out.img")
	for _, f := range tree.Files {
		name := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		r, err := f.Open()
		if err != nil {
			b.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	entries, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		remove(b, path)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			b.Fatal(err)
		}
		if err := os.Truncate(path, MinSize); err != nil {
			b.Fatal(err)
		}
		run(b, "mkfs.vfat", "-F", "32", "-n", "BOOTMEND", "--offset", "2048", path, "247808")
		run(b, "mcopy", append([]string{"-s", "-i", path + "@@1M"}, append(entries, "::")...)...)
	}
}

// remove lets each round begin without a file, outside of what is measured.
func remove(b *testing.B, path string) {
	b.StopTimer()
	_ = os.Remove(path)
	b.StartTimer()
}
