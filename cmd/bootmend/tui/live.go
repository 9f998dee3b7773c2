package tui

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"github.com/bootmend/bootmend/cmd/bootmend/control"
	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
)

// Fleet is what the live view needs of a control server, which [control.Server] has.
type Fleet interface {
	Look(ctx context.Context, filter store.Filter, offset, most int) (control.View, error)
	Detail(ctx context.Context, run string) (control.Detail, error)
	Watch(ctx context.Context, changed func() error) error
	Pause(ctx context.Context, who string) error
	Resume(ctx context.Context, who string) error
}

// Live is the live view of a control server. What the server tells before it is shown is shown, too.
type Live struct {
	mu    sync.Mutex
	lines []string // the last ones, oldest first
}

// maxTold is how many lines are kept of what the server tells.
const maxTold = 200

// Printf takes a line that the server tells. It may be called by several goroutines.
func (l *Live) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, time.Now().Format("15:04:05 ")+ansi.Strip(fmt.Sprintf(format, args...)))
	l.lines = l.lines[max(0, len(l.lines)-maxTold):]
}

// last are up to n lines.
func (l *Live) last(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines[max(0, len(l.lines)-n):]...)
}

// Run shows the machines until the person stops the server, or ctx ends. page is the address of the web page, and about
// says how it is signed in to. It returns what to say of the machines at the end.
func (l *Live) Run(ctx context.Context, out io.Writer, fleet Fleet, page string, about []string, options ...tea.ProgramOption) (summary string, err error) {
	setColors()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	m := newTable(ctx, fleet, l, page, about)
	options = append([]tea.ProgramOption{tea.WithAltScreen(), tea.WithOutput(out), tea.WithoutSignalHandler()}, options...)
	program := tea.NewProgram(m, options...)
	ended := context.AfterFunc(ctx, program.Quit)
	defer ended()
	var watching sync.WaitGroup
	watching.Go(func() {
		_ = fleet.Watch(ctx, func() error { // ends with ctx
			program.Send(changedMsg{})
			return nil
		})
	})
	_, err = program.Run()
	stop()
	watching.Wait()
	return m.counts(), err
}

// table is the bubbletea model.
type table struct {
	ctx   context.Context
	fleet Fleet
	told  *Live
	page  string
	about []string
	now   func() time.Time

	width, height int
	view          control.View
	seen          bool  // there is a view
	failed        error // of the last look
	looking       bool  // a look is under way
	again         bool  // and another one is needed
	filter        store.Filter
	cursor        int    // the place of the chosen machine among those of the filter
	chosen        string // its run
	top           int    // the place of the first row on the screen

	help   bool            // about is shown
	detail *control.Detail // of the machine that is looked at
	scroll int
	wanted string // the run of the machine whose details are looked for
	asked  yesNo  // that is to be answered
	status string // what came of the last key
	weight Style  // of the status
}

// yesNo is a question that is answered with y or n.
type yesNo int

const (
	nothing yesNo = iota
	askPause
	askResume
	askQuit
)

type (
	changedMsg struct{}
	secondMsg  struct{}
	viewMsg    struct {
		filter store.Filter
		view   control.View
		err    error
	}
	detailMsg struct {
		run    string
		detail control.Detail
		err    error
	}
	actedMsg struct {
		said string
		err  error
	}
)

// ahead is how many machines are looked at before and behind those on the screen.
const ahead = 100

func newTable(ctx context.Context, fleet Fleet, told *Live, page string, about []string) *table {
	return &table{ctx: ctx, fleet: fleet, told: told, page: page, about: about, now: time.Now, width: 80, height: 24}
}

// Init implements tea.Model.
func (m *table) Init() tea.Cmd { return tea.Batch(m.look(), everySecond()) }

func everySecond() tea.Cmd {
	return tea.Tick(time.Second, func(time.Time) tea.Msg { return secondMsg{} })
}

// look asks the server again, one time after the other.
func (m *table) look() tea.Cmd {
	if m.looking {
		m.again = true
		return nil
	}
	m.looking, m.again = true, false
	filter, offset, most := m.filter, max(0, m.top-ahead), 2*ahead+m.height
	return func() tea.Msg {
		v, err := m.fleet.Look(m.ctx, filter, offset, most)
		return viewMsg{filter, v, err}
	}
}

