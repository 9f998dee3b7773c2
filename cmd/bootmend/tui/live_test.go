package tui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"

	"github.com/bootmend/bootmend/cmd/bootmend/control"
	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate"
)

// floor is a Fleet that a test makes up.
type floor struct {
	machines []control.Machine
	rings    []control.RingView
	halted   string
	down     error
	looks    int
	who      string
}

func (f *floor) Look(_ context.Context, filter store.Filter, offset, most int) (v control.View, err error) {
	f.looks++
	if f.down != nil {
		return v, f.down
	}
	v.Halted, v.Rings, v.Totals.Machines = f.halted, f.rings, len(f.machines)
	var list []control.Machine
	for _, m := range f.machines {
		is := store.Left
		switch {
		case m.Outcome == "" && len(m.Waiting) > 0:
			is = store.Waiting
			v.Totals.Waiting++
		case m.Outcome == "":
			is = store.Healing
			v.Totals.Healing++
		case m.Bad():
			is = store.NotHealed
			v.Totals.Bad++
		case m.Good():
			is = store.Healed
			v.Totals.Healed++
		}
		if filter == store.All || filter == is {
			list = append(list, m)
		}
	}
	v.Offset = max(0, min(offset, len(list)-most))
	v.Machines = list[v.Offset:min(len(list), v.Offset+most)]
	return v, nil
}

func (f *floor) Detail(_ context.Context, run string) (control.Detail, error) {
	for _, m := range f.machines {
		if m.Run == run {
			d := control.Detail{Machine: m, UUID: "4c4c4544-0042-3510-8052-b4c04f4e4d32", Version: "1.0", Decision: "heal"}
			if m.Outcome != "" {
				for i := range 40 {
					d.Log = append(d.Log, control.LogLine{Time: noon.Add(time.Duration(i) * time.Second), Text: fmt.Sprintf("disk: name sd%d, size 512", i)})
				}
			}
			return d, nil
		}
	}
	return control.Detail{}, errors.New("the machine is not there any more")
}

func (f *floor) Watch(ctx context.Context, changed func() error) error {
	if err := changed(); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f *floor) Pause(_ context.Context, who string) error {
	f.halted, f.who = "paused by a person", who
	return f.down
}

func (f *floor) Resume(context.Context, string) error { f.halted = ""; return f.down }

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// someFloor has machines of all kinds.
func someFloor() *floor {
	at := func(ago time.Duration) time.Time { return noon.Add(-ago) }
	f := &floor{
		machines: []control.Machine{
			{Run: "r1", Name: "PC-0417", ComputerName: "PC-0417", Serial: "PF2A0417", Model: "ThinkPad T14 Gen 3", Address: "10.0.0.17", Ring: "tenth",
				Step: "waits for a key", Since: at(4 * time.Minute), Seen: at(2 * time.Second),
				Waiting: []control.Waiting{{KeyID: "99999999-2222-3333-4444-555555555555", Volume: "PC-0417 C: 1/1/2024"}}},
			{Run: "r2", Name: "5CD1234XYZ", Serial: "5CD1234XYZ", Ring: "tenth", Step: "waits for a key", Since: at(31 * time.Second), Seen: at(time.Second),
				Waiting: []control.Waiting{{KeyID: "88888888-2222-3333-4444-555555555555"}}, CanApprove: true},
			{Run: "r3", Name: "PC-0009", Serial: "PF2A0009", Ring: "tenth", Step: "heals", Since: at(3 * time.Second), Seen: at(3 * time.Second)},
			{Run: "r4", Name: "PC-0011", Serial: "PF2A0011", Ring: "pilot", Step: "done", Outcome: remediate.OutcomeHealed,
				Message: "1 file moved into the quarantine", Since: at(26 * time.Hour), Seen: at(26 * time.Hour)},
			{Run: "r5", Name: "エンジニア-0012", Serial: "PF2A0012", Ring: "tenth", Step: "done", Outcome: remediate.OutcomeNeedsPerson,
				Message: "Windows is hibernated: start it once and shut it down", Since: at(130 * time.Hour), Seen: at(130 * time.Hour)},
			{Run: "r6", Name: "PC-0013", Serial: "PF2A0013", Ring: "pilot", Step: "done", Outcome: remediate.OutcomeDryRun, Since: at(2 * time.Hour), Seen: at(2 * time.Hour)},
		},
		rings: []control.RingView{
			{Name: "pilot", Open: true, DryRun: true, Done: 2, Well: 2},
			{Name: "tenth", Open: true, Done: 1},
			{Name: "all", Next: true},
		},
	}
	return f
}

