// Package iso writes boot media as one image that is a CD and, copied byte for byte to a stick, a disk: ISO 9660
// (ECMA-119) with Rock Ridge and El Torito boot entries for BIOS and UEFI, and over the same bytes an MBR with
// boot code and a GPT whose EFI system partition is the UEFI boot image.
//
// [Write] is the way in. The file system is laid out by go-diskfs, which then believes to have written it; what it
// writes goes to memory, where the parts that it gets wrong are put right, and the image is written from there
// front to back. The reasons:
//
//   - it stamps the wall clock on everything, so that no two images are equal (see normalise);
//   - it reads files from a directory, in pieces of 2 KiB, keeps all of them open, reports no progress, cannot be
//     cancelled, and ignores some write errors: so the directory holds empty files, and their places and content
//     come from us (see lay, place and image.stream);
//   - it knows nothing of hybrid images (see hybrid).
package iso

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/output"
)

const (
	blockSize  = 2048 // of ISO 9660
	sectorSize = 512  // of the disk that the image is on a stick
	perBlock   = blockSize / sectorSize

	pvdBlock = 16 // the primary volume descriptor (ECMA-119 section 6.7.1)
)

// Info says what Write made.
type Info struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
	MediaID string `json:"media_id,omitempty"` // none where the media start Windows PE
	Label   string `json:"label"`
	Files   int    `json:"files"`
	// HasKeys is set where keys lie on the media in clear text, HasVault where they are sealed.
	HasKeys  bool `json:"has_keys"`
	HasVault bool `json:"has_vault"`
}

// Write makes the image of a spec at path. The image appears there whole or not at all: on an error, a full disk or
// the end of ctx, what lay at path before is still there and nothing else is left. progress may be nil.
func Write(ctx context.Context, path string, spec media.Spec, progress func(done, total int64)) (Info, error) {
	out, err := output.Create(path, spec.Private())
	if err != nil {
		return Info{}, err
	}
	defer out.Discard()
	tree, err := spec.Tree(ctx)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	img, err := plan(ctx, tree)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	sum, err := img.stream(ctx, out, progress)
	if err != nil {
		return Info{}, out.Explain(err, img.size)
	}
	if err := out.Commit(); err != nil {
		return Info{}, out.Explain(err, img.size)
	}
	return Info{
		Path: path, Size: img.size, SHA256: hex.EncodeToString(sum[:]), MediaID: img.tree.ID, Label: img.tree.Label,
		Files: len(img.tree.Files), HasKeys: img.tree.HasKeys, HasVault: img.tree.HasVault,
	}, nil
}

// Bytes makes the image of a tree in memory, where a boot server keeps it.
func Bytes(ctx context.Context, tree *media.Tree) ([]byte, error) {
	img, err := plan(ctx, tree)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(make([]byte, 0, img.size))
	if _, err := img.stream(ctx, out, nil); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// image is an image whose every byte is known: files, and around them what is in memory.
type image struct {
	tree  *media.Tree
	meta  *memory
	files []placed // by offset
	size  int64

	outside []placed // of files: those in no directory
}

type placed struct {
	media.File
	offset int64
}

func plan(ctx context.Context, tree *media.Tree) (*image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A place in the manifest, which must not grow later.
	if err := tree.SetBoot(media.NewBootCode(mbrName, 0, make([]byte, bootCodeSize))); err != nil {
		return nil, err
	}
	meta, err := lay(tree)
	if err != nil {
		return nil, err
	}
	extents, end, err := place(meta, tree)
	if err != nil {
		return nil, err
	}
	if err := normalise(meta, tree, extents); err != nil {
		return nil, err
	}
	if err := patchElTorito(tree, extents); err != nil {
		return nil, err
	}
	code, err := mbrCode(tree, extents)
	if err != nil {
		return nil, err
	}
	if err := tree.SetBoot(media.NewBootCode(mbrName, 0, code)); err != nil {
		return nil, err
	}
	img := &image{tree: tree, meta: meta}
	if img.size, err = hybrid(meta, tree, code, extents, end); err != nil {
		return nil, err
	}
	for _, f := range tree.Files {
		if f.Size > 0 {
			img.files = append(img.files, placed{f, extents[f.Path].offset})
		}
	}
	slices.SortFunc(img.files, func(a, b placed) int { return int((a.offset - b.offset) / blockSize) })
	return img, nil
}

// stream writes the image and returns its hash.
func (img *image) stream(ctx context.Context, w io.Writer, progress func(done, total int64)) ([sha256.Size]byte, error) {
	p := newPipe(ctx, w, img.size, progress)
	defer p.stop()
	for _, f := range img.files {
		if err := p.copy(img.meta.section(p.off, f.offset), f.offset-p.off); err != nil {
			return p.none, err
		}
		if err := p.copyFile(f.File); err != nil {
			return p.none, err
		}
	}
	if err := p.copy(img.meta.section(p.off, img.size), img.size-p.off); err != nil {
		return p.none, err
	}
	return p.finish()
}
