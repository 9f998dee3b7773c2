package keys

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// maxLine bounds one line. A row of an export has a few hundred characters.
const maxLine = 64 << 10

// lineReader splits a text into lines, whatever its encoding and line ends.
type lineReader struct {
	r    *bufio.Reader
	wide bool // UTF-16
	big  bool // … big-endian
	line int  // number of the line last returned
	buf  []byte

	afterCR bool
}

func newLineReader(r io.Reader) (*lineReader, error) {
	l := &lineReader{r: bufio.NewReaderSize(r, 64<<10)}
	head, err := l.r.Peek(256)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return nil, errors.New("this is a spreadsheet or zip file: save the table as CSV")
	case bytes.HasPrefix(head, []byte{0xef, 0xbb, 0xbf}):
		_, err = l.r.Discard(3)
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}):
		l.wide = true
		_, err = l.r.Discard(2)
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		l.wide, l.big = true, true
		_, err = l.r.Discard(2)
	default:
		l.wide, l.big, err = sniffUTF16(head)
	}
	return l, err
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
	return false, false, errors.New("this is not a text file: it holds zero bytes")
}

var errLongLine = fmt.Errorf("the line is longer than %d bytes", maxLine)

// next returns the next line without its end. Of a line that is too long only
// errLongLine is returned; the lines behind it are fine.
func (l *lineReader) next() (string, error) {
	l.buf = l.buf[:0]
	l.line++
	long := false
	for n := 0; ; n++ {
		r, err := l.rune()
		if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
			return "", err
		}
		if err != nil || r == '\n' || r == '\r' {
			if r == '\r' {
				l.afterCR = true
			}
			if long {
				return "", errLongLine
			}
			return string(l.buf), nil
		}
		if long = long || len(l.buf) >= maxLine; !long {
			l.buf = utf8.AppendRune(l.buf, r)
		}
	}
}

// rune returns the next character; a line feed that belongs to a carriage return
// before it is passed over.
func (l *lineReader) rune() (rune, error) {
	r, err := l.decode()
	if l.afterCR && err == nil {
		l.afterCR = false
		if r == '\n' {
			return l.decode()
		}
	}
	return r, err
}

func (l *lineReader) decode() (rune, error) {
	if l.wide {
		return l.decodeWide()
	}
	r, size, err := l.r.ReadRune()
	if r == utf8.RuneError && size == 1 && err == nil {
		// Not UTF-8, so a code page of old; Latin-1 gets most letters right.
		if err := l.r.UnreadRune(); err != nil {
			return 0, err
		}
		b, err := l.r.ReadByte()
		return rune(b), err
	}
	return r, err
}

func (l *lineReader) decodeWide() (rune, error) {
	u, err := l.unit()
	if err != nil || !utf16.IsSurrogate(rune(u)) {
		return rune(u), err
	}
	low, err := l.unit()
	if errors.Is(err, io.EOF) {
		return utf8.RuneError, nil
	}
	return utf16.DecodeRune(rune(u), rune(low)), err
}

// unit reads one UTF-16 unit; half of one at the end is dropped.
func (l *lineReader) unit() (uint16, error) {
	var b [2]byte
	if _, err := io.ReadFull(l.r, b[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return 0, err
	}
	if l.big {
		return uint16(b[0])<<8 | uint16(b[1]), nil
	}
	return uint16(b[1])<<8 | uint16(b[0]), nil
}
