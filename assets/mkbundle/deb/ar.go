package deb

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// member is one file of an ar archive.
type member struct {
	name string
	*io.SectionReader
}

const (
	arMagic  = "!<arch>\n"
	arHeader = 60

	// maxMembers bounds what a hostile archive makes us remember; a package has three, rarely five.
	maxMembers = 64
)

// readAr reads the headers of an ar archive (ar(5), the common part of the variants): 60 bytes of text,
// the data, and a newline when the data's length is odd.
func readAr(r io.ReaderAt, size int64) ([]member, error) {
	magic := make([]byte, len(arMagic))
	if size < int64(len(magic)) {
		return nil, errors.New("ar: shorter than its signature")
	}
	if _, err := r.ReadAt(magic, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("ar: signature: %w", err)
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("ar: offset 0: signature %q, expected %q", magic, arMagic)
	}
	var members []member
	for off := int64(len(arMagic)); off < size; {
		if size-off < arHeader {
			return nil, fmt.Errorf("ar: offset %d: %d bytes left, expected a header of %d", off, size-off, arHeader)
		}
		var h [arHeader]byte
		if _, err := r.ReadAt(h[:], off); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("ar: offset %d: %w", off, err)
		}
		if string(h[58:60]) != "`\n" { // ar_fmag
			return nil, fmt.Errorf("ar: offset %d: header ends in %q, expected \"`\\n\"", off, h[58:60])
		}
		length, err := strconv.ParseUint(strings.TrimRight(string(h[48:58]), " "), 10, 40) // ar_size
		if err != nil {
			return nil, fmt.Errorf("ar: offset %d: size %q is not a number", off, h[48:58])
		}
		off += arHeader
		if int64(length) > size-off {
			return nil, fmt.Errorf("ar: offset %d: member of %d bytes, but %d are left", off, length, size-off)
		}
		if len(members) == maxMembers {
			return nil, fmt.Errorf("ar: offset %d: more than %d members", off, maxMembers)
		}
		members = append(members, member{
			name:          strings.TrimSuffix(strings.TrimRight(string(h[0:16]), " "), "/"), // ar_name
			SectionReader: io.NewSectionReader(r, off, int64(length)),
		})
		off += int64(length) + int64(length%2)
	}
	return members, nil
}