// inspect looks at the machine of a run.
func (m *table) inspect(run string) tea.Cmd {
	m.wanted = run
	return func() tea.Msg {
		d, err := m.fleet.Detail(m.ctx, run)
		return detailMsg{run, d, err}
	}
}

// who is written into the audit for what is done here.
const who = "the server's terminal"

// Update implements tea.Model.
func (m *table) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		return m, m.moved()
	case secondMsg:
		return m, everySecond()
	case changedMsg:
		if m.detail != nil {
			return m, tea.Batch(m.look(), m.inspect(m.detail.Run))
		}
		return m, m.look()
	case viewMsg:
		return m, m.looked(msg)
	case detailMsg:
		switch {
		case msg.run != m.wanted: // left, meanwhile
		case msg.err != nil:
			m.detail, m.wanted = nil, ""
			m.status, m.weight = msg.err.Error(), Bad
		default:
			m.detail = &msg.detail
		}
	case actedMsg:
		m.status, m.weight = msg.said, Good
		if msg.err != nil {
			m.status, m.weight = msg.err.Error(), Bad
		}
	case tea.KeyMsg:
		return m, m.keys(msg)
	}
	return m, nil
}

// keys takes one after the other what was typed fast. What is pasted is no command.
func (m *table) keys(msg tea.KeyMsg) tea.Cmd {
	if msg.Type != tea.KeyRunes {
		return m.key(msg)
	}
	if msg.Paste {
		return nil
	}
	var all []tea.Cmd
	for _, r := range msg.Runes {
		all = append(all, m.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}, Alt: msg.Alt}))
	}
	return tea.Batch(all...)
}

// looked takes what a look has seen, and stays at the chosen machine.
func (m *table) looked(msg viewMsg) tea.Cmd {
	m.looking = false
	if msg.filter == m.filter {
		if m.failed = msg.err; msg.err == nil {
			m.view, m.seen = msg.view, true
			for i, shown := range m.view.Machines {
				if shown.Run == m.chosen {
					m.cursor = m.view.Offset + i
				}
			}
		}
	}
	if m.again {
		return m.look()
	}
	return m.moved()
}

func (m *table) key(msg tea.KeyMsg) tea.Cmd {
	key := strings.ToLower(msg.String())
	if m.asked != nothing {
		return m.answered(key)
	}
	m.status = ""
	switch key {
	case "q", "ctrl+c":
		if key == "q" && (m.detail != nil || m.help) {
			m.back()
			return nil
		}
		if n := m.view.Totals; m.seen && n.Waiting+n.Healing == 0 {
			return tea.Quit
		}
		m.asked = askQuit
		return nil
	case "p":
		m.asked = askPause
		if m.view.Halted != "" {
			m.asked, m.status, m.weight = nothing, "Healing is paused already.", Plain
		}
		return nil
	case "r":
		m.asked = askResume
		if m.view.Halted == "" {
			m.asked, m.status, m.weight = nothing, "Healing is not paused.", Plain
		}
		return nil
	case "i", "?":
		m.detail, m.wanted, m.help = nil, "", !m.help
		return nil
	case "esc", "backspace":
		m.back()
		return nil
	}
	switch {
	case m.help:
		m.help = false
		return nil
	case m.detail != nil:
		switch key {
		case "up", "k":
			m.scroll++
		case "pgup":
			m.scroll += 10
		case "down", "j":
			m.scroll = max(0, m.scroll-1)
		case "pgdown":
			m.scroll = max(0, m.scroll-10)
		case "enter":
			m.back()
		}
		return nil
	}
	return m.tableKey(key)
}

func (m *table) back() { m.detail, m.wanted, m.help, m.scroll = nil, "", false, 0 }

func (m *table) tableKey(key string) tea.Cmd {
	page := max(1, m.rows()-1)
	switch key {
	case "up", "k":
		m.cursor--
	case "down", "j":
		m.cursor++
	case "pgup":
		m.cursor -= page
	case "pgdown", " ":
		m.cursor += page
	case "home":
		m.cursor = 0
	case "end":
		m.cursor = m.total() - 1
	case "f", "tab":
		return m.choose((m.filter + 1) % store.Filter(len(filterNames)))
	case "shift+tab":
		return m.choose((m.filter + store.Filter(len(filterNames)) - 1) % store.Filter(len(filterNames)))
	case "1", "2", "3", "4", "5", "6":
		return m.choose(store.Filter(key[0] - '1'))
	case "enter":
		if shown := m.at(m.cursor); shown != nil {
			m.scroll = 0
			return m.inspect(shown.Run)
		}
		return nil
	default:
		return nil
	}
	m.chosen = ""
	return m.moved()
}

