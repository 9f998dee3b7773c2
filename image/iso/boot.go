package iso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/diskfs/go-diskfs/partition/gpt"

	media "github.com/bootmend/bootmend/image"
)

const (
	// grubBlocklist is where GRUB's CD image holds the sector (64 bits) at which its second half goes on. The
	// image is cdboot.img (2048 bytes), whose work is done on a stick by the boot sector, then diskboot.img, whose
	// list of blocks ends with this field (GRUB's diskboot.S). mkisofs calls the patch --grub2-boot-info.
	grubBlocklist = 2048 + 500
	// grubBootSector is where boot_hybrid.img holds the sector of diskboot.img (GRUB's boot.S, kernel_sector);
	// mkisofs: --grub2-mbr.
	grubBootSector = 0x1b0

	bootCodeSize = 440
	tailBlocks   = 150 // read-ahead past the end of a CD must not fail; as mkisofs -pad. The backup GPT lies in it
)

// patchElTorito tells GRUB's BIOS image where it lies: on a CD by the boot information table (mkisofs:
// -boot-info-table), on a stick by its list of blocks. go-diskfs could write the table, but would sum up the
// placeholder.
func patchElTorito(tree *media.Tree, extents map[string]extent) error {
	f, ok := tree.Find(media.PathElTorito)
	if !ok {
		return fmt.Errorf("no %s among the files", media.PathElTorito)
	}
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("file %s: %w", f.Path, err)
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	data, err := io.ReadAll(io.LimitReader(r, f.Size))
	if err != nil {
		return fmt.Errorf("file %s: %w", f.Path, err)
	}
	if len(data) < grubBlocklist+8 || int64(len(data)) != f.Size {
		return fmt.Errorf("file %s: %d bytes is no BIOS boot image of GRUB", f.Path, len(data))
	}
	le := binary.LittleEndian
	block := extents[f.Path].offset / blockSize
	le.PutUint64(data[grubBlocklist:], uint64(block*perBlock+5)) // the sector after diskboot.img
	table := data[8:64]
	clear(table)
	le.PutUint32(table[0:], pvdBlock)
	le.PutUint32(table[4:], uint32(block))
	le.PutUint32(table[8:], uint32(len(data)))
	var sum uint32
	for at := 64; at < len(data); at += 4 {
		var word [4]byte
		copy(word[:], data[at:])
		sum += le32(word[:])
	}
	le.PutUint32(table[12:], sum)
	return tree.Replace(f.Path, data)
}

// mbrName is how the manifest names the code in the MBR.
const mbrName = "boot code in the MBR"

// mbrCode is GRUB's boot sector, told where GRUB's BIOS image goes on.
func mbrCode(tree *media.Tree, extents map[string]extent) ([]byte, error) {
	if len(tree.BootHybrid) != sectorSize {
		return nil, fmt.Errorf("boot sector code: %d bytes, expected %d", len(tree.BootHybrid), sectorSize)
	}
	code := bytes.Clone(tree.BootHybrid[:bootCodeSize])
	binary.LittleEndian.PutUint64(code[grubBootSector:], uint64(extents[media.PathElTorito].offset/sectorSize+4))
	return code, nil
}

// hybrid makes the image a disk too: an MBR with GRUB's boot code and a GPT whose EFI system partition is the UEFI
// boot image inside the ISO file system. It returns the size of the image.
func hybrid(m *memory, tree *media.Tree, code []byte, extents map[string]extent, end int64) (int64, error) {
	size := end + tailBlocks*blockSize
	m.size = size

	// The whole of it belongs to the volume, so that programs which copy a CD take the backup GPT with them.
	var blocks [8]byte
	bothEndian(blocks[:], uint32(size/blockSize))
	if _, err := m.WriteAt(blocks[:], pvdBlock*blockSize+80); err != nil {
		return 0, err
	}

	esp := extents[media.PathESP]
	if esp.size%sectorSize != 0 {
		return 0, fmt.Errorf("file %s: %d bytes is not whole sectors", media.PathESP, esp.size)
	}
	table := &gpt.Table{
		LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize, ProtectiveMBR: true, GUID: media.GUID(tree.ID, "disk"),
		Partitions: []*gpt.Partition{{
			Index: 1, Start: uint64(esp.offset / sectorSize), Size: uint64(esp.size),
			End:  uint64((esp.offset+esp.size)/sectorSize - 1),
			Type: gpt.EFISystemPartition, Name: tree.Label, GUID: media.GUID(tree.ID, "esp"),
		}},
	}
	if err := table.Write(m, size); err != nil {
		return 0, fmt.Errorf("GPT: %w", err)
	}

	mbr := make([]byte, sectorSize)
	if _, err := m.ReadAt(mbr, 0); err != nil {
		return 0, err
	}
	copy(mbr, code)
	copy(mbr[bootCodeSize:bootCodeSize+4], media.GUIDBytes(tree.ID, "mbr"))
	// UEFI 2.10 section 5.2.3: the protective entry must not be active, yet many BIOSes start a stick only if some
	// entry is. As mkisofs --mbr-force-bootable does: an active entry of type 0, which is none to all others.
	copy(mbr[446+16:], []byte{0x80, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0})
	_, err := m.WriteAt(mbr, 0)
	return size, err
}