// manyFloor has as many machines as a building.
func manyFloor(n int) *floor {
	f := &floor{}
	for i := range n {
		f.machines = append(f.machines, control.Machine{Run: fmt.Sprint("r", i), Name: fmt.Sprintf("PC-%05d", i), Step: "heals", Since: noon})
	}
	return f
}

// watcher presses keys in a live view.
type watcher struct {
	t    *testing.T
	m    *table
	quit bool
}

func newWatcher(t *testing.T, f *floor) *watcher {
	t.Helper()
	told := &Live{}
	told.lines = []string{"11:59:01 answering machines at https://10.0.0.1:8443 with 214 keys", "11:59:58 5CD1234XYZ has started (10.0.0.18)"}
	w := &watcher{t: t, m: newTable(t.Context(), f, told, "https://10.0.0.1:8443/", []string{
		"Page:                   https://10.0.0.1:8443/",
		"Its certificate:        SHA-256 " + strings.Repeat("0123456789abcdef", 4),
		"Token to sign in:       " + strings.Repeat("ABCDEFGHIJKLM", 4),
	})}
	w.m.now = func() time.Time { return noon }
	w.run(w.m.look())
	return w
}

func (w *watcher) run(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case tea.QuitMsg:
		w.quit = true
	case tea.BatchMsg:
		for _, c := range msg {
			w.run(c)
		}
	default:
		_, next := w.m.Update(msg)
		w.run(next)
	}
}

func (w *watcher) press(keys ...string) *watcher {
	w.t.Helper()
	named := map[string]tea.KeyType{"enter": tea.KeyEnter, "esc": tea.KeyEsc, "up": tea.KeyUp, "down": tea.KeyDown, "pgdown": tea.KeyPgDown,
		"pgup": tea.KeyPgUp, "home": tea.KeyHome, "end": tea.KeyEnd, "tab": tea.KeyTab, "shift+tab": tea.KeyShiftTab, "ctrl+c": tea.KeyCtrlC}
	for _, k := range keys {
		msg := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
		if kind, ok := named[k]; ok {
			msg = tea.KeyMsg{Type: kind}
		}
		_, cmd := w.m.Update(msg)
		w.run(cmd)
	}
	return w
}

func (w *watcher) changed() *watcher {
	_, cmd := w.m.Update(changedMsg{})
	w.run(cmd)
	return w
}

func (w *watcher) size(width, height int) *watcher {
	_, cmd := w.m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	w.run(cmd)
	return w
}

func (w *watcher) text() string { return ansi.Strip(w.m.View()) }

func (w *watcher) see(want ...string) *watcher {
	w.t.Helper()
	for _, text := range want {
		if !strings.Contains(w.text(), text) {
			w.t.Fatalf("the screen does not show %q:\n%s", text, w.text())
		}
	}
	return w
}

func (w *watcher) notSee(text string) *watcher {
	w.t.Helper()
	if strings.Contains(w.text(), text) {
		w.t.Fatalf("the screen shows %q:\n%s", text, w.text())
	}
	return w
}

// fits makes sure that the screen is as large as the terminal and no larger.
func (w *watcher) fits() *watcher {
	w.t.Helper()
	lines := strings.Split(w.text(), "\n")
	if len(lines) != w.m.height {
		w.t.Errorf("%d lines at a height of %d:\n%s", len(lines), w.m.height, w.text())
	}
	for i, line := range lines {
		if ansi.StringWidth(line) > w.m.width {
			w.t.Errorf("line %d does not fit in %d columns: %q", i+1, w.m.width, line)
		}
	}
	return w
}

// golden compares the screen with testdata/live/name.txt.
func (w *watcher) golden(name string) *watcher {
	w.t.Helper()
	w.fits()
	path := filepath.Join(golden, "live", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(w.text()+"\n"), 0o600); err != nil {
			w.t.Fatal(err)
		}
		return w
	}
	want, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.text()+"\n" != string(want) {
		w.t.Errorf("screen %s is\n%s\nwant\n%s", name, w.text(), want)
	}
	return w
}

