package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/bootmend/bootmend/assets/bundle"
	"github.com/bootmend/bootmend/assets/mkbundle/deb"
	"github.com/bootmend/bootmend/image/initramfs"
)

// inputs are the packages that a bundle is made of.
type inputs struct {
	kernel, shim, grub, pcBin, grubCommon, licences *fetched
}

// fetchInputs brings the packages into the cache.
func fetchInputs(ctx context.Context, a *apt) (*inputs, error) {
	image, err := newestKernel(ctx, a)
	if err != nil {
		return nil, err
	}
	var in inputs
	if in.kernel, err = a.fetch(ctx, image); err != nil {
		return nil, err
	}
	for _, want := range []struct {
		name string
		to   **fetched
	}{
		{"shim-signed", &in.shim},
		{"grub-efi-amd64-signed", &in.grub},
		{"grub-pc-bin", &in.pcBin},
		{"grub-common", &in.grubCommon}, // GRUB's copyright file; on amd64 also grub-mkimage
		{"base-files", &in.licences},    // texts of the licences
	} {
		s, err := a.candidate(ctx, want.name)
		if err != nil {
			return nil, err
		}
		if *want.to, err = a.fetch(ctx, s); err != nil {
			return nil, err
		}
	}
	return &in, nil
}

// build makes the bundle.
func build(ctx context.Context, a *apt, in *inputs, list []byte) ([]byte, error) {
	k, err := readKernel(in.kernel)
	if err != nil {
		return nil, err
	}
	sel, err := k.tree.Select(list)
	if err != nil {
		return nil, err
	}
	a.log("kernel %s: %d modules; built in: %s; not in this kernel: %s", k.version, len(sel.Modules),
		orNone(sel.Builtin), orNone(sel.Missing))
	modules, network, err := initramfs.Modules(sel)
	if err != nil {
		return nil, err
	}
	shim, err := readFile(in.shim, "usr/lib/shim/shimx64.efi.signed")
	if err != nil {
		return nil, err
	}
	grub, err := readFile(in.grub, "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed")
	if err != nil {
		return nil, err
	}
	grubNet, err := readFile(in.grub, "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
	if err != nil {
		return nil, err
	}
	bios, tools, err := grubBIOS(ctx, a, in.pcBin)
	if err != nil {
		return nil, err
	}
	texts, err := commonLicences(in.licences)
	if err != nil {
		return nil, err
	}

	components := []*component{
		{title: "Linux, the kernel and its modules", pkg: in.kernel, copyright: k.copyright, fallback: "GPL-2"},
		{title: "shim, the first stage under UEFI", pkg: in.shim, fallback: "BSD-2-Clause"},
		{title: "GNU GRUB, the boot loader under UEFI", pkg: in.grub, fallback: "GPL-3+"},
		{title: "GNU GRUB, the boot loader under BIOS", pkg: in.pcBin, fallback: "GPL-3+"},
	}
	m := bundle.Manifest{
		Kernel:  k.version,
		Modules: bundle.Modules{Count: len(sel.Modules), Builtin: sel.Builtin, Missing: sel.Missing},
	}
	for _, c := range components {
		if c.copyright == nil {
			from := []*fetched{c.pkg}
			if c.pkg == in.grub || c.pkg == in.pcBin {
				// The signed package tells of the signature only, the other links to this one.
				from = []*fetched{in.grubCommon}
			}
			if c.copyright, err = readCopyright(from...); err != nil {
				return nil, err
			}
		}
		names := licences(c.copyright)
		if len(names) == 0 {
			names = []string{c.fallback}
		}
		c.manifest = describe(c.pkg, names, false)
		m.Packages = append(m.Packages, c.manifest)
	}
	for _, t := range append(tools, in.licences) {
		names := []string{"see its copyright file"}
		if text, err := readCopyright(t); err == nil && len(licences(text)) > 0 {
			names = licences(text)
		}
		m.Packages = append(m.Packages, describe(t, names, true))
	}

	var w bundle.Writer
	w.Add(bundle.Kernel, k.vmlinuz, in.kernel.stanza["Package"], true)
	w.Add(bundle.ModulesCPIO, modules, in.kernel.stanza["Package"], true)
	w.Add(bundle.NetworkCPIO, network, in.kernel.stanza["Package"], true)
	w.Add(bundle.Shim, shim, in.shim.stanza["Package"], false)
	w.Add(bundle.Grub, grub, in.grub.stanza["Package"], false)
	w.Add(bundle.GrubNet, grubNet, in.grub.stanza["Package"], false)
	w.Add(bundle.ElTorito, bios.eltorito, in.pcBin.stanza["Package"], true)
	w.Add(bundle.BootHybrid, bios.hybrid, in.pcBin.stanza["Package"], true)
	w.Add(bundle.GrubPXE, bios.pxe, in.pcBin.stanza["Package"], true)
	w.Add(bundle.Notice, notice(components, texts), "", false)
	var out bytes.Buffer
	if err := w.WriteTo(&out, m); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, " ")
}

func readFile(p *fetched, name string) ([]byte, error) {
	var data []byte
	err := p.Files(func(f deb.File, r io.Reader) (err error) {
		if f.Name == name && f.Link == "" {
			data, err = io.ReadAll(r)
		}
		return err
	})
	if err == nil && data == nil {
		err = fmt.Errorf("package %s %s: no file %s", p.stanza["Package"], p.stanza["Version"], name)
	}
	return data, err
}

// writeWhole puts a file in place whole or not at all.
func writeWhole(name string, data []byte) error {
	tmp := name + ".new"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return nil
}
