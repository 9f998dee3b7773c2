package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bootmend/bootmend/assets/mkbundle/deb"
)

// BIOS machines start GRUB's own loader, which distributions do not ship ready-made as they do for UEFI:
// grub-mkimage links it from the modules of grub-pc-bin. The program is downloaded too and run from the
// cache, so nothing is installed.

// What GRUB needs to read the media, and for the network.
var (
	mediaModules = []string{"biosdisk", "part_gpt", "part_msdos", "iso9660", "fat"}
	pxeModules   = []string{"pxe", "net", "tftp", "http", "biosdisk", "part_gpt", "part_msdos"} // disks: to go on to them
)

// menuModules is what it needs to show the menu, and what the menu uses.
var menuModules = []string{
	"normal", "configfile", "search", "search_fs_file", "search_label", "search_fs_uuid",
	"test", "true", "echo", "sleep", "keystatus", "regexp", "loadenv", "minicmd", "ls", "cat",
	"linux", "boot", "chain", // chain: go on to the disk's own boot sector
	"ntldr", // starts Microsoft's boot manager, on sticks with Windows PE
	"terminal", "serial", "all_video", "vbe", "vga", "video_bochs", "video_cirrus", "gfxterm",
	"halt", "reboot", "cpuid",
}

const grubDir = "usr/lib/grub/i386-pc/"

// biosImages are GRUB's images for a BIOS.
type biosImages struct {
	eltorito []byte // for discs and sticks
	hybrid   []byte // boot sector code that starts it from a stick
	pxe      []byte // for PXE ROMs
}

// grubBIOS makes GRUB's images. tools are the packages that it used besides grub-pc-bin.
func grubBIOS(ctx context.Context, a *apt, pcBin *fetched) (images biosImages, tools []*fetched, err error) {
	mkimage, tools, err := grubMkimage(ctx, a)
	if err != nil {
		return images, tools, err
	}
	work, err := os.MkdirTemp(a.dir, ".grub-")
	if err != nil {
		return images, tools, err
	}
	defer func() { _ = os.RemoveAll(work) }()

	dir := filepath.Join(work, "i386-pc")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return images, tools, err
	}
	if err := pcBin.Files(func(f deb.File, r io.Reader) error {
		name, ok := strings.CutPrefix(f.Name, grubDir)
		if !ok || f.Link != "" || strings.Contains(name, "/") {
			return nil
		}
		return writeFrom(filepath.Join(dir, name), r, 0o644)
	}); err != nil {
		return images, tools, err
	}
	// A prefix without a device is looked for on the device that the firmware booted from, and nowhere else: another
	// stick that is plugged in can't be taken for it. An embedded configuration is not needed, and could only use
	// the rescue parser, which knows no "if".
	link := func(format, prefix string, modules []string) ([]byte, error) {
		image := filepath.Join(work, format+".img")
		args := append([]string{"-O", format, "-d", dir, "-p", prefix, "-o", image}, modules...)
		if err := mkimage(ctx, args...); err != nil {
			return nil, err
		}
		return os.ReadFile(image)
	}
	if images.eltorito, err = link("i386-pc-eltorito", "/boot/grub", slices.Concat(mediaModules, menuModules)); err != nil {
		return images, tools, err
	}
	// The prefix of the signed build for UEFI, so that both read one configuration.
	if images.pxe, err = link("i386-pc-pxe", "/grub", slices.Concat(pxeModules, menuModules)); err != nil {
		return images, tools, err
	}
	images.hybrid, err = os.ReadFile(filepath.Join(dir, "boot_hybrid.img"))
	return images, tools, err
}

// grubMkimage makes grub-mkimage ready to run, with the libraries it is linked against, all of them of
// this machine's architecture. It is started through its own dynamic loader, since a C library of one
// version and a loader of another need not fit.
func grubMkimage(ctx context.Context, a *apt) (run func(context.Context, ...string) error, tools []*fetched, err error) {
	common, err := a.tool(ctx, "grub-common")
	if err != nil {
		return nil, nil, err
	}
	tools = append(tools, common)
	dir := a.path("tools/" + common.SHA256[:16])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, tools, err
	}
	program := filepath.Join(dir, "grub-mkimage")
	if err := common.Files(func(f deb.File, r io.Reader) error {
		if f.Name != "usr/bin/grub-mkimage" || f.Link != "" {
			return nil
		}
		return writeFrom(program, r, 0o755)
	}); err != nil {
		return nil, tools, err
	}
	loader, err := interpreter(program)
	if err != nil {
		return nil, tools, err
	}

	type job struct {
		binary string
		owner  *fetched
	}
	seen := map[string]bool{}
	for queue := []job{{program, common}}; len(queue) > 0; queue = queue[1:] {
		needed, err := imported(queue[0].binary)
		if err != nil {
			return nil, tools, err
		}
		for _, soname := range needed {
			if seen[soname] {
				continue
			}
			seen[soname] = true
			owner, err := a.library(ctx, soname, queue[0].owner, &tools)
			if err != nil {
				return nil, tools, err
			}
			if _, err := os.Stat(filepath.Join(dir, soname)); err != nil {
				if err := extractLibraries(owner, dir); err != nil {
					return nil, tools, err
				}
			}
			queue = append(queue, job{filepath.Join(dir, soname), owner})
		}
	}
	return func(ctx context.Context, args ...string) error {
		cmd := exec.CommandContext(ctx, filepath.Join(dir, path.Base(loader)),
			append([]string{"--library-path", dir, program}, args...)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C", "LD_LIBRARY_PATH="+dir)
		if _, err := cmd.Output(); err != nil {
			return fmt.Errorf("grub-mkimage: %w", withStderr(err))
		}
		return nil
	}, tools, nil
}

