package iso

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	media "github.com/bootmend/bootmend/image"
)

// TestRead lists what Write wrote, by its own names and with its content.
func TestRead(t *testing.T) {
	spec := testSpec(t)
	tree, err := spec.Tree(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "out.iso")
	if _, err := Write(context.Background(), path, spec, nil); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, f := range files {
		got[f.Path] = f.Size
		if !f.ModTime.Equal(epoch) {
			t.Errorf("%s: dated %v", f.Path, f.ModTime)
		}
		if r, err := f.Open(); err != nil {
			t.Error(err)
		} else if want, _ := tree.Find(f.Path); f.Path == "/bootmend/vmlinuz" {
			b, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(b, content(t, want)) {
				t.Errorf("%s differs (%v)", f.Path, err)
			}
		}
	}
	for _, f := range tree.Files {
		if size, ok := got[f.Path]; !ok || size != f.Size && f.Path != "/bootmend/manifest.json" {
			t.Errorf("%s: %d bytes, want %d", f.Path, size, f.Size)
		}
	}
	if len(files) != len(tree.Files) {
		t.Errorf("%d files, want %d", len(files), len(tree.Files))
	}
	if _, err := Read(bytes.NewReader(data[:2<<20]), 2<<20); err != nil {
		t.Errorf("of a short image the list must do: %v", err)
	}
	if _, err := Read(bytes.NewReader(nil), 0); !errors.Is(err, ErrNoISO) {
		t.Errorf("nothing: %v", err)
	}
}

// windowsPEDisc is a small disc with Windows PE, whose names no Rock Ridge gives.
func windowsPEDisc(t testing.TB) []byte {
	t.Helper()
	boot := []media.File{media.FromBytes("/sources/boot.wim", []byte("MSWIM")), media.FromBytes("/EFI/Microsoft/Boot/BCD", []byte("store"))}
	uefi := media.FromBytes("/efisys.bin", []byte("volume"))
	tree, err := media.WindowsPEDiscTree(context.Background(), boot, []media.File{uefi}, media.Spec{Time: time.Unix(1721365740, 0)})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disc.iso")
	info, err := WriteWindowsPE(context.Background(), path, WindowsPE{Tree: tree, UEFI: uefi}, nil)
	if err != nil || info.MediaID != tree.ID || info.Label != media.LabelWindowsPE {
		t.Fatalf("%+v, %v", info, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestReadWindowsPE reads the names of ISO 9660 itself.
func TestReadWindowsPE(t *testing.T) {
	data := windowsPEDisc(t)
	files, err := Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Path)
	}
	slices.Sort(names)
	want := []string{"/BOOTMEND/MANIFEST.JSON", "/BOOTMEND/MEDIA.ID", "/EFI/MICROSOFT/BOOT/BCD", "/README.TXT", "/SOURCES/BOOT.WIM"}
	if !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

// FuzzRead: whatever the bytes, Read ends, and so does reading the files.
func FuzzRead(f *testing.F) {
	spec := testSpec(f)
	spec.Bundle = standIn(1000)
	path := filepath.Join(f.TempDir(), "out.iso")
	if _, err := Write(context.Background(), path, spec, nil); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[pvdBlock*blockSize : 64<<10])
	f.Add(windowsPEDisc(f)[pvdBlock*blockSize:])
	f.Fuzz(func(t *testing.T, b []byte) {
		image := append(make([]byte, pvdBlock*blockSize), b...)
		files, err := Read(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			return
		}
		for _, file := range files[:min(len(files), 100)] {
			r, err := file.Open()
			if err != nil {
				continue
			}
			if n, err := io.Copy(io.Discard, r); err == nil && n != file.Size {
				t.Errorf("%s: %d bytes of %d", file.Path, n, file.Size)
			}
		}
	})
}
