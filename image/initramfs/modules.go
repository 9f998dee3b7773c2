package initramfs

import (
	"bytes"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/bootmend/bootmend/image/initramfs/modtable"
	"github.com/u-root/u-root/pkg/cpio"
)

// Modules returns two archives with a selection's modules below lib/modules/<version>: one with the tables that find all of
// them, in the text formats of depmod(8), and one with the drivers of network cards, half of all bytes, which machines
// that need no network do without.
//
// The archives are not compressed, but every module in them is, with zstd: the kernel only copies the archives, and the
// agent decompresses just those modules that this machine's devices ask for.
func Modules(sel *Selection) (base, network []byte, err error) {
	if len(sel.Modules) == 0 {
		return nil, nil, fmt.Errorf("initramfs: kernel %s: %w", sel.Version, ErrNoModules)
	}
	packed, err := compressAll(sel.Modules)
	if err != nil {
		return nil, nil, fmt.Errorf("initramfs: compress modules: %w", err)
	}

	root := "lib/modules/" + sel.Version + "/"
	cards := sel.cards()
	var records, others []cpio.Record
	for i, m := range sel.Modules {
		to := &records
		if cards[m.Info.Name] {
			to = &others
		}
		*to = append(*to, File{Name: root + m.Path + ".zst", Data: packed[i]}.record())
	}
	for name, data := range map[string][]byte{
		"modules.dep":     sel.dep(),
		"modules.alias":   sel.alias(),
		"modules.softdep": sel.softdep(),
		"modules.builtin": []byte(strings.Join(sel.builtin, "\n") + "\n"),
	} {
		records = append(records, File{Name: root + name, Data: data}.record())
	}
	if base, err = archive(records); err != nil {
		return nil, nil, err
	}
	network, err = archive(others)
	return base, network, err
}

// cards are the names of modules for network cards that no other module needs.
func (sel *Selection) cards() map[string]bool {
	cards := map[string]bool{}
	for _, m := range sel.Modules {
		cards[m.Info.Name] = strings.HasPrefix(m.Path, "kernel/drivers/net/")
	}
	for again := true; again; {
		again = false
		for _, m := range sel.Modules {
			if cards[m.Info.Name] {
				continue
			}
			for _, dep := range m.Info.Depends {
				again = again || cards[dep]
				cards[dep] = false
			}
		}
	}
	return cards
}

// dep is modules.dep: a module's path, a colon, and the paths of all modules that it needs, those that
// must be loaded first at the end.
func (sel *Selection) dep() []byte {
	byName := map[string]*Module{}
	for _, m := range sel.Modules {
		byName[m.Info.Name] = m
	}
	var out bytes.Buffer
	for _, m := range sel.Modules {
		var order []*Module // deepest first
		seen := map[*Module]bool{m: true}
		var visit func(*Module)
		visit = func(m *Module) {
			for _, dep := range m.Info.Depends {
				d := byName[dep]
				if d == nil || seen[d] { // nil: built in
					continue
				}
				seen[d] = true
				visit(d)
				order = append(order, d)
			}
		}
		visit(m)
		fmt.Fprintf(&out, "%s.zst:", m.Path)
		for i := len(order) - 1; i >= 0; i-- {
			fmt.Fprintf(&out, " %s.zst", order[i].Path)
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func (sel *Selection) alias() []byte {
	var lines []string
	for _, m := range sel.Modules {
		for _, a := range m.Info.Alias {
			if strings.ContainsAny(a, " \t\n") {
				continue // depmod drops them too: the table's columns are parted by blanks
			}
			lines = append(lines, "alias "+modtable.Normalise(a)+" "+m.Info.Name)
		}
	}
	return table("# Aliases extracted from modules themselves.", lines)
}

func (sel *Selection) softdep() []byte {
	var lines []string
	for _, m := range sel.Modules {
		if len(m.Info.SoftPre)+len(m.Info.SoftPost) == 0 {
			continue
		}
		line := "softdep " + m.Info.Name
		if len(m.Info.SoftPre) > 0 {
			line += " pre: " + strings.Join(m.Info.SoftPre, " ")
		}
		if len(m.Info.SoftPost) > 0 {
			line += " post: " + strings.Join(m.Info.SoftPost, " ")
		}
		lines = append(lines, line)
	}
	return table("# Soft dependencies extracted from modules themselves.", lines)
}

func table(heading string, lines []string) []byte {
	sort.Strings(lines)
	return []byte(heading + "\n" + strings.Join(append(lines, ""), "\n"))
}

// compressAll compresses every module on its own, on all processors.
func compressAll(modules []*Module) ([][]byte, error) {
	workers := runtime.GOMAXPROCS(0)
	enc, err := newEncoder(workers)
	if err != nil {
		return nil, err
	}
	packed := make([][]byte, len(modules))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(modules); i = next.Add(1) - 1 {
				packed[i] = enc.EncodeAll(modules[i].Data, nil)
			}
		})
	}
	wg.Wait()
	return packed, enc.Close()
}
