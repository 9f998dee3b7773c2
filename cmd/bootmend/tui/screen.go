package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/bubbles/cursor"
	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"
)

// Run asks on a full screen. What was done is also written to out at the end, since the screen is cleared; what went
// wrong is the error.
func Run(ctx context.Context, out io.Writer, w Work, options ...tea.ProgramOption) error {
	s := newScreen(ctx, w)
	defer s.stop()
	setColors()
	options = append([]tea.ProgramOption{tea.WithAltScreen(), tea.WithOutput(out), tea.WithoutSignalHandler()}, options...)
	program := tea.NewProgram(s, options...)
	s.send = program.Send
	end := context.AfterFunc(ctx, func() { program.Send(interrupted{}) })
	defer end()
	if _, err := program.Run(); err != nil {
		return err
	}
	if s.phase == asking {
		return ErrQuit
	}
	for _, line := range s.done() {
		fmt.Fprintln(out, line.Text)
	}
	if s.stopped && errors.Is(s.err, context.Canceled) {
		return &stopped{s.err}
	}
	return s.err
}

// stopped is the work's error where the person ended it: what was being done just then is of no interest.
type stopped struct{ error }

func (*stopped) Error() string { return "stopped" }

func (e *stopped) Unwrap() error { return e.error }

// setColors has lipgloss use the colours of terminals that it does not know, unless NO_COLOR is set.
func setColors() {
	if plain := lipgloss.ColorProfile() == termenv.Ascii; plain && os.Getenv("NO_COLOR") == "" && sixteen(os.Getenv("TERM")) {
		lipgloss.SetColorProfile(termenv.ANSI)
	}
}

