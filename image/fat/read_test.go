package fat

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func whole(t testing.TB, v *Volume) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := v.Write(context.Background(), &b, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestReadWritten: what Plan laid out is read back, and planned again it is the same volume.
func TestReadWritten(t *testing.T) {
	list, files := sample()
	list = append(list, Entry{Path: "hidden.dat", Attr: AttrHidden | AttrSystem, ModTime: time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)})
	for _, opts := range []Options{
		{Kind: FAT12, Free: 1 << 20},
		{Kind: FAT16, Free: 1 << 20},
		{Kind: FAT32, BootData: content(9999, 4)},
		{Kind: FAT32, Size: 600 << 20, SectorSize: 4096},
	} {
		t.Run(fmt.Sprint(opts.Kind, opts.SectorSize), func(t *testing.T) {
			opts.Label, opts.VolumeID, opts.Time = "BOOTMEND", 0xcafe0291, epoch
			v, err := Plan(opts, list)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Read(v, v.Size())
			if err != nil {
				t.Fatal(err)
			}
			if c.Kind != v.Kind() || c.Label != "BOOTMEND" || c.VolumeID != 0xcafe0291 || c.ClusterSize != v.ClusterSize() || !bytes.Equal(c.BootData, opts.BootData) {
				t.Errorf("read %+v", c)
			}
			seen := 0
			for _, e := range c.Entries {
				if e.Dir {
					continue
				}
				seen++
				r, err := e.Open()
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, files[e.Path]) {
					t.Errorf("%s differs (%v)", e.Path, err)
				}
			}
			if seen != len(files)+1 {
				t.Errorf("%d files, want %d", seen, len(files)+1)
			}
			opts.Size = v.Size()
			again, err := Plan(opts, c.Entries)
			if err != nil {
				t.Fatal(err)
			}
			one, two := make([]byte, v.End()), make([]byte, v.End())
			if _, err := v.ReadAt(one, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := again.ReadAt(two, 0); err != nil || !bytes.Equal(one, two) {
				t.Errorf("planned again it differs (%v)", err)
			}
		})
	}
}

// TestReadForeign reads what mtools did to a volume: fragments, deleted files, small letters.
func TestReadForeign(t *testing.T) {
	v, err := Plan(Options{Kind: FAT32, Size: 64 << 20, Label: "BOOTMEND", Time: epoch}, []Entry{fileEntry("A", content(100, 1)), {Path: "logs", Dir: true}})
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, v)
	dir := t.TempDir()
	data := map[string][]byte{}
	put := func(name string, size int64, seed uint64) {
		data[name] = content(size, seed)
		host := filepath.Join(dir, "x")
		if err := os.WriteFile(host, data[name], 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "mcopy", "-o", "-i", path, host, "::/"+name)
	}
	for i := range 20 {
		put(fmt.Sprintf("logs/run %d.jsonl", i), 3000, uint64(i))
	}
	for i := 0; i < 20; i += 2 {
		name := fmt.Sprintf("logs/run %d.jsonl", i)
		run(t, "mdel", "-i", path, "::/"+name)
		delete(data, name)
	}
	put("keys.csv", 50_000, 77) // into the gaps
	put("UPPER.TXT", 5, 3)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c, err := Read(f, v.Size())
	if err != nil {
		t.Fatal(err)
	}
	data["A"] = content(100, 1)
	for _, e := range c.Entries {
		if e.Dir {
			continue
		}
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if want, ok := data[e.Path]; err != nil || !ok || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v, or not expected", e.Path, len(got), err)
		}
		delete(data, e.Path)
	}
	if len(data) > 0 {
		t.Errorf("not read: %d files", len(data))
	}
}

// TestReadRefuses: damage that matters is named.
func TestReadRefuses(t *testing.T) {
	list, _ := sample()
	v, err := Plan(Options{Kind: FAT16, Size: 9 << 20, Time: epoch}, list)
	if err != nil {
		t.Fatal(err)
	}
	good := whole(t, v)
	for name, tc := range map[string]struct {
		damage func(b []byte) []byte
		want   string
	}{
		"no signature": {func(b []byte) []byte { b[510] = 0; return b }, "no valid boot sector"},
		"cut short":    {func(b []byte) []byte { return b[:len(b)-512] }, "cut short"},
		"empty":        {func([]byte) []byte { return nil }, "boot sector"},
		"short FAT":    {func(b []byte) []byte { b[22], b[23] = 1, 0; return b }, "too short"},
		"circle": {func(b []byte) []byte {
			a := v.root.find("a")                      // make a directory its own child
			at := v.clusterOffset(a.first) + 3*32 + 26 // ".", "..", long name
			b[at], b[at+1] = byte(a.first), byte(a.first>>8)
			return b
		}, "lies in itself"},
	} {
		t.Run(name, func(t *testing.T) {
			b := tc.damage(slices.Clone(good))
			if _, err := Read(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// FuzzRead: whatever the bytes, Read ends, and so does reading the files.
func FuzzRead(f *testing.F) {
	list, _ := sample()
	for _, kind := range []Kind{FAT12, FAT16} {
		v, err := Plan(Options{Kind: kind, Time: epoch}, list[:8])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole(f, v)[:16<<10])
	}
	v, err := Plan(Options{Kind: FAT32, Time: epoch}, list[:3])
	if err != nil {
		f.Fatal(err)
	}
	// Of FAT32 only what matters: the size of a volume comes from its boot sector.
	f.Add(whole(f, v)[:16<<10])
	f.Fuzz(func(t *testing.T, b []byte) {
		const size = 64 << 20
		c, err := Read(padded(b), size)
		if err != nil {
			return
		}
		for _, e := range c.Entries[:min(len(c.Entries), 100)] {
			if e.Dir {
				continue
			}
			r, err := e.Open()
			if err != nil {
				continue
			}
			if n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20)); err == nil && n != min(e.Size, 1<<20) {
				t.Errorf("%s: %d bytes of %d without an error", e.Path, n, e.Size)
			}
			_ = r.Close()
		}
	})
}

// padded is a device that begins with some bytes and goes on with zeros.
type padded []byte

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	if off < int64(len(p)) {
		copy(b, p[off:])
	}
	return len(b), nil
}
