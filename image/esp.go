package image

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"github.com/bootmend/bootmend/image/fat"
)

// espFree is the room for logs on an ESP that became a stick's.
const espFree = 1536 << 10

// espImage makes the EFI system partition that firmware starts from. GRUB's signed CD build takes /boot/grub of
// the device that it was started from, before it looks elsewhere: as a stick, that is this volume; as a CD, the
// ISO file system. So the same configuration lies in both.
func espImage(ctx context.Context, t *Tree, files []File) (File, error) {
	id, err := t.VolumeID()
	if err != nil {
		return File{}, err
	}
	v, err := fat.Plan(fat.Options{Free: espFree, Label: Label, VolumeID: id, Time: t.Time},
		append(FATEntries(files), fat.Entry{Path: PathLogs, Dir: true}))
	if err != nil {
		return File{}, fmt.Errorf("EFI system partition: %w", err)
	}
	f := File{Path: PathESP, Size: v.Size(), inside: files, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(v, 0, v.Size())), nil
	}}
	f.sum = sync.OnceValues(func() ([sha256.Size]byte, error) {
		summed := f
		err := summed.hash(ctx)
		return summed.SHA256, err
	})
	go func() { _, _ = f.sum() }() // while the file system is laid out and written; the manifest gets the error
	return f, nil
}

// FATEntries are files as package fat takes them.
func FATEntries(files []File) []fat.Entry {
	entries := make([]fat.Entry, len(files))
	for i, f := range files {
		entries[i] = fat.Entry{Path: f.Path, Size: f.Size, Open: f.Open}
	}
	return entries
}

// VolumeID is the serial number of FAT volumes of the media.
func (t *Tree) VolumeID() (uint32, error) {
	b, err := hex.DecodeString(t.ID)
	if err != nil || len(b) < 4 {
		return 0, fmt.Errorf("media number %q: not hexadecimal", t.ID)
	}
	return binary.BigEndian.Uint32(b), nil
}