// choose shows the machines of another filter.
func (m *table) choose(f store.Filter) tea.Cmd {
	m.filter, m.cursor, m.top, m.chosen, m.view.Machines, m.view.Offset = f, 0, 0, "", nil, 0
	return m.look()
}

// answered takes the answer to a question.
func (m *table) answered(key string) tea.Cmd {
	asked := m.asked
	switch key {
	case "y":
	case "ctrl+c":
		if asked != askQuit {
			m.asked = nothing
			return nil
		}
	case "n", "esc", "q":
		m.asked = nothing
		return nil
	default:
		return nil
	}
	m.asked = nothing
	switch asked {
	case askQuit:
		return tea.Quit
	case askPause:
		return func() tea.Msg { return actedMsg{"Healing is paused.", m.fleet.Pause(m.ctx, who)} }
	case askResume:
		return func() tea.Msg { return actedMsg{"Healing goes on.", m.fleet.Resume(m.ctx, who)} }
	case nothing:
	}
	return nil
}

// total is how many machines the filter lets through.
func (m *table) total() int { return m.filter.Of(m.view.Totals) }

// at is the machine at a place, or nil where it has not been looked at yet.
func (m *table) at(place int) *control.Machine {
	if i := place - m.view.Offset; i >= 0 && i < len(m.view.Machines) {
		return &m.view.Machines[i]
	}
	return nil
}

// moved keeps the chosen machine on the screen, and looks for those on it that have not been looked at.
func (m *table) moved() tea.Cmd {
	if !m.seen {
		return nil
	}
	rows := m.rows()
	m.cursor = max(0, min(m.cursor, m.total()-1))
	m.top = max(0, min(max(m.cursor-rows+1, min(m.top, m.cursor)), m.total()-rows))
	if shown := m.at(m.cursor); shown != nil {
		m.chosen = shown.Run
	}
	if m.failed == nil && (m.top < m.total() && m.at(m.top) == nil || m.at(min(m.top+rows, m.total())-1) == nil && m.total() > 0) {
		return m.look()
	}
	return nil
}

var filterNames = [...]string{store.All: "all", store.Waiting: "waiting for a key", store.Healing: "being healed", store.NotHealed: "not healed",
	store.Healed: "healed", store.Left: "left as they were"}

// counts are those of the head line.
func (m *table) counts() string {
	n := m.view.Totals
	return fmt.Sprintf("%s: %d waiting for a key, %d being healed, %d healed, %d not healed", amount(n.Machines), n.Waiting, n.Healing, n.Healed, n.Bad)
}

func amount(n int) string {
	if n == 1 {
		return "1 machine"
	}
	return fmt.Sprintf("%d machines", n)
}

// head is what stands above the table.
func (m *table) head(width int) []string {
	lines := []string{
		styles[Strong].Render("bootmend control") + styles[Soft].Render(ansi.Truncate("  "+m.page, max(0, width-16), "...")),
		ansi.Truncate(m.counts(), width, "..."),
	}
	switch {
	case m.failed != nil:
		lines = append(lines, styles[Bad].Render(ansi.Truncate("The database does not answer: no machine gets a key, and what is shown is old.", width, "...")))
	case m.view.Halted != "":
		lines = append(lines, styles[Bad].Render(ansi.Truncate("No machine is healed: "+m.view.Halted+". R resumes.", width, "...")))
	}
	if len(m.view.Rings) > 0 {
		var parts []string
		for _, r := range m.view.Rings {
			text := r.Name
			if r.DryRun {
				text += " (dry run)"
			}
			if r.Open {
				text += fmt.Sprintf(" %d of %d well", r.Well, r.Done)
			} else {
				text += " not open yet"
			}
			parts = append(parts, text)
		}
		lines = append(lines, ansi.Truncate("rings: "+strings.Join(parts, "; "), width, "..."))
	}
	if m.filter != store.All {
		lines = append(lines, styles[Strong].Render(ansi.Truncate(fmt.Sprintf("only: %s (%d)", filterNames[m.filter], m.total()), width, "...")))
	}
	return append(lines, "")
}

