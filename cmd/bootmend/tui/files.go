package tui

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// files is the list below a path that is being typed: the folders and fitting files of the folder typed so far.
type files struct {
	question *Question
	dir      string
	entries  []entry
	selected int // -1: the typed text itself
}

type entry struct {
	name   string
	folder bool
}

func newFiles(q *Question) *files { return &files{question: q, selected: -1} }

// maxEntries bounds the list of a folder with very many files.
const maxEntries = 2000

// update reads the folder of what is typed and lists what begins like the rest of it.
func (f *files) update(text string) {
	dir, prefix := split(text)
	f.dir, f.entries, f.selected = dir, nil, -1
	at := dir
	if at == "" {
		at = "."
	}
	list, err := os.ReadDir(plainPath(at))
	if err != nil {
		return
	}
	for _, e := range list {
		name := e.Name()
		if !strings.HasPrefix(strings.ToLower(name), strings.ToLower(prefix)) || strings.HasPrefix(name, ".") && !strings.HasPrefix(prefix, ".") {
			continue
		}
		folder := e.IsDir()
		if !folder && e.Type()&os.ModeSymlink != 0 {
			info, err := os.Stat(filepath.Join(plainPath(at), name))
			folder = err == nil && info.IsDir()
		}
		if folder || f.fits(name) {
			f.entries = append(f.entries, entry{name, folder})
		}
		if len(f.entries) >= maxEntries {
			break
		}
	}
	slices.SortStableFunc(f.entries, func(a, b entry) int {
		switch {
		case a.folder == b.folder:
			return strings.Compare(strings.ToLower(a.name), strings.ToLower(b.name))
		case a.folder:
			return 1 // files first: they are what is looked for
		}
		return -1
	})
}

func (f *files) fits(name string) bool {
	return len(f.question.Patterns) == 0 || slices.ContainsFunc(f.question.Patterns, func(p string) bool {
		ok, _ := filepath.Match(p, strings.ToLower(name))
		return ok
	})
}

// split takes a typed path apart after its last separator.
func split(text string) (dir, rest string) {
	i := strings.LastIndexFunc(text, func(r rune) bool { return r == '/' || os.IsPathSeparator(uint8(r&0x7f)) && r < 0x80 })
	return text[:i+1], text[i+1:]
}

func (f *files) move(key string) {
	step := map[string]int{"up": -1, "down": 1, "pgup": -8, "pgdown": 8}[key]
	f.selected = max(-1, min(len(f.entries)-1, f.selected+step))
}

func (f *files) path(e entry) string {
	text := f.dir + e.name
	if e.folder {
		text += string(filepath.Separator)
	}
	return text
}

// complete fills in the selected entry, or as much as all entries have in common.
func (f *files) complete(text string) (string, bool) {
	switch {
	case f.selected >= 0:
		return f.path(f.entries[f.selected]), true
	case len(f.entries) == 1:
		return f.path(f.entries[0]), true
	case len(f.entries) == 0:
		return text, false
	}
	common := f.entries[0].name
	for _, e := range f.entries[1:] {
		for !strings.HasPrefix(strings.ToLower(e.name), strings.ToLower(common)) {
			common = common[:len(common)-1]
		}
	}
	if _, rest := split(text); len(common) <= len(rest) {
		return text, false
	}
	return f.dir + common, true
}

// choose is what Enter does: the selected file is the answer, a selected folder is gone into. What is typed is the
// answer as it stands; a typed folder is gone into where only a file can be the answer.
func (f *files) choose(text string) (answer string, descend bool) {
	if f.selected >= 0 {
		e := f.entries[f.selected]
		return f.path(e), e.folder
	}
	if info, err := os.Stat(plainPath(text)); err == nil && info.IsDir() && text != "" && !f.question.Folders {
		if _, rest := split(text); rest != "" {
			text += string(filepath.Separator)
			return text, true
		}
	}
	return text, false
}

// view shows the entries, and which line of them is selected.
func (f *files) view(width, room int) (lines []string, selected int) {
	from := max(0, min(f.selected-room/2, len(f.entries)-room))
	for i := from; i < min(len(f.entries), from+room); i++ {
		e := f.entries[i]
		text := "  " + e.name
		if e.folder {
			text += string(filepath.Separator)
		}
		style := styles[Soft]
		if i == f.selected {
			text, style, selected = "> "+text[2:], styles[Strong], i-from
		}
		lines = append(lines, style.Render(ansi.Truncate(text, width, "...")))
	}
	if more := len(f.entries) - from - len(lines); more > 0 {
		lines = append(lines, styles[Soft].Render("  ... "+strconv.Itoa(more)+" more"))
	}
	return lines, selected
}
