package modtable

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Lines as depmod writes them for Debian's kernel.
const (
	depText = `kernel/drivers/nvme/host/nvme.ko.zst: kernel/drivers/nvme/host/nvme-core.ko.zst kernel/drivers/nvme/common/nvme-auth.ko.zst
kernel/drivers/nvme/host/nvme-core.ko.zst: kernel/drivers/nvme/common/nvme-auth.ko.zst
kernel/drivers/nvme/common/nvme-auth.ko.zst:
kernel/drivers/net/ethernet/realtek/r8169.ko.zst: kernel/drivers/net/phy/libphy.ko.zst
kernel/drivers/net/phy/realtek.ko.zst: kernel/drivers/net/phy/libphy.ko.zst
kernel/drivers/net/phy/libphy.ko.zst:
kernel/crypto/xts.ko.zst:
kernel/drivers/mfd/intel-lpss.ko.zst:
kernel/drivers/dma/idma64.ko.zst:
kernel/drivers/md/dm-crypt.ko.zst:
kernel/drivers/usb/storage/uas.ko.zst:
kernel/drivers/usb/storage/usb-storage.ko.zst:
kernel/drivers/usb/host/uhci-hcd.ko.zst:
kernel/fs/ntfs3/ntfs3.ko.zst:
`
	aliasText = `# Aliases extracted from modules themselves.
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias pci:v0000106Bd00002001sv*sd*bc*sc*i* nvme
alias pci:v00008086d00009A0Bsv*sd*bc*sc*i* vmd
alias pci:v*d*sv*sd*bc01sc06i01* ahci
alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169
alias usb:v0421p0019d059[2-9]dc*dsc*dp*ic*isc*ip*in* usb_storage
alias usb:v04CEp0002d026[0-9A-B]dc*dsc*dp*ic*isc*ip*in* usb_storage
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* uas
alias cpu:type:x86,ven*fam*mod*:feature:*0099* aesni_intel
alias fs-ntfs3 ntfs3
alias crypto-xts xts
alias virtio:d00000002v* virtio_blk
alias vmbus:d96361baa104294db60572e2ffb1dc7f hv_storvsc
alias acpi*:MSHW0084:* surface_aggregator
alias hid:b0003g*v000005ACp00000220 hid_apple
alias platform:idma64.* idma64
alias platform:idma64 idma64
alias mdio:0000000000011100110010????????? realtek
`
	softText = `# Soft dependencies extracted from modules themselves.
softdep r8169 pre: realtek
softdep intel_lpss pre: platform:idma64
softdep xts pre: ecb
softdep uhci_hcd pre: ehci_pci post: usb-storage
`
	builtinText = "kernel/crypto/ecb.ko\nkernel/drivers/virtio/virtio_pci.ko\n"
)

