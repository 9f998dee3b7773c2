package image

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/bootmend/bootmend/image/fat"
)

// espFree is the room for logs on an ESP that became a stick's.
const espFree = 1536 << 10

type espFiles struct{ shim, grub, config, readme, id File }

// espImage makes the EFI system partition that firmware starts from. GRUB's signed CD build takes /boot/grub of
// the device that it was started from, before it looks elsewhere: as a stick, that is this volume; as a CD, the
// ISO file system. So the same configuration lies in both.
func espImage(t *Tree, f espFiles) (File, error) {
	serial, err := hex.DecodeString(t.ID[:8])
	if err != nil {
		return File{}, err
	}
	as := func(f File, path string) fat.Entry {
		return fat.Entry{Path: path, Size: f.Size, Open: f.Open}
	}
	v, err := fat.Plan(fat.Options{Free: espFree, Label: Label, VolumeID: binary.BigEndian.Uint32(serial), Time: t.Time}, []fat.Entry{
		as(f.shim, "EFI/BOOT/BOOTX64.EFI"), // UEFI 2.10, section 3.5.1.1
		as(f.grub, "EFI/BOOT/grubx64.efi"), // the name that shim asks for
		as(f.config, PathGrubConfig),
		as(f.readme, PathReadme),
		as(f.id, PathMediaID),
		{Path: "bootmend/logs", Dir: true},
	})
	if err != nil {
		return File{}, fmt.Errorf("EFI system partition: %w", err)
	}
	return File{Path: PathESP, Size: v.Size(), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(v, 0, v.Size())), nil
	}}, nil
}
