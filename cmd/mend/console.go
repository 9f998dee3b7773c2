//go:build linux || windows

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/bootmend/bootmend/cmd/mend/screen"
)

// console is every place where a person may sit: the screen with its keyboard, and the serial ports (servers
// are healed over serial-over-LAN). Lines go to all of them, keys come from any. What they show is package screen's.
type console struct {
	program *tea.Program
	model   *screen.Model
	terms   []*terminal
	ended   chan struct{} // closed with the program
	step    screen.Step
	// columns and rows are those of the display, as the model knows them.
	mu            sync.Mutex
	columns, rows int
	// over is closed at the end of redirected input; nil where there is a keyboard.
	over chan struct{}
	// told hears of each step; it may be nil.
	told func(step string)
}

// terminal is one of those places.
type terminal struct {
	w    io.Writer
	out  chan string
	idle sync.WaitGroup
	// screen is set where only who sits there sees it; a serial line may be recorded.
	screen bool
	// mono is set where control sequences are not understood, file where nobody looks now: that gets no tones, and nothing
	// of what is typed.
	mono, file bool
	// pages is set on the machine's own screen, where it can show them.
	pages bool
	// size is in columns and rows; nil for a line whose other end breaks lines itself, or logs them.
	size func() (columns, rows int)
	// tone calls a person, or tells one without a screen how it ended; nil rings a bell.
	tone func(good bool)
	// settle waits for what was written to have left; it may be nil.
	settle func()
}

// backlog is how many pieces a slow serial port may be behind before it misses some; the repair never waits for it.
const backlog = 512

// framesPerSecond is bubbletea's limit: what is told last is on the display within one of them.
const framesPerSecond = 120

func newTerminal(w io.Writer) *terminal {
	t := &terminal{w: w, out: make(chan string, backlog)}
	go t.write()
	return t
}

func (t *terminal) write() {
	for s := range t.out {
		_, _ = io.WriteString(t.w, s) // an unplugged terminal must not stop the repair
		t.idle.Done()
	}
}

func (t *terminal) print(s string) {
	if s == "" {
		return
	}
	t.idle.Add(1)
	select {
	case t.out <- s:
	default:
		t.idle.Done()
	}
}

// Write is bubbletea's way to print.
func (t *terminal) Write(p []byte) (int, error) {
	t.print(string(p))
	return len(p), nil
}

// plainLines are the terminals that have no pages.
type plainLines []*terminal

// Line implements screen.Teller.
func (p plainLines) Line(line screen.Line) {
	for _, t := range p {
		width := 0
		if t.size != nil {
			width, _ = t.size()
		}
		shown := screen.Wrap(line.Text, width)
		if line.Colour != "" && !t.mono {
			shown = line.Colour + shown + screen.Reset
		}
		t.print(shown + "\r\n")
	}
}

// Echo implements screen.Teller.
func (p plainLines) Echo(screen, serial, file string) {
	for _, t := range p {
		switch {
		case t.file:
			t.print(file)
		case t.screen:
			t.print(screen)
		default:
			t.print(serial)
		}
	}
}

// bell calls a person.
func (t *terminal) bell() {
	if !t.file {
		t.print("\a")
	}
}

// newConsole shows what is told on the terminals. Only one may have pages. Keys come by read, or by the options.
func newConsole(terms []*terminal, options ...tea.ProgramOption) *console {
	c := &console{terms: terms, ended: make(chan struct{})}
	var plain plainLines
	options = append([]tea.ProgramOption{tea.WithInput(nil), tea.WithoutSignalHandler(), tea.WithoutCatchPanics(), tea.WithoutBracketedPaste(),
		tea.WithFPS(framesPerSecond)}, options...)
	display := tea.WithoutRenderer()
	for _, t := range terms {
		if t.pages {
			display = tea.WithOutput(t)
		} else {
			plain = append(plain, t)
		}
	}
	c.model = screen.New(plain)
	c.program = tea.NewProgram(c.model, append(options, display)...)
	go func() {
		defer close(c.ended)
		_, _ = c.program.Run() // without input of its own there is nothing that could fail
	}()
	return c
}

func (c *console) display() *terminal {
	for _, t := range c.terms {
		if t.pages {
			return t
		}
	}
	return nil
}

// escapeTime is how long the rest of what a key sends may take on a slow line.
const escapeTime = 50 * time.Millisecond

// read takes the keys of one terminal until it ends. Those of redirected input count for the next question; others are
// forgotten where nobody asks.
func (c *console) read(r io.Reader, redirected bool) {
	bytes := make(chan byte)
	go func() {
		defer close(bytes)
		buf := make([]byte, 64)
		for {
			n, err := r.Read(buf)
			for _, b := range buf[:n] {
				bytes <- b
			}
			if err != nil || n == 0 {
				return
			}
		}
	}()
	var d screen.Decoder
	for open := true; open; {
		var keys []tea.KeyMsg
		var late <-chan time.Time
		if d.Open() {
			late = time.After(escapeTime)
		}
		select {
		case b, more := <-bytes:
			if open = more; more {
				keys = d.Feed(b)
			} else {
				keys = d.Flush()
			}
		case <-late:
			keys = d.Flush()
		}
		for _, key := range keys {
			if redirected {
				c.program.Send(screen.Early(key))
			} else {
				c.program.Send(key)
			}
		}
	}
}

