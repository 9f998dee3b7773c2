package iso

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	media "github.com/bootmend/bootmend/image"
)

// maxFile: a directory record has 32 bits for a length, and more extents than one are not made here.
const maxFile = 1<<32 - 1

// lay lets go-diskfs lay the file system out. The result has everything but the content of the files.
func lay(tree *media.Tree) (*memory, error) {
	// The directory is ours alone because Finalize deletes the one it is given.
	workspace, err := os.MkdirTemp("", "bootmend-iso-")
	if err != nil {
		return nil, fmt.Errorf("folder for temporary files: %w", err)
	}
	defer func() { _ = os.RemoveAll(workspace) }()

	room := int64(1 << 20) // descriptors and directories of a hundred files take a tenth of it
	for _, f := range tree.Files {
		if f.Size > maxFile {
			return nil, fmt.Errorf("file %s: %d bytes is more than an ISO image holds in one file (4 GiB)", f.Path, f.Size)
		}
		if err := placeholder(filepath.Join(workspace, filepath.FromSlash(f.Path)), f.Size); err != nil {
			return nil, fmt.Errorf("folder for temporary files: %w", err)
		}
		room += f.Size + 2*blockSize
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

// placeholder makes a file that is a hole of a length.
func placeholder(name string, size int64) error {
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
	if err := f.Truncate(size); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
