package screen

import (
	"strings"

	tea "github.com/charmbracelet/bubbletea"
)

// Entry is a question that the keyboard answers. It lives on the display, as rows that are drawn anew, and on plain
// lines, as a prompt and what each key adds to it.
type Entry interface {
	// Prompt begins the question on plain lines; where something was told meanwhile, again with what was typed so far.
	Prompt() string
	// Key takes one key, or several that came at once.
	Key(key tea.KeyMsg) Reaction
	// View is the same on the display.
	View(width, room int) []string
	// Answered is the line that stays on the display; empty is none.
	Answered() string
	// Forget wipes what was typed, where the question is withdrawn.
	Forget()
}

// Reaction is what a key leads to.
type Reaction struct {
	// Screen, Serial and File are what plain lines show for it: where the person sits, where a line may be recorded, and
	// where nobody looks now.
	Screen, Serial, File string
	// Bell: the person must look.
	Bell bool
	// Done: the question is answered.
	Done bool
}

// same shows the same to all; typed only to people.
func same(s string) Reaction  { return Reaction{Screen: s, Serial: s, File: s} }
func typed(s string) Reaction { return Reaction{Screen: s, Serial: s} }

// answered ends the line of a question.
func answered() Reaction {
	r := same("\r\n")
	r.Done = true
	return r
}

// then adds what the next key leads to.
func (r Reaction) then(next Reaction) Reaction {
	return Reaction{r.Screen + next.Screen, r.Serial + next.Serial, r.File + next.File, r.Bell || next.Bell, next.Done}
}

// Enter is the letter that a [Choice] takes the Enter key for, and Any that for every key.
const (
	Enter = '\r'
	Any   = '*'
)

// Choice asks for one of some letters.
type Choice struct {
	Ask     string // the prompt; empty is a question that was told before
	Letters string // in lower case
	Letter  byte   // the one that was pressed
}

// Prompt implements Entry.
func (c *Choice) Prompt() string { return c.Ask }

// Key implements Entry.
func (c *Choice) Key(key tea.KeyMsg) Reaction {
	keys := key.Runes
	switch key.Type {
	case tea.KeyEnter:
		keys = []rune{Enter}
	case tea.KeySpace:
		keys = []rune{' '}
	}
	for _, r := range keys {
		if r >= 'A' && r <= 'Z' {
			r |= 0x20
		}
		if r >= 0x80 || !strings.ContainsRune(c.Letters, r) && !strings.ContainsRune(c.Letters, Any) {
			continue
		}
		c.Letter = byte(r)
		switch {
		case c.Ask == "":
			return Reaction{Done: true}
		case r <= ' ' || strings.ContainsRune(c.Letters, Any):
			return answered()
		}
		return same(string(r)).then(answered())
	}
	return Reaction{}
}

// View implements Entry.
func (c *Choice) View(int, int) []string {
	if c.Ask == "" {
		return nil
	}
	return []string{bright + c.Ask + normal + "_"}
}

// Answered implements Entry.
func (c *Choice) Answered() string {
	if c.Ask == "" || strings.ContainsRune(c.Letters, Any) {
		return ""
	}
	return c.Ask + string(rune(c.Letter))
}

// Forget implements Entry.
func (c *Choice) Forget() {}

// maxAnswer bounds what Answer takes in.
const maxAnswer = 64

// Answer asks a question that a line answers, and shows it as it is typed.
type Answer struct {
	Ask  string
	Text string
}

// Prompt implements Entry.
func (a *Answer) Prompt() string { return a.Ask + a.Text }

// Key implements Entry.
func (a *Answer) Key(key tea.KeyMsg) Reaction {
	switch key.Type {
	case tea.KeyEnter:
		return answered()
	case tea.KeyBackspace, tea.KeyCtrlH:
		if a.Text == "" {
			return Reaction{}
		}
		a.Text = a.Text[:len(a.Text)-1]
		return same(left)
	case tea.KeySpace:
		key.Runes = []rune{' '}
	case tea.KeyRunes:
	default:
		return Reaction{}
	}
	echo := ""
	for _, r := range key.Runes {
		if r >= ' ' && r < 0x7f && len(a.Text) < maxAnswer {
			a.Text += string(r)
			echo += string(r)
		}
	}
	return same(echo)
}

// View implements Entry.
func (a *Answer) View(int, int) []string { return []string{a.Ask + bright + a.Text + normal + "_"} }

// Answered implements Entry.
func (a *Answer) Answered() string { return a.Ask + a.Text }

// Forget implements Entry.
func (a *Answer) Forget() { a.Text = "" }