// TestLive goes through the live view as the person does who sits at the server.
func TestLive(t *testing.T) {
	f := &floor{}
	w := newWatcher(t, f).golden("nobody")
	*f = *someFloor()
	w.changed().golden("table").see("> PC-0417")
	w.press("i").golden("sign-in").press("esc").see("MACHINE")
	w.press("enter").golden("waiting").press("q").see("MACHINE")
	w.press("down", "down", "down", "enter").golden("log").press("up", "up").see("lines 30 to 38 of 40").press("pgup", "pgup", "pgup", "pgup").see("lines 1 to 9 ")
	w.press("esc").size(160, 40).golden("large")
	w.size(80, 24).press("f").see("only: waiting for a key (2)").notSee("PC-0011").press("f", "f").see("only: not healed (1)").golden("filter")
	w.press("shift+tab", "shift+tab", "shift+tab").see("PC-0011").press("6").see("only: left as they were (1)", "PC-0013").press("1")

	// Nothing is done by one key alone.
	w.press("p").see("Pause? ").press("n").notSee("Pause? ").press("p", "x").see("Pause? ").press("y")
	if f.halted == "" || f.who != who {
		t.Fatalf("halted %q by %q", f.halted, f.who)
	}
	w.see("Healing is paused.").changed().press("x").golden("paused").press("p").see("paused already")
	w.press("r").see("Resume healing?").press("esc").press("r", "y").see("Healing goes on.").changed().notSee("No machine is healed")
	if f.halted != "" {
		t.Error("it was to go on")
	}
	w.press("r").see("is not paused").press("py") // in one reading of the terminal
	if f.halted == "" {
		t.Error("it was to be paused")
	}
	if _, cmd := w.m.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("ry"), Paste: true}); cmd != nil || f.halted == "" {
		t.Error("a pasted text is taken for keys")
	}
	w.press("q").see("Stop the server? 3 machines under way").press("n")
	if w.quit {
		t.Error("the server was not to stop")
	}
	if w.press("ctrl+c", "ctrl+c"); !w.quit {
		t.Error("Ctrl-C, and again: it was to stop")
	}
}

// TestLiveQuits at once where no machine is under way.
func TestLiveQuits(t *testing.T) {
	if w := newWatcher(t, &floor{}).press("q"); !w.quit {
		t.Error("there was nothing to ask")
	}
}

// TestLiveProblems shows what does not work.
func TestLiveProblems(t *testing.T) {
	f := someFloor()
	w := newWatcher(t, f)
	f.down = errors.New("database: gone")
	w.changed().golden("down").press("p", "y").see("database: gone")
	f.down = nil
	w.changed().notSee("does not answer").press("enter").see("Serial, model")
	f.machines = f.machines[1:]
	w.changed().see("the machine is not there any more", "MACHINE")
	f.machines = nil
	w.changed().see("No machine has asked yet").press("enter", "down", "end", "pgup").fits()
}

// TestLiveMany scrolls through more machines than are looked at at once, and stays at the chosen one.
func TestLiveMany(t *testing.T) {
	f := manyFloor(5000)
	w := newWatcher(t, f).golden("many").see("> PC-00000")
	for range 40 {
		w.press("pgdown")
	}
	place := w.m.cursor
	w.see(fmt.Sprintf("> PC-%05d", place)).notSee("  ...\n")
	looks := f.looks
	if w.press("up", "down"); f.looks != looks {
		t.Error("what was seen already is looked at again")
	}
	w.press("end").see("> PC-04999", "of 5000").press("home").see("> PC-00000").press("down", "down", "down")
	f.machines = append([]control.Machine{{Run: "new", Name: "PC-NEW", Since: noon}}, f.machines...)
	w.changed().see("> PC-00003", "PC-NEW")
	if w.m.cursor != 4 {
		t.Errorf("at %d", w.m.cursor)
	}
	f.machines = f.machines[:3]
	w.changed().see("> PC-00001")
}

// TestLiveSizes draws everything at many sizes, in and without colour.
func TestLiveSizes(t *testing.T) {
	for _, profile := range []termenv.Profile{termenv.ANSI, termenv.Ascii} {
		lipgloss.SetColorProfile(profile)
		for name, f := range map[string]*floor{"nobody": {}, "some": someFloor(), "many": manyFloor(300)} {
			for _, size := range [][2]int{{80, 24}, {81, 25}, {100, 30}, {112, 50}, {200, 60}, {80, 60}, {200, 24}} {
				t.Run(fmt.Sprintf("%s/%dx%d", name, size[0], size[1]), func(t *testing.T) {
					w := newWatcher(t, f).size(size[0], size[1]).fits()
					for _, key := range []string{"end", "enter", "i", "i", "f", "4", "p", "n", "esc", "1", "q", "n"} {
						w.press(key).fits()
					}
					if colored := strings.Contains(w.m.View(), "\x1b["); colored != (profile != termenv.Ascii) {
						t.Errorf("colours: %t", colored)
					}
				})
			}
		}
	}
}

// TestLiveTells keeps what the server has told, without what could move a cursor.
func TestLiveTells(t *testing.T) {
	l := &Live{}
	for i := range maxTold + 5 {
		l.Printf("line %d\x1b[2J", i)
	}
	if last := l.last(2); len(l.lines) != maxTold || len(last) != 2 || !strings.HasSuffix(last[1], fmt.Sprintf(" line %d", maxTold+4)) {
		t.Errorf("%d lines, the last are %q", len(l.lines), last)
	}
}
