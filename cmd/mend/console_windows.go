package main

import (
	"os"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"golang.org/x/sys/windows"
)

var (
	kernel32 = windows.NewLazySystemDLL("kernel32.dll")
	user32   = windows.NewLazySystemDLL("user32.dll")
)

// openConsole takes over the console that this program was started in: pages where it understands control sequences
// (Windows 10 and later do), plain lines where it does not or where the output is redirected. Ctrl-C calls interrupt.
func openConsole(interrupt func()) *console {
	t := newTerminal(os.Stdout)
	t.file = !isConsole(os.Stdout)
	t.screen, t.mono = !t.file, true
	var options []tea.ProgramOption
	keyboard := isConsole(os.Stdin)
	if keyboard {
		options = append(options, tea.WithInput(os.Stdin))
	}
	if t.screen {
		handle := windows.Handle(os.Stdout.Fd())
		t.size = func() (columns, rows int) { return windowSize(handle) }
		t.tone = tone
		t.mono = !understandsSequences(handle)
		t.pages = keyboard && !t.mono
	}
	if t.pages {
		options = append(options, tea.WithAltScreen())
	}
	options = append(options, tea.WithFilter(func(_ tea.Model, msg tea.Msg) tea.Msg {
		switch m := msg.(type) {
		case tea.KeyMsg:
			switch {
			case m.Type == tea.KeyCtrlC:
				interrupt()
				return nil
			case m.Type == tea.KeyRunes && len(m.Runes) == 1 && m.Runes[0] == 0:
				return nil // a key that types nothing, such as Ctrl
			}
		case tea.WindowSizeMsg: // Windows tells the buffer's, which is longer than what is seen of it
			if t.size != nil {
				m.Width, m.Height = t.size()
			}
			return m
		}
		return msg
	}))
	c := newConsole([]*terminal{t}, options...)
	if !keyboard {
		c.over = make(chan struct{})
		go func() {
			c.read(os.Stdin, true)
			close(c.over)
		}()
	}
	return c
}

// close gives the console back, with all that was told on it.
func (c *console) close() {
	c.drain()
	c.program.Quit()
	<-c.ended
	t := c.display()
	if t == nil {
		return
	}
	t.pages = false
	told := plainLines{t}
	for _, line := range c.model.Lines() {
		told.Line(line)
	}
	t.idle.Wait()
}

func isConsole(f *os.File) bool {
	var mode uint32
	return windows.GetConsoleMode(windows.Handle(f.Fd()), &mode) == nil
}

// understandsSequences has the console take control sequences, if it knows any.
func understandsSequences(out windows.Handle) bool {
	var mode uint32
	if windows.GetConsoleMode(out, &mode) != nil {
		return false
	}
	mode |= windows.ENABLE_PROCESSED_OUTPUT | windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING | windows.DISABLE_NEWLINE_AUTO_RETURN
	if windows.SetConsoleMode(out, mode) != nil {
		return false
	}
	numLock()
	return true
}

// windowSize is what is seen of the console, in columns and rows.
func windowSize(out windows.Handle) (columns, rows int) {
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(out, &info) != nil {
		return 80, 25
	}
	return int(info.Window.Right-info.Window.Left) + 1, int(info.Window.Bottom-info.Window.Top) + 1
}

// tone plays two rising tones, or low ones, where there is something to play them on.
func tone(good bool) {
	hertz := []uintptr{220, 220, 165}
	if good {
		hertz = []uintptr{880, 1320}
	}
	beep := kernel32.NewProc("Beep")
	if beep.Find() != nil {
		return
	}
	for _, h := range hertz {
		if ok, _, _ := beep.Call(h, 250); ok == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// numLock makes the number pad type digits (winuser.h, VK_NUMLOCK; the key is pressed and let go as a person would).
func numLock() {
	const key, scan, extended, up = 0x90, 0x45, 1, 2
	state, event := user32.NewProc("GetKeyState"), user32.NewProc("keybd_event")
	if !inPE() || state.Find() != nil || event.Find() != nil {
		return
	}
	if on, _, _ := state.Call(key); on&1 == 0 {
		_, _, _ = event.Call(key, scan, extended, 0)
		_, _, _ = event.Call(key, scan, extended|up, 0)
	}
}
