package iso

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	media "github.com/bootmend/bootmend/image"
)

// BenchmarkWrite and BenchmarkXorriso make the same image; the second is the peer.
func BenchmarkWrite(b *testing.B) {
	spec := benchSpec(b)
	path := filepath.Join(b.TempDir(), "out.iso")
	b.ReportAllocs()
	for b.Loop() {
		remove(b, path)
		info, err := Write(context.Background(), path, spec, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(info.Size)
	}
}

func BenchmarkXorriso(b *testing.B) {
	xorriso, err := exec.LookPath("xorriso")
	if err != nil {
		b.Skip("xorriso is not installed")
	}
	spec := benchSpec(b)
	tree, err := spec.Tree(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	dir, path := b.TempDir(), filepath.Join(b.TempDir(), "out.iso")
	extract(b, tree, dir)
	hybrid := filepath.Join(b.TempDir(), "boot_hybrid.img")
	if err := os.WriteFile(hybrid, tree.BootHybrid, 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		remove(b, path)
		cmd := exec.Command(xorriso, "-as", "mkisofs", "-quiet", "-r", "-V", tree.Label,
			"-b", media.PathElTorito[1:], "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info",
			"--grub2-mbr", hybrid, "-eltorito-alt-boot", "-e", media.PathESP[1:], "-no-emul-boot", "-isohybrid-gpt-basdat",
			"-o", path, dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(info.Size())
	}
}

// remove lets each round begin without a file, outside of what is measured.
func remove(b *testing.B, path string) {
	b.StopTimer()
	_ = os.Remove(path)
	b.StartTimer()
}
