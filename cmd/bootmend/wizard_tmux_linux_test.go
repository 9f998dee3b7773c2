package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bootmend/bootmend/assets"
)

var update = flag.Bool("update", false, "write the golden screens anew")

// look is a screen of a whole run: what it has to show, and what is pressed then. Names of keys are tmux's.
type look struct {
	see   string
	press []string
}

// shown is a screen as the golden file has it.
type shown struct {
	see, pressed, screen string
}

const (
	seeMark   = "===== "
	pressMark = "----- pressed: "
)

// goldenRun is the file of a run: each screen below what it was waited for, above the keys that left it.
func goldenRun(t *testing.T, path string) []shown {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []shown
	for part := range strings.SplitSeq(strings.TrimPrefix(string(data), seeMark), "\n"+seeMark) {
		see, rest, _ := strings.Cut(part, "\n")
		screen, pressed, _ := strings.Cut(rest, pressMark)
		all = append(all, shown{see, strings.TrimSuffix(pressed, "\n"), screen})
	}
	return all
}

func writeRun(t *testing.T, path string, all []shown) {
	t.Helper()
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "%s%s\n%s%s%s\n", seeMark, s.see, s.screen, pressMark, s.pressed)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// varying is what differs from one build of the program, and from one run, to the next.
var varying = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), strings.Repeat("x", 64)},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), strings.Repeat("x", 32)},
	{regexp.MustCompile(`\d+\.\d MiB`), "N MiB"},
	{regexp.MustCompile(`\d+ files`), "N files"},
	{regexp.MustCompile(`\((amd64|shim|grub|linux)[^)]*\d[^)]*\)`), "($1 N)"},
}

func masked(screen string) string {
	for _, v := range varying {
		screen = v.what.ReplaceAllString(screen, v.by)
	}
	return screen
}

// follow goes through a run and compares each screen with the golden one. It waits for the whole screen, so that it
// depends on no time; what never comes is shown beside what is there.
func (m *terminal) follow(golden string, run []look) {
	m.t.Helper()
	var want []shown
	if !*update {
		if want = goldenRun(m.t, golden); len(want) != len(run) {
			m.t.Fatalf("%s has %d screens, the run %d: write it anew with -update and look at it", golden, len(want), len(run))
		}
	}
	var got []shown
	for i, l := range run {
		pressed := strings.Join(l.press, " ")
		screen := ""
		if *update {
			screen = m.settled(l.see)
		} else if want[i].see != l.see || want[i].pressed != pressed || !strings.Contains(want[i].screen, l.see) {
			m.t.Fatalf("screen %d of %s is another one: write it anew with -update and look at it", i+1, golden)
		} else {
			screen = m.same(want[i].screen)
		}
		got = append(got, shown{l.see, pressed, screen})
		for _, key := range l.press {
			m.keys(key)
		}
	}
	if *update {
		writeRun(m.t, golden, got)
	}
}

// screen is what the terminal shows, but for what varies.
func (m *terminal) screen() string {
	m.t.Helper()
	return masked(m.tmux("capture-pane", "-p"))
}

// patience is for a machine that has much else to do.
const patience = 120 * time.Second

func (m *terminal) same(want string) (screen string) {
	m.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if screen = m.screen(); screen == want {
			return screen
		}
	}
	m.t.Fatalf("the screen is\n%s\nand never became\n%s", screen, want)
	return ""
}

// settled waits until the screen shows something and nothing changes any more, to make it the golden one.
func (m *terminal) settled(see string) string {
	m.t.Helper()
	screen, since := "", time.Now()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		now := m.screen()
		if now != screen {
			screen, since = now, time.Now()
		}
		if strings.Contains(screen, see) && time.Since(since) > time.Second {
			return screen
		}
	}
	m.t.Fatalf("the screen never showed %q:\n%s", see, screen)
	return ""
}

// wizardDir is the folder of a run.
func wizardDir(t *testing.T) string {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", "wizard", "folder.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, f := range a.Files {
		lay(t, dir, map[string]string{f.Name: string(f.Data)})
	}
	return dir
}

func press(keys ...string) []string { return keys }

