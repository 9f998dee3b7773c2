package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/bootmend/bootmend/assets"
	"github.com/bootmend/bootmend/cmd/bootmend/tui/termtest"
	"github.com/bootmend/bootmend/image/flash/flashtest"
)

var update = flag.Bool("update", false, "write the golden screens anew")

// look is a screen of a whole run: what it has to show, and what is pressed then. Names of keys are tmux's, but for
// "resize 100x30". What begins with ~ is a pattern, of a screen that does not stand still and is not kept.
type look struct {
	see   string
	press []string
}

const (
	moving = "~"
	resize = "resize "
)

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
		if pattern, ok := strings.CutPrefix(l.see, moving); ok {
			m.Expect(pattern)
		} else if *update {
			screen = m.settled(l.see)
		} else if want[i].see != l.see || want[i].pressed != pressed || !strings.Contains(want[i].screen, l.see) {
			m.t.Fatalf("screen %d of %s is another one: write it anew with -update and look at it", i+1, golden)
		} else {
			screen = m.same(want[i].screen)
		}
		got = append(got, shown{l.see, pressed, screen})
		m.press(l.press)
	}
	if *update {
		writeRun(m.t, golden, got)
	}
}

// press presses keys at once, but for changes of the size between them.
func (m *terminal) press(keys []string) {
	m.t.Helper()
	i := slices.IndexFunc(keys, func(key string) bool { return strings.HasPrefix(key, resize) })
	switch {
	case i < 0 && len(keys) > 0:
		m.Keys(keys...)
	case i > 0:
		m.Keys(keys[:i]...)
		m.press(keys[i:])
	case i == 0:
		m.Resize(strings.TrimPrefix(keys[0], resize))
		m.press(keys[1:])
	}
}

// screen is what the terminal shows, but for what varies.
func (m *terminal) screen() string {
	m.t.Helper()
	screen := masked(m.Screen())
	if m.mask != nil {
		screen = m.mask(screen)
	}
	return screen
}

