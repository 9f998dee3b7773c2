package keys

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/bootmend/bootmend/bitlocker"
)

// These look for keys and IDs in text. They are no regular expressions: compiling
// those would take the agent longer than reading its keys, and running them over a
// hundred thousand rows too.

const guidLen = 36

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWord(c byte) bool {
	return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= utf8.RuneSelf
}

// findGUID finds the first GUID in s from byte from on; the index of its first
// byte, or -1.
func findGUID(s string, from int) int {
	for {
		dash := strings.IndexByte(s[from:], '-')
		if dash < 0 {
			return -1
		}
		start := from + dash - 8
		if start >= 0 && guidAt(s, start) {
			return start
		}
		from += dash + 1
	}
}

func guidAt(s string, start int) bool {
	if start+guidLen > len(s) || start > 0 && isWord(s[start-1]) && s[start-1] < utf8.RuneSelf ||
		start+guidLen < len(s) && (isWord(s[start+guidLen]) && s[start+guidLen] < utf8.RuneSelf || s[start+guidLen] == '-') {
		return false
	}
	for i := range guidLen {
		c := s[start+i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !isHex(c) {
				return false
			}
		}
	}
	return true
}

// parseGUID is bitlocker.ParseGUID for what guidAt recognises, without garbage.
func parseGUID(s string) (id bitlocker.GUID) {
	// Where the text's bytes stand in the GUID: the first three fields are
	// little-endian.
	order := [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15}
	at := 0
	for _, i := range order {
		if s[at] == '-' {
			at++
		}
		id[i] = nibble(s[at])<<4 | nibble(s[at+1])
		at += 2
	}
	return id
}

func nibble(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// guidsIn lists the GUIDs in a text.
func guidsIn(s string) []bitlocker.GUID {
	var ids []bitlocker.GUID
	for at := findGUID(s, 0); at >= 0; at = findGUID(s, at) {
		ids = append(ids, parseGUID(s[at:at+guidLen]))
		at += guidLen
	}
	return ids
}

// bracedGUID finds the ID that ends the name of a recovery object: "<time>{GUID}".
func bracedGUID(s string) (bitlocker.GUID, bool) {
	for at := findGUID(s, 0); at >= 0; at = findGUID(s, at+guidLen) {
		if at > 0 && s[at-1] == '{' && at+guidLen < len(s) && s[at+guidLen] == '}' {
			return parseGUID(s[at : at+guidLen]), true
		}
	}
	return bitlocker.GUID{}, false
}

// Digits that a recovery password may have been mistyped to.
const (
	minKeyDigits = 40
	maxKeyDigits = 63
)

// findKey finds the first thing in s from byte from on that may be a recovery
// password, a mistyped one too: 7 to 9 groups of 5 to 7 digits, or as many digits
// in one piece. start is -1 if there is none.
func findKey(s string, from int) (start, end int) {
	groups, first := 0, 0
	i := from
	for i < len(s) {
		if !isDigit(s[i]) {
			groups = 0
			i++
			continue
		}
		begin := i
		for i < len(s) && isDigit(s[i]) {
			i++
		}
		n := i - begin
		switch {
		case n >= minKeyDigits && n <= maxKeyDigits:
			return begin, i
		case n < 5 || n > 7:
			groups = 0
		default:
			if groups == 0 {
				first = begin
			}
			groups++
			if next := skipSeparators(s, i); next < len(s) && next-i <= 12 && isDigit(s[next]) {
				last := i
				run := next
				for run < len(s) && isDigit(s[run]) {
					run++
				}
				if run-next >= 5 && run-next <= 7 && groups < 9 {
					i = next
					continue
				}
				i = last
			}
			if groups >= 7 && groups <= 9 {
				return first, i
			}
			groups = 0
		}
	}
	return -1, -1
}

// skipSeparators passes over what may stand between two groups.
func skipSeparators(s string, i int) int {
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if !isKeySeparator(r) {
			break
		}
		i += size
	}
	return i
}

func isKeySeparator(r rune) bool {
	if r < utf8.RuneSelf {
		return r == '-' || r == ' ' || r >= '\t' && r <= '\r'
	}
	return unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) || r == '\u2212' || isInvisible(r)
}

// isInvisible recognises the marks that Windows in Hebrew or Arabic puts around
// left-to-right text, and the like.
func isInvisible(r rune) bool { return unicode.Is(unicode.Cf, r) }

// mayHoldKey reports whether s has as many digits as a key, mistyped or not.
func mayHoldKey(s string) bool {
	if len(s) < minKeyDigits-5 {
		return false
	}
	start, _ := findKey(s, 0)
	return start >= 0
}
