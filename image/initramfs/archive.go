// Package initramfs writes the two halves of the initial RAM file system that the Linux kernel unpacks
// before it starts /init: [Modules], made once with the boot bundle, and [Agent], the program itself.
//
// Both are cpio archives in the "newc" format. The kernel unpacks any number of them one after the other,
// each compressed or not, as long as every uncompressed one starts at a multiple of four bytes
// (Documentation/driver-api/early-userspace/buffer-format.rst). Modules is therefore padded to a multiple
// of 512 bytes, so that anything may follow it, and Agent comes last.
//
// Which modules there are to choose from is a [Tree]; [Tree.Select] adds what they depend on. How the
// agent finds them again at run time is package modtable.
package initramfs

import (
	"bytes"
	"fmt"
	"path"
	"sort"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
)

// File is a file, or with Link set a symbolic link, of the archive. Name has no leading slash.
type File struct {
	Name string
	Mode uint32 // permission bits; 0 means 0644
	Data []byte
	Link string
}

func (f File) record() cpio.Record {
	if f.Link != "" {
		return cpio.Symlink(f.Name, f.Link)
	}
	mode := uint64(f.Mode & 0o7777)
	if mode == 0 {
		mode = 0o644
	}
	return cpio.StaticRecord(f.Data, cpio.Info{Name: f.Name, Mode: cpio.S_IFREG | mode})
}

// Files returns an archive of nothing but the files and the directories that they need. Anything may follow it.
func Files(files []File) ([]byte, error) {
	records := make([]cpio.Record, len(files))
	for i, f := range files {
		records[i] = f.record()
	}
	return archive(records)
}

// archive writes the records sorted by name, with the directories that they need before them. Owner, time
// and inode number are zero, so that equal input gives equal bytes.
func archive(records []cpio.Record) ([]byte, error) {
	byName := map[string]cpio.Record{}
	for _, r := range records {
		r.Name = path.Clean(r.Name)
		if r.Name == "." || strings.HasPrefix(r.Name, "/") || strings.HasPrefix(r.Name, "../") {
			return nil, fmt.Errorf("initramfs: file name %q is not a relative path", r.Name)
		}
		if _, twice := byName[r.Name]; twice {
			return nil, fmt.Errorf("initramfs: two files are named %q", r.Name)
		}
		byName[r.Name] = r
	}
	for _, r := range records {
		for dir := path.Dir(path.Clean(r.Name)); dir != "."; dir = path.Dir(dir) {
			if _, ok := byName[dir]; !ok {
				byName[dir] = cpio.Directory(dir, 0o755)
			}
		}
	}
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	sort.Strings(names) // a directory sorts before what is in it

	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for _, name := range names {
		if err := w.WriteRecord(byName[name]); err != nil {
			return nil, fmt.Errorf("initramfs: write %s: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("initramfs: write trailer: %w", err)
	}
	if rest := out.Len() % blockSize; rest != 0 {
		out.Write(make([]byte, blockSize-rest))
	}
	return out.Bytes(), nil
}

// blockSize is what cpio archives are padded to by convention; the kernel asks for four.
const blockSize = 512
