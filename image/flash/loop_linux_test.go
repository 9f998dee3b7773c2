package flash_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bootmend/bootmend/image/flash"
	"github.com/bootmend/bootmend/image/flash/device"
	"github.com/bootmend/bootmend/image/flash/flashtest"
)

// openStick attaches a file or faulty disk and opens it as the command does.
func openStick(t *testing.T, path string) *device.Disk {
	t.Helper()
	dev, detach, err := flashtest.Attach(path)
	if err != nil {
		t.Skipf("loop devices need root: %v", err)
	}
	t.Cleanup(func() {
		if err := detach(); err != nil {
			t.Error(err)
		}
	})
	list, err := device.List(dev)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(d device.Device) bool { return d.Path == dev })
	if i < 0 {
		t.Fatalf("%s is not in the list %v", dev, list)
	}
	disk, err := device.Open(list[i], false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	return disk
}

func serve(t testing.TB, f *flashtest.Faulty, dir string) string {
	t.Helper()
	path, err := f.Mount(dir)
	if err != nil {
		t.Skipf("serving a disk from memory needs root and FUSE: %v", err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return path
}

func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stick")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDevices writes block devices of all kinds at once, most of them bad, and looks at the good one.
func TestDevices(t *testing.T) {
	data := make([]byte, 24<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	full := t.TempDir()
	if err := mountTmpfs(t, full, "size=8m"); err != nil {
		t.Skipf("mounting a small file system needs root: %v", err)
	}
	onFull := filepath.Join(full, "stick")
	if err := os.WriteFile(onFull, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(onFull, 32<<20); err != nil {
		t.Fatal(err)
	}
	good := sparse(t, 40<<20)
	pulled := &flashtest.Faulty{Size: 32 << 20}
	dies := &flashtest.Faulty{Size: 32 << 20, DieAt: 12<<20 + 5000}
	cases := []struct {
		name, path string
		state      flash.State
		want       string
	}{
		{"good", good, flash.Good, ""},
		{"dies", serve(t, dies, t.TempDir()), flash.Bad, "input/output error"},
		{"pulled", serve(t, pulled, t.TempDir()), flash.Bad, "input/output error"},
		{"flips", serve(t, &flashtest.Faulty{Size: 32 << 20, FlipAt: 20<<20 + 3}, t.TempDir()), flash.Bad, "returns other bytes than were written, at byte 20971523"},
		{"forged", serve(t, &flashtest.Faulty{Size: 4 << 30, Real: 32 << 20}, t.TempDir()), flash.Bad, "lies about its capacity"},
		{"forged, wraps", serve(t, &flashtest.Faulty{Size: 4 << 30, Real: 64 << 20, Wraps: true}, t.TempDir()), flash.Bad, "lies about its capacity"},
		{"on a full disk", onFull, flash.Bad, "cannot be written at byte"},
		{"too small", sparse(t, 23<<20), flash.Failed, "too small"},
	}
	var targets []flash.Target
	for _, c := range cases {
		targets = append(targets, openStick(t, c.path))
	}
	var once sync.Once
	results := flash.Write(context.Background(), flash.Plain(bytes.NewReader(data), int64(len(data))), targets, func(i int, s flash.Status) {
		if cases[i].name == "pulled" && s.State == flash.Writing && s.Done > 8<<20 {
			once.Do(pulled.Unplug)
		}
	})
	for i, c := range cases {
		r := results[i]
		t.Logf("%s: %s: %v", c.name, r.State(), r.Err)
		if r.State() != c.state || r.Err != nil && !strings.Contains(r.Err.Error(), c.want) {
			t.Errorf("%s: %s, %v, want %s, %s", c.name, r.State(), r.Err, c.state, c.want)
		}
	}
	for _, f := range []*flashtest.Faulty{dies, pulled} {
		head := make([]byte, 512)
		if _, err := f.ReadAt(head, 0); err != nil || !bytes.Equal(head, make([]byte, 512)) {
			t.Error("a bad stick has a partition table")
		}
	}
	got, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:len(data)], data) {
		t.Error("the good stick holds something else")
	}
}

// TestOpenExchanged is a device that someone else has opened, or that is another one than was listed.
func TestOpenExchanged(t *testing.T) {
	disk := openStick(t, sparse(t, 16<<20))
	if _, err := device.Open(disk.Device(), false); !errors.Is(err, device.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	d := disk.Device()
	_ = disk.Close()
	d.Instance += "0"
	if _, err := device.Open(d, false); !errors.Is(err, device.ErrExchanged) {
		t.Errorf("another stick is opened: %v", err)
	}
}