// toldRows is how many lines of what the server tells are shown.
func (m *table) toldRows() int { return max(0, min(8, (m.height-14)/4)) }

// rows is how many machines fit.
func (m *table) rows() int {
	return max(1, m.height-len(m.head(m.width))-m.toldRows()-4)
}

// View implements tea.Model.
func (m *table) View() string {
	width := max(20, m.width-2)
	head := m.head(width)
	var body []string
	foot := []string{"up/down move", "Enter details", "f filter", "p pause", "r resume", "i sign-in", "q stop"}
	switch {
	case m.help:
		foot = []string{"Esc back"}
		body = append(body, styles[Strong].Render("The page, for people at their own desks"), "")
		for _, line := range m.about {
			body = append(body, wrap(line, width)...)
		}
	case m.detail != nil:
		foot = []string{"up/down scroll the log", "p pause", "r resume", "Esc back"}
		body = m.details(width, m.height-len(head)-2)
	default:
		body = m.list(width)
		if n := m.toldRows(); n > 0 {
			for len(body) < m.height-len(head)-2-n {
				body = append(body, "")
			}
			for _, line := range m.told.last(n) {
				body = append(body, styles[Soft].Render(ansi.Truncate(line, width, "...")))
			}
		}
	}
	body = body[:max(0, min(len(body), m.height-len(head)-2))]
	for len(body) < m.height-len(head)-1 {
		body = append(body, "")
	}
	const gap = "   "
	for len(foot) > 1 && ansi.StringWidth(strings.Join(foot, gap)) > width {
		foot = foot[1:] // the last ones lead out
	}
	last := styles[Soft].Render(ansi.Truncate(strings.Join(foot, gap), width, ""))
	switch m.asked {
	case askPause:
		last = styles[Strong].Render(ansi.Truncate("Pause? Machines that start are sent on to Windows as they are. y/n", width, "..."))
	case askResume:
		last = styles[Strong].Render(ansi.Truncate("Resume healing? y/n", width, "..."))
	case askQuit:
		text := "Stop the server? y/n"
		if n := m.view.Totals; n.Waiting+n.Healing > 0 {
			text = fmt.Sprintf("Stop the server? %s under way: they wait and ask again. y/n", amount(n.Waiting+n.Healing))
		}
		last = styles[Strong].Render(ansi.Truncate(text, width, "..."))
	case nothing:
		if m.status != "" {
			last = styles[m.weight].Render(ansi.Truncate(m.status, width, "..."))
		}
	}
	var b strings.Builder
	for _, line := range append(head, body...) {
		b.WriteString(strings.TrimRight(" "+line, " ") + "\n")
	}
	b.WriteString(" " + last)
	return b.String()
}

// column is one of the table.
type column struct {
	title string
	width int
	text  func(m *control.Machine) string
}

// columns are those that fit.
func (m *table) columns(width int) (list []column) {
	wide := width >= 110
	list = []column{{"MACHINE", 15, func(c *control.Machine) string { return c.Name }}}
	if wide {
		list[0].width = 20
		list = append(list, column{"SERIAL", 16, func(c *control.Machine) string { return c.Serial }})
	}
	if len(m.view.Rings) > 0 {
		list = append(list, column{"RING", 7, func(c *control.Machine) string { return c.Ring }})
	}
	step := func(c *control.Machine) string { return c.Step }
	result := func(c *control.Machine) string { return string(c.Outcome) }
	if wide {
		list = append(list, column{"STEP", 15, step}, column{"RESULT", 15, result})
	} else {
		// A step is of interest until there is a result.
		list = append(list, column{"STEP OR RESULT", 15, func(c *control.Machine) string { return cmp.Or(result(c), step(c)) }})
	}
	list = append(list, column{"SINCE", 5, func(c *control.Machine) string { return age(m.now().Sub(c.Since)) }})
	rest := width - 2
	for _, c := range list {
		rest -= c.width + 1
	}
	return append(list, column{"LAST WORD", max(4, rest), lastWord})
}

// age is a time span in at most five characters.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// lastWord is what a person should know of a machine.
func lastWord(c *control.Machine) string {
	switch {
	case len(c.Waiting) == 0 || c.Outcome != "":
		return c.Message
	case c.Server != "":
		return "asks " + c.Server
	case c.CanApprove:
		return "approve it on the page"
	}
	return "key " + short(c.Waiting[0].KeyID) + " " + c.Waiting[0].Volume
}

