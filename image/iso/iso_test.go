package iso

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"github.com/diskfs/go-diskfs/partition/gpt"

	media "github.com/bootmend/bootmend/image"
)

func build(t testing.TB, spec media.Spec) (string, Info) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.iso")
	info, err := Write(context.Background(), path, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return path, info
}

func TestWrite(t *testing.T) {
	spec := testSpec(t)
	spec.Keys = media.Keys("KeyID,RecoveryKey\n")
	path, info := build(t, spec)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(data); info.SHA256 != hex.EncodeToString(sum[:]) || info.Size != int64(len(data)) {
		t.Errorf("Info %+v does not describe the file", info)
	}
	if !info.HasKeys || info.Label != "BOOTMEND" || len(info.MediaID) != 32 {
		t.Errorf("Info %+v", info)
	}
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("an image with keys is open to others: %v %v", stat.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("left beside the image: %v", left)
	}
}

// TestLibraryReads reads every file back with go-diskfs and compares it with the manifest.
func TestLibraryReads(t *testing.T) {
	path, info := build(t, testSpec(t))
	b, err := file.OpenFromPath(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	fsys, err := iso9660.Read(b, info.Size, 0, blockSize)
	if err != nil {
		t.Fatal(err)
	}
	data, err := fs.ReadFile(fsys, strings.TrimPrefix(media.PathManifest, "/"))
	if err != nil {
		t.Fatal(err)
	}
	checkManifest(t, data, info, func(path string) ([]byte, error) { return fs.ReadFile(fsys, path) })
}

func checkManifest(t *testing.T, data []byte, info Info, read func(path string) ([]byte, error)) {
	t.Helper()
	var m media.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if m.Media != info.MediaID || len(m.Files) != info.Files-1 {
		t.Errorf("manifest of media %s with %d files, built %+v", m.Media, len(m.Files), info)
	}
	for _, f := range m.Files {
		if f.Size == 0 {
			continue
		}
		got, err := read(strings.TrimPrefix(f.Path, "/"))
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
			continue
		}
		if sum := sha256.Sum256(got); int64(len(got)) != f.Size || hex.EncodeToString(sum[:]) != f.SHA256 {
			t.Errorf("%s: differs from the manifest", f.Path)
		}
	}
}

// TestXorrisoReads has xorriso, which knows every patch by name, describe the image and take it apart.
func TestXorrisoReads(t *testing.T) {
	spec := testSpec(t)
	for i := range 60 { // enough for directories of several blocks
		spec.Rules = append(spec.Rules, media.RulePack{Name: fmt.Sprintf("A rule with a name as long as names get %d.yml", i), Data: []byte("x")})
	}
	path, info := build(t, spec)
	report := run(t, "xorriso", "-indev", path, "-report_el_torito", "plain", "-report_system_area", "plain", "-pvd_info")
	for _, want := range []string{
		"El Torito , MBR protective-msdos-label grub2-mbr cyl-align-on GPT",
		"Volume id    : 'BOOTMEND'",
		"1  BIOS  y   none  0x0000  0x00      4",
		"2  UEFI  y   none  0x0000",
		"1  /boot/grub/eltorito.img",
		"2  /boot/efi.img",
		"boot-info-table grub2-boot-info",
		"GPT partition path :   1  /boot/efi.img",
		"GPT partname local :   1  BOOTMEND",
		"MBR partition      :   2   0x80  0x00            0            1",
		"Creation Time: 2024071905270000",
		"Modif. Time  : 2024071905270000",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("xorriso does not report %q:\n%s", want, report)
		}
	}
	if strings.Contains(report, "WARNING") || strings.Contains(report, "SORRY") || strings.Contains(report, "FAILURE") {
		t.Errorf("xorriso complains:\n%s", report)
	}
	out := t.TempDir()
	run(t, "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", out+"/x")
	t.Cleanup(func() { // directories come out read-only
		_ = filepath.WalkDir(out, func(p string, _ fs.DirEntry, _ error) error { return os.Chmod(p, 0o700) })
	})
	data, err := os.ReadFile(filepath.Join(out, "x", media.PathManifest))
	if err != nil {
		t.Fatal(err)
	}
	checkManifest(t, data, info, func(p string) ([]byte, error) { return os.ReadFile(filepath.Join(out, "x", p)) })
}

