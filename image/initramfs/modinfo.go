package initramfs

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strings"

	"github.com/bootmend/bootmend/image/initramfs/modtable"
)

// Modinfo is what a kernel module says of itself in the ELF section ".modinfo": strings "key=value", each
// ended by a zero byte (include/linux/moduleparam.h, MODULE_INFO).
type Modinfo struct {
	Name     string   // as the kernel calls it, with underscores
	Depends  []string // modules whose symbols this one uses
	SoftPre  []string // softdep "pre:", to be loaded before
	SoftPost []string // softdep "post:", to be loaded after
	Alias    []string
	Firmware []string
	License  string
}

// maxModinfo bounds the section; the largest of Debian's kernel is 70 KiB.
const maxModinfo = 4 << 20

// ParseModule reads the Modinfo of an uncompressed kernel module.
func ParseModule(ko []byte) (Modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return Modinfo{}, fmt.Errorf("kernel module: %w", err)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return Modinfo{}, errors.New("kernel module: no section .modinfo")
	}
	// FileSize is what the file really holds; a compressed section would claim more.
	if section.Type == elf.SHT_NOBITS || section.Flags&elf.SHF_COMPRESSED != 0 || section.FileSize > maxModinfo {
		return Modinfo{}, fmt.Errorf("kernel module: section .modinfo at offset %d is not plain text of at most %d bytes", section.Offset, maxModinfo)
	}
	data, err := section.Data()
	if err != nil {
		return Modinfo{}, fmt.Errorf("kernel module: section .modinfo at offset %d: %w", section.Offset, err)
	}
	return parseModinfo(data), nil
}

func parseModinfo(data []byte) Modinfo {
	var info Modinfo
	for entry := range strings.SplitSeq(string(data), "\x00") {
		key, value, ok := strings.Cut(entry, "=")
		if !ok {
			continue
		}
		switch key {
		case "name":
			info.Name = modtable.Name(value)
		case "license":
			info.License = value
		case "alias":
			info.Alias = append(info.Alias, value)
		case "firmware":
			info.Firmware = append(info.Firmware, value)
		case "depends":
			for name := range strings.SplitSeq(value, ",") {
				if name != "" {
					info.Depends = append(info.Depends, modtable.Name(name))
				}
			}
		case "softdep":
			pre, post := parseSoftdep(value)
			info.SoftPre = append(info.SoftPre, pre...)
			info.SoftPost = append(info.SoftPost, post...)
		}
	}
	return info
}

// parseSoftdep reads "pre: a b post: c" (modprobe.d(5), softdep).
func parseSoftdep(value string) (pre, post []string) {
	list := (*[]string)(nil)
	for word := range strings.FieldsSeq(value) {
		switch {
		case word == "pre:":
			list = &pre
		case word == "post:":
			list = &post
		case list != nil:
			*list = append(*list, modtable.Name(word))
		}
	}
	return pre, post
}
