package screen

import (
	"strings"
	"unicode/utf8"
)

// Wrap breaks a line between words so that it fits a screen of width columns, and indents what follows two
// columns deeper than its beginning. A word that fits nowhere is left to the screen. Width 0 breaks nothing.
func Wrap(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) < width {
		return s
	}
	text := strings.TrimLeft(s, " ")
	indent := strings.Repeat(" ", len(s)-len(text))
	var out strings.Builder
	out.WriteString(indent)
	column := len(indent)
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n < width: // the last column makes some consoles break by themselves
			out.WriteByte(' ')
			column++
		default:
			out.WriteString("\r\n" + indent + "  ")
			column = len(indent) + 2
		}
		out.WriteString(word)
		column += n
	}
	return out.String()
}
