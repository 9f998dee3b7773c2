package main

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/bootmend/bootmend/remediate"
)

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// sizeText is a disk's size as printed on its label.
func sizeText(n int64) string {
	switch {
	case n >= 1e12:
		return fmt.Sprintf("%.1f TB", float64(n)/1e12)
	case n >= 1e9:
		return fmt.Sprintf("%.0f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.0f MB", float64(n)/1e6)
}

// oneLine is an error for the screen and the log; joined errors have a line each.
func oneLine(err error) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", "; ")), " ")
}

// describe names a machine.
func describe(id remediate.Identity) string {
	model := id.Model
	if model == "" {
		model = "unknown model"
	}
	if id.Serial != "" {
		model += ", serial number " + id.Serial
	}
	return model
}

// harmless keeps names that come from a disk from steering the terminal.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}
