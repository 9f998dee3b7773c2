package boottest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/bootmend/bootmend/assets"
)

// PeerDone is what the peer prints right before it restarts the machine.
const PeerDone = "peer: healed"

// peerInit is what a technician writes in an evening: busybox, cryptsetup and ntfs-3g, one volume, one key.
const peerInit = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /mnt /sbin /usr/bin
/bin/busybox --install -s /bin
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for m in %s; do modprobe $m; done
volume=
while [ -z "$volume" ]; do
	for p in /dev/nvme*n*p* /dev/sd?[0-9]* /dev/vd?[0-9]*; do
		[ -b $p ] && [ "$(dd if=$p bs=1 skip=3 count=8 2>/dev/null)" = -FVE-FS- ] && volume=$p
	done
	[ -n "$volume" ] || sleep 0.2
done
set -e
cryptsetup bitlkOpen --key-file /key $volume windows
ntfs-3g /dev/mapper/windows /mnt
cd /mnt/Windows/System32/drivers/CrowdStrike
for f in C-00000291-00000000-00000032.sys C-00000291-00000000-00000030.sys; do mv $f $f.quarantined; done
cd /
sync
umount /mnt
cryptsetup close windows
echo "` + PeerDone + `" > /dev/ttyS0
reboot -f
`

// peerModules are the dozen that such media need; FUSE, for ntfs-3g, is built into the kernel.
var peerModules = []string{"nvme", "ahci", "sd_mod", "sr_mod", "usb-storage", "xhci-pci", "virtio_blk", "dm-crypt",
	"dm-zero", "xts", "aesni-intel", "isofs", "vfat"}

const peerMenu = `set timeout=0
set default=0
menuentry peer {
	linux /boot/vmlinuz quiet console=tty0 console=ttyS0
	initrd /boot/initrd.img
}
`

// Peer is the hand-made ISO and the tree it was made of.
type Peer struct {
	Path string
	Tree string
}

// MakePeer makes in dir the ISO that bootmend is measured against: the same kernel and boot loaders, but put together
// by hand from this machine's packages, with the key in a file.
func MakePeer(ctx context.Context, dir, password string) (*Peer, error) {
	if err := need("busybox", "cryptsetup", "ntfs-3g", "xorriso", "mkfs.fat", "mcopy", "zstd", "ldd"); err != nil {
		return nil, err
	}
	bundle, err := assets.OpenBundle()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	p := &Peer{Path: filepath.Join(dir, "peer.iso"), Tree: filepath.Join(dir, "peer")}
	files := map[string][]byte{"boot/grub/grub.cfg": []byte(peerMenu), ".disk/info": []byte("peer\n")}
	for name, from := range map[string]string{
		"boot/vmlinuz":           "vmlinuz",
		"boot/grub/eltorito.img": "bios/eltorito.img",
	} {
		if files[name], err = bundle.ReadFile(from); err != nil {
			return nil, err
		}
	}
	modules, err := bundle.ReadFile("modules.cpio")
	if err != nil {
		return nil, err
	}
	root := filepath.Join(dir, "root")
	if err := peerModuleTree(root, modules, peerModules); err != nil {
		return nil, fmt.Errorf("modules of the peer: %w", err)
	}
	if err := peerPrograms(ctx, root); err != nil {
		return nil, fmt.Errorf("programs of the peer: %w", err)
	}
	for name, text := range map[string]string{
		"init": fmt.Sprintf(peerInit, strings.Join(peerModules, " ")),
		"key":  password,
	} {
		if err := writeFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			return nil, err
		}
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(p.Tree, name), data, 0o644); err != nil {
			return nil, err
		}
	}
	if _, err := run(ctx, "sh", "-c", `cd "$1" && find . | LC_ALL=C sort | busybox cpio -o -H newc | zstd -q -19 -T0 -o "$2"`, "sh",
		root, filepath.Join(p.Tree, "boot/initrd.img")); err != nil {
		return nil, err
	}
	esp := filepath.Join(p.Tree, "boot/grub/efi.img")
	if _, err := run(ctx, "mkfs.fat", "-C", esp, "5760"); err != nil {
		return nil, err
	}
	efi := filepath.Join(dir, "esp")
	for name, from := range map[string]string{"EFI/BOOT/BOOTX64.EFI": "efi/shimx64.efi", "EFI/BOOT/grubx64.efi": "efi/grubx64.efi"} {
		data, err := bundle.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := writeFile(filepath.Join(efi, name), data, 0o644); err != nil {
			return nil, err
		}
	}
	if _, err := run(ctx, "mcopy", "-s", "-i", esp, filepath.Join(efi, "EFI"), "::"); err != nil {
		return nil, err
	}
	hybrid, err := bundle.ReadFile("bios/boot_hybrid.img")
	if err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(dir, "boot_hybrid.img"), hybrid, 0o644); err != nil {
		return nil, err
	}
	return p, p.Write(ctx, p.Path)
}

// Write makes the ISO with xorriso.
func (p *Peer) Write(ctx context.Context, to string) error {
	return Xorriso(ctx, p.Tree, to, filepath.Join(filepath.Dir(p.Tree), "boot_hybrid.img"), "boot/grub/eltorito.img", "boot/grub/efi.img")
}

// Xorriso makes an ISO of a tree that boots as disc and stick, under BIOS and UEFI.
func Xorriso(ctx context.Context, tree, to, hybrid, bios, esp string) error {
	_, err := run(ctx, "xorriso", "-as", "mkisofs", "-quiet", "-r", "-V", "PEER", "-o", to,
		"--grub2-mbr", hybrid,
		"-b", bios, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info",
		"-eltorito-alt-boot", "-e", esp, "-no-emul-boot", "-isohybrid-gpt-basdat", tree)
	return err
}

// peerModuleTree unpacks a dozen modules and what they depend on, for busybox's modprobe.
func peerModuleTree(root string, archive []byte, wantedModules []string) error {
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		return err
	}
	byName, depends, dir := map[string]cpio.Record{}, map[string][]string{}, ""
	for _, r := range records {
		byName[strings.TrimPrefix(r.Name, "./")] = r
	}
	for name, r := range byName {
		if path.Base(name) != "modules.dep" {
			continue
		}
		dir = path.Dir(name)
		text, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(text), "\n") {
			if module, needs, ok := strings.Cut(line, ":"); ok {
				depends[module] = strings.Fields(needs)
			}
		}
	}
	var list []string
	done := map[string]bool{}
	var add func(module string) error
	add = func(module string) error {
		if done[module] {
			return nil
		}
		done[module] = true
		r, ok := byName[path.Join(dir, module)]
		if !ok {
			return fmt.Errorf("%s is not in the bundle", module)
		}
		data, err := unpackModule(module, io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			return err
		}
		line := plainName(module) + ":"
		for _, needs := range depends[module] {
			if err := add(needs); err != nil {
				return err
			}
			line += " " + plainName(needs)
		}
		list = append(list, line)
		return writeFile(filepath.Join(root, dir, plainName(module)), data, 0o644)
	}
	for module := range depends {
		for _, wanted := range wantedModules {
			if moduleName(module) == strings.ReplaceAll(wanted, "-", "_") {
				if err := add(module); err != nil {
					return err
				}
			}
		}
	}
	return writeFile(filepath.Join(root, dir, "modules.dep"), []byte(strings.Join(list, "\n")+"\n"), 0o644)
}

func unpackModule(name string, r io.Reader) ([]byte, error) {
	if path.Ext(name) != ".zst" {
		return io.ReadAll(r)
	}
	d, err := zstd.NewReader(r)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return io.ReadAll(d)
}

func plainName(module string) string {
	return strings.TrimSuffix(module, ".zst")
}

func moduleName(module string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(plainName(module)), ".ko"), "-", "_")
}

var library = regexp.MustCompile(`/[^ ]+\.so[^ ]*`)

// peerPrograms copies this machine's programs with the libraries they ask for.
func peerPrograms(ctx context.Context, root string) error {
	for _, program := range []string{"busybox", "cryptsetup", "ntfs-3g"} {
		from, err := lookTool(program)
		if err != nil {
			return err
		}
		files := []string{from}
		if out, err := run(ctx, "ldd", from); err == nil { // fails for a static program
			files = append(files, library.FindAllString(string(out), -1)...)
		}
		for i, file := range files {
			to := filepath.Join(root, file)
			if i == 0 {
				to = filepath.Join(root, "bin", program)
			}
			if _, err := os.Stat(to); err == nil {
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := writeFile(to, data, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeFile(name string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, data, mode)
}
