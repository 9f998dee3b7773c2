// Package screen is what a person sees of a broken machine and types at it, on the Linux console and in Windows: a page
// that stays at the top (which machine this is and which step runs, the question for a key with its QR code, or the
// result in letters that can be read from two metres), and below it the lines that tell what happens, and what is asked.
//
// [Model] is all of it, driven by bubbletea; [Header], [Question] and [Result] draw the page, and an [Entry] takes what is
// typed. A serial line gets the same as plain lines, by [Teller]. The package knows nothing of the machine.
//
// Bubbletea costs the agent for Linux 0.13 MB of the 34 MiB of an ISO image, and 0.2 ms of its start. Keys come by a
// [Decoder] there and not by bubbletea's own reader, for they come from several lines, which may be slow enough to send
// what a cursor key does in pieces.
package screen

import (
	"strings"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"rsc.io/qr"
)

// MinLines is how many rows stay free for plain lines below a page; what leaves less is not shown.
const MinLines = 6

// Glyphs are the characters beyond ASCII that pages are made of. Where a font lacks one, pages go without pictures.
const Glyphs = "█▀▄"

// Field is the colour of the whole display.
type Field int

const (
	Plain Field = iota
	Good
	Bad
)

// base sets the colours that a row begins in and comes back to.
func (f Field) base() string { return bases[f] }

var bases = [...]string{Plain: "\x1b[0;37;40m", Good: "\x1b[0;1;37;42m", Bad: "\x1b[0;1;37;41m"}

// paint colours a row. What is right of it is erased in the colours that it ends with.
func (f Field) paint(row string) string {
	return f.base() + strings.ReplaceAll(row, normal, f.base()) + f.base()
}

const (
	bright  = "\x1b[1;37m"
	current = "\x1b[0;30;47m"
	wrong   = "\x1b[1;31m"
	normal  = "\x1b[0m"
)

// Step is a part of the work.
type Step int

const (
	Find Step = iota
	Unlock
	Look
	Heal
	Done
)

var stepNames = []string{"find disks", "unlock", "look", "heal", "done"}

// String is the step in a word or two.
func (s Step) String() string { return stepNames[s] }

// headerRows is how many rows a header has.
const headerRows = 2

// Header tells which machine this is and which step runs.
func Header(machine string, step Step, width int) []string {
	steps := make([]string, len(stepNames))
	for i, name := range stepNames {
		switch {
		case i == int(step):
			steps[i] = current + " " + name + " " + normal
		default:
			steps[i] = " " + name + " "
		}
	}
	return []string{bright + cut("bootmend | "+machine, width-1) + normal, strings.Join(steps, ">")}
}

// cut shortens plain text to width columns.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(0, width)])
}

// Key is what a helpdesk has to know to find a recovery key.
type Key struct {
	Computer string // empty where the volume does not tell
	ID       string // 8-4-4-4-12 hexadecimal digits
}

// text is what the QR code holds. In capitals it takes the smallest code (QR's alphanumeric mode).
func (k Key) text() string {
	return strings.ToUpper(strings.TrimSpace(k.Computer + " " + k.ID))
}

// pageWidth keeps the two parts of the question together on a wide display.
const pageWidth = 100

// qrWidth is how many columns the code with its margin may take.
const qrWidth = 37

// Question shows computer name and key ID in the groups in which they are read out, and the QR code of both. It is nil
// where that does not fit into room rows.
func Question(k Key, width, room int) []string {
	code := qrRows(k.text(), room)
	if code == nil || width < qrWidth+40 {
		return nil
	}
	left := []string{"", bright + "This machine needs its recovery key."}
	if k.Computer != "" {
		left = append(left, "", "Computer name", bright+"    "+cut(k.Computer, 32))
	}
	left = append(left, "", "Key ID")
	groups := strings.Split(k.ID, "-")
	left = append(left, bright+"    "+groups[0])
	if len(groups) == 5 {
		left = append(left, bright+"    "+strings.Join(groups[1:4], " - "), bright+"    "+inThrees(groups[4]))
	}
	left = append(left, "", "Read both to your helpdesk, or send it", "a photograph of the code: it holds both.")
	if len(left) > room {
		return nil
	}
	column := min(width, pageWidth) - qrWidth - 2
	for i, row := range code {
		at := ""
		if i < len(left) {
			at = left[i] + normal
		}
		code[i] = at + strings.Repeat(" ", max(0, column-ansi.StringWidth(at))) + row + normal
	}
	for len(code) < len(left) {
		code = append(code, left[len(code)])
	}
	return code
}

// inThrees breaks the twelve digits of a key ID's last group.
func inThrees(s string) string {
	var parts []string
	for ; len(s) > 3; s = s[3:] {
		parts = append(parts, s[:3])
	}
	return strings.Join(append(parts, s), " ")
}

// qrRows draws a QR code with half blocks, dark on light as readers want it, with as much margin as there is room for.
func qrRows(text string, room int) []string {
	for _, level := range []qr.Level{qr.M, qr.L} {
		code, err := qr.Encode(text, level)
		if err != nil {
			return nil
		}
		for margin := 4; margin >= 2; margin-- {
			size := code.Size + 2*margin
			if size > qrWidth || (size+1)/2 > room {
				continue
			}
			var rows []string
			for y := -margin; y < code.Size+margin; y += 2 {
				row := "\x1b[0;30;47m"
				for x := -margin; x < code.Size+margin; x++ {
					row += halves[half{code.Black(x, y), code.Black(x, y+1)}]
				}
				rows = append(rows, row)
			}
			return rows
		}
	}
	return nil
}

type half struct{ upper, lower bool }

var halves = map[half]string{{false, false}: " ", {true, false}: "▀", {false, true}: "▄", {true, true}: "█"}

// Result draws words as large as they fit into room rows, one below the other if they have to be. It is nil where even
// small letters do not fit.
func Result(words string, width, room int) []string {
	var best []string
	for scale := 1; ; scale++ {
		rows := bigRows([]string{words}, scale, width, room)
		if rows == nil {
			rows = bigRows(strings.Fields(words), scale, width, room)
		}
		if rows == nil {
			return best
		}
		best = rows
	}
}

// bigRows draws each line with pixels of 2*scale columns and scale rows, centred, with a free row above and below.
func bigRows(lines []string, scale, width, room int) []string {
	rows := []string{""}
	for _, line := range lines {
		columns := (len(line)*(glyphWidth+1) - 1) * 2 * scale
		if columns >= width {
			return nil
		}
		margin := strings.Repeat(" ", (width-columns)/2)
		for y := range glyphHeight {
			row := ""
			for i := range len(line) {
				glyph, ok := font[line[i]]
				if !ok {
					return nil
				}
				for x := range glyphWidth + 1 { // with the gap to the next letter
					pixel := " "
					if x < glyphWidth && glyph[y][x] == '#' {
						pixel = "█"
					}
					row += strings.Repeat(pixel, 2*scale)
				}
			}
			for range scale {
				rows = append(rows, bright+margin+strings.TrimRight(row, " "))
			}
		}
		rows = append(rows, "")
	}
	if len(rows) > room {
		return nil
	}
	return rows
}