// sixteen knows terminals with colours whose names say nothing of it.
func sixteen(name string) bool {
	return slices.ContainsFunc([]string{"screen", "tmux", "rxvt", "putty", "cygwin", "konsole"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

// phase is what the screen does.
type phase int

const (
	asking phase = iota
	working
	finished
)

// screen is the bubbletea model.
type screen struct {
	ctx  context.Context
	stop context.CancelFunc
	work Work
	flow *flow
	send func(tea.Msg)

	width, height int
	phase         phase

	// the current question
	options  []Option
	marked   map[string]bool
	cursor   int
	input    textinput.Model
	files    *files
	problem  string // what was wrong with the answer
	note     string // what was taken; shown until the person goes on
	busy     bool   // an answer is being checked
	halt     func() // ends the check
	said     string // what the person has to do for it
	asked    int    // counts questions, so that late messages of an earlier one are dropped
	listFail string

	// the work
	mu      sync.Mutex
	meters  []*meter
	stopped bool
	outcome *Outcome
	err     error
	scroll  int
}

type (
	optionsMsg struct {
		asked   int
		options []Option
		err     error
	}
	takenMsg struct {
		asked   int
		answers Answers
		note    string
		err     error
	}
	lookMsg     struct{ asked int }
	saidMsg     string
	redraw      struct{}
	interrupted struct{}
	doneMsg     struct {
		outcome *Outcome
		err     error
	}
)

func newScreen(ctx context.Context, w Work) *screen {
	ctx, stop := context.WithCancel(ctx)
	s := &screen{ctx: ctx, stop: stop, work: w, width: 80, height: 24, send: func(tea.Msg) {}}
	s.flow = newFlow(questions(w, func(text string) { s.send(saidMsg(text)) }), NewAnswers())
	return s
}

// Init implements tea.Model.
func (s *screen) Init() tea.Cmd { return s.enter() }

// enter shows the current question.
func (s *screen) enter() tea.Cmd {
	q := s.flow.current()
	s.asked++
	s.options, s.marked, s.cursor, s.problem, s.note, s.busy, s.files, s.listFail, s.scroll = nil, map[string]bool{}, 0, "", "", false, nil, "", 0
	var preset []string
	if q.Preset != nil {
		preset = q.Preset(s.flow.answers)
	}
	switch q.Kind {
	case Choose, ChooseMany:
		for _, v := range preset {
			s.marked[v] = true
		}
		return s.look()
	case Text, Secret, Path:
		s.input = textinput.New()
		s.input.Prompt = "> "
		s.input.CharLimit = 4096
		_ = s.input.Cursor.SetMode(cursor.CursorStatic) // a blinking one is noise over a slow line
		if q.Kind == Secret {
			s.input.EchoMode = textinput.EchoPassword
		}
		if len(preset) > 0 {
			s.input.SetValue(preset[0])
			s.input.CursorEnd()
		}
		if q.Kind == Path {
			s.files = newFiles(q)
			s.files.update(s.input.Value())
		}
		return s.input.Focus()
	case Review:
	}
	return nil
}

// look asks for the options; it may take a while, so it runs beside the screen.
func (s *screen) look() tea.Cmd {
	q, asked := s.flow.current(), s.asked
	answers := *s.flow.answers
	return func() tea.Msg {
		options, err := q.Options(s.ctx, &answers)
		return optionsMsg{asked, options, err}
	}
}

// Update implements tea.Model.
func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
		return s, nil
	case interrupted:
		return s, s.interrupt()
	case tea.KeyMsg:
		if msg.Type == tea.KeyCtrlC {
			return s, s.interrupt()
		}
		switch s.phase {
		case working:
			return s, nil
		case finished:
			return s, s.finishedKey(msg)
		case asking:
		}
		return s, s.key(msg)
	case optionsMsg:
		return s, s.listed(msg)
	case lookMsg:
		if msg.asked == s.asked && s.phase == asking {
			return s, s.look()
		}
	case takenMsg:
		return s, s.taken(msg)
	case saidMsg:
		if s.busy {
			s.said = string(msg)
		}
	case redraw:
		if s.phase == working {
			return s, tick()
		}
	case doneMsg:
		s.phase, s.outcome, s.err, s.scroll = finished, msg.outcome, msg.err, 0
	}
	return s, nil
}

// interrupt ends the wizard at once while it asks; work is stopped first, so that nothing is left half done.
func (s *screen) interrupt() tea.Cmd {
	if s.phase == working {
		s.stopped = true
		s.stop()
		return nil
	}
	return tea.Quit
}

func (s *screen) listed(msg optionsMsg) tea.Cmd {
	if msg.asked != s.asked {
		return nil
	}
	q := s.flow.current()
	first := s.options == nil
	at := ""
	if s.cursor < len(s.options) {
		at = s.options[s.cursor].Value
	}
	s.options, s.listFail = msg.options, ""
	if msg.err != nil {
		s.listFail = msg.err.Error()
	}
	if s.options == nil {
		s.options = []Option{}
	}
	for i, o := range s.options {
		if first && q.Kind == Choose && s.marked[o.Value] || !first && o.Value == at {
			s.cursor = i
		}
	}
	s.cursor = max(0, min(s.cursor, len(s.options)-1))
	if q.Live {
		asked := s.asked
		return tea.Tick(time.Second, func(time.Time) tea.Msg { return lookMsg{asked} })
	}
	return nil
}

func (s *screen) key(msg tea.KeyMsg) tea.Cmd {
	if s.busy {
		if msg.Type == tea.KeyEsc { // a login may never come
			s.halt()
			return s.enter()
		}
		return nil
	}
	if s.note != "" {
		switch msg.Type {
		case tea.KeyEnter:
			return s.goOn()
		case tea.KeyEsc:
			s.note = ""
		}
		return nil
	}
	if msg.Type == tea.KeyEsc {
		if s.flow.back() {
			return s.enter()
		}
		return nil
	}
	switch s.flow.current().Kind {
	case Choose, ChooseMany:
		return s.optionKey(msg)
	case Review:
		switch msg.String() {
		case "enter":
			return s.start()
		case "down", "j", "pgdown":
			s.scroll++
		case "up", "k", "pgup":
			s.scroll = max(0, s.scroll-1)
		}
		return nil
	case Text, Secret, Path:
	}
	return s.inputKey(msg)
}

func (s *screen) optionKey(msg tea.KeyMsg) tea.Cmd {
	q := s.flow.current()
	switch key := msg.String(); key {
	case "up", "k":
		s.cursor = max(0, s.cursor-1)
	case "down", "j", "tab":
		s.cursor = min(max(0, len(s.options)-1), s.cursor+1)
	case "home":
		s.cursor = 0
	case "end":
		s.cursor = max(0, len(s.options)-1)
	case " ", "x":
		if q.Kind == ChooseMany && s.cursor < len(s.options) {
			o := s.options[s.cursor]
			if o.Refused != "" {
				s.problem = o.Label + ": " + o.Refused
				return nil
			}
			s.marked[o.Value] = !s.marked[o.Value]
			s.problem = ""
		}
	case "a", "A":
		if q.Kind == ChooseMany {
			for _, o := range s.options {
				s.marked[o.Value] = o.Refused == ""
			}
		}
	case "enter":
		return s.chosen()
	default:
		if n := int(key[0] - '1'); len(key) == 1 && n >= 0 && n < len(s.options) && n < 9 {
			s.cursor = n
			if q.Kind == Choose {
				return s.chosen()
			}
		}
	}
	return nil
}

func (s *screen) chosen() tea.Cmd {
	if len(s.options) == 0 && s.flow.current().Kind == Choose {
		return nil
	}
	if s.flow.current().Kind == Choose {
		o := s.options[s.cursor]
		if o.Refused != "" {
			s.problem = o.Label + ": " + o.Refused
			return nil
		}
		return s.take([]string{o.Value})
	}
	var values []string
	for v, on := range s.marked {
		if on {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return s.take(values)
}

func (s *screen) inputKey(msg tea.KeyMsg) tea.Cmd {
	if s.files != nil {
		switch msg.String() {
		case "up", "down", "pgup", "pgdown":
			s.files.move(msg.String())
			return nil
		case "tab", "right":
			if msg.String() == "right" && s.input.Position() < len([]rune(s.input.Value())) {
				break
			}
			if text, ok := s.files.complete(s.input.Value()); ok {
				s.input.SetValue(text)
				s.input.CursorEnd()
				s.files.update(text)
			}
			return nil
		case "enter":
			text, descend := s.files.choose(s.input.Value())
			s.input.SetValue(text)
			s.input.CursorEnd()
			s.files.update(text)
			if descend {
				return nil
			}
			return s.take([]string{text})
		}
	}
	if msg.Type == tea.KeyEnter {
		return s.take([]string{s.input.Value()})
	}
	var cmd tea.Cmd
	s.input, cmd = s.input.Update(msg)
	s.problem = ""
	if s.files != nil {
		s.files.update(s.input.Value())
	}
	return cmd
}

// take has the answer checked beside the screen: a key list may be large, a device slow.
func (s *screen) take(values []string) tea.Cmd {
	q, asked := s.flow.current(), s.asked
	s.busy, s.problem, s.said = true, "", ""
	ctx, halt := context.WithCancel(s.ctx)
	s.halt = halt
	answers := *s.flow.answers // the screen reads the others meanwhile
	return func() tea.Msg {
		defer halt()
		note, err := q.Take(ctx, &answers, values)
		return takenMsg{asked, answers, note, err}
	}
}

func (s *screen) taken(msg takenMsg) tea.Cmd {
	if msg.asked != s.asked {
		return nil
	}
	s.busy = false
	switch {
	case errors.Is(msg.err, errBack):
		s.flow.back()
		return s.enter()
	case msg.err != nil:
		s.problem = explained(s.work, msg.err)
		return nil
	}
	*s.flow.answers = msg.answers
	if msg.note != "" {
		s.note = msg.note
		return nil
	}
	return s.goOn()
}

func (s *screen) goOn() tea.Cmd {
	s.flow.next()
	return s.enter()
}

// start begins the work.
func (s *screen) start() tea.Cmd {
	s.phase = working
	answers := s.flow.answers
	work := func() tea.Msg {
		outcome, err := s.work.Do(s.ctx, answers, s.progress)
		return doneMsg{outcome, err}
	}
	return tea.Batch(work, tick())
}

func tick() tea.Cmd {
	return tea.Tick(200*time.Millisecond, func(time.Time) tea.Msg { return redraw{} })
}

// progress is called by the work, from any goroutine.
func (s *screen) progress(p Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.meters, func(m *meter) bool { return m.Name == p.Name })
	if i < 0 {
		i = len(s.meters)
		s.meters = append(s.meters, &meter{})
	}
	s.meters[i].add(p, time.Now())
}

func (s *screen) finishedKey(msg tea.KeyMsg) tea.Cmd {
	switch msg.String() {
	case "esc":
		if !s.failed() {
			return tea.Quit
		}
		// Back to the review, with all answers, to change the one that was the cause.
		s.phase, s.err, s.outcome, s.meters = asking, nil, nil, nil
		return s.enter()
	case "enter", "q":
		return tea.Quit
	case "down", "j", "pgdown":
		s.scroll++
	case "up", "k", "pgup":
		s.scroll = max(0, s.scroll-1)
	}
	return nil
}

// failed reports whether the work went wrong by itself, so that another answer may help.
func (s *screen) failed() bool { return s.err != nil && !s.stopped }

// result is what to tell at the end.
func (s *screen) result() []Line {
	switch {
	case s.stopped && s.err != nil:
		return append(s.done(), Line{"Stopped. Nothing half-written is left, but a stick that was being written has to be written again.", Bad})
	case s.err != nil:
		return append(s.done(), Line{explained(s.work, s.err), Bad})
	}
	return s.done()
}

// done is what was done, and what comes next where all of it was.
func (s *screen) done() []Line {
	var all []Line
	if s.outcome != nil {
		all = append(all, s.outcome.Lines...)
	}
	if s.err != nil {
		return all
	}
	return append(append(all, Line{}), after(s.flow.answers)...)
}

// The colours are those that every terminal has; NO_COLOR takes them away.
var styles = map[Style]lipgloss.Style{
	Plain:  lipgloss.NewStyle(),
	Strong: lipgloss.NewStyle().Bold(true),
	Soft:   lipgloss.NewStyle().Faint(true),
	Good:   lipgloss.NewStyle().Bold(true).Foreground(lipgloss.ANSIColor(2)),
	Bad:    lipgloss.NewStyle().Bold(true).Foreground(lipgloss.ANSIColor(1)),
	Code:   lipgloss.NewStyle().Foreground(lipgloss.ANSIColor(6)),
}

// View implements tea.Model.
func (s *screen) View() string {
	width := max(20, min(s.width, 100)-2)
	var head, body, foot []string
	at := 0 // the line of the body that must be seen
	switch s.phase {
	case asking:
		head, body, at, foot = s.viewQuestion(width)
	case working:
		head = []string{s.title("Working")}
		body = s.viewWork(width)
		foot = []string{"Ctrl-C stop"}
		if s.stopped {
			foot = []string{"stopping ..."}
		}
	case finished:
		text := "Done"
		if s.err != nil {
			text = "Not done"
		}
		head = []string{s.title(text)}
		body = s.paint(s.result(), width)
		at = s.scroll + s.room(head) - 2
		foot = []string{"Enter leave"}
		if s.failed() {
			foot = append(foot, "Esc back")
		}
	}
	room := s.room(head)
	if len(body) > room {
		from := max(0, min(at-room+2, len(body)-room))
		s.scroll = min(s.scroll, len(body)-room)
		if s.phase == finished || s.flow.current().Kind == Review {
			foot = append([]string{fmt.Sprintf("up/down scroll (%d more below)", len(body)-from-room)}, foot...)
		}
		body = body[from : from+room]
	}
	var out strings.Builder
	for _, line := range append(head, body...) {
		out.WriteString(" " + line + "\n")
	}
	for range s.height - len(head) - len(body) - 2 {
		out.WriteString("\n")
	}
	const gap = "   "
	for len(foot) > 1 && ansi.StringWidth(strings.Join(foot, gap)) > width {
		foot = foot[1:] // the last ones lead out
	}
	out.WriteString(" " + styles[Soft].Render(ansi.Truncate(strings.Join(foot, gap), width, "")))
	return out.String()
}

// room is how many lines of the body fit.
func (s *screen) room(head []string) int { return max(3, s.height-len(head)-3) }

func (s *screen) title(text string) string {
	return styles[Strong].Render("bootmend") + styles[Soft].Render("  "+text)
}

func (s *screen) viewQuestion(width int) (head, body []string, at int, foot []string) {
	q := s.flow.current()
	n, total := s.flow.position()
	head = []string{s.title(fmt.Sprintf("step %d of %d", n, total)), "", styles[Strong].Render(q.Title)}
	for _, line := range wrap(q.Help, width) {
		head = append(head, styles[Soft].Render(line))
	}
	head = append(head, "")
	foot = []string{"Enter next", "Esc back", "Ctrl-C leave"}
	if n == 1 {
		foot = slices.Delete(foot, 1, 2)
	}
	switch q.Kind {
	case Choose, ChooseMany:
		body, at = s.viewOptions(q, width)
		foot = append([]string{"up/down move"}, foot...)
		switch {
		case q.Kind == ChooseMany:
			foot = append([]string{"Space mark", "A all"}, foot...)
		case len(s.options) > 0:
			foot = slices.Insert(foot, 1, fmt.Sprintf("1-%d choose", len(s.options)))
		}
	case Path:
		body = append(body, s.viewInput(width))
		list, selected := s.files.view(width, max(3, s.height-len(head)-9))
		body = append(body, list...)
		at = selected + 1
		foot = append([]string{"up/down choose", "Tab complete"}, foot...)
	case Text, Secret:
		body = append(body, s.viewInput(width))
		if q.Judge != nil && s.input.Value() != "" {
			body = append(body, s.paint([]Line{q.Judge(s.input.Value())}, width)...)
		}
	case Review:
		body = s.paint(q.Text(s.flow.answers), width)
		foot[0] = "Enter begin"
		at = s.scroll + s.room(head) - 2
	}
	switch {
	case s.busy:
		body = append(body, "")
		for _, line := range wrap(s.said, width) {
			body = append(body, styles[Strong].Render(line))
		}
		body = append(body, styles[Soft].Render("one moment ... Esc stops"))
		at = len(body) - 1
	case s.problem != "":
		body = append(body, "")
		for _, line := range wrap(s.problem, width) {
			body = append(body, styles[Bad].Render(line))
		}
		at = len(body) - 1
	case s.note != "":
		body = append(body, "")
		for _, line := range wrap(s.note, width) {
			body = append(body, styles[Good].Render(line))
		}
		body = append(body, styles[Soft].Render("Enter goes on, Esc changes it."))
		at = len(body) - 1
	}
	return head, body, at, foot
}

func (s *screen) viewInput(width int) string {
	s.input.Width = width - 4
	return s.input.View()
}

func (s *screen) viewOptions(q *Question, width int) (body []string, at int) {
	if s.options == nil {
		return []string{styles[Soft].Render("looking ...")}, 0
	}
	if s.listFail != "" {
		body = append(body, styles[Bad].Render(ansi.Truncate(s.listFail, width, "...")))
	}
	if len(s.options) == 0 && s.listFail == "" {
		body = append(body, styles[Soft].Render("Nothing there yet: plug a stick in."))
	}
	for i, o := range s.options {
		pointer := "  "
		if i == s.cursor {
			pointer = "> "
		}
		box := ""
		if q.Kind == ChooseMany {
			box = "[ ] "
			switch {
			case o.Refused != "":
				box = " -  "
			case s.marked[o.Value]:
				box = "[x] "
			}
		}
		style := styles[Plain]
		switch {
		case o.Refused != "":
			style = styles[Soft]
		case o.Danger:
			style = styles[Bad]
		case i == s.cursor:
			style = styles[Strong]
		}
		if i == s.cursor {
			at = len(body)
		}
		body = append(body, style.Render(ansi.Truncate(pointer+box+o.Label, width, "...")))
		help := o.Help
		if o.Refused != "" {
			help = "not possible: " + o.Refused
		}
		for _, line := range wrap(help, width-4-len(box)) {
			body = append(body, styles[Soft].Render("    "+strings.Repeat(" ", len(box))+line))
		}
	}
	return body, at
}

func (s *screen) viewWork(width int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := []string{""}
	for _, m := range s.meters {
		lines = append(lines, styles[Strong].Render(ansi.Truncate(m.Name, width, "...")))
		text := m.State
		if m.Total > 0 && m.Err == nil {
			text = fmt.Sprintf("%-9s %s %3d %%", m.State, gauge(m.Done, m.Total, max(8, min(30, width-44))), 100*m.Done/m.Total)
			if m.speed > 0 {
				text += fmt.Sprintf("  %.0f MB/s", m.speed/1e6)
			}
			if left := m.left(); left > 0 {
				text += fmt.Sprintf("  %s left", left)
			}
		}
		switch {
		case m.Err != nil:
			for _, line := range wrap(m.State+": "+m.Err.Error(), width-2) {
				lines = append(lines, "  "+styles[Bad].Render(line))
			}
			continue
		case m.State == "done":
			text = styles[Good].Render(text)
		}
		lines = append(lines, "  "+ansi.Truncate(text, width-2, "..."))
	}
	return lines
}

// gauge is a bar in characters that every terminal has.
func gauge(done, total int64, width int) string {
	n := int(min(max(done, 0), total) * int64(width) / max(1, total))
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", width-n) + "]"
}

func (s *screen) paint(lines []Line, width int) []string {
	var out []string
	for _, line := range lines {
		if line.Style == Row {
			out = append(out, ansi.Truncate(line.Text, width, "..."))
			continue
		}
		for _, part := range wrap(line.Text, width) {
			out = append(out, styles[line.Style].Render(part))
		}
		if line.Text == "" {
			out = append(out, "")
		}
	}
	return out
}

// wrap breaks a text at blanks, and nowhere else, so that commands can be read; what is longer than a line is broken
// anywhere.
func wrap(text string, width int) []string {
	width = max(10, width)
	var lines []string
	for part := range strings.Lines(text) {
		part = strings.TrimSuffix(part, "\n")
		for ansi.StringWidth(part) > width {
			fits := ansi.Truncate(part, width+1, "")
			head := ansi.Truncate(part, width, "")
			if i := strings.LastIndexByte(fits, ' '); strings.TrimSpace(fits[:max(i, 0)]) != "" {
				head = fits[:i]
			}
			lines = append(lines, strings.TrimRight(head, " "))
			part = strings.TrimLeft(part[len(head):], " ")
		}
		lines = append(lines, part)
	}
	return lines
}
