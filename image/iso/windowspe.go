package iso

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	media "github.com/bootmend/bootmend/image"
	"github.com/bootmend/bootmend/image/output"
)

// WindowsPE is a disc that starts Windows PE.
type WindowsPE struct {
	Tree    *media.Tree // of [media.WindowsPEDiscTree]
	BIOS    media.File  // boot sector of the disc (etfsboot.com); none where its Size is 0
	UEFI    media.File  // image of a FAT volume with the first boot manager (efisys.bin)
	Private bool        // holds recovery keys
}

// WriteWindowsPE makes the image of such a disc at path, as Write does. It is ISO 9660 as Microsoft's boot manager reads
// it: names in capitals, which its boot sector for a BIOS looks for, with neither version numbers nor the eight
// characters of level 1, since "MICROSOFT" has nine. What a program in Windows PE needs lies in the WIM, so that there
// are no names here but those of boot files, and no need for Joliet.
//
// go-diskfs is not used: it writes version numbers, and its names in lower case need Rock Ridge, which the boot manager
// does not know.
func WriteWindowsPE(ctx context.Context, path string, disc WindowsPE, progress func(done, total int64)) (Info, error) {
	out, err := output.Create(path, disc.Private)
	if err != nil {
		return Info{}, err
	}
	defer out.Discard()
	img, err := planDisc(disc)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", path, err)
	}
	sum, err := img.stream(ctx, out, progress)
	if err == nil {
		err = out.Commit()
	}
	if err != nil {
		return Info{}, out.Explain(err, img.size)
	}
	t := disc.Tree
	return Info{
		Path: path, Size: img.size, SHA256: hex.EncodeToString(sum[:]), MediaID: t.ID, Label: t.Label, Files: len(t.Files),
		HasKeys: t.HasKeys, HasVault: t.HasVault,
	}, nil
}

// planDisc lays the disc out twice: the manifest has the places of the boot images, which lie before the files and do
// not depend on its length.
func planDisc(disc WindowsPE) (*image, error) {
	first, err := layDisc(disc)
	if err != nil {
		return nil, err
	}
	var code []media.BootCode
	for _, b := range first.outside {
		data, err := readAll(b.File)
		if err != nil {
			return nil, err
		}
		code = append(code, media.NewBootCode(b.Path, b.offset, data))
	}
	if err := disc.Tree.SetBoot(code...); err != nil {
		return nil, err
	}
	return layDisc(disc)
}

// maxBootImage is the largest boot image: Microsoft's have less than 2 MiB.
const maxBootImage = 16 << 20

