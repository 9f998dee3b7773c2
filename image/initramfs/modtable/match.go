package modtable

import "strings"

// maxBucket is as long as "pci:v00008086d", after which the patterns of one vendor's devices part.
const maxBucket = 14

// bucket is the part of a pattern by which it is found: what comes before the first wildcard, at most
// maxBucket bytes of it. A text can only match patterns whose bucket it starts with, so that a few look-ups
// replace some thousand comparisons.
func bucket(pattern string) string {
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		pattern = pattern[:i]
	}
	return pattern[:min(len(pattern), maxBucket)]
}

// Match returns the names of the modules that have an alias for a device's modalias ("pci:v0000…"), or
// for anything else that the kernel asks for by alias ("fs-vfat", "crypto-xts"). Each name comes once.
func (t *Table) Match(modalias string) []string {
	text := Normalise(strings.TrimSpace(modalias))
	var names []string
	for n := min(len(text), maxBucket); n >= 0; n-- {
		for _, a := range t.aliases[text[:n]] {
			if glob(a.pattern, text) && !contains(names, a.name) {
				names = append(names, a.name)
			}
		}
	}
	return names
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Normalise makes dashes underscores, as kmod does before it compares, except in brackets, where they mean
// a range.
func Normalise(s string) string {
	if strings.IndexByte(s, '-') < 0 {
		return s
	}
	b := []byte(s)
	for i, inside := 0, false; i < len(b); i++ {
		switch b[i] {
		case '[':
			inside = true
		case ']':
			inside = false
		case '-':
			if !inside {
				b[i] = '_'
			}
		}
	}
	return string(b)
}

// glob compares as fnmatch(3) does without flags: "*", "?", "[a-c]", "[!a-c]" and "\". On a mismatch it
// lets the last star eat one byte more, which is enough, so that the time is at most the product of the
// lengths.
func glob(pattern, text string) bool {
	p, t := 0, 0
	star, mark := -1, 0
	for t < len(text) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, t
			p++
			continue
		}
		if n, ok := one(pattern[p:], text[t]); ok {
			p, t = p+n, t+1
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, t = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// one compares one byte with the pattern's first element, of length n.
func one(pattern string, c byte) (n int, ok bool) {
	if pattern == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
	case '[':
		if n, ok, valid := class(pattern, c); valid {
			return n, ok
		}
	}
	return 1, pattern[0] == c
}

// class compares a byte with the bracket expression that the pattern starts with. One that is not closed
// is not valid, and stands for itself.
func class(pattern string, c byte) (n int, ok, valid bool) {
	i := 1
	negated := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negated {
		i++
	}
	for first := i; i < len(pattern); i++ {
		if pattern[i] == ']' && i > first {
			return i + 1, ok != negated, true
		}
		low, high := pattern[i], pattern[i]
		if i+2 < len(pattern) && pattern[i+1] == '-' && pattern[i+2] != ']' {
			high = pattern[i+2]
			i += 2
		}
		if low <= c && c <= high {
			ok = true
		}
	}
	return 0, false, false
}
