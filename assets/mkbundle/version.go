package main

import "strings"

// compareVersions orders two Debian package versions: negative when a is older than b (deb-version(7)).
func compareVersions(a, b string) int {
	epochA, a := cutEpoch(a)
	epochB, b := cutEpoch(b)
	if c := compareParts(epochA, epochB); c != 0 {
		return c
	}
	upstreamA, revisionA := cutRevision(a)
	upstreamB, revisionB := cutRevision(b)
	if c := compareParts(upstreamA, upstreamB); c != 0 {
		return c
	}
	return compareParts(revisionA, revisionB)
}

func cutEpoch(v string) (epoch, rest string) {
	if e, r, ok := strings.Cut(v, ":"); ok {
		return e, r
	}
	return "0", v
}

func cutRevision(v string) (upstream, revision string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, "0"
}

// compareParts compares by turns the longest prefix without digits, by character, and the longest of
// digits, by number.
func compareParts(a, b string) int {
	for a != "" || b != "" {
		var textA, textB string
		textA, a = span(a, func(c byte) bool { return !isDigit(c) })
		textB, b = span(b, func(c byte) bool { return !isDigit(c) })
		for i := 0; i < max(len(textA), len(textB)); i++ {
			if d := weight(textA, i) - weight(textB, i); d != 0 {
				return d
			}
		}
		var numA, numB string
		numA, a = span(a, isDigit)
		numB, b = span(b, isDigit)
		numA, numB = strings.TrimLeft(numA, "0"), strings.TrimLeft(numB, "0")
		if d := len(numA) - len(numB); d != 0 {
			return d
		}
		if d := strings.Compare(numA, numB); d != 0 {
			return d
		}
	}
	return 0
}

// weight puts the tilde before everything, also before the end, and letters before other characters.
func weight(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case 'A' <= s[i] && s[i] <= 'Z', 'a' <= s[i] && s[i] <= 'z':
		return int(s[i])
	default:
		return int(s[i]) + 256
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func span(s string, in func(byte) bool) (head, tail string) {
	i := 0
	for i < len(s) && in(s[i]) {
		i++
	}
	return s[:i], s[i:]
}
