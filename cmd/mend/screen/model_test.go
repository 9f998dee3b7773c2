package screen

import (
	"fmt"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

// heard is what plain lines have got.
type heard struct{ screen, serial, file string }

func (h *heard) Line(l Line) {
	line := l.Text + "\r\n"
	h.Echo(line, line, line)
}

func (h *heard) Echo(screen, serial, file string) {
	h.screen, h.serial, h.file = h.screen+screen, h.serial+serial, h.file+file
}

// sitting is a model, and a person before it.
type sitting struct {
	t *testing.T
	*Model
	heard
}

func sit(t *testing.T, width, height int) *sitting {
	s := &sitting{t: t}
	s.Model = New(&s.heard)
	s.is(tea.WindowSizeMsg{Width: width, Height: height}, Machine("Lenovo 20XW, serial number PF2ABCDE"))
	return s
}

func (s *sitting) is(msgs ...tea.Msg) {
	s.t.Helper()
	for _, msg := range msgs {
		m, cmd := s.Update(msg)
		if m != s.Model || cmd != nil {
			s.t.Fatalf("%T leads to another model or a command", msg)
		}
	}
}

func (s *sitting) types(keys string) { s.is(anys(keysOf(keys))...) }

func anys(keys []tea.KeyMsg) (msgs []tea.Msg) {
	for _, key := range keys {
		msgs = append(msgs, key)
	}
	return msgs
}

func (s *sitting) asked(e Entry) <-chan struct{} {
	done := make(chan struct{})
	s.is(Ask{Entry: e, Done: done})
	return done
}

func (s *sitting) answered(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// shows is the display as text. Each row must fit, and begin in the colours of the field.
func (s *sitting) shows() string {
	s.t.Helper()
	rows := strings.Split(s.View(), "\n")
	if len(rows) != s.height {
		s.t.Errorf("%d rows on a display of %d", len(rows), s.height)
	}
	var out strings.Builder
	for _, row := range rows {
		if !strings.HasPrefix(row, s.field.base()) || !strings.HasSuffix(row, s.field.base()) || s.field != Plain && strings.Contains(row, "\x1b[0m") {
			s.t.Errorf("row in other colours: %q", row)
		}
		text := ansi.Strip(row)
		if ansi.StringWidth(text) >= s.width {
			s.t.Errorf("row too long: %s", text)
		}
		out.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	return out.String()
}

func question(width, room int) []string { return Question(key, width, room) }

func (s *sitting) asksForKey() (*Recovery, <-chan struct{}) {
	s.is(Say{Text: "This machine: Lenovo 20XW, serial number PF2ABCDE"}, Unlock, Show{Body: question},
		Say{Colour: Bold, Text: "Recovery key for FRONTDESK-7 C: 7/19/2024 (nvme0n1p3)"}, Say{Text: "  key ID " + key.ID},
		Say{Text: "Type its 48 digits; dashes are not needed. S skips this volume. A stick with the key may be plugged in, too."})
	e := &Recovery{Letters: "s", now: slowly()}
	return e, s.asked(e)
}

// TestKeyOnTheScreen types a key with a wrong group, on several displays.
func TestKeyOnTheScreen(t *testing.T) {
	for _, size := range [][2]int{{80, 25}, {160, 50}, {40, 12}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			s := sit(t, size[0], size[1])
			e, done := s.asksForKey()
			golden(t, "key-"+t.Name()[len("TestKeyOnTheScreen/"):], s.shows())
			s.types("110011220022" + "330034")
			if s.answered(done) || !strings.HasSuffix(s.screen, "\r\n  key: 110011-220022-\a") {
				t.Errorf("plain lines end with %q", s.screen[len(s.screen)-100:])
			}
			golden(t, "mistyped-"+t.Name()[len("TestKeyOnTheScreen/"):], s.shows())
			s.types(typedKey[14:])
			if !s.answered(done) {
				t.Fatal("not answered")
			}
			expectKey(t, e)
			if strings.Contains(s.shows(), "110011") {
				t.Error("the key stays on the display")
			}
		})
	}
}

// TestResize goes on with a question on a display of another size, as when a graphics driver takes over.
func TestResize(t *testing.T) {
	s := sit(t, 80, 25)
	_, done := s.asksForKey()
	s.types("110011-2")
	s.is(tea.WindowSizeMsg{Width: 160, Height: 50})
	if got := s.shows(); !strings.Contains(got, "key: 110011-2_____-") || !strings.Contains(got, "Key ID") {
		t.Errorf("after it\n%s", got)
	}
	s.is(tea.WindowSizeMsg{Width: 60, Height: 10}) // too small for the page
	if got := s.shows(); !strings.Contains(got, "key: 110011-2") || strings.Contains(got, "photograph") {
		t.Errorf("small\n%s", got)
	}
	s.is(tea.WindowSizeMsg{})
	if s.View() != "" {
		t.Error("shows something without a display")
	}
	s.types(typedKey[8:])
	if !s.answered(done) {
		t.Error("not answered")
	}
}

// TestTold puts the question again where something is told while it is asked.
func TestTold(t *testing.T) {
	s := sit(t, 80, 25)
	s.asked(&Secret{Ask: "  passphrase: "})
	s.types("open")
	s.is(Say{Text: "Stick sdb with 3 recovery keys"}, Say{Text: "more"}, Repeat{}, Repeat{})
	if want := "  passphrase: ****\r\nStick sdb with 3 recovery keys\r\nmore\r\n  passphrase: ****"; s.serial != want {
		t.Errorf("got %q, want %q", s.serial, want)
	}
	if got := s.shows(); !strings.Contains(got, "Stick sdb with 3 recovery keys\nmore\n  passphrase: ****_\n") {
		t.Errorf("shows\n%s", got)
	}
	s.is(tea.KeyMsg{Type: tea.KeyTab})
	if strings.Contains(s.serial, "open") || !strings.HasSuffix(s.screen, "open") || !strings.Contains(s.shows(), "passphrase: open_") {
		t.Error("Tab shows it in the wrong places")
	}
	s.is(Withdraw{}, Say{Text: "on"})
	if !strings.HasSuffix(s.serial, "\r\non\r\n") || strings.Contains(s.shows(), "passphrase") {
		t.Errorf("withdrawn: %q", s.serial)
	}
	s.is(Withdraw{}, Repeat{}, Dot{}) // there is none
}

// TestMenu is the machine that needs a person: keys from before count for nothing, others than those offered too.
func TestMenu(t *testing.T) {
	s := sit(t, 80, 25)
	s.types("p")
	s.is(Done, Say{Colour: Red, Text: "NOT HEALED: nvme0n1p3 is locked and no key was given. Wanted: key ID " + key.ID},
		Show{Body: func(width, room int) []string { return Result("NOT OK", width, room) }, Field: Bad},
		Say{}, Say{Text: "  K  type the recovery key"}, Say{Text: "  T  try again        D  dry run (change nothing)    W  go on to Windows"},
		Say{Text: "  L  look at the log"})
	menu := &Choice{Ask: "Your choice: ", Letters: "tdwlk"}
	done := s.asked(menu)
	s.types("xQ?")
	s.is(tea.KeyMsg{Type: tea.KeyEsc}, tea.KeyMsg{Type: tea.KeyEnter})
	if s.answered(done) {
		t.Fatalf("answered with %q", menu.Letter)
	}
	golden(t, "menu-80x25", s.shows())
	s.types("L")
	if !s.answered(done) || menu.Letter != 'l' || !strings.HasSuffix(s.serial, "Your choice: l\r\n") || !strings.Contains(s.shows(), "Your choice: l\n") {
		t.Errorf("letter %q", menu.Letter)
	}

	// The log, and back to the menu.
	for i := range 2*reviewLines - len(s.Lines()) {
		s.is(Say{Text: fmt.Sprintf("line %d", i)})
	}
	s.is(Show{})
	read := s.asked(&Review{})
	golden(t, "log-80x25", s.shows())
	s.is(tea.KeyMsg{Type: tea.KeySpace, Runes: []rune{' '}})
	if got := s.shows(); s.answered(read) || strings.Contains(got, "NOT HEALED") || !strings.Contains(got, "line 10") {
		t.Errorf("second page\n%s", got)
	}
	s.types("  ")
	if !s.answered(read) || !strings.Contains(s.shows(), "line 20\n") {
		t.Errorf("after the log\n%s", s.shows())
	}
}

// TestEarly keeps what redirected input has sent before the questions.
func TestEarly(t *testing.T) {
	s := sit(t, 0, 0)
	for _, key := range append(keysOf("secret"), tea.KeyMsg{Type: tea.KeyEnter}, keysOf("yes")[0], keysOf("es")[0], keysOf("s")[0], tea.KeyMsg{Type: tea.KeyEnter}) {
		s.is(Early(key))
	}
	secret, answer := &Secret{Ask: "a: "}, &Answer{Ask: "b: "}
	if done := s.asked(secret); !s.answered(done) || secret.Take() != "secret" {
		t.Error("the first question")
	}
	if done := s.asked(answer); !s.answered(done) || answer.Text != "yes" {
		t.Errorf("the second question: %q", answer.Text)
	}
	if s.serial != "a: ******\r\nb: yes\r\n" || s.file != "a: \r\nb: yes\r\n" {
		t.Errorf("plain lines: %q, in a file %q", s.serial, s.file)
	}
}

// TestFile keeps keys out of a file that the output is redirected to.
func TestFile(t *testing.T) {
	s := sit(t, 0, 0)
	done := s.asked(&Recovery{now: slowly()})
	s.types("110011110012")
	s.is(Say{Text: "told"}, Repeat{})
	s.types(typedKey[7:])
	if want := "  key: \r\n  group 2 is not valid: one of its digits is wrong. Type group 2 again.\r\n\r\ntold\r\n\r\n"; !s.answered(done) || s.file != want {
		t.Errorf("got %q, want %q", s.file, want)
	}
}

func TestAnswer(t *testing.T) {
	a := &Answer{Ask: "Type YES: "}
	if sum, _ := press(a, "\x7fYEX\x7fS\x1b[D"+strings.Repeat("é", 3)+"\r"); !sum.Done || a.Text != "YES" || a.Answered() != "Type YES: YES" {
		t.Errorf("got %q", a.Text)
	}
	a = &Answer{}
	press(a, strings.Repeat("x y", maxAnswer))
	if len(a.Text) != maxAnswer {
		t.Error("no bound")
	}
}

// TestLongLine shows the beginning of a line that is longer than the display.
func TestLongLine(t *testing.T) {
	s := sit(t, 40, 12)
	s.is(Say{Text: strings.Repeat("word ", 200)}, Work("Unlocking ..."), Dot{})
	if got := s.shows(); !strings.Contains(got, "\nword word") || !strings.Contains(got, "\nUnlocking ....\n") {
		t.Errorf("shows\n%s", got)
	}
	taken := make(chan struct{})
	s.is(Sync(taken))
	<-taken
}
