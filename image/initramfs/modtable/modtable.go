// Package modtable finds kernel modules at run time: which ones a device asks for, and what must be loaded
// before them. It reads the text tables of depmod(8) and is small, since it is part of /init.
//
// [Load] the tables, then [Table.Match] the text of a device's file "modalias", [Table.Deps] of each match
// and [Table.Path] of each of those.
package modtable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Table is what is known of the modules of one kernel. It does not change after it was made, and may be
// used concurrently.
type Table struct {
	dir     string
	modules map[string]module  // by canonical name
	soft    map[string]soft    // by canonical name
	aliases map[string][]alias // by the literal start of the pattern, see bucket
	builtin map[string]bool    // canonical names
}

type module struct {
	path string // as in modules.dep
	deps string // the rest of its line: paths, those to be loaded first at the end
}

type soft struct{ pre, post []string }

type alias struct{ pattern, name string }

// Load reads the tables in a directory such as /lib/modules/6.12.0. Tables of aliases, soft dependencies
// and built-in modules may be missing.
func Load(dir string) (*Table, error) {
	var texts [4][]byte
	for i, name := range []string{"modules.dep", "modules.alias", "modules.softdep", "modules.builtin"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && (i == 0 || !errors.Is(err, fs.ErrNotExist)) {
			return nil, err
		}
		texts[i] = data
	}
	t, err := Parse(texts[0], texts[1], texts[2], texts[3])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	t.dir = dir
	return t, nil
}

// Parse reads the tables' text. Any of them may be nil.
func Parse(dep, aliases, softdep, builtin []byte) (*Table, error) {
	t := &Table{
		modules: make(map[string]module, bytes.Count(dep, []byte{'\n'})+1),
		soft:    map[string]soft{},
		aliases: make(map[string][]alias, bytes.Count(aliases, []byte{'\n'})/4+1),
		builtin: make(map[string]bool, bytes.Count(builtin, []byte{'\n'})+1),
	}
	number := 0
	for line := range lines(dep, &number) {
		file, deps, ok := strings.Cut(line, ":")
		if !ok || file == "" {
			return nil, fmt.Errorf("modules.dep, line %d: expected \"path: paths\"", number)
		}
		t.modules[Name(file)] = module{file, deps}
	}
	for line := range lines(aliases, &number) {
		rest, isAlias := strings.CutPrefix(line, "alias ")
		pattern, name, ok := strings.Cut(rest, " ")
		if !isAlias || !ok || pattern == "" || name == "" {
			return nil, fmt.Errorf("modules.alias, line %d: expected \"alias pattern module\"", number)
		}
		pattern = Normalise(pattern)
		key := bucket(pattern)
		t.aliases[key] = append(t.aliases[key], alias{pattern, strings.TrimSpace(name)})
	}
	for line := range lines(softdep, &number) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "softdep" {
			return nil, fmt.Errorf("modules.softdep, line %d: expected \"softdep module pre: modules post: modules\"", number)
		}
		name := Normalise(words[1])
		s := t.soft[name]
		var to *[]string
		for _, word := range words[2:] {
			switch {
			case word == "pre:":
				to = &s.pre
			case word == "post:":
				to = &s.post
			case to != nil:
				*to = append(*to, word)
			}
		}
		t.soft[name] = s
	}
	for line := range lines(builtin, &number) {
		t.builtin[Name(line)] = true
	}
	return t, nil
}

// lines yields the lines that are neither empty nor comments, and counts them all in number.
func lines(data []byte, number *int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		*number = 0
		for rest := string(data); rest != ""; {
			var line string
			line, rest, _ = strings.Cut(rest, "\n")
			*number++
			if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
				continue
			}
			if !yield(line) {
				return
			}
		}
	}
}

// Name is a module's canonical name, from its name or path, compressed or not: "kernel/drivers/md/dm-crypt.ko.zst"
// is dm_crypt.
func Name(file string) string {
	file = file[strings.LastIndexByte(file, '/')+1:]
	if i := strings.Index(file, ".ko"); i >= 0 {
		file = file[:i]
	}
	return strings.ReplaceAll(file, "-", "_")
}

// Has tells whether there is a module of that name; a built-in one does not count.
func (t *Table) Has(name string) bool {
	_, ok := t.modules[Name(name)]
	return ok
}

// Builtin tells whether the module is part of the kernel.
func (t *Table) Builtin(name string) bool { return t.builtin[Name(name)] }

// Path returns the module's file, below the directory that was loaded; "" if there is none of that name.
func (t *Table) Path(name string) string {
	m, ok := t.modules[Name(name)]
	if !ok {
		return ""
	}
	return filepath.Join(t.dir, filepath.FromSlash(m.path))
}

// Deps returns what to load for a module, in order, the module itself included: its soft "pre:"
// dependencies, the modules it uses, the module, and its soft "post:" dependencies. It is empty if there
// is no such module.
func (t *Table) Deps(name string) []string {
	var order []string
	seen := map[string]bool{}
	t.visit(Name(name), seen, &order)
	return order
}

func (t *Table) visit(name string, seen map[string]bool, order *[]string) {
	m, ok := t.modules[name]
	if !ok || seen[name] {
		return
	}
	seen[name] = true // before its dependencies, so that a circle ends
	s := t.soft[name]
	t.visitSoft(s.pre, seen, order)
	for deps := strings.Fields(m.deps); len(deps) > 0; deps = deps[:len(deps)-1] {
		t.visit(Name(deps[len(deps)-1]), seen, order)
	}
	*order = append(*order, name)
	t.visitSoft(s.post, seen, order)
}

// visitSoft follows soft dependencies, which name modules or aliases ("platform:idma64").
func (t *Table) visitSoft(names []string, seen map[string]bool, order *[]string) {
	for _, name := range names {
		if t.Has(name) {
			t.visit(Name(name), seen, order)
			continue
		}
		for _, match := range t.Match(name) {
			t.visit(match, seen, order)
		}
	}
}
