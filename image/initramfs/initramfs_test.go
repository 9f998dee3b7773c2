package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/image/initramfs/modtable"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// makeModule makes an ELF file with a section .modinfo and one of section names, as relocatable modules
// have, and a signature behind.
func makeModule(t testing.TB, entries ...string) []byte {
	t.Helper()
	info := strings.Join(entries, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	header := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2, Shoff: uint64(64 + len(info) + len(names)),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC), Off: 64, Size: uint64(len(info))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(info)), Size: uint64(len(names))},
	}
	var b bytes.Buffer
	for _, part := range []any{header, []byte(info), []byte(names), sections} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	b.WriteString("~Module signature appended~\n")
	return b.Bytes()
}

func TestParseModule(t *testing.T) {
	info, err := ParseModule(makeModule(t,
		"license=GPL v2", "firmware=rtl_nic/rtl8125a-3.fw", "alias=pci:v000010ECd00008168sv*sd*bc*sc*i*", "alias=pci:v*",
		"softdep=pre: realtek a-b post: ecb", "depends=libphy,mdio-devres", "retpoline=Y", "name=r8169",
		"vermagic=6.12.0 SMP", "no value", ""))
	if err != nil {
		t.Fatal(err)
	}
	want := Modinfo{
		Name: "r8169", License: "GPL v2", Firmware: []string{"rtl_nic/rtl8125a-3.fw"},
		Alias:   []string{"pci:v000010ECd00008168sv*sd*bc*sc*i*", "pci:v*"},
		Depends: []string{"libphy", "mdio_devres"}, SoftPre: []string{"realtek", "a_b"}, SoftPost: []string{"ecb"},
	}
	if fmt.Sprintf("%+v", info) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", info, want)
	}
	for name, data := range map[string][]byte{
		"empty":      nil,
		"text":       []byte("not an ELF file"),
		"cut":        makeModule(t, "name=x")[:100],
		"no modinfo": bytes.Replace(makeModule(t, "name=x"), []byte(".modinfo"), []byte(".modinfx"), 1),
	} {
		if _, err := ParseModule(data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParseModule(f *testing.F) {
	f.Add(makeModule(f, "name=a", "depends=b,c", "softdep=pre: d post: e", "alias=pci:v*"))
	f.Add(makeModule(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := ParseModule(data)
		if err == nil && len(strings.Join(info.Alias, "")) > len(data) {
			t.Error("more aliases than input")
		}
	})
}

// tree is a small kernel: path → entries of .modinfo.
func tree(t testing.TB, files map[string][]string, builtin string) *Tree {
	t.Helper()
	var paths []string
	for p := range files {
		paths = append(paths, p)
	}
	tr, err := NewTree("6.12-test", paths, []byte(builtin), func(p string) ([]byte, error) {
		if files[p] == nil {
			return nil, errors.New("not there")
		}
		return makeModule(t, append(files[p], "name="+modtable.Name(p))...), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

var small = map[string][]string{
	"kernel/drivers/nvme/host/nvme.ko":      {"depends=nvme-core,nvme-auth", "alias=pci:v*d*sv*sd*bc01sc08i02*"},
	"kernel/drivers/nvme/host/nvme-core.ko": {"depends=nvme-auth"},
	"kernel/drivers/nvme/common/auth.ko":    {"depends="},
	"kernel/drivers/nvme/nvme-auth.ko":      {"depends="},
	"kernel/drivers/net/realtek/r8169.ko":   {"depends=libphy", "softdep=pre: realtek"},
	"kernel/drivers/net/realtek/8139.ko":    {"depends="},
	"kernel/drivers/net/phy/realtek.ko":     {"depends=libphy", "alias=mdio:with blank"},
	"kernel/drivers/net/phy/libphy.ko":      {"depends="},
	"kernel/fs/ntfs3/ntfs3.ko":              {"depends=", "alias=fs-ntfs3", "softdep=pre: missing"},
	"kernel/drivers/broken.ko":              {"depends=does-not-exist"},
	"kernel/drivers/circle/a.ko":            {"depends=b"},
	"kernel/drivers/circle/b.ko":            {"depends=a"},
}

func TestSelect(t *testing.T) {
	for _, test := range []struct{ list, want, builtin, missing, err string }{
		{list: "# only a comment\n\n"},
		{list: "nvme # with what it needs", want: "nvme nvme_core nvme_auth"},
		{list: "r8169", want: "libphy realtek r8169"},
		{list: "ntfs3 ecb vmd", want: "ntfs3", builtin: "ecb", missing: "vmd"},
		{list: "drivers/net/realtek/\n-8139", want: "libphy realtek r8169"},
		{list: "drivers/net/*/8*", want: "8139"},
		{list: "drivers/none/ drivers/nothing*", missing: "drivers/none/ drivers/nothing*"},
		{list: "nvme-core\n-nvme_core"},
		{list: "drivers/circle/", want: "a b"},
		{list: "\nbroken", err: "depends on does_not_exist"},
		{list: "\ndrivers/[", err: "line 2"},
	} {
		sel, err := tree(t, small, "kernel/crypto/ecb.ko\n").Select([]byte(test.list))
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q: error %v, want %q", test.list, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", test.list, err)
			continue
		}
		var got []string
		for _, m := range sel.Modules {
			got = append(got, m.Info.Name)
		}
		want := strings.Fields(test.want)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) || strings.Join(sel.Builtin, " ") != test.builtin || strings.Join(sel.Missing, " ") != test.missing {
			t.Errorf("%q: modules %v builtin %v missing %v", test.list, got, sel.Builtin, sel.Missing)
		}
	}
}

func TestNewTreeRefusesTwins(t *testing.T) {
	if _, err := NewTree("1", []string{"kernel/a/x-y.ko", "kernel/b/x_y.ko"}, nil, nil); err == nil {
		t.Error("two modules of one name were taken")
	}
}

// unpack reads an archive into name → content, "dir" for directories.
func unpack(t *testing.T, archive []byte) map[string]cpio.Record {
	t.Helper()
	files := map[string]cpio.Record{}
	if err := cpio.ForEachRecord(cpio.Newc.Reader(bytes.NewReader(archive)), func(r cpio.Record) error {
		files[r.Name] = r
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

func content(t *testing.T, files map[string]cpio.Record, name string) []byte {
	t.Helper()
	r, ok := files[name]
	if !ok {
		t.Fatalf("no %s in the archive", name)
	}
	data, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decompress(t *testing.T, data []byte) []byte {
	t.Helper()
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	plain, err := d.DecodeAll(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestModules(t *testing.T) {
	build := func() (base, network []byte, sel *Selection) {
		sel, err := tree(t, small, "kernel/crypto/ecb.ko\n").Select([]byte("nvme r8169 ntfs3"))
		if err != nil {
			t.Fatal(err)
		}
		if base, network, err = Modules(sel); err != nil {
			t.Fatal(err)
		}
		return base, network, sel
	}
	data, network, sel := build()
	if again, againNetwork, _ := build(); !bytes.Equal(data, again) || !bytes.Equal(network, againNetwork) {
		t.Error("the same selection gave other bytes")
	}
	if len(data)%512 != 0 || len(network)%512 != 0 {
		t.Errorf("lengths %d and %d are not multiples of 512", len(data), len(network))
	}
	files, cards := unpack(t, data), unpack(t, network)
	root := "lib/modules/6.12-test/"
	for _, m := range sel.Modules {
		files := files
		if strings.HasPrefix(m.Path, "kernel/drivers/net/") {
			files = cards
		}
		if got := decompress(t, content(t, files, root+m.Path+".zst")); !bytes.Equal(got, m.Data) {
			t.Errorf("%s came back changed", m.Path)
		}
	}
	for _, dir := range []string{"lib", "lib/modules/6.12-test/kernel/fs"} {
		if files[dir].Mode != cpio.S_IFDIR|0o755 {
			t.Errorf("%s has mode %o", dir, files[dir].Mode)
		}
	}

	// The tables are what the agent reads.
	tab, err := modtable.Parse(content(t, files, root+"modules.dep"), content(t, files, root+"modules.alias"),
		content(t, files, root+"modules.softdep"), content(t, files, root+"modules.builtin"))
	if err != nil {
		t.Fatal(err)
	}
	if got := tab.Match("pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02"); !slices.Equal(got, []string{"nvme"}) {
		t.Errorf("an NVMe disk asks for %v", got)
	}
	if got := tab.Match("fs-ntfs3"); !slices.Equal(got, []string{"ntfs3"}) {
		t.Errorf("fs-ntfs3 asks for %v", got)
	}
	if got := tab.Deps("nvme"); !slices.Equal(got, []string{"nvme_auth", "nvme_core", "nvme"}) {
		t.Errorf("nvme needs %v", got)
	}
	if got := tab.Deps("r8169"); !slices.Equal(got, []string{"libphy", "realtek", "r8169"}) {
		t.Errorf("r8169 needs %v", got)
	}
	if !tab.Builtin("ecb") {
		t.Error("ecb is not known as built in")
	}
	want := "kernel/drivers/nvme/host/nvme.ko.zst: kernel/drivers/nvme/host/nvme-core.ko.zst kernel/drivers/nvme/nvme-auth.ko.zst\n"
	if dep := string(content(t, files, root+"modules.dep")); !strings.Contains(dep, want) {
		t.Errorf("modules.dep:\n%s\nlacks\n%s", dep, want)
	}
}

func TestModulesRefusesNone(t *testing.T) {
	if _, _, err := Modules(&Selection{Version: "1"}); !errors.Is(err, ErrNoModules) {
		t.Errorf("error %v, want ErrNoModules", err)
	}
}

func TestAgent(t *testing.T) {
	program := append([]byte(elf.ELFMAG), bytes.Repeat([]byte("mend"), 1000)...)
	segment, err := Agent(program, File{Name: "etc/hello", Data: []byte("x")}, File{Name: "sbin/modprobe", Link: "/init"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Agent(program, File{Name: "sbin/modprobe", Link: "/init"}, File{Name: "etc/hello", Data: []byte("x")})
	if err != nil || !bytes.Equal(segment, again) {
		t.Errorf("the same files in other order gave other bytes, or error %v", err)
	}
	files := unpack(t, decompress(t, segment))
	if got := content(t, files, "init"); !bytes.Equal(got, program) || files["init"].Mode != cpio.S_IFREG|0o755 {
		t.Errorf("init: %d bytes, mode %o", len(got), files["init"].Mode)
	}
	if c := files["dev/console"]; c.Mode != cpio.S_IFCHR|0o600 || c.Rmajor != 5 || c.Rminor != 1 {
		t.Errorf("dev/console: mode %o, device %d:%d", c.Mode, c.Rmajor, c.Rminor)
	}
	for _, dir := range []string{"dev", "etc", "mnt", "proc", "run", "sbin", "sys", "tmp"} {
		if files[dir].Mode != cpio.S_IFDIR|0o755 {
			t.Errorf("%s has mode %o", dir, files[dir].Mode)
		}
	}
	if got := content(t, files, "sbin/modprobe"); string(got) != "/init" || files["sbin/modprobe"].Mode&cpio.S_IFLNK != cpio.S_IFLNK {
		t.Errorf("sbin/modprobe points to %q, mode %o", got, files["sbin/modprobe"].Mode)
	}

	for name, extra := range map[string]File{
		"not relative": {Name: "/etc/x"},
		"leads out":    {Name: "../x"},
		"twice":        {Name: "./init"},
		"empty":        {},
	} {
		if _, err := Agent(program, extra); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Agent([]byte("MZ")); err == nil {
		t.Error("a program that is not ELF was taken")
	}
}