// TestDirectoryOrder reads the records with no library: names must ascend (ECMA-119 section 9.3), dates be the
// spec's, and no record may cross a block.
func TestDirectoryOrder(t *testing.T) {
	spec := testSpec(t)
	for i := range 40 {
		spec.Rules = append(spec.Rules, media.RulePack{Name: fmt.Sprintf("z%d", 40-i), Data: []byte("x")})
	}
	path, _ := build(t, spec)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(block, size uint32)
	seen := 0
	walk = func(block, size uint32) {
		dir := data[int64(block)*blockSize:][:size]
		var last []byte
		for at := 0; at < len(dir); {
			n := int(dir[at])
			if n == 0 {
				at = (at/blockSize + 1) * blockSize
				continue
			}
			if at/blockSize != (at+n-1)/blockSize {
				t.Errorf("record at byte %d crosses a block", at)
			}
			rec := dir[at : at+n]
			id := identifier(rec)
			if !bytes.Equal(rec[18:25], []byte{124, 7, 19, 5, 27, 0, 0}) {
				t.Errorf("record %q: date % x", id, rec[18:25])
			}
			if last != nil && bytes.Compare(last, id) >= 0 {
				t.Errorf("record %q follows %q", id, last)
			}
			if rec[25]&2 != 0 && id[0] > 1 {
				walk(le32(rec[2:]), le32(rec[10:]))
			}
			last, at, seen = id, at+n, seen+1
		}
	}
	root := data[pvdBlock*blockSize+156:]
	walk(le32(root[2:]), le32(root[10:]))
	if seen < 60 {
		t.Errorf("%d records", seen)
	}
}

func TestPartitionTable(t *testing.T) {
	path, info := build(t, testSpec(t))
	if out := run(t, "sgdisk", "-v", path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	b, err := file.OpenFromPath(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	table, err := gpt.Read(b, sectorSize, sectorSize)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Partitions) != 1 || table.Partitions[0].Type != gpt.EFISystemPartition {
		t.Fatalf("partitions %+v", table.Partitions)
	}
	esp := table.Partitions[0]
	name := filepath.Join(t.TempDir(), "esp.img")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data[esp.Start*sectorSize:(esp.End+1)*sectorSize], 0o600); err != nil {
		t.Fatal(err)
	}
	fsck := run(t, "fsck.fat", "-n", "-v", name)
	if strings.Contains(fsck, "wrong") || strings.Contains(fsck, "differences") {
		t.Errorf("fsck.fat: %s", fsck)
	}
	listing := run(t, "mdir", "-/", "-b", "-i", name, "::")
	for _, want := range []string{"::/EFI/BOOT/BOOTX64.EFI", "::/EFI/BOOT/grubx64.efi", "::/boot/grub/grub.cfg", "::/bootmend/logs/", "::/README.txt"} {
		if !strings.Contains(listing, want) {
			t.Errorf("no %s on the ESP:\n%s", want, listing)
		}
	}
	if free := run(t, "minfo", "-i", name, "::"); free == "" {
		t.Error("minfo says nothing")
	}
	cfg := run(t, "mtype", "-i", name, "::/boot/grub/grub.cfg")
	if !strings.Contains(cfg, "bootmend.media="+info.MediaID) || strings.Contains(cfg, "@") {
		t.Errorf("GRUB's configuration:\n%s", cfg)
	}
}

