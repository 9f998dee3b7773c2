// Package sheet prints recovery keys as bar codes: [Write] makes an HTML page from
// which a scanner that counts as a keyboard types a machine's 48 digits, into
// Windows' recovery screen or into bootmend.
package sheet

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"rsc.io/qr"

	"github.com/bootmend/bootmend/bitlocker/keys"
)

// Code is a kind of bar code.
type Code string

// The kinds. Every scanner reads Code 128; QR codes are small, and phones show
// what they hold.
const (
	Code128 Code = "code128"
	QR      Code = "qr"
	Both    Code = "both"
)

//go:embed sheet.html
var text string

var page = template.Must(template.New("sheet").Parse(text))

type row struct {
	Computer, Container string
	Short, ID           string // key ID: its first 8 digits, and the rest
	Groups              []string
	Bars, Square        *figure
}

// figure is a bar code as an SVG path in units of modules, with its quiet zone.
type figure struct {
	Width, Height int
	Path          string
}

// Write writes the page for the list's recovery passwords, by computer. It loads
// nothing from elsewhere and holds the keys in clear text.
func Write(w io.Writer, list *keys.List, title string, code Code) error {
	entries := slices.Clone(list.Entries)
	slices.SortStableFunc(entries, func(a, b keys.Entry) int {
		if (a.Computer == "") != (b.Computer == "") {
			return strings.Compare(b.Computer, a.Computer) // those without a name come last
		}
		if c := strings.Compare(strings.ToLower(a.Computer), strings.ToLower(b.Computer)); c != 0 {
			return c
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	data := struct {
		Title string
		Count int
		Rows  func(yield func(row) bool)
	}{Title: title, Count: len(entries)}
	var failed error
	// One row after the other, so that a hundred thousand take no more memory.
	data.Rows = func(yield func(row) bool) {
		for _, e := range entries {
			r, err := newRow(e, code)
			if err != nil {
				failed = err
				return
			}
			if !yield(r) {
				return
			}
		}
	}
	if err := page.Execute(w, data); err != nil {
		return fmt.Errorf("write the sheet: %w", err)
	}
	return failed
}

func newRow(e keys.Entry, code Code) (row, error) {
	key := e.Password.Reveal()
	r := row{Computer: e.Computer, Container: e.Container, Groups: strings.Split(key, "-")}
	if e.HasID {
		id := e.ID.String()
		r.Short, r.ID = id[:8], id[8:]
	}
	digits := strings.ReplaceAll(key, "-", "")
	if code != QR {
		r.Bars = bars(digits)
	}
	if code != Code128 {
		square, err := square(digits)
		if err != nil {
			return row{}, err
		}
		r.Square = square
	}
	return r, nil
}

// square makes a QR code, which holds digits only in its numeric mode.
func square(digits string) (*figure, error) {
	const quiet = 4 // modules (ISO/IEC 18004, section 6.3.8)
	c, err := qr.Encode(digits, qr.M)
	if err != nil {
		return nil, fmt.Errorf("QR code: %w", err)
	}
	var path strings.Builder
	for y := range c.Size {
		for x := 0; x < c.Size; x++ {
			start := x
			for x < c.Size && c.Black(x, y) {
				x++
			}
			if x > start {
				fmt.Fprintf(&path, "M%d %dh%dv1h-%dz", quiet+start, quiet+y, x-start, x-start)
			}
		}
	}
	return &figure{c.Size + 2*quiet, c.Size + 2*quiet, path.String()}, nil
}
