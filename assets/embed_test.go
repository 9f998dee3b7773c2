package assets

import (
	"bytes"
	"debug/pe"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/image/initramfs/modtable"
	"github.com/u-root/u-root/pkg/cpio"
)

// embeddedBundle is the real bundle.
func embeddedBundle(t *testing.T) *Bundle {
	t.Helper()
	b, err := OpenBundle()
	if errors.Is(err, ErrNoBundle) {
		t.Skipf("no bundle to test: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEmbeddedBundle(t *testing.T) {
	b := embeddedBundle(t)
	if err := b.Check(); err != nil {
		t.Error(err)
	}

	kernel, err := b.ReadFile(Kernel)
	if err != nil {
		t.Fatal(err)
	}
	// Documentation/arch/x86/boot.rst: "HdrS" at 0x202; and a PE image, or shim could not check it.
	if len(kernel) < 0x206 || string(kernel[0x202:0x206]) != "HdrS" || !bytes.HasPrefix(kernel, []byte("MZ")) {
		t.Error("vmlinuz is no Linux kernel with EFI stub")
	}
	for _, name := range []string{Kernel, Shim, Grub} {
		data, err := b.ReadFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		image, err := pe.NewFile(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		header, ok := image.OptionalHeader.(*pe.OptionalHeader64)
		if !ok || header.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY].Size == 0 {
			t.Errorf("%s carries no signature", name)
		}
	}
	hybrid, err := b.ReadFile(BootHybrid)
	if err != nil || len(hybrid) != 512 {
		t.Errorf("%s: %d bytes, error %v", BootHybrid, len(hybrid), err)
	}
	eltorito, err := b.ReadFile(ElTorito)
	if err != nil || len(eltorito) < 32<<10 || len(eltorito) > 1<<20 {
		t.Errorf("%s: %d bytes, error %v", ElTorito, len(eltorito), err)
	}
	notice, err := b.ReadFile(Notice)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range b.Manifest().Packages {
		if len(p.SHA256) != 64 || p.Version == "" || p.Licence == "" || len(p.Source) == 0 {
			t.Errorf("manifest: package %+v lacks something", p)
		}
		if !p.Tool && (!bytes.Contains(notice, []byte(p.Name+" "+p.Version)) ||
			!bytes.Contains(notice, []byte(p.Source[0].Name+"="+p.Source[0].Version))) {
			t.Errorf("NOTICE does not name %s %s with its source", p.Name, p.Version)
		}
	}
	for _, licence := range []string{"GNU GENERAL PUBLIC LICENSE\n                       Version 2", "Version 3, 29 June 2007", "Redistributions in binary form"} {
		if !bytes.Contains(notice, []byte(licence)) {
			t.Errorf("NOTICE lacks the licence with %q", licence)
		}
	}
}

// TestEmbeddedModules asks the tables as the agent will, for the devices that must not be missing.
func TestEmbeddedModules(t *testing.T) {
	b := embeddedBundle(t)
	root := "lib/modules/" + b.Manifest().Kernel + "/"
	tables := map[string][]byte{}
	present := map[string]string{} // in which archive
	for _, segment := range []string{ModulesCPIO, NetworkCPIO} {
		archive, err := b.ReadFile(segment)
		if err != nil {
			t.Fatal(err)
		}
		if err := cpio.ForEachRecord(cpio.Newc.Reader(bytes.NewReader(archive)), func(r cpio.Record) error {
			present[r.Name] = segment
			if name, ok := strings.CutPrefix(r.Name, root+"modules."); ok {
				data, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
				tables[name] = data
				return err
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	tab, err := modtable.Parse(tables["dep"], tables["alias"], tables["softdep"], tables["builtin"])
	if err != nil {
		t.Fatal(err)
	}
	for _, device := range []struct{ what, modalias, module string }{
		{"NVMe", "pci:v0000144Dd0000A808sv0000144Dsd0000A801bc01sc08i02", "nvme"},
		{"AHCI", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", "ahci"},
		{"Intel VMD", "pci:v00008086d00009A0Bsv00000000sd00000000bc01sc04i00", "vmd"},
		{"virtio disk", "virtio:d00000002v00001AF4", "virtio_blk"},
		{"virtio SCSI", "virtio:d00000008v00001AF4", "virtio_scsi"},
		{"virtio network", "virtio:d00000001v00001AF4", "virtio_net"},
		{"Hyper-V disk", "vmbus:d96361baa104294db60572e2ffb1dc7f", "hv_storvsc"},
		{"Hyper-V network", "vmbus:635161f83edfc546913ff2d2f965ed0e", "hv_netvsc"},
		{"VMware PVSCSI", "pci:v000015ADd000007C0sv000015ADsd000007C0bc01sc07i00", "vmw_pvscsi"},
		{"VMware network", "pci:v000015ADd000007B0sv000015ADsd000007B0bc02sc00i00", "vmxnet3"},
		{"Dell PERC", "pci:v00001000d0000005Dsv00001028sd00001F49bc01sc04i00", "megaraid_sas"},
		{"HPE Smart Array", "pci:v0000103Cd0000323Bsv0000103Csd00003354bc01sc04i00", "hpsa"},
		{"LSI SAS3", "pci:v00001000d00000097sv00001000sd00003090bc01sc07i00", "mpt3sas"},
		{"xHCI", "pci:v00008086d0000A36Dsv00001028sd0000085Cbc0Csc03i30", "xhci_pci"},
		{"EHCI", "pci:v00008086d0000293Asv00001AF4sd00001100bc0Csc03i20", "ehci_pci"},
		{"USB stick", "usb:v0781p5581d0100dc00dsc00dp00ic08isc06ip50in00", "usb_storage"},
		{"USB disk", "usb:v174Cp55AAd0100dc00dsc00dp00ic08isc06ip62in00", "uas"},
		{"USB keyboard", "usb:v046DpC31Cd6402dc00dsc00dp00ic03isc01ip01in00", "usbhid"},
		{"any HID", "hid:b0003g0001v0000046Dp0000C31C", "hid_generic"},
		{"Surface keyboard", "ssam:d01c15t02i00f00", "surface_hid"},
		{"eMMC", "pci:v00008086d00000F14sv00000000sd00000000bc08sc05i01", "sdhci_pci"},
		{"UFS", "pci:v00008086d00004B41sv00000000sd00000000bc01sc09i01", "ufshcd_pci"},
		{"Intel network", "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00", "e1000e"},
		{"Realtek network", "pci:v000010ECd00008168sv000010ECsd00008168bc02sc00i00", "r8169"},
		{"USB network", "usb:v0BDAp8153d3000dc00dsc00dp00icFFiscFFip00in00", "r8152"},
		{"AES instructions", "cpu:type:x86,ven0000fam0006mod009E:feature:,0000,0099,009A,", "aesni_intel"},
		{"ntfs3", "fs-ntfs3", "ntfs3"},
		{"vfat", "fs-vfat", "vfat"},
		{"exfat", "fs-exfat", "exfat"},
		{"ISO 9660", "fs-iso9660", "isofs"},
		{"XTS", "crypto-xts", "xts"},
	} {
		if got := tab.Match(device.modalias); !slices.Contains(got, device.module) && !tab.Builtin(device.module) {
			t.Errorf("%s: %s asks for %v, want %s", device.what, device.modalias, got, device.module)
		}
	}
	for _, name := range []string{"dm_crypt", "dm_zero", "efivarfs", "sd_mod", "sr_mod", "nls_cp437", "nls_ascii", "cbc", "ecb", "hyperv_keyboard"} {
		if !tab.Has(name) && !tab.Builtin(name) {
			t.Errorf("module %s is not on the media", name)
		}
	}
	// Every file that a table names is there, and what is needed without a network is in the first archive.
	for line := range strings.Lines(string(tables["dep"])) {
		files := strings.Fields(strings.Replace(line, ":", "", 1))
		for _, file := range files {
			switch in := present[root+file]; {
			case in == "":
				t.Errorf("modules.dep names %s, which is in no archive", file)
			case in == NetworkCPIO && present[root+files[0]] == ModulesCPIO:
				t.Errorf("%s needs %s, which is loaded with a network only", files[0], file)
			}
		}
	}
	cards := 0
	for file, in := range present {
		if in != NetworkCPIO || !strings.HasSuffix(file, ".zst") {
			continue
		}
		if cards++; !strings.HasPrefix(file, root+"kernel/drivers/net/") {
			t.Errorf("%s is loaded with a network only", file)
		}
	}
	if cards < 50 {
		t.Errorf("%d drivers of network cards, want all of the list", cards)
	}
}

// TestOpenCopiesNothing holds OpenBundle to its promise: the content stays in the program's pages.
func TestOpenCopiesNothing(t *testing.T) {
	embeddedBundle(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b, err := OpenBundle()
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	size, err := b.Size(Kernel)
	if err != nil {
		t.Fatal(err)
	}
	if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(size)/4 {
		t.Errorf("opening the bundle allocated %d bytes, the kernel alone has %d", spent, size)
	}
}

// TestMend opens both agents: a frame of zstd (RFC 8878, 3.1.1), and a program of Windows, which is unpacked on the way.
func TestMend(t *testing.T) {
	for name, test := range map[string]struct {
		open  func() (int64, func() (io.ReadCloser, error), error)
		magic string
	}{
		"linux":   {Mend, "\x28\xB5\x2F\xFD"},
		"windows": {MendExe, "MZ"},
	} {
		t.Run(name, func(t *testing.T) {
			size, open, err := test.open()
			if errors.Is(err, ErrNoMend) {
				t.Skipf("no agent to test: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			f, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			data, err := io.ReadAll(f)
			if err != nil || int64(len(data)) != size {
				t.Fatalf("%d bytes, announced %d: %v", len(data), size, err)
			}
			if !bytes.HasPrefix(data, []byte(test.magic)) {
				t.Errorf("it starts with % x, want % x", data[:4], test.magic)
			}
		})
	}
}