func table(t testing.TB) *Table {
	t.Helper()
	tab, err := Parse([]byte(depText), []byte(aliasText), []byte(softText), []byte(builtinText))
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func TestMatch(t *testing.T) {
	tab := table(t)
	for _, test := range []struct {
		modalias string
		want     string
	}{
		// As read from sysfs, newline included.
		{"pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02\n", "nvme"},
		{"pci:v0000106Bd00002001sv00001AF4sd00001100bc01sc80i00", "nvme"}, // Apple's class is none
		{"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", "ahci"},
		{"pci:v00008086d00009A0Bsv00000000sd00000000bc01sc04i00", "vmd"},
		{"pci:v000010ECd00008168sv000010ECsd00008168bc02sc00i00", "r8169"},
		{"pci:v000010ECd00008169sv000010ECsd00008168bc02sc00i00", ""},
		{"usb:v0781p5581d0100dc00dsc00dp00ic08isc06ip50in00", "usb_storage"},
		{"usb:v174Cp55AAd0100dc00dsc00dp00ic08isc06ip62in00", "uas"},
		{"usb:v0421p0019d0592dc00dsc00dp00icFFisc06ip50in00", "usb_storage"},
		{"usb:v0421p0019d0591dc00dsc00dp00icFFisc06ip50in00", ""},
		{"usb:v04CEp0002d026Bdc00dsc00dp00icFFisc06ip50in00", "usb_storage"},
		{"usb:v04CEp0002d026Cdc00dsc00dp00icFFisc06ip50in00", ""},
		{"cpu:type:x86,ven0000fam0006mod009E:feature:,0000,0001,0099,009A,", "aesni_intel"},
		{"cpu:type:x86,ven0000fam0006mod009E:feature:,0000,0001,009A,", ""},
		{"fs-ntfs3", "ntfs3"},
		{"fs_ntfs3", "ntfs3"},
		{"crypto-xts", "xts"},
		{"virtio:d00000002v00001AF4", "virtio_blk"},
		{"virtio:d00000001v00001AF4", ""},
		{"vmbus:d96361baa104294db60572e2ffb1dc7f", "hv_storvsc"},
		{"acpi:MSHW0084:", "surface_aggregator"},
		{"acpi:MSHW0084:PNP0C02:", "surface_aggregator"},
		{"hid:b0003g0001v000005ACp00000220", "hid_apple"},
		{"platform:idma64", "idma64"},
		{"mdio:00000000000111001100100100010101", ""},
		{"mdio:0000000000011100110010010001010", "realtek"},
		{"", ""},
	} {
		if got := strings.Join(tab.Match(test.modalias), " "); got != test.want {
			t.Errorf("Match(%q) = %q, want %q", test.modalias, got, test.want)
		}
	}
}

func TestDeps(t *testing.T) {
	tab := table(t)
	for _, test := range []struct{ name, want string }{
		{"nvme", "nvme_auth nvme_core nvme"},
		{"nvme-core", "nvme_auth nvme_core"},
		{"r8169", "libphy realtek r8169"},
		{"xts", "xts"}, // ecb is built in
		{"intel_lpss", "idma64 intel_lpss"},
		{"dm-crypt", "dm_crypt"},
		{"uhci_hcd", "uhci_hcd usb_storage"},
		{"ecb", ""},
		{"none", ""},
	} {
		if got := strings.Join(tab.Deps(test.name), " "); got != test.want {
			t.Errorf("Deps(%q) = %q, want %q", test.name, got, test.want)
		}
	}
}

func TestCircleEnds(t *testing.T) {
	tab, err := Parse([]byte("a.ko: b.ko\nb.ko: a.ko\n"), nil, []byte("softdep a pre: b post: a\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := tab.Deps("a"); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("Deps(a) = %v, want b before a, each once", got)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil {
		t.Error("a directory without modules.dep was loaded")
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.dep"), []byte(depText), 0o644); err != nil {
		t.Fatal(err)
	}
	tab, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tab.Path("dm_crypt"), filepath.Join(dir, "kernel", "drivers", "md", "dm-crypt.ko.zst"); got != want {
		t.Errorf("Path(dm_crypt) = %q, want %q", got, want)
	}
	if got := tab.Path("none"); got != "" {
		t.Errorf("Path(none) = %q", got)
	}
	if !tab.Has("dm-crypt") || tab.Has("ecb") {
		t.Error("Has is wrong of dm-crypt or ecb")
	}
	if full := table(t); !full.Builtin("ecb") || full.Builtin("xts") {
		t.Error("Builtin is wrong of ecb or xts")
	}
}

func TestParseErrors(t *testing.T) {
	for _, test := range []struct{ dep, alias, soft, want string }{
		{dep: "x.ko\n", want: "modules.dep, line 1"},
		{alias: "# comment\n\nalias pci:v*\n", want: "modules.alias, line 3"},
		{alias: "blacklist x y\n", want: "modules.alias, line 1"},
		{soft: "softdep\n", want: "modules.softdep, line 1"},
	} {
		_, err := Parse([]byte(test.dep), []byte(test.alias), []byte(test.soft), nil)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Parse(%+v): error %v, want one that names %q", test, err, test.want)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, test := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"a*b*c", "aXbXbYc", true},
		{"a*b*c", "aXbXbY", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"[a-c]", "b", true},
		{"[!a-c]", "b", false},
		{"[!a-c]", "d", true},
		{"[]]", "]", true},
		{"[a-]", "-", true},
		{"[abc", "[abc", true}, // not closed
		{`\*`, "*", true},
		{`\*`, "x", false},
		{`a\`, `a\`, true},
		{"**a", "aaa", true},
	} {
		if got := glob(test.pattern, test.text); got != test.want {
			t.Errorf("glob(%q, %q) = %t, want %t", test.pattern, test.text, got, test.want)
		}
	}
}

func TestNormalise(t *testing.T) {
	for text, want := range map[string]string{
		"fs-ntfs3":      "fs_ntfs3",
		"usb:d0[1-9]*-": "usb:d0[1-9]*_",
		"plain":         "plain",
	} {
		if got := Normalise(text); got != want {
			t.Errorf("Normalise(%q) = %q, want %q", text, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(depText), []byte(aliasText), []byte(softText), []byte(builtinText), "pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02")
	f.Add([]byte("a.ko: b.ko\nb.ko: a.ko"), []byte("alias [ a\nalias [-] b\nalias \\ c"), []byte("softdep a pre: b post: a"), []byte(nil), "[")
	f.Fuzz(func(t *testing.T, dep, aliases, softdep, builtin []byte, text string) {
		tab, err := Parse(dep, aliases, softdep, builtin)
		if err != nil {
			return
		}
		for _, name := range tab.Match(text) {
			order := tab.Deps(name)
			if len(order) > len(tab.modules) {
				t.Fatalf("Deps(%q) has %d modules of %d", name, len(order), len(tab.modules))
			}
			if tab.Has(name) && !slices.Contains(order, Name(name)) {
				t.Fatalf("Deps(%q) = %v lacks the module", name, order)
			}
		}
		// The buckets must not hide what a plain comparison finds.
		norm := Normalise(strings.TrimSpace(text))
		for _, list := range tab.aliases {
			for _, a := range list {
				if glob(a.pattern, norm) && !slices.Contains(tab.Match(text), a.name) {
					t.Fatalf("Match(%q) misses %q of pattern %q", text, a.name, a.pattern)
				}
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		table(b)
	}
}
