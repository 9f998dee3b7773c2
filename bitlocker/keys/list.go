package keys

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"io"
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
	// Container is where a directory keeps the computer, as a distinguished
	// name such as "OU=PCs,DC=example,DC=com", or what the source calls its
	// organizational unit; empty where unknown.
	Container string
	Password  bitlocker.RecoveryPassword
	// File and Line are where the entry stands: the source's name, and a line
	// from 1.
	File string
	Line int
}

// Kind says what is wrong with a row.
type Kind string

// The kinds of problem.
const (
	// InvalidKey is a recovery password with a mistyped group, or something else
	// in its place.
	InvalidKey Kind = "invalid key"
	// NoKey is a row, often with a key ID, that has no recovery password.
	NoKey Kind = "no key"
	// InvalidID is a key that was kept without its ID, which is no GUID.
	InvalidID Kind = "invalid id"
	// Unreadable is a row, or a whole source, whose form is not understood.
	Unreadable Kind = "unreadable"
)

// RowError is a row that gave no key, or not all that it should have.
type RowError struct {
	File   string         `json:"file"`
	Line   int            `json:"line"`
	Kind   Kind           `json:"kind"`
	ID     bitlocker.GUID `json:"id,omitzero"` // of the key, where the row tells
	Reason string         `json:"reason"`      // never holds digits of a key
}

func (e RowError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason) }

// List is what a source gave. The same computer may have several keys.
type List struct {
	Entries []Entry
	// StartupKeys are the .BEK files among what was read.
	StartupKeys []StartupKey
	Problems    []RowError
	// Duplicates counts rows that repeated an earlier one and were dropped.
	Duplicates int
}

// Len is the number of keys of every kind.
func (l *List) Len() int { return len(l.Entries) + len(l.StartupKeys) }

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

// Merge puts several lists into one. What was in an earlier one is counted as a
// duplicate; sources are not changed.
func Merge(lists ...*List) *List {
	c := newCollector("")
	n := 0
	for _, l := range lists {
		n += len(l.Entries)
	}
	c.grow(n)
	for _, l := range lists {
		for _, e := range l.Entries {
			c.add(e)
		}
		for _, k := range l.StartupKeys {
			c.addStartupKey(k)
		}
		for _, p := range l.Problems {
			c.report(p)
		}
		c.list.Duplicates += l.Duplicates
	}
	c.finish()
	return c.list
}

// WriteCSV writes the canonical table, which [Read] reads: KeyID, RecoveryKey and,
// where any is known, ComputerName, OrganizationalUnit and StartupKey (a .BEK file
// in base64, in a row without recovery key). It holds the keys in clear text.
func (l *List) WriteCSV(w io.Writer) error {
	named, placed := false, false
	for _, e := range l.Entries {
		named = named || e.Computer != ""
		placed = placed || e.Container != ""
	}
	startup := len(l.StartupKeys) > 0
	out := csv.NewWriter(w)
	write := func(id, key, computer, container, bek string) {
		row := []string{id, key}
		if named {
			row = append(row, computer)
		}
		if placed {
			row = append(row, container)
		}
		if startup {
			row = append(row, bek)
		}
		_ = out.Write(row) // csv.Writer keeps its first error
	}
	write("KeyID", "RecoveryKey", "ComputerName", "OrganizationalUnit", "StartupKey")
	for _, e := range l.Entries {
		id := ""
		if e.HasID {
			id = e.ID.String()
		}
		write(id, e.Password.Reveal(), e.Computer, e.Container, "")
	}
	for _, k := range l.StartupKeys {
		write(k.ID.String(), "", "", "", base64.StdEncoding.EncodeToString(k.Data.Reveal()))
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write key list: %w", err)
	}
	return nil
}

const maxProblems = 10_000

// MaxStartupKeys is how many startup keys a list or a vault holds.
const MaxStartupKeys = 100_000

// collector gathers what a source gives.
type collector struct {
	name  string
	list  *List
	seen  map[seenKey]int
	files map[[sha256.Size]byte]bool // startup keys
	names map[string]string          // one copy of each name, apart from the source's text
	more  int                        // problems beyond maxProblems
	last  RowError
}

type seenKey struct {
	id       bitlocker.GUID
	hasID    bool
	password bitlocker.RecoveryPassword
}

func newCollector(name string) *collector {
	return &collector{name: name, list: &List{}, seen: map[seenKey]int{}, files: map[[sha256.Size]byte]bool{}, names: map[string]string{}}
}

// grow makes room for n entries.
func (c *collector) grow(n int) {
	if len(c.list.Entries) == 0 {
		c.list.Entries = make([]Entry, 0, n)
		c.seen = make(map[seenKey]int, n)
	}
}

// own copies a name that many rows share, so that it does not keep a whole file in
// memory.
func (c *collector) own(s string) string {
	if s == "" {
		return ""
	}
	if kept, ok := c.names[s]; ok {
		return kept
	}
	s = strings.Clone(s)
	c.names[s] = s
	return s
}

func (c *collector) add(e Entry) {
	if e.File == "" {
		e.File = c.name
	}
	e.Computer, e.Container = strings.Clone(e.Computer), c.own(e.Container)
	k := seenKey{e.ID, e.HasID, e.Password}
	i, ok := c.seen[k]
	if !ok {
		c.seen[k] = len(c.list.Entries)
		c.list.Entries = append(c.list.Entries, e)
		return
	}
	first := &c.list.Entries[i]
	if first.Computer == "" {
		first.Computer = e.Computer
	}
	if first.Container == "" {
		first.Container = e.Container
	}
	if e.Computer == "" || strings.EqualFold(first.Computer, e.Computer) {
		c.list.Duplicates++
		return
	}
	c.list.Entries = append(c.list.Entries, e)
}

func (c *collector) addStartupKey(k StartupKey) {
	sum := sha256.Sum256(k.Data.Reveal())
	if c.files[sum] {
		c.list.Duplicates++
		return
	}
	if len(c.list.StartupKeys) >= MaxStartupKeys {
		c.report(RowError{File: k.File, Line: k.Line, Kind: Unreadable, Reason: fmt.Sprintf("more than %d startup keys", MaxStartupKeys)})
		return
	}
	if k.File == "" {
		k.File = c.name
	}
	c.files[sum] = true
	c.list.StartupKeys = append(c.list.StartupKeys, k)
}

func (c *collector) problem(line int, kind Kind, format string, args ...any) {
	c.report(RowError{Line: line, Kind: kind, Reason: fmt.Sprintf(format, args...)})
}

func (c *collector) report(p RowError) {
	if p.File == "" {
		p.File = c.name
	}
	if len(c.list.Problems) >= maxProblems {
		c.more++
		c.last = p
		return
	}
	c.list.Problems = append(c.list.Problems, p)
}

// finish names what was too much to list.
func (c *collector) finish() {
	if c.more > 0 {
		c.last.Kind, c.last.ID, c.last.Reason = Unreadable, bitlocker.GUID{}, fmt.Sprintf("%d further problems are not listed", c.more)
		c.list.Problems = append(c.list.Problems, c.last)
	}
}