// short is the first group of a GUID, which Windows' recovery screen shows first, too.
func short(id string) string {
	first, _, _ := strings.Cut(id, "-")
	return first
}

// cells writes a row of the table.
func cells(columns []column, text func(column) string) string {
	var b strings.Builder
	for i, c := range columns {
		cell := ansi.Truncate(text(c), c.width, "...")
		b.WriteString(cell)
		if i < len(columns)-1 {
			b.WriteString(strings.Repeat(" ", c.width+1-ansi.StringWidth(cell)))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// list is the table, or what to do where there is nothing in it.
func (m *table) list(width int) []string {
	if !m.seen {
		return []string{styles[Soft].Render("looking ...")}
	}
	if m.view.Totals.Machines == 0 {
		body := append(wrap("No machine has asked yet. Start one from media that were built for this server.", width), "")
		for _, line := range m.about {
			body = append(body, wrap(line, width)...)
		}
		return body
	}
	columns := m.columns(width)
	body := []string{styles[Soft].Render("  " + cells(columns, func(c column) string { return c.title }))}
	if m.total() == 0 {
		return append(body, styles[Soft].Render("  none of them"))
	}
	rows := m.rows()
	for place := m.top; place < min(m.top+rows, m.total()); place++ {
		c := m.at(place)
		if c == nil {
			body = append(body, styles[Soft].Render("  ..."))
			continue
		}
		style, pointer := styles[Plain], "  "
		switch {
		case c.Bad():
			style = styles[Bad]
		case c.Good():
			style = styles[Good]
		case len(c.Waiting) > 0:
			style = styles[Strong]
		}
		if place == m.cursor {
			pointer = "> "
		}
		body = append(body, style.Render(pointer+cells(columns, func(col column) string { return col.text(c) })))
	}
	where := fmt.Sprintf("  %d to %d of %d", m.top+1, min(m.top+rows, m.total()), m.total())
	if m.total() > rows {
		body = append(body, styles[Soft].Render(where))
	}
	return body
}

// details are all that is known of a machine, above the end of its log.
func (m *table) details(width, room int) []string {
	d := m.detail
	body := []string{styles[Strong].Render(ansi.Truncate(d.Name, width, "..."))}
	line := func(name, text string) {
		if text == "" {
			return
		}
		for i, part := range wrap(text, width-14) {
			if i > 0 {
				name = ""
			}
			body = append(body, styles[Soft].Render(fmt.Sprintf("%-14s", name))+part)
		}
	}
	join := func(parts ...string) string {
		var all []string
		for _, p := range parts {
			if p != "" {
				all = append(all, p)
			}
		}
		return strings.Join(all, ", ")
	}
	line("Serial, model", join(d.Serial, d.Model))
	line("UUID", d.UUID)
	line("Address", join(d.Address, d.Server))
	line("Run", join(d.Run, d.Version))
	line("To do", join(d.Decision, d.Ring))
	line("Step", fmt.Sprintf("%s, since %s; last seen %s ago", d.Step, age(m.now().Sub(d.Since)), age(m.now().Sub(d.Seen))))
	line("Result", join(string(d.Outcome), d.Message))
	for _, w := range d.Waiting {
		line("Waits for key", join(w.KeyID, w.Volume))
	}
	switch {
	case d.Server != "" && len(d.Waiting) > 0:
		line("", "A key for it is typed on the page of the server that it asks.")
	case d.CanApprove:
		line("", "A person approves it on the page.")
	case len(d.Waiting) > 0:
		line("", "A person types the key on the page.")
	}
	body = append(body, "")
	if len(d.Log) == 0 {
		return append(body, styles[Soft].Render("Its log comes when its run is over."))
	}
	var log []string
	for _, l := range d.Log {
		log = append(log, ansi.Truncate(l.Time.UTC().Format("15:04:05 ")+l.Text, width, "..."))
	}
	room = max(1, room-len(body)-1)
	m.scroll = min(m.scroll, max(0, len(log)-room))
	end := len(log) - m.scroll
	body = append(body, styles[Soft].Render(fmt.Sprintf("The end of its log (UTC), lines %d to %d of %d:", max(0, end-room)+1, end, len(log))))
	return append(body, log[max(0, end-room):end]...)
}