// TestBootSector follows the chain that a BIOS follows on a stick: boot sector, diskboot, list of blocks.
func TestBootSector(t *testing.T) {
	spec := testSpec(t)
	path, _ := build(t, spec)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := spec.Tree(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	f, _ := tree.Find(media.PathElTorito)
	want := content(t, f)
	le := binary.LittleEndian
	second := le.Uint64(data[grubBootSector:]) * sectorSize
	if !bytes.Equal(data[second:second+400], want[2048:2448]) {
		t.Error("the boot sector does not lead to the second half of the BIOS image")
	}
	if rest := le.Uint64(data[second+500:]) * sectorSize; rest != second+sectorSize {
		t.Errorf("the list of blocks leads to byte %d, not %d", rest, second+sectorSize)
	}
	if !bytes.Equal(data[:grubBootSector], tree.BootHybrid[:grubBootSector]) || data[510] != 0x55 || data[511] != 0xaa {
		t.Error("no boot code in the boot sector")
	}
}

func TestReproducible(t *testing.T) {
	spec := testSpec(t)
	_, one := build(t, spec)
	t.Setenv("TZ", "Pacific/Auckland")
	time.Sleep(1100 * time.Millisecond) // the formats' dates have seconds
	_, two := build(t, spec)
	if one.SHA256 != two.SHA256 || one.MediaID != two.MediaID {
		t.Errorf("two builds differ: %+v %+v", one, two)
	}
	spec.Time = spec.Time.Add(time.Second)
	if _, three := build(t, spec); three.MediaID == one.MediaID {
		t.Error("another date has the same media number")
	}
	spec = testSpec(t)
	spec.Config = []byte("dry_run: true\n")
	if _, four := build(t, spec); four.MediaID == one.MediaID {
		t.Error("another configuration has the same media number")
	}
}

func TestProgress(t *testing.T) {
	var last, total int64
	path := filepath.Join(t.TempDir(), "out.iso")
	info, err := Write(context.Background(), path, testSpec(t), func(done, all int64) {
		if done < last {
			t.Errorf("progress went from %d to %d", last, done)
		}
		last, total = done, all
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != info.Size || total != info.Size {
		t.Errorf("progress ended at %d of %d, image has %d bytes", last, total, info.Size)
	}
}

// untouched checks that a failed build left an older image alone and nothing else.
func untouched(t *testing.T, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "older" {
		t.Errorf("the older image is now %d bytes: %v", len(got), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func older(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.iso")
	if err := os.WriteFile(path, []byte("older"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCancel(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	path := older(t)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Write(ctx, path, benchSpec(t), func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nothing was left behind") {
		t.Errorf("got %v", err)
	}
	untouched(t, path)
	_, err = Write(ctx, path, testSpec(t), nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before the start: %v", err)
	}
	untouched(t, path)
	if left, _ := os.ReadDir(temp); len(left) != 0 {
		t.Errorf("left among the temporary files: %v", left)
	}
}

func TestOutputPath(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct{ name, path, want string }{
		{"folder", dir, "name a file in it"},
		{"no folder", filepath.Join(dir, "none", "out.iso"), "choose a folder that exists"},
		{"file as folder", filepath.Join(older(t), "out.iso"), "choose a folder that exists"},
		{"device", os.DevNull, "is a device"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Write(context.Background(), tc.path, testSpec(t), nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.path) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBadBundle(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*media.Spec)
		want string
	}{
		{"no bundle", func(s *media.Spec) { s.Bundle = nil }, "boot bundle"},
		{"no agent", func(s *media.Spec) { s.Agent = media.File{} }, "agent"},
		{"no configuration of GRUB", func(s *media.Spec) { s.GrubConfig = nil }, "GRUB"},
		{"kernel arguments", func(s *media.Spec) { s.KernelArgs = "a; reboot" }, "leave it out"},
		{"short BIOS image", func(s *media.Spec) { s.Bundle = without(s.Bundle, "bios/eltorito.img", []byte("short")) }, "BIOS boot image"},
		{"short boot sector", func(s *media.Spec) { s.Bundle = without(s.Bundle, "bios/boot_hybrid.img", []byte("short")) }, "boot sector"},
		{"missing kernel", func(s *media.Spec) { s.Bundle = without(s.Bundle, "vmlinuz", nil) }, "vmlinuz"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec, path := testSpec(t), older(t)
			tc.edit(&spec)
			_, err := Write(context.Background(), path, spec, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			untouched(t, path)
		})
	}
}

func TestKeysStayOut(t *testing.T) {
	spec := testSpec(t)
	spec.Keys = media.Keys("3B4E-SECRET")
	js, err := json.Marshal(spec.Keys)
	if err != nil {
		t.Fatal(err)
	}
	spec.Bundle = nil
	for _, s := range []string{fmt.Sprint(spec), fmt.Sprintf("%+v %#v %x %s", spec, spec, spec.Keys, spec.Keys), string(js)} {
		if strings.Contains(s, "SECRET") || strings.Contains(s, hex.EncodeToString([]byte("SECRET"))) || strings.Contains(s, "0x53, 0x45, 0x43") {
			t.Errorf("keys in %q", s)
		}
	}
}

func TestMemory(t *testing.T) {
	m := newMemory(3 * blockSize)
	want := make([]byte, 3*blockSize)
	for _, w := range []struct {
		off  int64
		data []byte
	}{{10, []byte("abc")}, {blockSize - 1, []byte("xyz")}, {blockSize, []byte{0, 0}}, {2 * blockSize, make([]byte, blockSize)}} {
		if _, err := m.WriteAt(w.data, w.off); err != nil {
			t.Fatal(err)
		}
		copy(want[w.off:], w.data)
	}
	got := make([]byte, len(want))
	if n, err := m.ReadAt(got, 0); err != nil || n != len(got) || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v, equal %v", n, err, bytes.Equal(got, want))
	}
	if len(m.blocks) != 2 {
		t.Errorf("%d blocks kept, want 2", len(m.blocks))
	}
	if _, err := m.WriteAt([]byte{1}, m.size); err == nil {
		t.Error("a write past the end worked")
	}
}

// FuzzNormalise: whatever the directories hold, an error and no panic.
func FuzzNormalise(f *testing.F) {
	spec := testSpec(f)
	tree, err := spec.Tree(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	good, err := lay(tree)
	if err != nil {
		f.Fatal(err)
	}
	if _, _, err := place(good, tree); err != nil {
		f.Fatal(err)
	}
	head := make([]byte, 30*blockSize)
	if _, err := good.ReadAt(head, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(19*blockSize), []byte{0xff})
	f.Add(uint32(19*blockSize+40), []byte("CE\x1c\x01"))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		m := newMemory(good.size)
		data := slices.Clone(head)
		copy(data[at%uint32(len(data)):], patch)
		if _, err := m.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if extents, _, err := place(m, tree); err == nil {
			_ = normalise(m, tree, extents)
		}
	})
}
