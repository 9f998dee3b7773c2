// Package usb makes images of sticks: a GPT with protective MBR and one FAT32 partition, labelled BOOTMEND, that
// Windows, macOS and Linux show and write to. They boot with UEFI, UEFI with Secure Boot, and BIOS.
//
// [Write] makes an image file. [Open] takes a finished one, or a stick, whose [Stick.Layout] is the same stick for a
// device of another size; [Plan] is that of media that are in no file yet. Both give a [Layout], which is read as the
// finished stick would be and knows what of it must be written.
//
// Where things lie, and why:
//
//   - The partition is of type "Microsoft basic data", not "EFI system": firmware starts from any FAT volume of a
//     removable device (UEFI 2.10, section 3.5.1.1), but Windows gives an EFI system partition no drive letter.
//   - A BIOS loads 512 bytes. GRUB's own code for more than that usually lies in a partition of its own or in the
//     gap behind the partition table. The first would be a second drive in the administrator's Explorer; the second
//     is free space to every partitioning program. Here it lies in the reserved sectors of the FAT volume, which
//     belong to the partition, which no file system driver writes to, and which go where the partition is copied to.
//     The MBR's code names the sector, and that stays the same whatever the size of the stick.
//   - GRUB's core image of the bundle, made for CDs, takes the whole boot device for its root. It keeps the number of
//     a partition beside that of the drive, and that is what is filled in here; so both kinds of media boot the same
//     image.
//   - A stick with Windows PE has an MBR in place of the GPT, with the same partition at the same place.
//   - The files lie together at the start, so that whatever the size of the stick, little more than they is written.
//
// The partition table is go-diskfs' work. The file system is not: see package fat.
package usb

import (
	"context"
	"errors"
	"fmt"
	"io"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/output"
)

// MinSize is the smallest stick in bytes: one that is sold as 256 MB.
const MinSize = 244 << 20

// freeByDefault is the room for logs and keys on an image whose size nobody chose.
const freeByDefault = 32 << 20

// Info says what Write made.
type Info struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	Written int64  `json:"written"` // bytes that are not holes
	MediaID string `json:"media_id"`
	Label   string `json:"label"`
	Files   int    `json:"files"`
	// HasKeys is set where keys lie on the stick in clear text, HasVault where they are sealed.
	HasKeys  bool `json:"has_keys"`
	HasVault bool `json:"has_vault"`
	UEFIOnly bool `json:"uefi_only"` // no BIOS starts it
}

// Write makes the image of a spec at path, of size bytes; 0 is MinSize, or more where the files need it. The image
// is sparse. It appears there whole or not at all: on an error, a full disk or the end of ctx, what lay at path before
// is still there and nothing else is left. progress may be nil.
func Write(ctx context.Context, path string, spec media.Spec, size int64, progress func(done, total int64)) (Info, error) {
	return write(ctx, path, spec.Private(), func() (*media.Tree, error) { return spec.StickTree(ctx) }, size, progress)
}

// WriteWindowsPE is Write for a stick that starts Windows PE: with UEFI, and with a BIOS where pe and the spec's bundle
// have what that takes.
func WriteWindowsPE(ctx context.Context, path string, spec media.Spec, pe media.WindowsPE, size int64, progress func(done, total int64)) (Info, error) {
	return write(ctx, path, spec.Private(), func() (*media.Tree, error) { return spec.WindowsPEStickTree(ctx, pe) }, size, progress)
}

func write(ctx context.Context, path string, private bool, plan func() (*media.Tree, error), size int64, progress func(done, total int64)) (Info, error) {
	out, err := output.Create(path, private)
	if err != nil {
		return Info{}, err
	}
	defer out.Discard()
	tree, err := plan()
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	if size == 0 {
		size = usualSize(tree)
	}
	l, err := Plan(tree, Device{Size: size})
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	written, err := l.writeSparse(ctx, out, progress)
	if err == nil {
		err = out.Commit()
	}
	if err != nil {
		return Info{}, out.Explain(err, l.need())
	}
	return Info{
		Path: path, Size: size, Written: written, MediaID: tree.ID, Label: tree.Label, Files: len(tree.Files),
		HasKeys: tree.HasKeys, HasVault: tree.HasVault, UEFIOnly: tree.UEFIOnly,
	}, nil
}

func usualSize(tree *media.Tree) int64 {
	need := int64(freeByDefault)
	for _, f := range tree.Files {
		need += (f.Size + 32<<10 - 1) >> 15 << 15
	}
	need += need / 64 // the FATs
	return max(MinSize, (need+1<<20-1)>>20<<20)
}

// sparseFile is where an image goes: a new file.
type sparseFile interface {
	io.WriterAt
	Truncate(size int64) error
}

// writeSparse writes everything that is not zero, and returns how much that was.
func (l *Layout) writeSparse(ctx context.Context, w sparseFile, progress func(done, total int64)) (int64, error) {
	if err := w.Truncate(l.size); err != nil {
		return 0, err
	}
	buf := make([]byte, 256<<10)
	var done, written int64
	for _, e := range l.Extents() {
		for off := e.Off; off < e.Off+e.Len; {
			if err := ctx.Err(); err != nil {
				return written, err
			}
			n, err := l.ReadAt(buf[:min(int64(len(buf)), e.Off+e.Len-off)], off)
			if err != nil && !errors.Is(err, io.EOF) {
				return written, err
			}
			for _, p := range notZero(buf[:n]) {
				if _, err := w.WriteAt(buf[p.from:p.to], off+int64(p.from)); err != nil {
					return written, err
				}
				written += int64(p.to - p.from)
			}
			off += int64(n)
			done += int64(n)
			if progress != nil {
				progress(done, l.need())
			}
		}
	}
	return written, nil
}

// need is the bytes that must be written to a device.
func (l *Layout) need() (sum int64) {
	for _, e := range l.Extents() {
		sum += e.Len
	}
	return sum
}

type part struct{ from, to int }

// notZero returns the runs of pages that hold anything but zeros.
func notZero(b []byte) (parts []part) {
	const page = 4096
	for from := 0; from < len(b); from += page {
		to := min(from+page, len(b))
		if isZero(b[from:to]) {
			continue
		}
		if k := len(parts) - 1; k >= 0 && parts[k].to == from {
			parts[k].to = to
		} else {
			parts = append(parts, part{from, to})
		}
	}
	return parts
}
