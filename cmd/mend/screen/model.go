package screen

import (
	"slices"
	"strings"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

// Line is a line that was told. Colour is a control sequence, or empty.
type Line struct{ Colour, Text string }

// Colours that the Linux console, Windows and serial terminals know.
const (
	Green = "\x1b[1;32m"
	Red   = "\x1b[1;31m"
	Bold  = "\x1b[1m"
	Reset = "\x1b[0m"
)

// What the model is told, beside tea.KeyMsg and tea.WindowSizeMsg.
type (
	// Machine begins: which machine this is.
	Machine string
	// Say tells a line.
	Say Line
	// Show puts a page above the lines; without a body there is none. Body is nil where it does not fit.
	Show struct {
		Body  func(width, room int) []string
		Field Field
	}
	// Work says what goes on, and Dot that it still does. A line that is told ends it.
	Work string
	Dot  struct{}
	// Ask puts a question. Done is closed when it is answered.
	Ask struct {
		Entry Entry
		Done  chan<- struct{}
	}
	// Withdraw takes the question back, Repeat puts it again where something was told meanwhile.
	Withdraw struct{}
	Repeat   struct{}
	// Early is a key that counts for the next question where none is asked, as in redirected input.
	Early tea.KeyMsg
	// Sync is closed once all before it is taken in.
	Sync chan<- struct{}
)

// Teller is where plain lines go: serial lines, and screens that cannot show pages.
type Teller interface {
	Line(Line)
	// Echo shows control characters and text as they are; see Reaction for who gets which.
	Echo(screen, serial, file string)
}

// maxHistory bounds how many lines are kept.
const maxHistory = 2000

// Model is the screen of the broken machine, as bubbletea drives it. One model serves the display, which shows its View,
// and all plain lines, which get the same as it happens. Its Update is the only one to write to those.
type Model struct {
	plain         Teller
	width, height int
	machine       string
	step          Step
	field         Field
	body          func(width, room int) []string
	header, drawn []string // made by draw, drawn of body
	lines         []Line
	work          string
	entry         Entry
	done          chan<- struct{}
	told          bool // since the question was put
	early         []tea.KeyMsg
}

// New returns a model that has nothing to show yet.
func New(plain Teller) *Model { return &Model{plain: plain} }

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.draw()
	case Machine:
		m.machine = string(msg)
		m.draw()
	case Step:
		m.step = msg
		m.draw()
	case Show:
		m.body, m.field = msg.Body, msg.Field
		m.draw()
	case Say:
		m.say(Line(msg))
	case Work:
		m.work = string(msg)
		m.echo(m.work)
	case Dot:
		if m.work != "" {
			m.work += "."
			m.echo(".")
		}
	case Ask:
		m.ask(msg)
	case Withdraw:
		if m.entry != nil {
			m.endLine()
			m.entry.Forget()
			m.entry, m.done = nil, nil
		}
	case Repeat:
		if m.entry != nil && m.told {
			m.prompt()
		}
	case Sync:
		close(msg)
	case Early:
		if m.entry == nil {
			m.early = append(m.early, tea.KeyMsg(msg))
			break
		}
		m.key(tea.KeyMsg(msg))
	case tea.KeyMsg: // pressed before a question is asked, it means nothing
		if m.entry != nil {
			m.key(msg)
		}
	}
	return m, nil
}

func (m *Model) echo(s string) { m.plain.Echo(s, s, s) }

// prompt puts the question again, with what was typed so far.
func (m *Model) prompt() {
	m.told = false
	s := m.entry.Prompt()
	m.plain.Echo(s, s, "")
}

// endLine ends the line that a person types on, or that says what goes on.
func (m *Model) endLine() {
	silent := false
	if c, ok := m.entry.(*Choice); ok {
		silent = c.Ask == ""
	}
	if m.work != "" || m.entry != nil && !m.told && !silent {
		m.echo("\r\n")
	}
	m.told = m.told || m.entry != nil
	m.work = ""
}

func (m *Model) say(line Line) {
	m.endLine()
	m.keep(line)
	m.plain.Line(line)
}

func (m *Model) keep(line Line) {
	if m.lines = append(m.lines, line); len(m.lines) > maxHistory {
		m.lines = m.lines[1:]
	}
}

func (m *Model) ask(a Ask) {
	m.endLine()
	m.entry, m.done, m.told = a.Entry, a.Done, false
	if r, ok := a.Entry.(*Review); ok {
		r.begin(m)
	}
	m.echo(m.entry.Prompt())
	early := m.early
	for m.early = nil; len(early) > 0 && m.entry != nil; early = early[1:] {
		m.key(early[0])
	}
	m.early = append(early, m.early...)
}