func (m *terminal) same(want string) (screen string) {
	m.t.Helper()
	for end := time.Now().Add(termtest.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
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
	for end := time.Now().Add(termtest.Patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
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
		{"heal.img is made", press("Down", "Down", "Down")},
		{"The same without the wizard", press("Enter")},
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
		{"discs is not there", press("C-u", "heal.iso", "Enter")},
		{"Is this right?", press("Enter")},
		{"heal.iso is made", press("Enter")},
		{"[ended with 0]", nil},
	},
	"network": {
		{"What do you want?", press("3")},
		{"What shall the machines start?", press("1")},
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
	// What is begun is stopped, and nothing of it is left: see TestWizardRuns.
	"interrupted": {
		{"What do you want?", press("2")},
		{"What shall the machines start?", press("1")},
		{"Where do the recovery keys come from?", press("2")},
		{"A rule pack of your own?", press("Enter")},
		{"What shall be done with the faulty files?", press("Enter")},
		{"What does a healed machine do?", press("Enter")},
		{"What does a machine do that could not be healed?", press("Enter")},
		{"Which file shall be written?", press("Enter")},
		{"Is this right?", press("Enter", "C-c")},
		{"Stopped. Nothing half-written is left", press("Enter")},
		{"[ended with 1]", nil},
	},
	// The window is made larger and smaller while a person is at it.
	"resized": {
		{"What do you want?", press("Down", "Down", "resize 132x43")},
		{"> Network boot", press("resize 60x18")},
		{"> Network boot", press("Enter")},
		{"What shall the machines start?", press("Enter")},
		{"Where do the recovery keys come from?", press("1")},
		{"Which file or folder has the keys?", press("keys.csv", "resize 132x43", "Enter")},
		{"2 recovery keys of 2 computers", press("resize 60x18")},
		{"2 recovery keys of 2 computers", press("resize 80x24")},
		{"2 recovery keys of 2 computers", press("C-c")},
		{"[ended with 3]", nil},
	},
}

// TestWizardRuns goes through the wizard with the keyboard, from the first screen to what is left on the terminal.
func TestWizardRuns(t *testing.T) {
	needBundle(t)
	for name, run := range wizardRuns {
		for _, size := range []string{"80x24", "200x60"} {
			t.Run(name+"/"+size, func(t *testing.T) {
				t.Parallel()
				dir := wizardDir(t)
				if name == "check" {
					if _, errs, err := bootmend("build", "usb", "-o", filepath.Join(dir, "stick.img")); err != nil {
						t.Fatalf("%v\n%s", err, errs)
					}
				}
				term := terminalOf(t, size, dir, []string{"TERM=screen"})
				term.follow(goldenFile(t, name+"-"+size), run)
				if left, err := filepath.Glob(filepath.Join(dir, ".*")); name == "interrupted" && (len(left) > 0 || err != nil) {
					t.Errorf("%q is left, error %v", left, err)
				}
				if name == "usb" {
					sum := strings.Fields(tool(t, "sha256sum", filepath.Join(dir, "heal.img")))[0]
					if last := term.Screen(); !strings.Contains(last, "SHA-256 "+sum) {
						t.Errorf("the checksum is %s:\n%s", sum, last)
					}
				}
				if _, err := os.Stat(filepath.Join(dir, "heal.iso")); (err == nil) != (name == "iso") {
					t.Errorf("heal.iso: %v", err)
				}
			})
		}
	}
}

// needBundle skips a test where the program was built without what goes onto media.
func needBundle(t *testing.T) {
	t.Helper()
	if _, err := assets.OpenBundle(); err != nil {
		t.Skip(err)
	}
	if _, _, err := assets.Mend(); err != nil {
		t.Skip(err)
	}
}

func goldenFile(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", "wizard", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// onlySticks leaves of a list of devices those of the test, under other names.
func onlySticks(devs []string) func(string) string {
	other := regexp.MustCompile(`(?m)^ *(> )? *(\[.\]|-) +(/dev/\S+)  .*\n(     +\S.*\n)*`)
	return func(screen string) string {
		left := 0
		screen = other.ReplaceAllStringFunc(screen, func(part string) string {
			if dev := other.FindStringSubmatch(part)[3]; slices.Contains(devs, dev) {
				return part
			}
			left += strings.Count(part, "\n")
			return ""
		})
		if i := strings.LastIndex(strings.TrimRight(screen, "\n"), "\n"); i >= 0 {
			screen = screen[:i] + strings.Repeat("\n", left) + screen[i:]
		}
		for i, dev := range devs {
			screen = regexp.MustCompile(regexp.QuoteMeta(dev)+`\b`).ReplaceAllString(screen, fmt.Sprintf("/dev/stick%d", i+1))
		}
		return screen
	}
}

// TestWizardSticks writes two sticks at once: slow ones, to see how far they are, and with Windows PE.
func TestWizardSticks(t *testing.T) {
	needBundle(t)
	const progress = `(writing|verifying) +\[#*\.*\] +\d+ %  \d+ MB/s  \d+s left`
	both := moving + `(?s)Working.*` + progress + `.*` + progress
	marked := press("Space", "Down", "Space", "Enter")
	t.Run("linux", func(t *testing.T) {
		t.Parallel()
		var devs []string
		for range 2 {
			dev, _ := slowStick(t, &flashtest.Faulty{Size: 300 << 20, Rate: 12e6})
			devs = append(devs, dev)
		}
		term := terminalOf(t, "80x24", wizardDir(t), []string{"TERM=screen", testSticksEnv + "=" + strings.Join(devs, ",")})
		term.mask = onlySticks(devs)
		term.follow(goldenFile(t, "sticks-80x24"), []look{
			{"What do you want?", press("1")},
			{"What shall the machines start?", press("1")},
			{"Where do the recovery keys come from?", press("2")},
			{"A rule pack of your own?", press("Enter")},
			{"What shall be done with the faulty files?", press("Enter")},
			{"What does a healed machine do?", press("Enter")},
			{"What does a machine do that could not be healed?", press("Enter")},
			{"Where shall it go?", press("Enter")},
			{"Which sticks?", press("Enter")},
			{"no stick is chosen", marked},
			{"Is this right?", press("Enter")},
			{both, press("resize 60x20")},
			{both, press("resize 80x24")},
			{"was read back: good", press("Enter")},
			{"[ended with 0]", nil},
		})
	})
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		dev, _ := slowStick(t, &flashtest.Faulty{Size: 300 << 20, Rate: 8e6})
		term := terminalOf(t, "80x24", wizardDir(t), []string{"TERM=screen", testSticksEnv + "=" + dev})
		term.mask = onlySticks([]string{dev})
		term.follow(goldenFile(t, "stopped-80x24"), []look{
			{"What do you want?", press("1")},
			{"What shall the machines start?", press("1")},
			{"Where do the recovery keys come from?", press("2")},
			{"A rule pack of your own?", press("Enter")},
			{"What shall be done with the faulty files?", press("Enter")},
			{"What does a healed machine do?", press("Enter")},
			{"What does a machine do that could not be healed?", press("Enter")},
			{"Where shall it go?", press("Enter")},
			{"Which sticks?", press("Space", "Enter")},
			{"Is this right?", press("Enter")},
			{moving + progress, press("C-c")},
			{"Stopped.", press("Enter")},
			{"[ended with 1]", nil},
		})
	})
	t.Run("winpe", func(t *testing.T) {
		t.Parallel()
		dir, devs := wizardDir(t), []string{plainStick(t, 300<<20), plainStick(t, 300<<20)}
		if err := os.Symlink(windowsMedium(t, "LZX"), filepath.Join(dir, "medium")); err != nil {
			t.Fatal(err)
		}
		term := terminalOf(t, "200x60", dir, []string{"TERM=screen", testSticksEnv + "=" + strings.Join(devs, ",")})
		term.mask = onlySticks(devs)
		term.follow(goldenFile(t, "winpe-200x60"), []look{
			{"What do you want?", press("1")},
			{"What shall the machines start?", press("2")},
			{"Where is Windows PE?", press("medium", "Enter")},
			{"Windows Setup", press("Enter")},
			{"Where do the recovery keys come from?", press("2")},
			{"A rule pack of your own?", press("Enter")},
			{"What shall be done with the faulty files?", press("Enter")},
			{"What does a healed machine do?", press("Enter")},
			{"What does a machine do that could not be healed?", press("Enter")},
			{"Where shall it go?", press("Enter")},
			{"Which sticks?", marked},
			{"Is this right?", press("Enter")},
			{"was read back: good", press("Enter")},
			{"[ended with 0]", nil},
		})
	})
}

// TestWizardPlugged plugs a stick in while the list is on the screen, and pulls it out again. The disks of the running
// system are there all the time, and cannot be marked.
func TestWizardPlugged(t *testing.T) {
	dev, unplug := slowStick(t, &flashtest.Faulty{Size: 300 << 20})
	// What will be plugged in must be known by name: tests may not take loop devices of others.
	unplug()
	term := terminalOf(t, "80x24", wizardDir(t), []string{"TERM=screen", testSticksEnv + "=" + dev})
	for _, l := range []look{
		{"What do you want", press("1")}, {"What shall the machines start", press("1")}, {"keys come from", press("2")},
		{"A rule pack of your own", press("Enter")}, {"What shall be done", press("Enter")}, {"What does a healed", press("Enter")},
		{"What does a machine do that could not", press("Enter")}, {"Where shall it go", press("Enter")},
	} {
		term.Expect(regexp.QuoteMeta(l.see))
		term.Keys(l.press...)
	}
	screen := term.Expect(`(?s)Which sticks\?.*(Nothing there yet| -  \S+)`)
	if strings.Contains(screen, dev) || strings.Contains(screen, "[ ]") {
		t.Errorf("a stick is there:\n%s", screen)
	}
	disk := &flashtest.Faulty{Size: 300 << 20}
	path, err := disk.Mount(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	detach, err := flashtest.AttachTo(path, dev)
	if err != nil {
		t.Skipf("%s was taken by another program: %v", dev, err)
	}
	term.Expect(`\[ \] ` + dev + `  .*314 MB`)
	// The cursor stays where it was; the new stick is the first by name.
	for range 3 {
		term.Keys("Home")
	}
	term.Expect(`> \[ \] ` + dev)
	term.Keys("Space")
	term.Expect(`> \[x\] ` + dev)
	if err := detach(); err != nil {
		t.Fatal(err)
	}
	for screen = term.screen(); strings.Contains(screen, dev); screen = term.screen() {
		time.Sleep(50 * time.Millisecond)
	}
	term.Keys("Enter")
	term.Expect(dev + ` is not there any more: plug it in again`)
	term.Keys("C-c")
	if got := term.Status(); got != "3" {
		t.Errorf("exit status %s", got)
	}
}

// TestWizardColours looks at what is sent to terminals that have more or fewer colours, at a question with a dangerous
// answer: the sixteen that all have, or none; without them it can be told by other signs, and a dumb terminal gets
// nothing but text.
func TestWizardColours(t *testing.T) {
	const attribute = `\x1b\[(?:[\d;]*;)?`
	red := regexp.MustCompile(attribute + `31m`)
	any := regexp.MustCompile(attribute + `[34][0-8]m|` + attribute + `(9|10)[0-7]m`)
	more := regexp.MustCompile(attribute + `[34]8[;:]`)
	for name, test := range map[string]struct {
		env      []string
		coloured bool
	}{
		"16 colours":       {[]string{"TERM=screen"}, true},
		"Linux console":    {[]string{"TERM=linux"}, true},
		"256 colours":      {[]string{"TERM=xterm-256color"}, true},
		"all colours":      {[]string{"TERM=xterm-256color", "COLORTERM=truecolor"}, true},
		"no colours asked": {[]string{"TERM=xterm-256color", "COLORTERM=truecolor", "NO_COLOR=1"}, false},
		"an old PuTTY":     {[]string{"TERM=putty"}, true},
		"none there":       {[]string{"TERM=vt100"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := wizardDir(t)
			term := terminalOf(t, "80x24", dir, test.env)
			raw := filepath.Join(dir, "raw")
			term.Expect("What do you want")
			term.Record(raw)
			for _, l := range []look{
				{"What do you want", press("2")}, {"What shall the machines start", press("1")}, {"keys come from", press("1")},
				{"Which file or folder", press("keys.csv", "Enter")}, {"2 recovery keys", press("Enter")}, {"How shall the keys be protected", press("Down")},
			} {
				term.Expect(regexp.QuoteMeta(l.see))
				for _, key := range l.press {
					term.Keys(key)
				}
			}
			term.Expect(`> A second stick`)
			screen := term.Painted()
			if got := red.MatchString(screen); got != test.coloured {
				t.Errorf("red: %t\n%q", got, screen)
			}
			data, err := os.ReadFile(raw)
			if err != nil || len(data) == 0 {
				t.Fatalf("%d bytes were sent, error %v", len(data), err)
			}
			if more.Match(data) {
				t.Errorf("more than 16 colours are sent: %q", data)
			}
			if any.Match(data) != test.coloured {
				t.Errorf("colours are sent: %t\n%q", !test.coloured, data)
			}
			term.Keys("C-c")
			if got := term.Status(); got != "3" {
				t.Errorf("exit status %s", got)
			}
		})
	}
}

// TestWizardDumb answers line by line where the terminal can do no more, with a passphrase that does not show.
func TestWizardDumb(t *testing.T) {
	needBundle(t)
	dir := wizardDir(t)
	term := terminalOf(t, "80x24", dir, []string{"TERM=dumb"})
	raw := filepath.Join(dir, "raw")
	term.Expect("What do you want")
	term.Record(raw)
	const secret = "correct horse battery staple"
	term.follow(goldenFile(t, "dumb-80x24"), []look{
		{"[1]:", press("2", "Enter")},
		{"What shall the machines start?", press("Enter")},
		{"Where do the recovery keys come from?", press("Enter")},
		{"Which file or folder has the keys?", press("keys.csv", "Enter")},
		{"How shall the keys be protected?", press("Enter")},
		{"Passphrase", press("monday", "Enter")},
		{"too easy to guess", press(secret, "Enter")},
		{"The same passphrase again", press("something else", "Enter")},
		{"do not agree", press(secret, "Enter")},
		{"A rule pack of your own?", press("Enter")},
		{"What shall be done with the faulty files?", press("Enter")},
		{"What does a healed machine do?", press("Enter")},
		{"What does a machine do that could not be healed?", press("Enter")},
		{"Which file shall be written?", press("photos", "Enter")},
		{"photos is a folder", press("Enter")},
		{"Type yes to begin", press("yes", "Enter")},
		{"[ended with 0]", nil},
	})
	data, err := os.ReadFile(raw)
	if err != nil || len(data) == 0 || bytes.ContainsRune(data, '\x1b') {
		t.Errorf("error %v, was sent %q", err, data)
	}
	if bytes.Contains(data, []byte(secret)) {
		t.Errorf("the passphrase shows: %q", data)
	}
}

// TestWizardAccessible drives the wizard by a script, through pipes, and keeps the whole conversation.
func TestWizardAccessible(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds an image")
	}
	needBundle(t)
	const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	for name, test := range map[string]struct {
		answers []string
		status  int
	}{
		"accessible-iso": {[]string{"9", "2", "", "1", "nothing.csv", "keys.csv", "2", "hello", recipient, "wrong.yaml", "own.yaml", "1", "", "2",
			"3", "b", "1", "", "", "", "yes"}, 0},
		"accessible-check": {[]string{"4", "photos/holiday.jpg", "yes", "b", "b", "5", "sticks", "2", "yes"}, 0},
		// Who leaves after it has failed is not told again.
		"accessible-failed": {[]string{"4", "photos/holiday.jpg", "yes", "q"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden := goldenFile(t, name)
			got, status := converse(t, wizardDir(t), test.answers)
			if status != test.status {
				t.Errorf("exit status %d\n%s", status, got)
			}
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the conversation is\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// converse answers each question as it is asked. What is asked ends with a colon, and no line after it.
func converse(t *testing.T, dir string, answers []string) (transcript string, status int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), termtest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "wizard", "--accessible")
	cmd.Args[0], cmd.Dir = "bootmend", dir // the test program is bootmend under that name
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_ = w.Close() // does not fail
		ended <- err
	}()
	var said strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if said.Write(buf[:n]); err != nil {
			break
		}
		if strings.HasSuffix(said.String(), ": ") && len(answers) > 0 {
			fmt.Fprintf(&said, "<%s>\n", answers[0])
			if _, err := io.WriteString(in, answers[0]+"\n"); err != nil {
				t.Fatalf("%v\n%s", err, &said)
			}
			answers = answers[1:]
		}
	}
	var exit *exec.ExitError
	if err := <-ended; errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if len(answers) > 0 {
		t.Errorf("not asked for: %q", answers)
	}
	return masked(said.String()), status
}
