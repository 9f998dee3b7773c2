package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/bootmend/bootmend/remediate"
)

// parseSMBIOS reads the machine's identity from the structures of an SMBIOS table (DSP0134, 7.2, System Information).
// What is missing or cut short stays empty.
func parseSMBIOS(table []byte) (id remediate.Identity) {
	for len(table) >= 4 && int(table[1]) >= 4 && int(table[1]) <= len(table) {
		kind, body := table[0], table[:table[1]]
		texts, rest := smbiosTexts(table[table[1]:])
		if kind == 1 {
			text := func(at int) string {
				if at >= len(body) || body[at] == 0 || int(body[at]) > len(texts) {
					return ""
				}
				return strings.TrimSpace(texts[body[at]-1])
			}
			id.Model = strings.TrimSpace(text(4) + " " + text(5))
			id.Serial = text(7)
			if len(body) >= 24 {
				id.UUID = smbiosUUID([16]byte(body[8:24]))
			}
			return id
		}
		table = rest
	}
	return id
}

// smbiosTexts are the strings behind a structure, which an empty one ends.
func smbiosTexts(b []byte) (texts []string, rest []byte) {
	for {
		text, after, found := bytes.Cut(b, []byte{0})
		if !found {
			return texts, nil
		}
		b = after
		if len(text) == 0 {
			if len(texts) == 0 && len(b) > 0 && b[0] == 0 {
				b = b[1:] // a structure without strings ends with two zeros
			}
			return texts, b
		}
		texts = append(texts, string(text))
	}
}

// smbiosUUID has its first three fields in the order of the processor (7.2.1); all zeros or ones are none.
func smbiosUUID(b [16]byte) string {
	if b == [16]byte{} || b == [16]byte(bytes.Repeat([]byte{0xff}, 16)) {
		return ""
	}
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b[0:]), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:])
}