func (m *Model) key(key tea.KeyMsg) {
	if m.told {
		m.prompt()
	}
	r := m.entry.Key(key)
	m.plain.Echo(r.Screen, r.Serial, r.File)
	if r.Bell {
		m.plain.Echo("\a", "\a", "")
	}
	if !r.Done {
		return
	}
	if line := m.entry.Answered(); line != "" {
		m.keep(Line{Text: line})
	}
	close(m.done)
	m.entry, m.done, m.told = nil, nil, false
}

// Lines are all that was told, the oldest first.
func (m *Model) Lines() []Line { return m.lines }

// draw makes header and page for the size that the display has. Both stay for many a line that is told.
func (m *Model) draw() {
	m.header, m.drawn = Header(m.machine, m.step, m.width), nil
	if m.body != nil {
		m.drawn = m.body(m.width, m.height-headerRows-MinLines)
	}
	for _, rows := range [][]string{m.header, m.drawn} {
		for i, row := range rows {
			rows[i] = m.fit(row)
		}
	}
}

// View implements tea.Model: header, page, and below them the newest lines with the question.
func (m *Model) View() string {
	if m.width <= 0 || m.height <= headerRows {
		return ""
	}
	rows := append(slices.Clone(m.header), m.drawn...)
	room := m.height - len(rows)
	var below []string
	if m.entry != nil {
		below = m.entry.View(m.width, room)
	}
	if m.work != "" {
		below = append(below, m.work)
	}
	below = below[max(0, len(below)-room):]
	room -= len(below)
	if _, reading := m.entry.(*Review); !reading {
		rows = append(rows, m.tail(room)...)
	}
	rows = append(rows, below...)
	for len(rows) < m.height {
		rows = append(rows, "")
	}
	fits := headerRows + len(m.drawn) // as they were drawn
	for i, row := range rows {
		if i >= fits {
			row = m.fit(row)
		}
		rows[i] = m.field.paint(row)
	}
	return strings.Join(rows, "\n")
}

// fit cuts a row at the display's edge.
func (m *Model) fit(row string) string {
	if len(row) < m.width { // in bytes: most rows need not be looked through
		return row
	}
	return ansi.Truncate(row, m.width-1, "")
}

// tail are the newest lines that fit into room rows.
func (m *Model) tail(room int) []string {
	var rows []string // the last one first
	for _, line := range slices.Backward(m.lines) {
		more := m.rowsOf(line)
		if len(more)+len(rows) > room {
			if len(rows) > 0 {
				break
			}
			more = more[:room]
		}
		slices.Reverse(more)
		if rows = append(rows, more...); len(rows) == room {
			break
		}
	}
	slices.Reverse(rows)
	return rows
}

func (m *Model) rowsOf(line Line) []string {
	rows := strings.Split(Wrap(line.Text, m.width), "\r\n")
	if line.Colour == "" || m.field != Plain { // green on green says nothing
		return rows
	}
	for i, row := range rows {
		rows[i] = line.Colour + row + normal
	}
	return rows
}

// Review shows what was told so far, a screen at a time.
type Review struct {
	model *Model
	lines []Line // what is still to come
	shown []Line
}

// reviewLines is how many lines a screen of 25 rows takes, since long ones take two.
const reviewLines = 15

// reviewPrompts ask after each screen, and after the last.
const (
	reviewPrompt = "Any key: go on   Q: enough  "
	reviewEnd    = "Any key: back  "
)

// begin takes what was told, and shows the first of it.
func (r *Review) begin(m *Model) {
	r.model, r.lines = m, m.lines
	r.next()
}

func (r *Review) next() {
	n := min(reviewLines, len(r.lines))
	r.shown, r.lines = r.lines[:n], r.lines[n:]
	for _, line := range r.shown {
		r.model.plain.Line(line)
	}
}

// Prompt implements Entry.
func (r *Review) Prompt() string {
	if len(r.lines) == 0 {
		return reviewEnd
	}
	return reviewPrompt
}

// Key implements Entry.
func (r *Review) Key(key tea.KeyMsg) Reaction {
	if len(r.lines) == 0 || len(key.Runes) > 0 && key.Runes[0]|0x20 == 'q' {
		return answered()
	}
	r.model.echo("\r\n")
	r.next()
	return same(r.Prompt())
}

// View implements Entry.
func (r *Review) View(int, int) []string {
	var rows []string
	for _, line := range r.shown {
		rows = append(rows, r.model.rowsOf(line)...)
	}
	return append(rows, bright+r.Prompt()+normal)
}

// Answered implements Entry.
func (r *Review) Answered() string { return "" }

// Forget implements Entry.
func (r *Review) Forget() {}
