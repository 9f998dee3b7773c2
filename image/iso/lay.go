package iso

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	media "github.com/bootmend/bootmend/image"
)

// maxFile: a directory record has 32 bits for a length, and more extents than one are not made here.
const maxFile = 1<<32 - 1

// lay lets go-diskfs lay the file system out, with every file empty: copying files is what it is slow at, and where
// they lie is then decided in place.
func lay(tree *media.Tree) (*memory, error) {
	// The directory is ours alone because Finalize deletes the one it is given.
	workspace, err := os.MkdirTemp("", "bootmend-iso-")
	if err != nil {
		return nil, fmt.Errorf("folder for temporary files: %w", err)
	}
	defer func() { _ = os.RemoveAll(workspace) }()

	const room = 1 << 20 // descriptors and directories of a hundred files take a tenth of it
	for _, f := range tree.Files {
		if f.Size > maxFile {
			return nil, fmt.Errorf("file %s: %d bytes is more than an ISO image holds in one file (4 GiB)", f.Path, f.Size)
		}
		if err := placeholder(filepath.Join(workspace, filepath.FromSlash(f.Path))); err != nil {
			return nil, fmt.Errorf("folder for temporary files: %w", err)
		}
	}
	meta := newMemory(room)
	fsys, err := iso9660.Create(meta, room, 0, blockSize, workspace)
	if err != nil {
		return nil, fmt.Errorf("ISO 9660: %w", err)
	}
	err = fsys.Finalize(iso9660.FinalizeOptions{
		RockRidge:        true,
		VolumeIdentifier: tree.Label,
		// Joliet stays off: a last file of a multiple of 2048 bytes would zero its root directory.
		ElTorito: &iso9660.ElTorito{
			BootCatalog:     "/boot/boot.cat",
			HideBootCatalog: true, // else it stands in the directory out of order
			Entries: []*iso9660.ElToritoEntry{
				{Platform: iso9660.BIOS, Emulation: iso9660.NoEmulation, BootFile: media.PathElTorito},
				{Platform: iso9660.EFI, Emulation: iso9660.NoEmulation, BootFile: media.PathESP},
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("ISO 9660: %w", err)
	}
	return meta, nil
}

// placeholder makes an empty file.
func placeholder(name string) error {
	if strings.Contains(name, "..") {
		return fmt.Errorf("path %s: leads elsewhere", name)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// place gives every file its extent: after what go-diskfs laid out, in the order of the tree, which is the order in
// which they are read when the media boot. It returns where the last one ends.
func place(m *memory, tree *media.Tree) (extents map[string]extent, end int64, err error) {
	pvd, err := descriptor(m, pvdBlock, 1)
	if err != nil {
		return nil, 0, err
	}
	extents = map[string]extent{}
	end = int64(le32(pvd[80:])) * blockSize // volume space size
	for _, f := range tree.Files {
		extents[f.Path] = extent{end, f.Size}
		end += (f.Size + blockSize - 1) / blockSize * blockSize
	}
	m.size = max(m.size, end)

	// The El Torito catalog ("El Torito" specification 1.0, section 2) is named by the boot record. It holds the
	// validation entry, the BIOS entry, a section header and the UEFI entry, 32 bytes each.
	boot, err := descriptor(m, pvdBlock+1, 0)
	if err != nil {
		return nil, 0, err
	}
	catalog := make([]byte, 4*32)
	at := int64(le32(boot[0x47:])) * blockSize
	if _, err := m.ReadAt(catalog, at); err != nil {
		return nil, 0, fmt.Errorf("ISO 9660: boot catalog: %w", err)
	}
	if catalog[0] != 1 || catalog[32] != 0x88 || catalog[64] != 0x91 || catalog[65] != 0xef || catalog[96] != 0x88 {
		return nil, 0, fmt.Errorf("ISO 9660: boot catalog at byte %d: not one entry for BIOS and one for UEFI", at)
	}
	le := binary.LittleEndian
	le.PutUint32(catalog[32+8:], uint32(extents[media.PathElTorito].offset/blockSize))
	esp := extents[media.PathESP]
	le.PutUint32(catalog[96+8:], uint32(esp.offset/blockSize))
	sectors := esp.size / sectorSize
	if sectors > 0xffff {
		sectors = 0 // up to the end of the medium (UEFI 2.10 section 13.3.2.1)
	}
	le.PutUint16(catalog[96+6:], uint16(sectors))
	_, err = m.WriteAt(catalog, at)
	return extents, end, err
}

// descriptor reads a volume descriptor (ECMA-119 section 8.1).
func descriptor(m *memory, block int64, kind byte) ([]byte, error) {
	b := make([]byte, blockSize)
	if _, err := m.ReadAt(b, block*blockSize); err != nil {
		return nil, fmt.Errorf("ISO 9660: volume descriptor: %w", err)
	}
	if b[0] != kind || string(b[1:6]) != "CD001" {
		return nil, fmt.Errorf("ISO 9660: no volume descriptor of type %d in block %d", kind, block)
	}
	return b, nil
}
