// Package assets holds what is embedded in the program: the boot bundle (signed shim, GRUB, kernel and its
// modules, all from the distribution), the agent, and the default rule packs.
//
// [OpenBundle] opens the embedded bundle, [OpenBundleReader] one that lies elsewhere; their format is that
// of package bundle. [Mend] is the agent, [DefaultRules] the rules.
package assets

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"

	"github.com/bootmend/bootmend/assets/bundle"
)

// Bundle, Manifest and the paths of a bundle's entries are those of package bundle.
type (
	Bundle   = bundle.Bundle
	Manifest = bundle.Manifest
)

// The entries of a bundle.
const (
	Kernel      = bundle.Kernel
	ModulesCPIO = bundle.ModulesCPIO
	NetworkCPIO = bundle.NetworkCPIO
	Shim        = bundle.Shim
	Grub        = bundle.Grub
	ElTorito    = bundle.ElTorito
	BootHybrid  = bundle.BootHybrid
	GrubNet     = bundle.GrubNet
	GrubPXE     = bundle.GrubPXE
	Notice      = bundle.Notice
)

// The bundle is embedded as a directory, which is there without it too, and not as bytes, which would
// have to exist for the program to compile. Files of an embed.FS are io.ReaderAt over the program's own
// pages, so opening one copies nothing.
//
//go:embed all:embedded
var embedded embed.FS

const (
	bundleFile = "embedded/bundle.zip"
	mendFile   = "embedded/mend-linux-amd64.cpio.zst"
	mendExe    = "embedded/mend-windows-amd64.exe.zst"
	licences   = "embedded/licences.txt"
)

var (
	// ErrNoBundle is returned by a program that was built without boot bundle.
	ErrNoBundle = errors.New(`this program was built without boot bundle: run "make", or "make BUNDLE=path" with a bundle made elsewhere`)

	// ErrNoMend is returned by a program that was built without agent.
	ErrNoMend = errors.New(`this program was built without the agent "mend": run "make"`)
)

// OpenBundle opens the embedded boot bundle, or fails with ErrNoBundle.
func OpenBundle() (*Bundle, error) {
	f, err := embedded.Open(bundleFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoBundle
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		return nil, fmt.Errorf("embedded file %s: cannot be read at an offset", bundleFile)
	}
	return OpenBundleReader(r, info.Size())
}

// OpenBundleReader opens a bundle of size bytes that lies elsewhere.
func OpenBundleReader(r io.ReaderAt, size int64) (*Bundle, error) { return bundle.Open(r, size) }

// MendExe opens the agent for Windows, a program that is embedded compressed: opening it unpacks it on the way. It fails
// with ErrNoMend where none is embedded.
func MendExe() (size int64, open func() (io.ReadCloser, error), err error) {
	f, err := embedded.Open(mendExe)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil, ErrNoMend
	}
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	var head [zstd.HeaderMaxSize]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, nil, fmt.Errorf("embedded file %s: %w", mendExe, err)
	}
	var frame zstd.Header
	if err := frame.Decode(head[:n]); err != nil || !frame.HasFCS {
		return 0, nil, fmt.Errorf("embedded file %s: its frame does not tell its size: %w", mendExe, err)
	}
	return int64(frame.FrameContentSize), func() (io.ReadCloser, error) {
		f, err := embedded.Open(mendExe)
		if err != nil {
			return nil, err
		}
		d, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}, nil
}

// Licences is what has to be passed on with the Go modules that bootmend and its agents are made of; nil in a program that
// was built without.
func Licences() []byte {
	text, err := embedded.ReadFile(licences)
	if err != nil {
		return nil
	}
	return text
}

// Mend opens the agent as the last segment of an initramfs: a compressed cpio archive with the program as /init (see
// initramfs.Agent). It may be opened any number of times, and is read from the program's own pages. It fails with
// ErrNoMend where none is embedded.
func Mend() (size int64, open func() (io.ReadCloser, error), err error) {
	info, err := fs.Stat(embedded, mendFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil, ErrNoMend
	}
	if err != nil {
		return 0, nil, err
	}
	return info.Size(), func() (io.ReadCloser, error) { return embedded.Open(mendFile) }, nil
}
