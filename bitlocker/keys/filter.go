package keys

import (
	"fmt"
	"path"
	"strings"
	"unicode"

	"github.com/bootmend/bootmend/bitlocker"
)

// Filter chooses keys, so that media carry only what their bearer needs. Several
// values of a kind are alternatives; a key must fit every kind that is given.
// Startup keys, which name no computer, are chosen by ID only.
type Filter struct {
	// Computers are names with the wildcards of [path.Match], in any case.
	Computers []string
	// OUs are organizational units: the name of one ("Berlin"), or the end of a
	// distinguished name ("OU=Berlin,OU=PCs"); those inside them count too.
	OUs []string
	// IDs are key IDs, or at least their first 8 digits, which is what recovery
	// screens show.
	IDs []string
}

// IsZero reports whether f lets every key pass.
func (f Filter) IsZero() bool { return len(f.Computers)+len(f.OUs)+len(f.IDs) == 0 }

// Apply returns the keys that f chooses, with the list's problems, and those values
// of f that fit none of what the other kinds leave. The error is for a value that is none.
func (f Filter) Apply(l *List) (chosen *List, unused []string, err error) {
	if f.IsZero() {
		return l, nil, nil
	}
	m, err := f.compile()
	if err != nil {
		return nil, nil, err
	}
	chosen = &List{Problems: l.Problems, Duplicates: l.Duplicates}
	for _, e := range l.Entries {
		if m.fits(e) {
			chosen.Entries = append(chosen.Entries, e)
		}
	}
	for _, k := range l.StartupKeys {
		if len(f.Computers)+len(f.OUs) == 0 && m.fitsID(k.ID) {
			chosen.StartupKeys = append(chosen.StartupKeys, k)
		}
	}
	for _, kind := range [][]string{f.Computers, f.OUs, f.IDs} {
		for _, v := range kind {
			if !m.used[v] {
				unused = append(unused, v)
			}
		}
	}
	return chosen, unused, nil
}

type matcher struct {
	Filter
	computers  []string // lower case
	units      [][]rdn
	ids        map[bitlocker.GUID]string
	prefixes   map[string]string // upper case, without dashes
	used       map[string]bool   // values of the filter
	containers map[string]bool   // whether a container fits: many computers share one
}

func (f Filter) compile() (*matcher, error) {
	m := &matcher{Filter: f, ids: map[bitlocker.GUID]string{}, prefixes: map[string]string{}, used: map[string]bool{}, containers: map[string]bool{}}
	for _, c := range f.Computers {
		pattern := strings.ToLower(c)
		if _, err := path.Match(pattern, ""); err != nil || c == "" {
			return nil, fmt.Errorf("computer name %q: a bracket is not closed, or the name is empty", c)
		}
		m.computers = append(m.computers, pattern)
	}
	for _, ou := range f.OUs {
		parts, ok := parseDN(ou)
		if !ok {
			parts = []rdn{{"OU", strings.TrimSpace(ou)}}
		}
		if strings.TrimSpace(ou) == "" {
			return nil, fmt.Errorf("organizational unit %q has no name", ou)
		}
		m.units = append(m.units, parts)
	}
	for _, id := range f.IDs {
		if g, err := bitlocker.ParseGUID(id); err == nil {
			m.ids[g] = id
			continue
		}
		prefix := strings.ToUpper(strings.ReplaceAll(strings.Trim(id, "{} "), "-", ""))
		if len(prefix) < 8 || strings.ContainsFunc(prefix, func(r rune) bool { return r > unicode.MaxASCII || !isHex(byte(r)) }) {
			return nil, fmt.Errorf("key ID %q: want a GUID, or at least its first 8 digits", id)
		}
		m.prefixes[prefix] = id
	}
	return m, nil
}

func (m *matcher) fits(e Entry) bool {
	return m.fitsComputer(e.Computer) && m.fitsContainer(e.Container) && (len(m.IDs) == 0 || e.HasID && m.fitsID(e.ID))
}

func (m *matcher) fitsComputer(name string) bool {
	if len(m.computers) == 0 {
		return true
	}
	name = strings.ToLower(name)
	fit := false
	for i, pattern := range m.computers {
		if ok, _ := path.Match(pattern, name); ok {
			m.used[m.Computers[i]] = true
			fit = true
		}
	}
	return fit
}

func (m *matcher) fitsID(id bitlocker.GUID) bool {
	if len(m.IDs) == 0 {
		return true
	}
	fit := false
	if v, ok := m.ids[id]; ok {
		m.used[v] = true
		fit = true
	}
	if len(m.prefixes) == 0 {
		return fit
	}
	digits := strings.ReplaceAll(id.String(), "-", "")
	for n := 8; n <= len(digits); n++ {
		if v, ok := m.prefixes[digits[:n]]; ok {
			m.used[v] = true
			fit = true
		}
	}
	return fit
}

func (m *matcher) fitsContainer(container string) bool {
	if len(m.units) == 0 {
		return true
	}
	fit, known := m.containers[container]
	if known {
		return fit
	}
	parts, ok := parseDN(container)
	if !ok {
		// Not a distinguished name: a path of names, or the names in a row.
		for _, name := range strings.FieldsFunc(container, func(r rune) bool { return strings.ContainsRune(`/\,`, r) }) {
			parts = append(parts, rdn{"OU", strings.TrimSpace(name)})
		}
	}
	for i, unit := range m.units {
		if contains(parts, unit) {
			m.used[m.OUs[i]] = true
			fit = true
		}
	}
	m.containers[container] = fit
	return fit
}

// contains reports whether some parts of a name, one after the other, are those of
// unit.
func contains(parts, unit []rdn) bool {
	for start := 0; start+len(unit) <= len(parts); start++ {
		same := true
		for i, u := range unit {
			p := parts[start+i]
			same = same && strings.EqualFold(p.attr, u.attr) && strings.EqualFold(p.value, u.value)
		}
		if same {
			return true
		}
	}
	return false
}
