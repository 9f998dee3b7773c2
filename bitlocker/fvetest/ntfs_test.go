package fvetest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestLayoutOfNTFS formats volumes that mkntfs made, with files of a third of
// their size: none of it may lie where BitLocker's own data goes.
func TestLayoutOfNTFS(t *testing.T) {
	mkntfs, ntfscp := program(t, "mkntfs"), program(t, "ntfscp")
	for _, size := range []int64{64 << 20, 300 << 20, 2 << 30} {
		if testing.Short() && size > 64<<20 {
			continue
		}
		dir := t.TempDir()
		img, file := filepath.Join(dir, "ntfs.img"), filepath.Join(dir, "file")
		content := bytes.Repeat([]byte("content "), int(min(size/3, 20<<20)/8))
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(img)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for _, cmd := range []*exec.Cmd{exec.Command(mkntfs, "-q", "-Q", "-F", img), exec.Command(ntfscp, "-q", img, file, "file")} {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", cmd, err, out)
			}
		}
		regions, err := Layout(size, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := checkUnused(f, regions); err != nil {
			t.Errorf("volume of %d MiB: %v", size>>20, err)
		}
	}
}

func TestLayoutRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		size int64
		opts Options
	}{
		"too small":           {MinSize - 512, Options{}},
		"half a sector":       {MinSize + 512, Options{SectorSize: 4096}},
		"copies overlap":      {MinSize, Options{Metadata: [3]int64{64 << 10, 96 << 10, 1 << 20}}},
		"copy over header":    {MinSize, Options{Metadata: [3]int64{64 << 10, 128 << 10, 1 << 20}}},
		"copy over start":     {MinSize, Options{Metadata: [3]int64{4 << 10, 512 << 10, 1 << 20}}},
		"copy behind the end": {MinSize, Options{Metadata: [3]int64{64 << 10, 512 << 10, MinSize - 512}}},
	} {
		if r, err := Layout(tt.size, tt.opts); err == nil {
			t.Errorf("%s: %v", name, r)
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	regions, err := Layout(MinSize, Options{})
	if err != nil {
		t.Fatal(err)
	}
	used := make([]byte, MinSize)
	used[regions[2].Off+5] = 1
	dst, err := os.Create(filepath.Join(t.TempDir(), "volume.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	for name, tt := range map[string]struct {
		clear []byte
		opts  Options
	}{
		"clear volume in use":  {used, Options{ClearKey: true}},
		"method":               {nil, Options{ClearKey: true, Method: 0x1234}},
		"recovery password":    {nil, Options{RecoveryPasswords: []string{"000001"}}},
		"random bytes run dry": {nil, Options{ClearKey: true, Rand: bytes.NewReader(make([]byte, 40))}},
		"part of a sector":     {nil, Options{ClearKey: true, EncryptedSize: 1000}},
		"more than there is":   {nil, Options{ClearKey: true, EncryptedSize: MinSize * 2}},
		"sector size":          {nil, Options{ClearKey: true, SectorSize: 1000}},
		"too many protectors":  {nil, Options{ClearKey: true, Description: string(make([]byte, 20000))}},
	} {
		if _, err := Format(dst, bytes.NewReader(tt.clear), MinSize, tt.opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestUsed leaves alone what the file system does not use.
func TestUsed(t *testing.T) {
	opts := Options{ClearKey: true, Used: func(off, n int64) bool {
		if n > 64<<10 {
			t.Errorf("asked for %d bytes at once", n)
		}
		return off < 1<<20
	}}
	content := clearVolume(t, MinSize, opts)
	f, res := format(t, content, opts)
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for off := int64(1 << 20); off < MinSize; off += 512 {
		own := false
		for _, r := range res.Regions {
			own = own || r.Off <= off && off < r.end()
		}
		if empty := firstNonZero(b[off:off+512]) < 0; !own && !empty {
			t.Fatalf("unused sector at offset %d is written", off)
		}
	}
	m, key := unlock(t, f, MinSize)
	checkPart(t, f, m, key, content[:1<<20])
}