// wizardRuns are whole ways through the wizard, with the mistakes that people make.
var wizardRuns = map[string][]look{
	"usb": {
		{"What do you want?", press("Enter")},
		{"What shall the machines start?", press("Enter")},
		{"Where do the recovery keys come from?", press("Enter")},
		{"Which file or folder has the keys?", press("keys.csv")},
		{"> keys.csv", press("Enter")},
		{"2 recovery keys of 2 computers", press("Enter")},
		{"How shall the keys be protected?", press("Enter")},
		{"Four or five unrelated words", press("monday", "Enter")},
		{"too easy to guess", press("C-u", "correct horse battery staple")},
		{"Strength: strong", press("Enter")},
		{"The same passphrase again", press("correct horse battery stable", "Enter")},
		{"do not agree", press("C-u", "correct horse battery staple", "Enter")},
		{"A rule pack of your own?", press("wrong.yaml", "Enter")},
		{"wrong.yaml:3:8", press("C-u", "own.yaml", "Enter")},
		{"A driver of ours. It has no signature", press("Enter")},
		{"Use a rule pack that nobody signed?", press("2")},
		{"What shall be done with the faulty files?", press("Enter")},
		{"What does a healed machine do?", press("Enter")},
		{"What does a machine do that could not be healed?", press("Enter")},
		{"Where shall it go?", press("2")},
		{"Which file shall be written?", press("Enter")},
		{"Is this right?", press("Enter")},
		{"heal.img is made", press("Enter")},
		{"[ended with 0]", nil},
	},
	"iso": {
		{"What do you want?", press("2")},
		{"What shall the machines start?", press("2")},
		{"Where is Windows PE?", press("photos", "Enter")},
		{"photos", press("Escape")},
		{"What shall the machines start?", press("1")},
		{"Where do the recovery keys come from?", press("1")},
		{"Which file or folder has the keys?", press("keys.csv", "Enter")},
		{"2 recovery keys of 2 computers", press("Enter")},
		{"How shall the keys be protected?", press("3")},
		{"Keys that anyone can read?", press("Enter")},
		{"How shall the keys be protected?", press("3")},
		{"Keys that anyone can read?", press("2")},
		{"A rule pack of your own?", press("Enter")},
		{"What shall be done with the faulty files?", press("3")},
		{"What does a healed machine do?", press("3")},
		{"What does a machine do that could not be healed?", press("3")},
		{"Which file shall be written?", press("C-u", "discs/heal.iso", "Enter")},
		{"no such file", press("C-u", "heal.iso", "Enter")},
		{"Is this right?", press("Enter")},
		{"heal.iso is made", press("Enter")},
		{"[ended with 0]", nil},
	},
	"network": {
		{"What do you want?", press("3")},
		{"Where do the recovery keys come from?", press("1")},
		{"Which file or folder has the keys?", press("keys.csv", "Enter")},
		{"2 recovery keys of 2 computers", press("Enter")},
		{"How shall the keys be protected?", press("3")},
		{"anybody on the network could read them", press("2")},
		{"The second stick's public key", press("hello", "Enter")},
		{"hello", press("C-u", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "Enter")},
		{"A rule pack of your own?", press("Enter")},
		{"What shall be done with the faulty files?", press("2")},
		{"What does a healed machine do?", press("Enter")},
		{"What does a machine do that could not be healed?", press("Enter")},
		{"Which address has the boot server?", press("10.0.0", "Enter")},
		{"no IPv4 address", press("C-u", "10.0.0.2", "Enter")},
		{"Which folder shall be written?", press("C-u", "photos", "Enter")},
		{"photos", press("C-u", "tftpboot", "Enter")},
		{"Is this right?", press("Enter")},
		{"tftpboot is made", press("Enter")},
		{"[ended with 0]", nil},
	},
	"check": {
		{"What do you want?", press("4")},
		{"Which stick or image?", press("photos/holiday.jpg", "Enter")},
		{"Is this right?", press("Enter")},
		{"Not done", press("Escape")},
		{"Is this right?", press("Escape")},
		{"Which stick or image?", press("C-u", "stick.img", "Enter")},
		{"Is this right?", press("Enter")},
		{"stick.img is whole", press("Enter")},
		{"[ended with 0]", nil},
	},
	"logs": {
		{"What do you want?", press("5")},
		{"Where are the logs?", press("Down", "Enter")},
		{"Where are the logs?", press("C-u", "sticks", "Enter")},
		{"Shall a page be written, too?", press("Enter")},
		{"Where shall the report go?", press("Enter")},
		{"Is this right?", press("Enter")},
		{"bootmend-report.html is written", press("Enter")},
		{"[ended with 0]", nil},
	},
	// What went wrong is told on the screen, and once more when the screen is gone.
	"failed": {
		{"What do you want?", press("5")},
		{"Where are the logs?", press("photos", "Enter")},
		{"Shall a page be written, too?", press("2")},
		{"Is this right?", press("Enter")},
		{"Not done", press("Enter")},
		{"[ended with 3]", nil},
	},
	"left": {
		{"What do you want?", press("Down", "C-c")},
		{"[ended with 3]", nil},
	},
}

// TestWizardRuns goes through the wizard with the keyboard, from the first screen to what is left on the terminal.
func TestWizardRuns(t *testing.T) {
	if _, err := assets.OpenBundle(); err != nil {
		t.Skip(err)
	}
	for name, run := range wizardRuns {
		for _, size := range []string{"80x24", "200x60"} {
			t.Run(name+"/"+size, func(t *testing.T) {
				t.Parallel()
				golden, err := filepath.Abs(filepath.Join("testdata", "wizard", name+"-"+size+".txt"))
				if err != nil {
					t.Fatal(err)
				}
				dir := wizardDir(t)
				if name == "check" {
					if _, errs, err := bootmend("build", "usb", "-o", filepath.Join(dir, "stick.img")); err != nil {
						t.Fatalf("%v\n%s", err, errs)
					}
				}
				terminalOf(t, size, dir, []string{"TERM=screen"}).follow(golden, run)
			})
		}
	}
}
