package wim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkAdd and BenchmarkWimlib add a file of the agent's size to the same WIM, which is as large as Microsoft's; the
// second is the peer.
func BenchmarkAdd(b *testing.B) {
	agent := noise(7<<20, 2)
	benchAdd(b, func(path string) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		w, err := Open(f, info.Size())
		if err != nil {
			return err
		}
		p, err := w.Add(context.Background(), 1, []Addition{{Path: "mend.exe", Data: bytes.NewReader(agent), Size: int64(len(agent))}}, time.Unix(1e9, 0))
		if err != nil {
			return err
		}
		return errors.Join(p.Commit(context.Background(), f), f.Close())
	})
}

func BenchmarkWimlib(b *testing.B) {
	agent := filepath.Join(b.TempDir(), "mend.exe")
	if err := os.WriteFile(agent, noise(7<<20, 2), 0o600); err != nil {
		b.Fatal(err)
	}
	benchAdd(b, func(path string) error {
		out, err := exec.Command("wimlib-imagex", "update", path, "1", "--command=add "+agent+" /mend.exe").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return exec.Command("sync", path).Run() // as Commit does
	})
}

func noise(size int, seed byte) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

// benchAdd changes a fresh copy of a WIM each time.
func benchAdd(b *testing.B, change func(path string) error) {
	if _, err := exec.LookPath("wimlib-imagex"); err != nil {
		b.Skip("wimlib-imagex is not installed")
	}
	dir := b.TempDir()
	tree, original, path := filepath.Join(dir, "tree"), filepath.Join(dir, "original.wim"), filepath.Join(dir, "boot.wim")
	data := append(noise(200<<10, 1), make([]byte, 200<<10)...)
	for i := range 1500 {
		copy(data, fmt.Sprintf("file %d", i))
		for at := 0; at < 200<<10; at += 32 << 10 { // no two chunks are equal
			copy(data[at:], fmt.Sprintf("file %d at %d", i, at))
		}
		name := filepath.Join(tree, "Windows", fmt.Sprint(i%40), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if out, err := exec.Command("wimlib-imagex", "capture", tree, original, "Windows PE", "--boot", "--compress=LZX").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		size, err := copyFile(path, original)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
		b.StartTimer()
		if err := change(path); err != nil {
			b.Fatal(err)
		}
	}
}

func copyFile(to, from string) (int64, error) {
	r, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	w, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, r)
	return n, errors.Join(err, w.Sync(), w.Close())
}
