package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxSource bounds a source. A hundred thousand keys take about 10 MB.
const maxSource = 256 << 20

var errNotText = errors.New("this is not a text file: it holds zero bytes")

// readAll reads a source whole.
func readAll(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	if f, ok := r.(interface{ Stat() (fs.FileInfo, error) }); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			b.Grow(int(min(info.Size(), maxSource)) + bytes.MinRead)
		}
	}
	if n, err := b.ReadFrom(io.LimitReader(r, maxSource+1)); err != nil {
		return nil, err
	} else if n > maxSource {
		return nil, fmt.Errorf("larger than %d MiB", maxSource>>20)
	}
	return b.Bytes(), nil
}

// decodeText makes UTF-8 of a text, whatever its encoding, and drops the byte
// order mark.
func decodeText(data []byte) (string, error) {
	switch {
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return "", errors.New("this is a spreadsheet or zip file: save the table as CSV")
	case bytes.HasPrefix(data, []byte("age-encryption.org/")), bytes.HasPrefix(data, []byte("-----BEGIN AGE ENCRYPTED FILE-----")):
		return "", errors.New("this is a sealed vault: open it first (bootmend keys open)")
	case bytes.HasPrefix(data, []byte{0xef, 0xbb, 0xbf}):
		data = data[3:]
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		return decodeUTF16(data[2:], false), nil
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return decodeUTF16(data[2:], true), nil
	default:
		wide, big, err := sniffUTF16(data[:min(len(data), 256)])
		if err != nil {
			return "", err
		}
		if wide {
			return decodeUTF16(data, big), nil
		}
	}
	if utf8.Valid(data) {
		return string(data), nil
	}
	// A code page of old; Latin-1 gets most letters of names right, and the
	// digits of keys are the same in all.
	var b strings.Builder
	b.Grow(len(data) + len(data)/16)
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 {
			r = rune(data[0])
		}
		b.WriteRune(r)
		data = data[size:]
	}
	return b.String(), nil
}

// sniffUTF16 recognises UTF-16 without a byte order mark by where its zeros are.
func sniffUTF16(head []byte) (wide, big bool, err error) {
	var zeros [2]int
	for i, b := range head {
		if b == 0 {
			zeros[i%2]++
		}
	}
	half := len(head) / 2
	switch {
	case zeros[0]+zeros[1] == 0:
		return false, false, nil
	case zeros[0] == 0 && zeros[1] > half/2:
		return true, false, nil
	case zeros[1] == 0 && zeros[0] > half/2:
		return true, true, nil
	}
	return false, false, errNotText
}

// decodeUTF16 drops half a unit at the end.
func decodeUTF16(data []byte, big bool) string {
	var b strings.Builder
	b.Grow(len(data)/2 + len(data)/16)
	unit := func(i int) rune {
		if big {
			return rune(data[i])<<8 | rune(data[i+1])
		}
		return rune(data[i+1])<<8 | rune(data[i])
	}
	for i := 0; i+1 < len(data); i += 2 {
		r := unit(i)
		if utf16.IsSurrogate(r) {
			var low rune
			if i+3 < len(data) {
				low = unit(i + 2)
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				i += 2
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

// maxLine bounds one line. A row of an export has a few hundred characters.
const maxLine = 64 << 10

var errLongLine = fmt.Errorf("the line is longer than %d bytes", maxLine)

// lineReader splits a text into lines, whatever their ends.
type lineReader struct {
	rest string
	line int // number of the line last returned
	// feed is how far the next line feed is known to be; old ends have none for long.
	feed int
}

// next returns the next line without its end; ok is false behind the last. A line
// ends with a line feed, a carriage return, or both.
func (l *lineReader) next() (line string, ok bool) {
	if l.rest == "" {
		return "", false
	}
	l.line++
	if l.feed <= 0 {
		if l.feed = strings.IndexByte(l.rest, '\n') + 1; l.feed == 0 {
			l.feed = len(l.rest) + 1
		}
	}
	end := l.feed - 1
	if cr := strings.IndexByte(l.rest[:end], '\r'); cr >= 0 {
		end = cr
	}
	line = l.rest[:end]
	switch {
	case strings.HasPrefix(l.rest[end:], "\r\n"):
		end += 2
	case end < len(l.rest):
		end++
	}
	l.rest = l.rest[end:]
	l.feed -= end
	return line, true
}
