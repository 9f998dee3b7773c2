package initramfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/bootmend/bootmend/image/initramfs/modtable"
)

// Tree is a kernel's module directory: every module that there is, by path.
type Tree struct {
	Version string // of the kernel, as in lib/modules/<version>

	open    func(path string) ([]byte, error)
	byName  map[string]string // canonical name → path below lib/modules/<version>, ending in .ko
	builtin map[string]string // the same of what is linked into the kernel
	loaded  map[string]*Module
}

// Module is one module of a selection.
type Module struct {
	Path string // below lib/modules/<version>, ending in .ko: "kernel/fs/ntfs3/ntfs3.ko"
	Info Modinfo
	Data []byte // the module itself, uncompressed, with the signature at its end
}

// NewTree makes a tree of the module files at paths ("kernel/…/x.ko", relative to lib/modules/<version>)
// that open returns uncompressed. builtin is the kernel's modules.builtin: one path a line.
func NewTree(version string, paths []string, builtin []byte, open func(path string) ([]byte, error)) (*Tree, error) {
	t := &Tree{
		Version: version, open: open,
		byName: map[string]string{}, builtin: map[string]string{}, loaded: map[string]*Module{},
	}
	for _, p := range paths {
		name := modtable.Name(p)
		if other, ok := t.byName[name]; ok {
			return nil, fmt.Errorf("kernel %s: modules %s and %s have the same name", version, other, p)
		}
		t.byName[name] = p
	}
	for line := range bytes.Lines(builtin) {
		if p := strings.TrimSpace(string(line)); p != "" {
			t.builtin[modtable.Name(p)] = p
		}
	}
	return t, nil
}

// Selection is what was chosen of a tree.
type Selection struct {
	Version string
	Modules []*Module // what was asked for and everything that it needs, sorted by path
	Builtin []string  // asked for, but linked into the kernel; sorted
	Missing []string  // asked for, but not in this kernel; sorted
	builtin []string  // all of the kernel's, for modules.builtin
}

// Select reads a list of modules (see assets/modules.list) and returns them with everything that they
// depend on. A name or pattern that this kernel lacks is no error: kernels differ.
//
// Each line names modules by name ("dm-crypt"), or by path below kernel/ when it holds a slash:
// "drivers/net/ethernet/intel/" is everything below that directory, "fs/nls/nls_iso8859-1*" is a glob.
// A line that starts with "-" takes modules out again that earlier lines chose. "#" starts a comment.
func (t *Tree) Select(list []byte) (*Selection, error) {
	sel := &Selection{Version: t.Version}
	chosen := map[string]bool{}
	sc := bufio.NewScanner(bytes.NewReader(list))
	for number := 1; sc.Scan(); number++ {
		text, _, _ := strings.Cut(sc.Text(), "#")
		for pattern := range strings.FieldsSeq(text) {
			bare, drop := strings.CutPrefix(pattern, "-")
			names, err := t.matching(bare)
			if err != nil {
				return nil, fmt.Errorf("module list, line %d: %w", number, err)
			}
			for _, name := range names {
				if drop {
					delete(chosen, name)
				} else {
					chosen[name] = true
				}
			}
			if len(names) == 0 && !drop {
				sel.Missing = append(sel.Missing, bare)
			}
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("module list: %w", err)
	}

	modules := map[string]*Module{}
	for name := range chosen {
		if t.builtin[name] != "" {
			sel.Builtin = append(sel.Builtin, name)
			continue
		}
		if err := t.closure(modules, name); err != nil {
			return nil, err
		}
	}
	for _, m := range modules {
		sel.Modules = append(sel.Modules, m)
	}
	sort.Slice(sel.Modules, func(i, j int) bool { return sel.Modules[i].Path < sel.Modules[j].Path })
	sort.Strings(sel.Builtin)
	slices.Sort(sel.Missing)
	for _, p := range t.builtin {
		sel.builtin = append(sel.builtin, p)
	}
	sort.Strings(sel.builtin)
	return sel, nil
}

// matching returns the canonical names that a pattern of the list stands for.
func (t *Tree) matching(pattern string) ([]string, error) {
	if !strings.Contains(pattern, "/") {
		name := modtable.Name(pattern)
		if t.byName[name] != "" || t.builtin[name] != "" {
			return []string{name}, nil
		}
		return nil, nil
	}
	var names []string
	for name, p := range t.byName {
		inside := strings.TrimSuffix(strings.TrimPrefix(p, "kernel/"), ".ko")
		if dir, ok := strings.CutSuffix(pattern, "/"); ok {
			if strings.HasPrefix(inside, dir+"/") {
				names = append(names, name)
			}
			continue
		}
		ok, err := path.Match(pattern, inside)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern, err)
		}
		if ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// closure adds a module and everything it needs.
func (t *Tree) closure(into map[string]*Module, name string) error {
	if into[name] != nil || t.builtin[name] != "" {
		return nil
	}
	m, err := t.load(name)
	if err != nil {
		return err
	}
	into[name] = m
	for _, dep := range m.Info.Depends {
		if t.byName[dep] == "" && t.builtin[dep] == "" {
			return fmt.Errorf("kernel %s: module %s depends on %s, which does not exist", t.Version, name, dep)
		}
		if err := t.closure(into, dep); err != nil {
			return err
		}
	}
	// Soft dependencies may name what this kernel does not have; they are wishes.
	for _, dep := range slices.Concat(m.Info.SoftPre, m.Info.SoftPost) {
		if t.byName[dep] == "" {
			continue
		}
		if err := t.closure(into, dep); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) load(name string) (*Module, error) {
	if m := t.loaded[name]; m != nil {
		return m, nil
	}
	p := t.byName[name]
	if p == "" {
		return nil, fmt.Errorf("kernel %s: no module %s", t.Version, name)
	}
	data, err := t.open(p)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: module %s: %w", t.Version, p, err)
	}
	info, err := ParseModule(data)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: module %s: %w", t.Version, p, err)
	}
	if info.Name == "" {
		info.Name = name
	}
	if info.Name != name {
		return nil, fmt.Errorf("kernel %s: module %s calls itself %s", t.Version, p, info.Name)
	}
	m := &Module{Path: p, Info: info, Data: data}
	t.loaded[name] = m
	return m, nil
}

// ErrNoModules is returned when a selection is empty, which no bootable media can be.
var ErrNoModules = errors.New("no kernel module chosen")
