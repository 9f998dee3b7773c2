package keys

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// rdn is one part of a distinguished name, such as OU=PCs.
type rdn struct{ attr, value string }

// cutRDN takes the first part off a distinguished name (RFC 4514, section 2). ok is
// false if s is something else. It is lenient: what must be escaped may stand as it
// is where the meaning is clear, since exports write
// "CN=2024-03-11T08:12:00+01:00{…}".
func cutRDN(s string) (part rdn, rest string, ok bool) {
	equals := strings.IndexByte(s, '=')
	if equals < 1 {
		return rdn{}, s, false
	}
	part.attr = strings.TrimSpace(s[:equals])
	if !isAttribute(part.attr) {
		return rdn{}, s, false
	}
	end := equals + 1
	for end < len(s) && s[end] != ',' {
		if s[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(s))
	part.value = unescapeDN(strings.TrimSpace(s[equals+1 : end]))
	return part, strings.TrimSpace(s[min(end+1, len(s)):]), true
}

// parseDN reads a distinguished name.
func parseDN(s string) (parts []rdn, ok bool) {
	for s != "" {
		var part rdn
		if part, s, ok = cutRDN(s); !ok {
			return nil, false
		}
		parts = append(parts, part)
	}
	return parts, len(parts) > 0
}

// isAttribute recognises an attribute's name or object identifier.
func isAttribute(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return true
}

// unescapeDN resolves \, and \2C in a value.
func unescapeDN(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+2 < len(s) {
			if c, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.WriteByte(c[0])
				i += 2
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	if out := b.String(); utf8.ValidString(out) {
		return out
	}
	return s
}

// fromDN tells, of the distinguished name of a computer or of a recovery object,
// which is a child of its computer, the computer and where it is kept.
func fromDN(s string) (computer, container string, ok bool) {
	if len(s) < 3 || s[0]|0x20 != 'c' || s[1]|0x20 != 'n' {
		return "", "", false // most names are none
	}
	first, rest, ok := cutRDN(s)
	if !ok || !strings.EqualFold(first.attr, "CN") {
		return "", "", false
	}
	if strings.IndexByte(first.value, '{') >= 0 {
		if parent, above, ok := cutRDN(rest); ok && strings.EqualFold(parent.attr, "CN") {
			first, rest = parent, above
		}
	}
	if _, _, ok := cutRDN(rest); !ok {
		rest = ""
	}
	return first.value, rest, true
}

// shortName reduces what sources call a computer to its own name: a distinguished
// name, DOMAIN\NAME, NAME$, or a fully qualified one.
func shortName(s string) string {
	s = strings.TrimSpace(s)
	if cn, _, ok := fromDN(s); ok {
		s = cn
	}
	if i := strings.LastIndexByte(s, '\\'); i >= 0 {
		s = s[i+1:]
	}
	s = strings.TrimSuffix(s, "$")
	i := strings.IndexByte(s, '.')
	if i <= 0 || strings.ContainsAny(s, " \t") {
		return s // a display name with blanks stays whole
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return s
	}
	return s[:i]
}
