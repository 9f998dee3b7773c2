package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/bootmend/bootmend/assets/mkbundle/deb"
	"github.com/bootmend/bootmend/image/initramfs"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// metaKernel are the packages that depend on the newest signed kernel of one series. The cloud and
// real-time kernels are other series: the one has no drivers of real machines, the other no use here.
var metaKernel = regexp.MustCompile(`^linux-image-([0-9][0-9.]*-)?amd64$`)

// newestKernel finds the newest signed kernel that the distribution offers.
func newestKernel(ctx context.Context, a *apt) (stanza, error) {
	names, err := a.names(ctx, "linux-image-")
	if err != nil {
		return nil, err
	}
	var metas []string
	for _, name := range names {
		if metaKernel.MatchString(name) {
			metas = append(metas, name)
		}
	}
	if len(metas) == 0 {
		return nil, errors.New("the package lists offer no linux-image-*-amd64: make the bundle on a Debian machine and give it to make BUNDLE=path")
	}
	offered, err := a.show(ctx, metas...)
	if err != nil {
		return nil, err
	}
	image, err := chooseKernel(offered)
	if err != nil {
		return nil, err
	}
	return a.candidate(ctx, image)
}

// chooseKernel returns the image package that the newest of the meta packages depends on.
func chooseKernel(metas []stanza) (string, error) {
	var newest stanza
	var image string
	for _, s := range metas {
		for _, d := range parseDepends(s["Depends"]) {
			if strings.HasPrefix(d.Name, "linux-image-") && strings.HasSuffix(d.Name, "-amd64") &&
				(newest == nil || compareVersions(s["Version"], newest["Version"]) > 0) {
				newest, image = s, d.Name
			}
		}
	}
	if newest == nil {
		return "", errors.New("no linux-image-*-amd64 package depends on a kernel image")
	}
	return image, nil
}

// kernel is what we take from the kernel's package.
type kernel struct {
	version   string
	vmlinuz   []byte
	copyright []byte
	tree      *initramfs.Tree
}

func readKernel(p *fetched) (*kernel, error) {
	var k kernel
	var builtin []byte
	compressed := map[string][]byte{} // path with .ko.xz → content
	err := p.Files(func(f deb.File, r io.Reader) error {
		if f.Link != "" {
			return nil
		}
		name := strings.TrimPrefix(f.Name, "usr/") // with merged /usr: usr/lib/modules
		var err error
		switch {
		case strings.HasPrefix(name, "boot/vmlinuz-"):
			k.version = strings.TrimPrefix(name, "boot/vmlinuz-")
			k.vmlinuz, err = io.ReadAll(r)
		case strings.HasPrefix(name, "lib/modules/"):
			_, inside, _ := strings.Cut(strings.TrimPrefix(name, "lib/modules/"), "/")
			if inside == "modules.builtin" {
				builtin, err = io.ReadAll(r)
			} else if plain, _ := cutCompression(inside); strings.HasSuffix(plain, ".ko") {
				compressed[inside], err = io.ReadAll(r)
			}
		case f.Name == copyrightPath(p.stanza):
			k.copyright, err = io.ReadAll(r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(k.vmlinuz) == 0 || len(builtin) == 0 || len(compressed) == 0 {
		return nil, fmt.Errorf("package %s: %d bytes of boot/vmlinuz, %d of modules.builtin, %d modules: not a kernel as it was expected",
			p.stanza["Package"], len(k.vmlinuz), len(builtin), len(compressed))
	}
	var paths []string
	suffix := map[string]string{}
	for name := range compressed {
		plain, ext := cutCompression(name)
		paths = append(paths, plain)
		suffix[plain] = ext
	}
	k.tree, err = initramfs.NewTree(k.version, paths, builtin, func(name string) ([]byte, error) {
		return decompressModule(compressed[name+suffix[name]], suffix[name])
	})
	return &k, err
}

func cutCompression(name string) (plain, ext string) {
	switch ext := path.Ext(name); ext {
	case ".xz", ".zst":
		return strings.TrimSuffix(name, ext), ext
	}
	return name, ""
}

// maxModule bounds one decompressed module; the largest of Debian's kernel is 30 MiB.
const maxModule = 256 << 20

func decompressModule(data []byte, ext string) ([]byte, error) {
	var r io.Reader = bytes.NewReader(data)
	var err error
	switch ext {
	case ".xz":
		r, err = xz.NewReader(r)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
	}
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err == nil && len(plain) > maxModule {
		err = fmt.Errorf("larger than %d bytes", maxModule)
	}
	return plain, err
}