// send tells the model, after the display's size if that is another.
func (c *console) send(msg tea.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.display(); t != nil {
		if columns, rows := t.size(); columns != c.columns || rows != c.rows {
			c.columns, c.rows = columns, rows
			c.program.Send(tea.WindowSizeMsg{Width: columns, Height: rows})
		}
	}
	c.program.Send(msg)
}

// begin shows which machine this is, from now on.
func (c *console) begin(machine string) { c.send(screen.Machine(harmless(machine))) }

// stepTo shows which part of the work runs.
func (c *console) stepTo(s screen.Step) {
	if c.step == s {
		return
	}
	c.step = s
	if c.told != nil {
		c.told(s.String())
	}
	c.send(s)
}

// show puts a page on the display. body may be nil, or return nil where it does not fit.
func (c *console) show(body func(width, room int) []string, field screen.Field) {
	c.send(screen.Show{Body: body, Field: field})
}

// line tells one line of text.
func (c *console) line(format string, args ...any) { c.note("", format, args...) }

// The colours of lines.
const (
	green = screen.Green
	red   = screen.Red
	bold  = screen.Bold
)

// note tells one line that must be seen, in a colour.
func (c *console) note(colour, format string, args ...any) {
	c.send(screen.Say{Colour: colour, Text: harmless(fmt.Sprintf(format, args...))})
}

// beep calls a person.
func (c *console) beep() {
	for _, t := range c.terms {
		t.bell()
	}
}

// tone calls one, or tells one without a screen how it ended: two rising tones are good, a low one is bad.
func (c *console) tone(good bool) {
	for _, t := range c.terms {
		if t.tone != nil {
			go t.tone(good)
		} else {
			t.bell()
		}
	}
}

// drain waits until all is on the terminals, but not longer than a second: a serial port may be stuck.
func (c *console) drain() {
	done := make(chan struct{})
	go func() {
		c.sync()
		if c.display() != nil {
			time.Sleep(2 * time.Second / framesPerSecond)
		}
		for _, t := range c.terms {
			t.idle.Wait()
			if t.settle != nil {
				t.settle()
			}
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// errGone means that nobody can answer any more.
var errGone = errors.New("nobody can answer")

// sync waits until all that was sent is taken in.
func (c *console) sync() {
	taken := make(chan struct{})
	c.send(screen.Sync(taken))
	select {
	case <-taken:
	case <-c.ended:
	}
}

// watch is what goes on while a question is asked.
type watch struct {
	wake  <-chan struct{} // look at once; may be nil
	every time.Duration
	// look may tell lines. An error takes the question back.
	look func() error
}

// ask puts a question and waits for its answer, ctx's end, or an error of the look that w takes meanwhile. w may be nil.
func (c *console) ask(ctx context.Context, e screen.Entry, w *watch) error {
	done := make(chan struct{})
	c.send(screen.Ask{Entry: e, Done: done})
	if w == nil {
		w = &watch{}
	}
	var tick <-chan time.Time
	if w.every > 0 {
		ticker := time.NewTicker(w.every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-done:
			return nil
		case <-c.ended:
			return errGone
		case <-c.over:
			c.sync() // what was typed ahead may be the answer
			select {
			case <-done:
				return nil
			default:
				return c.withdraw(errGone)
			}
		case <-ctx.Done():
			return c.withdraw(ctx.Err())
		case <-w.wake:
		case <-tick:
		}
		if err := w.look(); err != nil {
			return c.withdraw(err)
		}
		c.send(screen.Repeat{})
	}
}

func (c *console) withdraw(err error) error {
	c.send(screen.Withdraw{})
	return err
}

// choose asks until one of the letters is pressed.
func (c *console) choose(ctx context.Context, question string, letters string) (byte, error) {
	e := &screen.Choice{Ask: question, Letters: letters}
	err := c.ask(ctx, e, nil)
	return e.Letter, err
}

// answer asks a question that a line answers.
func (c *console) answer(ctx context.Context, question string) (string, error) {
	e := &screen.Answer{Ask: question}
	err := c.ask(ctx, e, nil)
	return e.Text, err
}

// working shows what goes on while something works that takes a second on a PC and longer on old ones, and a sign of life.
func working[T any](c *console, what string, work func() T) T {
	done := make(chan T, 1)
	c.send(screen.Work(what))
	go func() { done <- work() }()
	for {
		select {
		case result := <-done:
			return result
		case <-time.After(2 * time.Second):
			c.send(screen.Dot{})
		}
	}
}
