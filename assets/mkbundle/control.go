package main

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
)

// stanza is one paragraph of a Debian control file: field → value (deb822(5)). Continuation lines keep
// their line breaks.
type stanza map[string]string

// parseStanzas reads paragraphs parted by empty lines.
func parseStanzas(data []byte) ([]stanza, error) {
	var all []stanza
	var field string
	current := stanza{}
	flush := func() {
		if len(current) > 0 {
			all, current, field = append(all, current), stanza{}, ""
		}
	}
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 4<<20)
	for number := 1; sc.Scan(); number++ {
		line := sc.Text()
		switch {
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if field == "" {
				return nil, fmt.Errorf("control file, line %d: continues no field", number)
			}
			current[field] += "\n" + strings.TrimSpace(line)
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				return nil, fmt.Errorf("control file, line %d: no colon after the field's name", number)
			}
			field = name
			current[field] = strings.TrimSpace(value)
		}
	}
	flush()
	return all, sc.Err()
}

func (s stanza) arch() string {
	if a := s["Architecture"]; a != "all" {
		return a
	}
	return "amd64" // apt finds packages of all architectures under the first
}

// source is the source package and its version that the package was built from: its own, unless the
// field Source says otherwise ("name" or "name (version)").
func (s stanza) source() sourceRef {
	ref := sourceRef{Name: s["Package"], Version: s["Version"]}
	if field := s["Source"]; field != "" {
		name, version, _ := strings.Cut(field, " ")
		ref.Name = name
		if v := strings.Trim(strings.TrimSpace(version), "()"); v != "" {
			ref.Version = v
		}
	}
	return ref
}

// sourceRef names a source package.
type sourceRef struct{ Name, Version string }

// builtUsing returns the sources that went into the package besides its own, which is where the source of
// a signed program is: the package that carries the signature has next to none.
func (s stanza) builtUsing() []sourceRef {
	var refs []sourceRef
	for _, field := range []string{"Built-Using", "Static-Built-Using"} {
		for _, d := range parseDepends(s[field]) {
			refs = append(refs, sourceRef(d))
		}
	}
	return refs
}

// dependency is the first alternative of one dependency.
type dependency struct {
	Name    string
	Version string // of "(= version)" and its like, without the relation
}

func parseDepends(field string) []dependency {
	var all []dependency
	for part := range strings.SplitSeq(field, ",") {
		first, _, _ := strings.Cut(part, "|")
		name, relation, _ := strings.Cut(strings.TrimSpace(first), "(")
		name, _, _ = strings.Cut(strings.TrimSpace(name), ":") // "libc6:amd64"
		if name == "" {
			continue
		}
		all = append(all, dependency{
			Name:    name,
			Version: strings.TrimLeft(strings.TrimSuffix(strings.TrimSpace(relation), ")"), "<>= "),
		})
	}
	return all
}