// tool is a package of this machine's architecture.
func (a *apt) tool(ctx context.Context, name string) (*fetched, error) {
	if arch := hostArch(); arch != "amd64" {
		name += ":" + arch
	}
	s, err := a.candidate(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.fetch(ctx, s)
}

// library finds the package of a shared library among the dependencies of the package that uses it, by
// the rule that names such packages (Debian Policy, section 8.1).
func (a *apt) library(ctx context.Context, soname string, user *fetched, tools *[]*fetched) (*fetched, error) {
	names := libraryPackages(soname)
	for _, t := range append([]*fetched{user}, *tools...) {
		if slices.Contains(names, t.stanza["Package"]) {
			return t, nil
		}
	}
	for _, d := range append(parseDepends(user.stanza["Pre-Depends"]), parseDepends(user.stanza["Depends"])...) {
		if slices.Contains(names, d.Name) {
			p, err := a.tool(ctx, d.Name)
			if err == nil {
				*tools = append(*tools, p)
			}
			return p, err
		}
	}
	return nil, fmt.Errorf("package %s needs the library %s and depends on none of %s", user.stanza["Package"], soname, strings.Join(names, ", "))
}

// libraryPackages are the names that the package of a library may have: its soname with the version joined
// on, by a dash after a digit; "t64" marks those rebuilt for 64-bit time.
func libraryPackages(soname string) []string {
	name, version, ok := strings.Cut(soname, ".so.")
	switch {
	case !ok || strings.HasPrefix(name, "ld-linux") || slices.Contains([]string{"libc", "libm", "libdl", "libpthread", "librt", "libresolv", "libutil"}, name):
		return []string{"libc6"} // and ld-linux-….so.2
	case name == "libgcc_s":
		return []string{"libgcc-s1"}
	}
	if name != "" && isDigit(name[len(name)-1]) {
		name += "-"
	}
	name = strings.ReplaceAll(strings.ToLower(name+version), "_", "-")
	return []string{name, name + "t64"}
}

func interpreter(program string) (string, error) {
	f, err := elf.Open(program)
	if err != nil {
		return "", fmt.Errorf("%s: %w", filepath.Base(program), err)
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			data, err := io.ReadAll(io.LimitReader(p.Open(), 4096))
			return string(bytes.TrimRight(data, "\x00")), err
		}
	}
	return "", fmt.Errorf("%s: no dynamic loader named", filepath.Base(program))
}

func imported(binary string) ([]string, error) {
	f, err := elf.Open(binary)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(binary), err)
	}
	defer func() { _ = f.Close() }()
	return f.ImportedLibraries()
}

// extractLibraries writes a package's shared libraries into dir, under their own names and those of the
// links to them.
func extractLibraries(p *fetched, dir string) error {
	links := map[string]string{} // name → what it points to, both without directory
	err := p.Files(func(f deb.File, r io.Reader) error {
		inside := strings.TrimPrefix(f.Name, "usr/")
		base := path.Base(f.Name)
		library := strings.HasPrefix(inside, "lib") && (strings.Contains(base, ".so.") || strings.HasSuffix(base, ".so"))
		if !library || strings.Contains(inside, "/gconv/") || strings.Contains(inside, "/audit/") {
			return nil
		}
		if f.Link != "" {
			links[base] = path.Base(f.Link)
			return nil
		}
		return writeFrom(filepath.Join(dir, base), r, 0o755)
	})
	if err != nil {
		return err
	}
	for name, target := range links {
		if name == target { // lib64/ld-linux-x86-64.so.2 → /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
			continue
		}
		file := filepath.Join(dir, name)
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.Symlink(target, file); err != nil {
			return err
		}
	}
	return nil
}

func writeFrom(name string, r io.Reader, mode os.FileMode) error {
	// Replaced, not truncated: another make may be running the old one.
	tmp := name + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
