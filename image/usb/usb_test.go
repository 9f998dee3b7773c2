package usb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/flash"
)

func linux(t testing.TB) *media.Tree {
	t.Helper()
	tree, err := testSpec(t).StickTree(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// windowsPE is a stick with Windows PE and the boot manager given.
func windowsPE(t testing.TB, spec media.Spec, manager string) *media.Tree {
	t.Helper()
	tree, err := spec.WindowsPEStickTree(context.Background(), media.WindowsPE{Boot: []media.File{
		media.FromBytes("/Boot/BCD", []byte("store")), media.FromBytes(manager, noise(40_000, 8)), media.FromBytes("/EFI/Boot/bootx64.efi", noise(10_000, 9)),
		media.FromBytes("/sources/boot.wim", noise(300_000, 10)),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func planned(t testing.TB, d Device) (*media.Tree, *Layout) {
	t.Helper()
	tree := linux(t)
	l, err := Plan(tree, d)
	if err != nil {
		t.Fatal(err)
	}
	return tree, l
}

// store writes a source into a new file as a program that flashes does: its extents, and nothing else.
func store(t testing.TB, s flash.Source, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(s.Size()); err != nil {
		t.Fatal(err)
	}
	end := int64(0)
	for _, e := range s.Extents() {
		if e.Off < end || e.Len <= 0 || e.Off%4096 != 0 || e.Off+e.Len > s.Size() || e.Len%4096 != 0 && e.Off+e.Len != s.Size() {
			t.Fatalf("extents %v of %d bytes", s.Extents(), s.Size())
		}
		end = e.Off + e.Len
		if _, err := io.Copy(io.NewOffsetWriter(f, e.Off), io.NewSectionReader(s, e.Off, e.Len)); err != nil {
			t.Fatal(err)
		}
	}
}

// partition copies the partition out of an image, sparse, for tools that know no offset.
func partitionFile(t testing.TB, l *Layout) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "part.fat")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := io.Copy(f, io.NewSectionReader(l.volume, 0, l.volume.End())); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(l.volume.Size()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSizes lays the stick out for devices as they are sold and for odd ones, and lets other people's tools check it.
func TestSizes(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	sizes := []int64{MinSize, 256_000_000, 256 * mib, 259 * mib, 260 * mib, 262 * mib, 263*mib + 512, 300 * mib, 500_107_776, 512 * mib, 1000 * mib,
		1_000_000_000 / 512 * 512, 4 * gib, 7_751_073_792, 8*gib + 512, 16_008_609_792, 32*gib - 512, 64 * gib, 2048 * gib}
	if testing.Short() {
		sizes = []int64{MinSize, 256_000_000, 263*mib + 512, 7_751_073_792, 64 * gib}
	}
	for _, size := range sizes {
		for _, sector := range []int{512, 4096} {
			t.Run(fmt.Sprintf("%d-%d", size, sector), func(t *testing.T) {
				tree, err := testSpec(t).StickTree(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				l, err := Plan(tree, Device{Size: size, SectorSize: sector})
				if sector == 4096 && (size%4096 != 0 || size < 259*mib) {
					if err == nil {
						t.Error("a size was taken that sectors of 4096 bytes do not allow")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				part := partitionFile(t, l)
				out := run(t, "fsck.fat", "-n", "-v", part)
				for _, bad := range []string{"Free cluster summary wrong", "dirty bit", "differences", "arning", "Leaving"} {
					if strings.Contains(out, bad) {
						t.Errorf("fsck.fat:\n%s", out)
					}
				}
				if got := run(t, "mtype", "-i", part, "::/bootmend/media.id"); got != tree.ID+"\n" {
					t.Errorf("mtools reads the number %q", got)
				}
				image := filepath.Join(t.TempDir(), "stick.img")
				store(t, l, image)
				checkTable(t, image, sector, l)
				if l.volume.Size() < size-3*mib && size < 2048*gib {
					t.Errorf("the partition has %d of %d bytes", l.volume.Size(), size)
				}
			})
		}
	}
}

// checkTable reads the partition table with go-diskfs and, where they know the sector size, with sgdisk and sfdisk.
func checkTable(t *testing.T, image string, sector int, l *Layout) {
	t.Helper()
	b, err := file.OpenFromPath(image, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	table, err := gpt.Read(b, sector, sector)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Partitions) != 1 || table.Partitions[0].Name != "BOOTMEND" || table.RecoveredFromBackup {
		t.Errorf("go-diskfs reads %+v", table)
	}
	if sector != 512 {
		return // both ask the kernel for the size of sectors, and a file has none
	}
	if out := run(t, "sgdisk", "--verify", image); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk:\n%s", out)
	}
	out := run(t, "sfdisk", "--verify", "--dump", image)
	if want := fmt.Sprintf("start=        2048, size=%12d, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", l.volume.Size()/512); !strings.Contains(out, want) {
		t.Errorf("sfdisk does not show %q:\n%s", want, out)
	}
}

// TestWindowsPE: a stick with Windows PE has an MBR, as the boot manager for a BIOS wants it, and GRUB only where there is
// such a boot manager and a bundle that has GRUB.
func TestWindowsPE(t *testing.T) {
	bare := testSpec(t)
	bare.Bundle = nil
	for _, test := range []struct {
		name, manager string
		spec          media.Spec
		bios          bool
	}{
		{"both", "/bootmgr", testSpec(t), true},
		{"no manager for BIOS", "/bootmgr.efi", testSpec(t), false},
		{"no bundle", "/bootmgr", bare, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := windowsPE(t, test.spec, test.manager)
			for _, d := range []Device{{Size: MinSize}, {Size: 8 << 30}, {Size: 8 << 30, SectorSize: 4096}} {
				l, err := Plan(tree, d)
				if err != nil {
					t.Fatal(err)
				}
				run(t, "fsck.fat", "-n", partitionFile(t, l))
				head := make([]byte, 4096)
				if _, err := l.ReadAt(head, 0); err != nil {
					t.Fatal(err)
				}
				starts := test.bios && d.SectorSize == 0
				if code := !isZero(head[:mbrCode]); code != starts {
					t.Errorf("%+v: boot code: %t", d, code)
				}
				if !isZero(head[512:]) {
					t.Errorf("%+v: there is something behind the MBR", d)
				}
				core := make([]byte, 64<<10)
				if _, err := l.ReadAt(core, coreOffset+2*sectorSize); err != nil {
					t.Fatal(err)
				}
				if there := len(tree.Core) > 0 && bytes.Equal(core, tree.Core[cdBoot+2*sectorSize:][:len(core)]); there != starts {
					t.Errorf("%+v: GRUB's image: %t", d, there)
				}
				if d.SectorSize == 4096 {
					continue // sfdisk asks the kernel for the size of sectors, and a file has none
				}
				image := filepath.Join(t.TempDir(), "stick.img")
				store(t, l, image)
				want := fmt.Sprintf("start=        2048, size=%12d, type=c, bootable", l.volume.Size()/512)
				if out := run(t, "sfdisk", "--verify", "--dump", image); !strings.Contains(out, "label: dos") || !strings.Contains(out, want) {
					t.Errorf("sfdisk does not show %q:\n%s", want, out)
				}
			}
			_, ok := tree.Find(media.PathGrubConfig)
			if ok != test.bios {
				t.Errorf("GRUB's menu: %t", ok)
			}
			if _, notice := tree.Find(media.PathNotice); notice != ok {
				t.Errorf("licences: %t", notice)
			}
		})
	}
}

// TestForeignMBR: a stick that is not ours, FAT32 or damaged, is no stick, and no error.
func TestForeignMBR(t *testing.T) {
	l, err := Plan(windowsPE(t, testSpec(t), "/bootmgr"), Device{Size: MinSize})
	if err != nil {
		t.Fatal(err)
	}
	for name, label := range map[string]string{"another": "OTHER      ", "ours": "BOOTMEND   "} {
		head := make([]byte, 2<<20)
		if _, err := l.ReadAt(head, 0); err != nil {
			t.Fatal(err)
		}
		copy(head[partitionOffset+71:], label)
		head[partitionOffset+13] = 3 // sectors of a cluster
		if _, err := Open(edited{l, head, nil}, MinSize); err == nil || errors.Is(err, ErrNoStick) != (name == "another") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLibraryReads reads the files back with go-diskfs.
func TestLibraryReads(t *testing.T) {
	tree, l := planned(t, Device{Size: 1 << 30})
	b, err := file.OpenFromPath(partitionFile(t, l), true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	fsys, err := fat32.Read(b, l.volume.Size(), 0, 512)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tree.Files {
		if f.Size == 0 {
			continue // go-diskfs looks for its first cluster
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := fs.ReadFile(fsys, f.Path[1:])
		// go-diskfs goes on reading up to the end of the cluster.
		if err != nil || !bytes.Equal(got[:min(int64(len(got)), f.Size)], want) {
			t.Errorf("%s differs (%v)", f.Path, err)
		}
	}
}

// TestGrow: an image is laid out for larger devices as its ingredients would be, and for its own size as it is.
func TestGrow(t *testing.T) {
	for name, tree := range map[string]*media.Tree{
		"linux": linux(t), "Windows PE": windowsPE(t, testSpec(t), "/BOOTMGR"), "Windows PE, UEFI only": windowsPE(t, testSpec(t), "/bootmgr.efi"),
	} {
		t.Run(name, func(t *testing.T) { testGrow(t, tree) })
	}
}

func testGrow(t *testing.T, tree *media.Tree) {
	small, err := Plan(tree, Device{Size: MinSize})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "stick.img")
	store(t, small, path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s, err := Open(f, MinSize)
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != tree.ID || len(s.Files) != len(tree.Files) || s.SectorSize != 512 {
		t.Errorf("opened %s with %d files", s.ID, len(s.Files))
	}
	for _, d := range []Device{{Size: MinSize}, {Size: 1 << 30}, {Size: 7_751_073_792}, {Size: 64 << 30}, {Size: 8 << 30, VolumeSize: 1 << 30}, {Size: 8 << 30, SectorSize: 4096}} {
		fresh, err := Plan(tree, d)
		if err != nil {
			t.Fatal(err)
		}
		grown, err := s.Fit(d)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(fresh.Extents()) != fmt.Sprint(grown.Extents()) || fresh.Size() != grown.Size() {
			t.Fatalf("%+v: extents %v, want %v", d, grown.Extents(), fresh.Extents())
		}
		for _, e := range fresh.Extents() {
			one, two := make([]byte, e.Len), make([]byte, e.Len)
			if _, err := fresh.ReadAt(one, e.Off); err != nil {
				t.Fatal(err)
			}
			if _, err := grown.ReadAt(two, e.Off); err != nil || !bytes.Equal(one, two) {
				t.Errorf("%+v: the extent at %d differs (%v)", d, e.Off, err)
			}
		}
		if d.VolumeSize != 0 && grown.volume.Size() != d.VolumeSize {
			t.Errorf("%+v: volume of %d bytes", d, grown.volume.Size())
		}
	}
}

// TestUsedDevice: on a device full of other data the extents are all that is needed.
func TestUsedDevice(t *testing.T) {
	_, l := planned(t, Device{Size: MinSize})
	path := filepath.Join(t.TempDir(), "stick.img")
	junk, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(junk, junkReader{}, MinSize); err != nil {
		t.Fatal(err)
	}
	if err := junk.Close(); err != nil {
		t.Fatal(err)
	}
	store(t, l, path)
	checkTable(t, path, 512, l)
	part := filepath.Join(t.TempDir(), "part")
	run(t, "dd", "if="+path, "of="+part, "bs=1M", "skip=1", fmt.Sprintf("count=%d", l.volume.Size()>>20), "status=none")
	run(t, "fsck.fat", "-n", part)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if s, err := Open(f, MinSize); err != nil || len(s.Files) == 0 {
		t.Errorf("opened with %v", err)
	}
}

type junkReader struct{}

func (junkReader) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("junk"), len(p)/4+1)), nil
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	var sums [2][sha256.Size]byte
	for i := range sums {
		path := filepath.Join(dir, fmt.Sprint(i))
		var last, total int64
		info, err := Write(ctx, path, testSpec(t), 0, func(done, of int64) {
			if done < last {
				t.Errorf("progress went from %d to %d", last, done)
			}
			last, total = done, of
		})
		if err != nil {
			t.Fatal(err)
		}
		if last != total || info.Size != MinSize || info.Written == 0 || info.Written > 8<<20 {
			t.Errorf("progress ended at %d of %d; %+v", last, total, info)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(data)
	}
	if sums[0] != sums[1] {
		t.Error("two builds differ")
	}
	if blocks := run(t, "du", "-k", filepath.Join(dir, "0")); len(strings.Fields(blocks)[0]) > 4 {
		t.Errorf("not sparse: %s", blocks)
	}
	// What does not fit leaves nothing.
	big := testSpec(t)
	big.Agent = media.FromBytes("", make([]byte, 250<<20))
	if _, err := Write(ctx, filepath.Join(dir, "big"), big, MinSize, nil); !errors.Is(err, ErrTooSmall) {
		t.Errorf("too large: %v", err)
	}
	if info, err := Write(ctx, filepath.Join(dir, "larger"), big, 0, nil); err != nil || info.Size < 282<<20 {
		t.Errorf("a size for what does not fit 256 MB: %+v, %v", info, err)
	}
	_ = os.Remove(filepath.Join(dir, "larger"))
	stopped, cancel := context.WithCancel(ctx)
	if _, err := Write(stopped, filepath.Join(dir, "stopped"), testSpec(t), 0, func(int64, int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestBootCode: the MBR names the sector where GRUB's code lies, and that the one after it.
func TestBootCode(t *testing.T) {
	tree, l := planned(t, Device{Size: 1 << 30})
	head := make([]byte, 4<<20)
	if _, err := l.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(head[:bootSector], tree.BootHybrid[:bootSector]) || head[446+16] != 0x80 || head[446] != 0 {
		t.Error("the MBR is not GRUB's, or no entry is active, or the wrong one")
	}
	core := head[le64(head[bootSector:])*512:]
	if le64(core[blockList:])*512 != uint64(coreOffset+512) || core[partition+2] != 0 {
		t.Error("GRUB's image does not know where it lies")
	}
	if want := tree.Core[2048+1024:]; !bytes.Equal(core[1024:1024+len(want)], want) {
		t.Error("GRUB's image differs behind its first sectors")
	}
	for name, edit := range map[string]func(*media.Tree){
		"short MBR":       func(t *media.Tree) { t.BootHybrid = t.BootHybrid[:100] },
		"short image":     func(t *media.Tree) { t.Core = t.Core[:3000] },
		"other partition": func(t *media.Tree) { t.Core[2048+partition] = 1 },
		"long list":       func(t *media.Tree) { t.Core[2048+blockList+9] = 0xff },
	} {
		tree, err := testSpec(t).StickTree(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		tree.Core = bytes.Clone(tree.Core)
		edit(tree)
		if _, err := Plan(tree, Device{Size: 1 << 30}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestDeviceRefused(t *testing.T) {
	tree, _ := planned(t, Device{Size: MinSize})
	for want, d := range map[string]Device{
		"use a larger stick":             {Size: MinSize - 512},
		"round it down":                  {Size: MinSize + 5},
		"512 and 4096":                   {Size: 1 << 30, SectorSize: 2048},
		"too small or too large: choose": {Size: 256 << 20, SectorSize: 4096},
		"stick of 1073 MB: no FAT32 ":    {Size: 1 << 30, VolumeSize: 40 << 20},
	} {
		if _, err := Plan(tree, d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", d, err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, b := range map[string][]byte{"empty": nil, "zeros": make([]byte, 1<<20), "noise": noise(1<<20, 4)} {
		if _, err := Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrNoStick) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen: whatever the first and last bytes, Open ends without panic, and so does laying the stick out again.
func FuzzOpen(f *testing.F) {
	_, l := planned(f, Device{Size: MinSize})
	head, end := make([]byte, 20<<10), make([]byte, 40<<10)
	for b, off := range map[*[]byte]int64{&head: 0, &end: MinSize - 40<<10} {
		if _, err := l.ReadAt(*b, off); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(head, end)
	mbr := bytes.Clone(head)
	if l, err := Plan(windowsPE(f, testSpec(f), "/bootmgr"), Device{Size: MinSize}); err != nil {
		f.Fatal(err)
	} else if _, err := l.ReadAt(mbr, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(mbr, make([]byte, len(end)))
	f.Fuzz(func(t *testing.T, head, end []byte) {
		s, err := Open(edited{l, head, end}, MinSize)
		if err != nil {
			return
		}
		if l, err := s.Layout(1 << 30); err == nil {
			_, _ = l.ReadAt(make([]byte, 4096), 1<<20)
		}
	})
}

// edited is a stick with other bytes at its ends.
type edited struct {
	*Layout
	head, end []byte
}

func (e edited) ReadAt(p []byte, off int64) (int, error) {
	n, err := e.Layout.ReadAt(p, off)
	if off < int64(len(e.head)) {
		copy(p, e.head[off:])
	}
	if from := MinSize - int64(len(e.end)); off >= from && off < MinSize {
		copy(p[:n], e.end[off-from:])
	}
	return n, err
}

// run runs another program and returns what it prints; the test is skipped where it is not installed.
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
