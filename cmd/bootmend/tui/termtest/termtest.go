// Package termtest runs programs in a terminal (of tmux), into which tests type and whose screen they read, as a person
// does.
package termtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Patience is how long a screen is waited for, on a machine that has much else to do.
const Patience = 2 * time.Minute

// Terminal has a program in it. It stays when that has ended.
type Terminal struct {
	t      testing.TB
	socket string
}

// Options of a terminal.
type Options struct {
	Size string   // columns and rows, as "80x24"
	Dir  string   // that the program runs in; empty is the test's
	Env  []string // of the program, beside the test's
}

// colours are what programs go by to choose colours: tests decide on that themselves, wherever they run. Many go without
// in what they take for a build service (CI).
var colours = []string{"CI", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLORFGBG", "TERM_PROGRAM", "GOOGLE_CLOUD_SHELL"}

// Start runs a program with its arguments. The test is skipped where there is no tmux, or where it has to be short.
func Start(t testing.TB, o Options, program ...string) *Terminal {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes seconds to watch a terminal")
	}
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("tmux is absent: apt-get install tmux")
	}
	if o.Dir == "" {
		o.Dir = "."
	}
	m := &Terminal{t, filepath.Join(t.TempDir(), "tmux")}
	columns, rows, _ := strings.Cut(o.Size, "x")
	// The shell outlives Ctrl-C and tells how the program ended; the screen stays when the shell has ended too.
	const shell = `trap : INT; "$@"; echo "[ended with $?]"`
	m.Tmux(slices.Concat([]string{"-f", "/dev/null", "start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";",
		"set-option", "-g", "remain-on-exit-format", "", ";", "set-option", "-g", "status", "off", ";",
		"new-session", "-d", "-x", columns, "-y", rows, "-c", o.Dir, "sh", "-c", shell, "sh", "env"}, o.Env, program)...)
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", m.socket, "kill-server").Run() })
	return m
}

// Tmux runs a command of tmux and returns its output.
func (m *Terminal) Tmux(args ...string) string {
	m.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-S", m.socket}, args...)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(colours, name)
	})
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// Keys presses keys, by tmux's names; what is no name of a key is typed.
func (m *Terminal) Keys(keys ...string) {
	m.t.Helper()
	m.Tmux(append([]string{"send-keys"}, keys...)...)
}

// Type types text.
func (m *Terminal) Type(text string) {
	m.t.Helper()
	m.Tmux("send-keys", "-l", text)
}

// Resize takes another size in columns and rows, as "120x40".
func (m *Terminal) Resize(size string) {
	m.t.Helper()
	columns, rows, _ := strings.Cut(size, "x")
	m.Tmux("resize-window", "-x", columns, "-y", rows)
}

// Record writes all that is sent to the terminal from now on to a file.
func (m *Terminal) Record(path string) {
	m.t.Helper()
	m.Tmux("pipe-pane", "cat >'"+path+"'")
}

// Screen is the text on the screen.
func (m *Terminal) Screen() string {
	m.t.Helper()
	return m.Tmux("capture-pane", "-p")
}

// Painted is the text on the screen with its colours, as control sequences.
func (m *Terminal) Painted() string {
	m.t.Helper()
	return m.Tmux("capture-pane", "-p", "-e")
}

// until waits until the screen is as it should be and returns it, or whether it never was.
func (m *Terminal) until(good func(screen string) bool) (screen string, ok bool) {
	m.t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if screen = m.Screen(); good(screen) {
			return screen, true
		}
	}
	return screen, false
}

// Expect waits until the screen matches a pattern, and returns the screen.
func (m *Terminal) Expect(pattern string) string {
	m.t.Helper()
	screen, ok := m.until(regexp.MustCompile(pattern).MatchString)
	if !ok {
		m.t.Fatalf("the screen never showed %q:\n%s", pattern, screen)
	}
	return screen
}

// Shows waits until the screen has all these texts on it, and returns the screen.
func (m *Terminal) Shows(texts ...string) string {
	m.t.Helper()
	screen, ok := m.until(func(screen string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(screen, text) })
	})
	if !ok {
		m.t.Fatalf("the screen never showed all of %q:\n%s", texts, screen)
	}
	return screen
}

// Status waits for the program's end and returns its exit status.
func (m *Terminal) Status() string {
	m.t.Helper()
	_, after, _ := strings.Cut(m.Expect(`\[ended with \d+\]`), "[ended with ")
	status, _, _ := strings.Cut(after, "]")
	return status
}
