package keys

import (
	"encoding/csv"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/bootmend/bootmend/bitlocker"
)

// Entry is one recovery password and what it belongs to.
type Entry struct {
	// ID is the key protector that the password opens, where HasID says so.
	ID    bitlocker.GUID
	HasID bool
	// Computer is the short name of the computer, as the source spells it;
	// empty where unknown.
	Computer string
	Password bitlocker.RecoveryPassword
	// Line is where the entry stands in its source, from 1.
	Line int
}

// RowError is a row that gave no key, or not all that it should have.
type RowError struct {
	File   string
	Line   int
	Reason string // never holds digits of a key
}

func (e RowError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason) }

// List is what a source gave. The same computer may have several keys.
type List struct {
	Entries  []Entry
	Problems []RowError
	// Duplicates counts rows that repeated an earlier one and were dropped.
	Duplicates int
}

// ForProtector returns the entries of a key protector; there are several where
// sources contradict each other.
func (l *List) ForProtector(id bitlocker.GUID) []Entry {
	var found []Entry
	for _, e := range l.Entries {
		if e.HasID && e.ID == id {
			found = append(found, e)
		}
	}
	return found
}

// ForComputer returns the entries of a computer, in any case, with or without its
// domain.
func (l *List) ForComputer(name string) []Entry {
	name = shortName(name)
	if name == "" {
		return nil
	}
	var found []Entry
	for _, e := range l.Entries {
		if strings.EqualFold(e.Computer, name) {
			found = append(found, e)
		}
	}
	return found
}

// WriteCSV writes the canonical table: KeyID, RecoveryKey and, where any is known,
// ComputerName. It holds the keys in clear text.
func (l *List) WriteCSV(w io.Writer) error {
	named := false
	for _, e := range l.Entries {
		named = named || e.Computer != ""
	}
	out := csv.NewWriter(w)
	write := func(id, key, computer string) {
		row := []string{id, key}
		if named {
			row = append(row, computer)
		}
		_ = out.Write(row) // csv.Writer keeps its first error
	}
	write("KeyID", "RecoveryKey", "ComputerName")
	for _, e := range l.Entries {
		id := ""
		if e.HasID {
			id = e.ID.String()
		}
		write(id, e.Password.Reveal(), e.Computer)
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write key list: %w", err)
	}
	return nil
}

// shortName reduces what sources call a computer to its own name: a distinguished
// name (RFC 4514), DOMAIN\NAME, NAME$, or a fully qualified one.
func shortName(s string) string {
	s = strings.TrimSpace(s)
	if cns := commonNames(s); len(cns) > 0 {
		s = cns[0]
		// A recovery object is a child of its computer: CN=<time>{GUID},CN=<computer>.
		if strings.ContainsRune(s, '{') && len(cns) > 1 {
			s = cns[1]
		}
	}
	if i := strings.LastIndexByte(s, '\\'); i >= 0 {
		s = s[i+1:]
	}
	s = strings.TrimSuffix(s, "$")
	if _, err := netip.ParseAddr(s); err == nil {
		return s
	}
	// The first label of a domain name; a display name with blanks stays whole.
	if i := strings.IndexByte(s, '.'); i > 0 && !strings.ContainsAny(s, " \t") {
		s = s[:i]
	}
	return s
}

// commonNames lists the values of the CN parts of a distinguished name; none if s
// is not one.
func commonNames(s string) []string {
	if len(s) < 3 || !strings.EqualFold(s[:3], "CN=") {
		return nil
	}
	var names []string
	var part strings.Builder
	flush := func() {
		p := strings.TrimSpace(part.String())
		if len(p) >= 3 && strings.EqualFold(p[:3], "CN=") {
			names = append(names, p[3:])
		}
		part.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			part.WriteByte(s[i])
		case s[i] == ',':
			flush()
		default:
			part.WriteByte(s[i])
		}
	}
	flush()
	return names
}
