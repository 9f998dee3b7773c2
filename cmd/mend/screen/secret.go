package screen

import (
	"strings"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"
)

// Secret asks for a passphrase or a user's password one key at a time. Stars stand for it, until the person asks to see
// it on the screen: its keyboard counts as an American one, which not everybody's is. What a serial line shows is often
// recorded, so there the stars stay.
type Secret struct {
	Ask string // the prompt

	text   []byte
	reveal bool
}

// maxSecret bounds what is typed, in bytes.
const maxSecret = 1024

// left takes a character back on a terminal.
const left = "\b \b"

// Prompt implements Entry. It hides what was typed again.
func (s *Secret) Prompt() string { return s.Ask + s.stars() }

// Key implements Entry.
func (s *Secret) Key(key tea.KeyMsg) Reaction {
	switch key.Type {
	case tea.KeyEnter:
		return answered()
	case tea.KeyEsc, tea.KeyCtrlU:
		return typed(s.erase(-1))
	case tea.KeyBackspace, tea.KeyCtrlH:
		return typed(s.erase(1))
	case tea.KeyTab:
		return Reaction{Screen: s.toggle()}
	case tea.KeySpace:
		return s.rune(' ')
	case tea.KeyRunes:
		var sum Reaction
		for _, r := range key.Runes {
			sum = sum.then(s.rune(r))
		}
		return sum
	}
	return Reaction{}
}

func (s *Secret) rune(r rune) Reaction {
	if r < ' ' || len(s.text)+utf8.RuneLen(r) > maxSecret {
		return Reaction{}
	}
	if s.text == nil {
		s.text = make([]byte, 0, maxSecret) // it never moves, and leaves no copies
	}
	s.text = utf8.AppendRune(s.text, r)
	if s.reveal {
		return Reaction{Screen: string(r), Serial: "*"}
	}
	return typed("*")
}

// erase takes n characters back; all of them if n is negative.
func (s *Secret) erase(n int) string {
	erased := 0
	for ; len(s.text) > 0 && erased != n; erased++ {
		_, size := utf8.DecodeLastRune(s.text)
		clear(s.text[len(s.text)-size:])
		s.text = s.text[:len(s.text)-size]
	}
	return strings.Repeat(left, erased)
}

// stars stand for what was typed so far, and hide it again.
func (s *Secret) stars() string {
	s.reveal = false
	return strings.Repeat("*", utf8.RuneCount(s.text))
}

// toggle shows what was typed, or hides it again.
func (s *Secret) toggle() string {
	back := strings.Repeat("\b", utf8.RuneCount(s.text))
	if s.reveal {
		return back + s.stars()
	}
	s.reveal = true
	return back + string(s.text)
}

// View implements Entry.
func (s *Secret) View(width, _ int) []string {
	shown := strings.Repeat("*", utf8.RuneCount(s.text))
	if s.reveal {
		shown = string(s.text)
	}
	room := max(1, width-utf8.RuneCountInString(s.Ask)-2)
	if n := utf8.RuneCountInString(shown); n > room {
		shown = string([]rune(shown)[n-room:])
	}
	return []string{s.Ask + bright + shown + normal + "_"}
}

// Answered implements Entry: nothing of a secret stays on the screen.
func (s *Secret) Answered() string { return "" }

// Forget implements Entry.
func (s *Secret) Forget() {
	clear(s.text[:cap(s.text)])
	s.text, s.reveal = nil, false
}

// Take is what was typed, and forgets it. The string itself cannot be wiped.
func (s *Secret) Take() string {
	text := string(s.text)
	s.Forget()
	return text
}
