package fat

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// checkName refuses what a long name cannot hold (fatgen103, "Long Directory Entries").
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("name %q is not allowed", name)
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return fmt.Errorf("name %q ends with a dot or space, which Windows drops: rename it", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q is not UTF-8: rename it", name)
	case len(utf16.Encode([]rune(name))) > 255:
		return errors.New("name is longer than 255 characters: shorten it")
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`"*/:<>?\|`, r) {
			return fmt.Errorf("name %q holds %q, which FAT does not allow: rename it", name, r)
		}
	}
	return nil
}

// fold makes names comparable as FAT drivers do.
func fold(name string) string {
	return strings.Map(func(r rune) rune { return unicode.ToUpper(r) }, name)
}

// shortRune reports whether a short name may hold r. Above ASCII it depends on a code page that the reader
// chooses, so such characters are left to the long name.
func shortRune(r rune) bool {
	return r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r < 0x80 && strings.ContainsRune("!#$%&'()-@^_`{}~", r)
}

// plainShort returns the 8.3 form of a name that needs no change but capitals.
func plainShort(name string) (s [11]byte, ok bool) {
	base, ext, dotted := strings.Cut(strings.ToUpper(name), ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || dotted && ext == "" {
		return s, false
	}
	for _, r := range base + ext {
		if !shortRune(r) {
			return s, false
		}
	}
	return pad(base, ext), true
}

func pad(base, ext string) (s [11]byte) {
	copy(s[:], "           ")
	copy(s[:8], base)
	copy(s[8:], ext)
	return s
}

// nameChildren gives every child its short name, and a long one where the short differs (fatgen103, "Basis-Name
// Generation Algorithm").
func (n *node) nameChildren() error {
	taken := make(map[[11]byte]bool, len(n.children))
	// Names that are short names by themselves keep them; an alias must not take one of them.
	var rest []*node
	for _, c := range n.children {
		short, ok := plainShort(c.name)
		if !ok {
			rest = append(rest, c)
			c.long = utf16.Encode([]rune(c.name))
			continue
		}
		c.short, taken[short] = short, true
		if strings.ToUpper(c.name) != c.name {
			c.long = utf16.Encode([]rune(c.name))
		}
	}
	tails := map[string]int{}
	for _, c := range rest {
		base, ext := basis(c.name)
		for {
			tails[base+"."+ext]++
			tail := fmt.Sprintf("~%d", tails[base+"."+ext])
			if len(tail) > 7 {
				return fmt.Errorf("name %q: too many names like it in one directory: rename it", c.name)
			}
			short := pad(base[:min(len(base), 8-len(tail))]+tail, ext)
			if !taken[short] {
				c.short, taken[short] = short, true
				break
			}
		}
	}
	return nil
}

// basis is what an alias is made of: capitals, no spaces, no dots but the last, '_' for what is not allowed.
func basis(name string) (base, ext string) {
	name = strings.TrimLeft(strings.ReplaceAll(strings.ToUpper(name), " ", ""), ".")
	base = name
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		base, ext = name[:i], name[i+1:]
	}
	clean := func(s string, limit int) string {
		var b strings.Builder
		for _, r := range strings.ReplaceAll(s, ".", "") {
			if b.Len() == limit {
				break
			}
			if !shortRune(r) {
				r = '_'
			}
			b.WriteRune(r)
		}
		return b.String()
	}
	return clean(base, 8), clean(ext, 3)
}

// longEntries is how many directory entries a long name takes.
func longEntries(long []uint16) int { return (len(long) + 12) / 13 }

// checksum ties long entries to their short one (fatgen103, ChkSum).
func checksum(short [11]byte) (sum byte) {
	for _, b := range short {
		sum = sum>>1 | sum<<7
		sum += b
	}
	return sum
}