func readAll(f media.File) ([]byte, error) {
	if f.Size > maxBootImage {
		return nil, fmt.Errorf("%s: %d bytes is too large for a boot image of a disc", f.Path, f.Size)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	defer func() { _ = r.Close() }() // read only: nothing is lost
	data, err := io.ReadAll(r)
	if err == nil && int64(len(data)) != f.Size {
		err = fmt.Errorf("%d bytes where %d were announced", len(data), f.Size)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	return data, nil
}

// folder is a directory of such a disc.
type folder struct {
	name    string
	parent  *folder
	number  int // in the path table, from 1
	folders []*folder
	files   []*entry
	block   int64
	blocks  int64
}

type entry struct {
	name  string
	file  media.File
	block int64
}

// The blocks before the directories.
const (
	bootRecordBlock = pvdBlock + 1
	endBlock        = pvdBlock + 2
	catalogBlock    = pvdBlock + 3
	tableBlock      = pvdBlock + 4
)

// The boot images, by what they are in the manifest.
const (
	etfsboot = "boot sector of the disc for BIOS"
	efisys   = "boot image of the disc for UEFI"
)

// layDisc decides where all lies, and makes what is not files.
func layDisc(disc WindowsPE) (*image, error) {
	root := &folder{}
	root.parent = root
	boot := map[string]*entry{}
	for name, file := range map[string]media.File{etfsboot: disc.BIOS, efisys: disc.UEFI} {
		if file.Path = name; file.Size > 0 {
			boot[name] = &entry{file: file} // lies on the disc, but in no directory
		}
	}
	if boot[efisys] == nil {
		return nil, errors.New("a disc needs the boot image for UEFI: none given")
	}
	for _, f := range disc.Tree.Files {
		if f.Size > maxFile {
			return nil, fmt.Errorf("file %s: %d bytes is more than an ISO image holds in one file (4 GiB)", f.Path, f.Size)
		}
		if err := root.add(f); err != nil {
			return nil, err
		}
	}
	folders := root.sorted()
	next := int64(tableBlock)
	for _, d := range folders {
		d.blocks = d.size()
	}
	tables := int64(len(pathTable(folders, binary.LittleEndian)))
	tableBlocks := (tables + blockSize - 1) / blockSize
	next += 2 * tableBlocks
	for _, d := range folders {
		d.block = next
		next += d.blocks
	}
	img := &image{}
	put := func(e *entry) {
		e.block = next
		next += (e.file.Size + blockSize - 1) / blockSize
		if e.file.Size > 0 {
			img.files = append(img.files, placed{e.file, e.block * blockSize})
		}
	}
	for _, name := range []string{etfsboot, efisys} {
		if boot[name] != nil {
			put(boot[name])
		}
	}
	img.outside = slices.Clone(img.files)
	for _, d := range folders {
		for _, e := range d.files {
			put(e)
		}
	}
	if next > 1<<32-1 {
		return nil, errors.New("more than an ISO image holds")
	}
	img.size = (next + tailBlocks) * blockSize
	img.meta = newMemory(img.size)
	for at, data := range map[int64][]byte{
		pvdBlock: volumeDescriptor(disc.Tree, root, uint32(img.size/blockSize), uint32(tables), uint32(tableBlocks)),
		endBlock: append([]byte{255}, "CD001\x01"...), bootRecordBlock: bootRecord(),
		catalogBlock: catalog(boot[etfsboot], boot[efisys]), tableBlock: pathTable(folders, binary.LittleEndian), tableBlock + tableBlocks: pathTable(folders, binary.BigEndian),
	} {
		if _, err := img.meta.WriteAt(data, at*blockSize); err != nil {
			return nil, err
		}
	}
	for _, d := range folders {
		if _, err := img.meta.WriteAt(d.records(disc.Tree.Time), d.block*blockSize); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// add puts a file at its path, in capitals.
func (d *folder) add(f media.File) error {
	parts := strings.Split(strings.ToUpper(strings.Trim(path.Clean(f.Path), "/")), "/")
	for i, name := range parts {
		// ECMA-119 section 7.5 and 7.6 have fewer characters, of which "BOOTMGR.EXE.MUI" would be one too many dots.
		bad := func(r rune) bool {
			return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r)
		}
		if name == "" || name == "." || name == ".." || len(name) > 31 || strings.ContainsFunc(name, bad) || i >= maxDepth {
			return fmt.Errorf("file %s: no path for a disc: up to 31 letters, digits, and _ - . in each name, and %d folders deep", f.Path, maxDepth)
		}
		same := slices.ContainsFunc(d.files, func(e *entry) bool { return e.name == name })
		at := slices.IndexFunc(d.folders, func(c *folder) bool { return c.name == name })
		if same || i == len(parts)-1 && at >= 0 {
			return fmt.Errorf("file %s: there are two of this name", f.Path)
		}
		if i == len(parts)-1 {
			d.files = append(d.files, &entry{name: name, file: f})
			break
		}
		if at < 0 {
			d.folders = append(d.folders, &folder{name: name, parent: d})
			at = len(d.folders) - 1
		}
		d = d.folders[at]
	}
	return nil
}

// sorted sorts everything and lists the directories in the order of the path table: by depth, then by the number of
// the parent, then by name (ECMA-119 section 6.9.1).
func (d *folder) sorted() []*folder {
	list := []*folder{d}
	for i := 0; i < len(list); i++ {
		at := list[i]
		at.number = i + 1
		slices.SortFunc(at.folders, func(a, b *folder) int { return strings.Compare(a.name, b.name) })
		slices.SortFunc(at.files, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
		list = append(list, at.folders...)
	}
	return list
}

// size is the count of blocks that a directory takes.
func (d *folder) size() int64 {
	return int64(len(d.records(time.Time{})) / blockSize)
}

// records are a directory's, in order; none crosses a block (ECMA-119 section 6.8.1.1).
func (d *folder) records(when time.Time) []byte {
	type child struct {
		name string
		rec  []byte
	}
	var children []child
	for _, c := range d.folders {
		children = append(children, child{c.name, record(c.name, c.block, c.blocks*blockSize, 2, when)})
	}
	for _, e := range d.files {
		children = append(children, child{e.name, record(e.name, e.block, e.file.Size, 0, when)})
	}
	slices.SortFunc(children, func(a, b child) int { return cmp.Compare(a.name, b.name) })
	data := append(record("\x00", d.block, d.blocks*blockSize, 2, when), record("\x01", d.parent.block, d.parent.blocks*blockSize, 2, when)...)
	for _, c := range children {
		if left := blockSize - len(data)%blockSize; len(c.rec) > left {
			data = append(data, zeroBlock[:left]...)
		}
		data = append(data, c.rec...)
	}
	return append(data, make([]byte, (blockSize-len(data)%blockSize)%blockSize)...)
}

// record is a directory record (ECMA-119 section 9.1).
func record(name string, block, size int64, flags byte, when time.Time) []byte {
	b := make([]byte, (33+len(name)+1)&^1)
	b[0] = byte(len(b))
	bothEndian(b[2:], uint32(block))
	bothEndian(b[10:], uint32(size))
	copy(b[18:], shortDate(when))
	b[25] = flags
	copy(b[28:], []byte{1, 0, 0, 1}) // volume sequence number
	b[32] = byte(len(name))
	copy(b[33:], name)
	return b
}

// pathTable is ECMA-119 section 9.4.
func pathTable(folders []*folder, order interface {
	binary.ByteOrder
	binary.AppendByteOrder
}) (b []byte) {
	for _, d := range folders {
		name := cmp.Or(d.name, "\x00")
		b = append(b, byte(len(name)), 0)
		b = order.AppendUint32(b, uint32(d.block))
		b = order.AppendUint16(b, uint16(d.parent.number))
		b = append(b, name...)
		if len(name)%2 == 1 {
			b = append(b, 0)
		}
	}
	return b
}

// volumeDescriptor is the primary one (ECMA-119 section 8.4).
func volumeDescriptor(tree *media.Tree, root *folder, blocks, table, tableBlocks uint32) []byte {
	when := tree.Time
	b := make([]byte, blockSize)
	copy(b, "\x01CD001\x01")
	text := func(from, to int, s string) { copy(b[from:to], s+strings.Repeat(" ", to-from-len(s))) }
	text(8, 40, "")
	text(40, 72, tree.Label)
	bothEndian(b[80:], blocks)
	copy(b[120:], []byte{1, 0, 0, 1, 1, 0, 0, 1}) // one volume, the first
	copy(b[128:], []byte{0, 8, 8, 0})             // block size
	bothEndian(b[132:], table)
	binary.LittleEndian.PutUint32(b[140:], tableBlock)
	binary.BigEndian.PutUint32(b[148:], tableBlock+tableBlocks)
	copy(b[156:], record("\x00", root.block, root.blocks*blockSize, 2, when))
	text(190, 813, "") // who made it, and names of files that tell
	unset := append([]byte("0000000000000000"), 0)
	copy(b[813:], longDate(when))
	copy(b[830:], longDate(when))
	copy(b[847:], unset)
	copy(b[864:], unset)
	b[881] = 1
	return b
}

// bootRecord leads to the boot catalog (El Torito 1.0, figure 7).
func bootRecord() []byte {
	b := make([]byte, blockSize)
	copy(b, "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(b[0x47:], catalogBlock)
	return b
}

// catalog is the boot catalog (El Torito 1.0, section 2): an entry for a BIOS, where there is code for one, and one for
// UEFI (UEFI 2.10 section 13.3.2.1).
func catalog(bios, uefi *entry) []byte {
	const platformBIOS, platformUEFI = 0, 0xef
	b := make([]byte, 4*32)
	b[0] = 1
	b[30], b[31] = 0x55, 0xaa
	put := func(at int, e *entry) {
		b[at] = 0x88 // starts, emulates nothing
		binary.LittleEndian.PutUint16(b[at+6:], uint16(min((e.file.Size+sectorSize-1)/sectorSize, 0xffff)))
		binary.LittleEndian.PutUint32(b[at+8:], uint32(e.block))
	}
	if bios == nil {
		b[1] = platformUEFI
		put(32, uefi)
	} else {
		b[1] = platformBIOS
		put(32, bios)
		b[64], b[65], b[66] = 0x91, platformUEFI, 1 // the last section, of one entry
		put(96, uefi)
	}
	var sum uint16
	for at := 0; at < 32; at += 2 {
		sum += binary.LittleEndian.Uint16(b[at:])
	}
	binary.LittleEndian.PutUint16(b[28:], -sum)
	return b
}
