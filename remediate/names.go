package remediate

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// foldRune maps a character to what stands for it in comparisons. NTFS compares
// by its $UpCase table, a one-to-one upper-casing of UTF-16 units; unicode's
// simple upper case agrees with it where rule packs are concerned.
func foldRune(r rune) rune {
	if r < utf8.RuneSelf {
		if 'a' <= r && r <= 'z' {
			return r - ('a' - 'A')
		}
		return r
	}
	return unicode.ToUpper(r)
}

// sameName reports whether NTFS takes the two names for one.
func sameName(a, b string) bool {
	if a == b {
		return true
	}
	return foldName(a) == foldName(b)
}

func foldName(s string) string { return strings.Map(foldRune, s) }

// matchName matches one path segment against a pattern in which * stands for any
// run of characters and ? for exactly one. It backtracks to the last star only,
// so its cost is at most the product of the two lengths.
func matchName(pattern, name string) bool {
	return matchExactly(foldName(pattern), foldName(name))
}

// matchExactly is the same where capitals matter.
func matchExactly(pattern, name string) bool {
	p, n := []rune(pattern), []rune(name)
	pi, ni := 0, 0
	star, mark := -1, 0
	for ni < len(n) {
		switch {
		case pi < len(p) && p[pi] == '*':
			star, mark = pi, ni
			pi++
		case pi < len(p) && (p[pi] == '?' || p[pi] == n[ni]):
			pi++
			ni++
		case star >= 0:
			mark++
			pi, ni = star+1, mark
		default:
			return false
		}
	}
	for pi < len(p) && p[pi] == '*' {
		pi++
	}
	return pi == len(p)
}

// Printable returns a name that came from a disk in a form safe for a terminal.
func Printable(name string) string {
	for _, r := range name {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return strconv.QuoteToGraphic(name)
		}
	}
	return name
}
