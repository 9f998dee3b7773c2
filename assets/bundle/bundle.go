// Package bundle is the format of the boot bundle: a zip file with everything of the distribution that
// boots (signed shim, GRUB, kernel and its modules), a manifest and the licences.
//
// [Open] reads one, [Writer] makes one. The embedded bundle is opened with assets.OpenBundle.
package bundle

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"
)

// The entries of a bundle.
const (
	Kernel       = "vmlinuz"
	ModulesCPIO  = "modules.cpio"         // first segment of the initramfs; the agent's comes after it
	NetworkCPIO  = "network.cpio"         // a segment with the drivers of network cards
	Shim         = "efi/shimx64.efi"      // becomes EFI/BOOT/BOOTX64.EFI
	Grub         = "efi/grubx64.efi"      // GRUB's build for CDs: reads /boot/grub/grub.cfg of its own device first
	ElTorito     = "bios/eltorito.img"    // reads /boot/grub/grub.cfg of the device it was booted from
	BootHybrid   = "bios/boot_hybrid.img" // 512 bytes of boot sector code for sticks
	GrubNet      = "efi/grubnetx64.efi"   // GRUB's build for networks: reads /grub/grub.cfg of the server it was loaded from
	GrubPXE      = "bios/pxe.img"         // the same for a BIOS, loaded by its PXE ROM
	ManifestJSON = "manifest.json"
	Notice       = "NOTICE"
)

// required is what must be in a bundle for it to boot anything.
var required = []string{Kernel, ModulesCPIO, NetworkCPIO, Shim, Grub, ElTorito, BootHybrid, GrubNet, GrubPXE, ManifestJSON, Notice}

const (
	schema = 1

	maxManifest = 4 << 20
	maxEntry    = 1 << 30
)

// Bundle is an open boot bundle. It implements fs.FS and holds none of the bundle's content in memory.
// Methods may be called concurrently.
type Bundle struct {
	zip      *zip.Reader
	manifest Manifest
	entries  map[string]*zip.File
}

// Open opens a bundle of size bytes. The content is read, and can be checked with [Bundle.Check], later.
func Open(r io.ReaderAt, size int64) (*Bundle, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("boot bundle: %w", err)
	}
	// APPNOTE.TXT 4.4.5, method 93.
	z.RegisterDecompressor(zstd.ZipMethodWinZip, zstd.ZipDecompressor(zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20)))
	b := &Bundle{zip: z, entries: map[string]*zip.File{}}
	for _, f := range z.File {
		if !fs.ValidPath(f.Name) || b.entries[f.Name] != nil || f.UncompressedSize64 > maxEntry {
			return nil, fmt.Errorf("boot bundle: entry %q is not a plain path, occurs twice or is larger than %d bytes", f.Name, int64(maxEntry))
		}
		b.entries[f.Name] = f
	}
	for _, name := range required {
		if b.entries[name] == nil {
			return nil, fmt.Errorf("boot bundle: no %s in it: not a bundle of this program, or of an earlier version: make it again", name)
		}
	}
	if n := b.entries[ManifestJSON].UncompressedSize64; n > maxManifest {
		return nil, fmt.Errorf("boot bundle: %s of %d bytes, expected at most %d", ManifestJSON, n, maxManifest)
	}
	data, err := b.ReadFile(ManifestJSON)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &b.manifest); err != nil {
		return nil, fmt.Errorf("boot bundle: %s: %w", ManifestJSON, err)
	}
	if b.manifest.Schema != schema {
		return nil, fmt.Errorf("boot bundle: schema %d, this program reads %d: make the bundle again", b.manifest.Schema, schema)
	}
	return b, nil
}

// Manifest says what the bundle was made from.
func (b *Bundle) Manifest() Manifest { return b.manifest }

// Sum returns the SHA-256 that the manifest has of an entry, which [Bundle.Check] compares with the content.
func (b *Bundle) Sum(name string) (sum [sha256.Size]byte, ok bool) {
	for _, f := range b.manifest.Files {
		if f.Path == name && len(f.SHA256) == 2*len(sum) {
			_, err := hex.Decode(sum[:], []byte(f.SHA256))
			return sum, err == nil
		}
	}
	return sum, false
}

// Open opens an entry by its path, as fs.FS does.
func (b *Bundle) Open(name string) (fs.File, error) { return b.zip.Open(name) }

// Size returns the length of an entry.
func (b *Bundle) Size(name string) (int64, error) {
	f := b.entries[name]
	if f == nil {
		return 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return int64(f.UncompressedSize64), nil
}

// ReadFile returns the whole of an entry.
func (b *Bundle) ReadFile(name string) ([]byte, error) {
	size, err := b.Size(name)
	if err != nil {
		return nil, fmt.Errorf("boot bundle: %w", err)
	}
	if entry := b.entries[name]; entry.Method == zstd.ZipMethodWinZip && size <= maxAtOnce {
		data, err := unpack(entry)
		if err != nil {
			return nil, fmt.Errorf("boot bundle: %s: %w", name, err)
		}
		return data, nil
	}
	f, err := b.entries[name].Open()
	if err != nil {
		return nil, fmt.Errorf("boot bundle: %s: %w", name, err)
	}
	defer func() { _ = f.Close() }()
	data := make([]byte, 0, min(size+1, 64<<20)) // a size that lies must not make us allocate it
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err == nil && int64(len(data)) > size { // archive/zip looks at the length only at the end
			err = fmt.Errorf("longer than its %d bytes", size)
		}
		if err != nil {
			return nil, fmt.Errorf("boot bundle: %s: %w", name, err)
		}
	}
}

// maxAtOnce is the largest entry that is unpacked in one go.
const maxAtOnce = 16 << 20

// unpack unpacks an entry in one go. Read as a stream it would pass through a window as large as itself.
func unpack(f *zip.File) ([]byte, error) {
	raw, err := f.OpenRaw()
	if err != nil {
		return nil, err
	}
	if f.CompressedSize64 > maxAtOnce {
		return nil, fmt.Errorf("%d bytes packed, %d unpacked", f.CompressedSize64, f.UncompressedSize64)
	}
	packed := make([]byte, f.CompressedSize64)
	if _, err := io.ReadFull(raw, packed); err != nil {
		return nil, err
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxAtOnce))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	data, err := d.DecodeAll(packed, make([]byte, 0, f.UncompressedSize64))
	switch {
	case err != nil:
		return nil, err
	case uint64(len(data)) != f.UncompressedSize64:
		return nil, fmt.Errorf("%d bytes where %d were announced", len(data), f.UncompressedSize64)
	case crc32.ChecksumIEEE(data) != f.CRC32:
		return nil, zip.ErrChecksum
	}
	return data, nil
}

// Check reads the whole bundle and compares every file with its size and SHA-256 in the manifest.
func (b *Bundle) Check() error {
	listed := map[string]bool{ManifestJSON: true}
	for _, want := range b.manifest.Files {
		listed[want.Path] = true
		if err := b.check(want); err != nil {
			return fmt.Errorf("boot bundle: %s: %w", want.Path, err)
		}
	}
	for name := range b.entries {
		if !listed[name] {
			return fmt.Errorf("boot bundle: %s: not in the manifest", name)
		}
	}
	return nil
}

func (b *Bundle) check(want File) error {
	f, err := b.Open(want.Path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, want.Size+1))
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != want.Size || sum != want.SHA256 {
		return fmt.Errorf("%d bytes with SHA-256 %s, the manifest says %d and %s", n, sum, want.Size, want.SHA256)
	}
	return nil
}
