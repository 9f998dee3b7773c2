package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

// loadOption is a Boot#### variable (UEFI 2.10, section 3.1.3, EFI_LOAD_OPTION), as far as it matters here:
// which file of which GPT partition it starts.
type loadOption struct {
	Description string
	// Partition is the GPT entry's unique GUID in its on-disk byte order; zero for other media.
	Partition [16]byte
	// Number, Start and Blocks place the partition, in the disk's logical blocks.
	Number        uint32
	Start, Blocks uint64
	// File is the path on that partition, with backslashes.
	File string
}

// windowsLoader is where Windows installs its boot manager on the EFI system partition.
const windowsLoader = `\EFI\Microsoft\Boot\bootmgfw.efi`

// Device path nodes: UEFI 2.10, section 10.3.5.
const (
	nodeMedia     = 0x04
	mediaHD       = 0x01
	mediaFile     = 0x04
	nodeEnd       = 0x7f
	endEntire     = 0xff
	hdNodeSize    = 42
	formatGPT     = 2
	signatureGUID = 2
	optionActive  = 1
)

var errLoadOption = errors.New("not a boot option")

func parseLoadOption(data []byte) (loadOption, error) {
	var o loadOption
	if len(data) < 6 {
		return o, errLoadOption
	}
	pathLen := int(binary.LittleEndian.Uint16(data[4:]))
	rest := data[6:]
	description, n, ok := utf16Z(rest)
	if !ok || len(rest)-n < pathLen {
		return o, errLoadOption
	}
	o.Description = description
	for path := rest[n : n+pathLen]; len(path) >= 4; {
		size := int(binary.LittleEndian.Uint16(path[2:]))
		if size < 4 || size > len(path) {
			return o, errLoadOption
		}
		node := path[:size]
		switch {
		case node[0] == nodeMedia && node[1] == mediaHD && size >= hdNodeSize && node[40] == formatGPT && node[41] == signatureGUID:
			o.Number = binary.LittleEndian.Uint32(node[4:])
			o.Start = binary.LittleEndian.Uint64(node[8:])
			o.Blocks = binary.LittleEndian.Uint64(node[16:])
			copy(o.Partition[:], node[24:40])
		case node[0] == nodeMedia && node[1] == mediaFile:
			file, _, _ := utf16Z(node[4:])
			o.File += file
		case node[0] == nodeEnd && node[1] == endEntire:
			return o, nil
		}
		path = path[size:]
	}
	return o, nil
}

// startsWindows tells a Windows Boot Manager entry by what it starts, not by its name, which is translated.
func (o loadOption) startsWindows() bool { return strings.EqualFold(o.File, windowsLoader) }

// windowsInOrder is the first boot entry of Windows that the firmware would try by itself. order is the variable BootOrder;
// get reads another one.
func windowsInOrder(order []byte, get func(name string) ([]byte, error)) (number uint16, o loadOption, err error) {
	for ; len(order) >= 2; order = order[2:] {
		number = binary.LittleEndian.Uint16(order)
		data, err := get(fmt.Sprintf("Boot%04X", number))
		if err != nil {
			continue // an entry that was removed
		}
		if o, err := parseLoadOption(data); err == nil && o.startsWindows() {
			return number, o, nil
		}
	}
	return 0, o, errors.New("it has no boot entry of Windows")
}

// marshal writes the variable's content.
func (o loadOption) marshal() []byte {
	var path []byte
	path = append(path, nodeMedia, mediaHD, hdNodeSize, 0)
	path = binary.LittleEndian.AppendUint32(path, o.Number)
	path = binary.LittleEndian.AppendUint64(path, o.Start)
	path = binary.LittleEndian.AppendUint64(path, o.Blocks)
	path = append(path, o.Partition[:]...)
	path = append(path, formatGPT, signatureGUID)
	file := putUTF16Z(o.File)
	path = append(path, nodeMedia, mediaFile)
	path = binary.LittleEndian.AppendUint16(path, uint16(4+len(file)))
	path = append(path, file...)
	path = append(path, nodeEnd, endEntire, 4, 0)

	data := binary.LittleEndian.AppendUint32(nil, optionActive)
	data = binary.LittleEndian.AppendUint16(data, uint16(len(path)))
	data = append(data, putUTF16Z(o.Description)...)
	return append(data, path...)
}

// utf16Z reads a NUL-ended UTF-16LE string and tells how many bytes it took.
func utf16Z(b []byte) (string, int, bool) {
	var units []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u := binary.LittleEndian.Uint16(b[i:])
		if u == 0 {
			return string(utf16.Decode(units)), i + 2, true
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), len(b), false
}

func putUTF16Z(s string) []byte {
	var out []byte
	for _, u := range append(utf16.Encode([]rune(s)), 0) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

// bootNumber reads a variable's name, Boot0001 or the like.
func bootNumber(name string) (uint16, bool) {
	var n uint16
	if len(name) != 8 || !strings.HasPrefix(name, "Boot") {
		return 0, false
	}
	if _, err := fmt.Sscanf(name[4:], "%04X", &n); err != nil || fmt.Sprintf("Boot%04X", n) != name {
		return 0, false
	}
	return n, true
}

// gptGUID turns a GUID's text form into the order in which GPT and device paths store it.
func gptGUID(text string) ([16]byte, error) {
	var g [16]byte
	var a uint32
	var b, c uint16
	var d, e uint64
	if _, err := fmt.Sscanf(text, "%8x-%4x-%4x-%4x-%12x", &a, &b, &c, &d, &e); err != nil {
		return g, fmt.Errorf("%q is not a GUID", text)
	}
	binary.LittleEndian.PutUint32(g[0:], a)
	binary.LittleEndian.PutUint16(g[4:], b)
	binary.LittleEndian.PutUint16(g[6:], c)
	binary.BigEndian.PutUint64(g[8:], d<<48|e)
	return g, nil
}
