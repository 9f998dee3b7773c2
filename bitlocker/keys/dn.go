package keys

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// rdn is one part of a distinguished name, such as OU=PCs.
type rdn struct{ attr, value string }

// parseDN reads a distinguished name (RFC 4514, section 2). ok is false if s is
// something else. It is lenient: what must be escaped may stand as it is where
// the meaning is clear, since exports write "CN=2024-03-11T08:12:00+01:00{…}".
func parseDN(s string) (parts []rdn, ok bool) {
	if !strings.Contains(s, "=") {
		return nil, false
	}
	for len(s) > 0 {
		end := 0
		for end < len(s) && s[end] != ',' {
			if s[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end, len(s))
		attr, value, found := strings.Cut(s[:end], "=")
		attr = strings.TrimSpace(attr)
		if !found || !isAttribute(attr) {
			return nil, false
		}
		parts = append(parts, rdn{attr, unescapeDN(strings.TrimSpace(value))})
		if end == len(s) {
			break
		}
		s = s[end+1:]
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

// escapeDN writes a value so that parseDN and directories read it.
func escapeDN(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(`,+"\<>;=`, s[i]) >= 0 || (i == 0 && (s[i] == '#' || s[i] == ' ')) || (i == len(s)-1 && s[i] == ' ') {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func formatDN(parts []rdn) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strings.ToUpper(p.attr) + "=" + escapeDN(p.value))
	}
	return b.String()
}

// fromDN tells, of the distinguished name of a computer or of a recovery object,
// which is a child of its computer, the computer and where it is kept.
func fromDN(s string) (computer, container string, ok bool) {
	// Most names are none; this keeps a long list quick.
	if len(s) < 3 || s[2] != '=' && !strings.Contains(s, "=") {
		return "", "", false
	}
	parts, ok := parseDN(s)
	if !ok || !strings.EqualFold(parts[0].attr, "CN") {
		return "", "", false
	}
	if strings.ContainsRune(parts[0].value, '{') && len(parts) > 1 && strings.EqualFold(parts[1].attr, "CN") {
		parts = parts[1:]
	}
	return parts[0].value, formatDN(parts[1:]), true
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
