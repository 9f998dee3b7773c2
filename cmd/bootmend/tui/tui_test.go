package tui

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

var update = flag.Bool("update", false, "write the golden screens anew")

// fake is a Work that a test looks into.
type fake struct {
	devices []Device
	did     *Answers
	fail    error
	mends   bool // the second try does not fail
	tries   int
	lines   []Line // of the outcome
	block   bool   // until the context ends
	halted  atomic.Bool
}

func (f *fake) Keys(_ context.Context, path string) (KeySummary, error) {
	switch filepath.Base(path) {
	case "keys.csv":
		return KeySummary{Keys: 214, Computers: 210, Problems: []string{"line 7: group 3 is not valid", "line 9: no key"}}, nil
	case "empty.csv":
		return KeySummary{}, nil
	}
	return KeySummary{}, fmt.Errorf("%s is no key list", path)
}

func (f *fake) Directory(_ context.Context, server, user string, password Passphrase) (KeySummary, error) {
	switch {
	case user != "" && string(password) != good:
		return KeySummary{}, errors.New("the directory refuses the login")
	case server == "empty":
		return KeySummary{}, nil
	}
	return KeySummary{Keys: 31, Computers: 30}, nil
}

func (f *fake) Tenant(ctx context.Context, cloud, tenant string, prompt func(address, code string)) (KeySummary, error) {
	prompt("https://microsoft.com/devicelogin", "ABCD-EFGH")
	if cloud == "china" {
		return KeySummary{Keys: 5, Computers: 5}, nil
	}
	switch tenant {
	case "slow.example.com":
		<-ctx.Done()
		f.halted.Store(true)
		return KeySummary{}, ctx.Err()
	case "other.example.com":
		return KeySummary{}, errors.New("the login failed")
	case "empty.example.com":
		return KeySummary{}, nil
	}
	return KeySummary{Keys: 12, Computers: 11}, nil
}

func (f *fake) WinPE(path string) (string, error) {
	if filepath.Base(path) != "Win11.iso" {
		return "", fmt.Errorf("%s: no Windows PE in it", path)
	}
	return "Windows PE 10.0.26100, x64", nil
}

func (f *fake) Wimboot(path string) error {
	if filepath.Base(path) != "wimboot" {
		return fmt.Errorf("%s: is no wimboot", path)
	}
	return nil
}

func (f *fake) Control(path string) (string, error) {
	if filepath.Base(path) != "server.yaml" {
		return "", fmt.Errorf("%s: names no server", path)
	}
	return "https://10.0.0.1:8443", nil
}

func (f *fake) Passphrase(text string) error {
	if strings.Contains(text, "é") {
		return errors.New("it has characters that not every keyboard has")
	}
	return nil
}

func (f *fake) Pack(path string) (title, unsigned string, err error) {
	switch filepath.Base(path) {
	case "own.yaml":
		return "Printer driver of 2027", "has no signature", nil
	case "signed.yaml":
		return "Printer driver of 2027", "", nil
	}
	return "", "", fmt.Errorf("%s:3:5: unknown field", path)
}

func (f *fake) Rules(_ context.Context, path, key string) (string, error) {
	if key == "other.pub" {
		return "", errors.New("signed with another key")
	}
	return "Printer driver of 2027", nil
}

func (f *fake) Packaged() []string { return []string{"CrowdStrike channel file 291 (19 July 2024)"} }

func (f *fake) Recipient(text string) error {
	if !strings.HasPrefix(text, "age1") {
		return errors.New("that is no public key: it begins with age1 or ssh-")
	}
	return nil
}

func (f *fake) Folder(path string) error {
	if path == "exports" {
		return errors.New("exports: there is a folder with other files: name a new one")
	}
	return nil
}

func (f *fake) Hint(err error) string {
	if f.fail != nil && errors.Is(err, f.fail) {
		return "make room on the disk"
	}
	return ""
}

func (f *fake) Devices(context.Context) ([]Device, error) { return f.devices, nil }

func (f *fake) Do(ctx context.Context, a *Answers, update func(Progress)) (*Outcome, error) {
	f.did = a
	f.tries++
	update(Progress{Name: "/dev/sdb", State: "writing", Done: 50 << 20, Total: 200 << 20})
	if f.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if f.fail != nil && (!f.mends || f.tries == 1) {
		return nil, f.fail
	}
	update(Progress{Name: "/dev/sdb", State: "done"})
	if f.lines != nil {
		return &Outcome{Lines: f.lines}, nil
	}
	return &Outcome{Lines: []Line{{"1 stick written and verified.", Good}}}, nil
}

var sticks = []Device{
	{Path: "/dev/sda", Model: "Samsung SSD 980", Size: 500e9, Refused: "it holds the running system"},
	{Path: "/dev/sdb", Model: "Kingston DataTraveler", Size: 32e9},
	{Path: "/dev/sdc", Model: "SanDisk Ultra", Size: 64e9, Mounted: "/media/photos"},
}

// driver presses keys and runs what the screen wants to have run, but for waiting.
type driver struct {
	t    *testing.T
	s    *screen
	quit bool
}

func newDriver(t *testing.T, w Work) *driver {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"keys.csv", "empty.csv", "photo.jpg", "own.yaml", "bad.yaml", "signed.yaml", "other.pub", "team.pub", "stick.img", "server.yaml", "Win11.iso", "wimboot"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "exports"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	d := &driver{t: t, s: newScreen(t.Context(), w)}
	d.run(d.s.Init())
	return d
}

// run runs a command and what follows from it.
func (d *driver) run(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	got := make(chan tea.Msg, 1)
	go func() { got <- cmd() }()
	select {
	case msg := <-got:
		switch msg := msg.(type) {
		case tea.QuitMsg:
			d.quit = true
		case tea.BatchMsg:
			for _, c := range msg {
				d.run(c)
			}
		case lookMsg, redraw, nil: // ticks would go on for ever
		default:
			_, next := d.s.Update(msg)
			d.run(next)
		}
	case <-time.After(150 * time.Millisecond): // a tick, or work that a test lets hang
	}
}

// press takes names of keys, and everything else as text.
func (d *driver) press(keys ...string) *driver {
	d.t.Helper()
	named := map[string]tea.KeyType{"enter": tea.KeyEnter, "esc": tea.KeyEsc, "up": tea.KeyUp, "down": tea.KeyDown,
		"tab": tea.KeyTab, "ctrl+c": tea.KeyCtrlC, "ctrl+u": tea.KeyCtrlU, "space": tea.KeySpace}
	for _, k := range keys {
		msg := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
		if kind, ok := named[k]; ok {
			msg = tea.KeyMsg{Type: kind}
			if kind == tea.KeySpace {
				msg.Runes = []rune{' '}
			}
		}
		_, cmd := d.s.Update(msg)
		d.run(cmd)
	}
	return d
}

func (d *driver) text() string { return ansi.Strip(d.s.View()) }

func (d *driver) see(want ...string) *driver {
	d.t.Helper()
	for _, w := range want {
		if !strings.Contains(d.text(), w) {
			d.t.Fatalf("the screen does not show %q:\n%s", w, d.text())
		}
	}
	return d
}

func (d *driver) at(id string) *driver {
	d.t.Helper()
	if got := d.s.flow.current().ID; got != id {
		d.t.Fatalf("at %s, not at %s:\n%s", got, id, d.text())
	}
	return d
}

// golden compares the screen, at 80×24, with testdata/name.txt.
func (d *driver) golden(name string) *driver {
	d.t.Helper()
	text := d.text() + "\n"
	for i, line := range strings.Split(text, "\n") {
		if ansi.StringWidth(line) > 80 || i > 24 {
			d.t.Errorf("line %d does not fit on 80×24: %q", i+1, line)
		}
	}
	path := filepath.Join(golden, name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			d.t.Fatal(err)
		}
		return d
	}
	want, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	if text != string(want) {
		d.t.Errorf("screen %s is\n%s\nwant\n%s", name, text, want)
	}
	return d
}

var golden = func() string { dir, _ := filepath.Abs("testdata"); return dir }()

const good = "correct horse battery staple"

// TestSticks is the way that most people go.
func TestSticks(t *testing.T) {
	w := &fake{devices: sticks}
	d := newDriver(t, w)
	d.at("goal").golden("goal").picture("goal").press("enter").at("environment").golden("environment").press("enter").at("keys").golden("keys").press("enter")
	d.at("keyfile").see("keys.csv", "exports/").press("keys.csv", "enter").see("214 recovery keys of 210 computers", "line 7").golden("keyfile")
	d.press("enter").at("protection").golden("protection").press("enter")
	d.at("passphrase").press("short", "enter").see("too easy to guess").at("passphrase")
	d.see("Strength: weak").press(" " + good).see("Strength: strong").press("enter")
	d.at("again").press("something else", "enter").see("do not agree")
	d.s.input.SetValue("")
	d.press("short "+good, "enter").at("rules").press("enter")
	d.at("policy").press("enter").at("success").press("enter").at("failure").press("enter").at("target").press("enter")
	d.at("devices").golden("devices")
	d.press("enter").see("no stick is chosen")
	d.press("space").see("it holds the running system").press("down", "space", "down", "space").golden("marked").picture("marked").press("enter")
	d.at("review").golden("review").picture("review").press("enter")
	if d.s.phase != finished || d.s.err != nil {
		t.Fatalf("phase %d, error %v", d.s.phase, d.s.err)
	}
	d.golden("done").press("enter")
	if !d.quit || w.did == nil || len(w.did.Devices) != 2 || string(w.did.Passphrase) != "short "+good {
		t.Errorf("quit %t, did %+v", d.quit, w.did)
	}
	want := `bootmend flash --to /dev/sdb --to /dev/sdc --unmount --keys keys.csv`
	if got := quoted(w.did.command()); got != want {
		t.Errorf("command line %s, want %s", got, want)
	}
	if strings.Contains(d.text(), good) || strings.Contains(fmt.Sprintf("%v %+v %#v", *w.did, *w.did, *w.did), good) {
		t.Error("the passphrase shows")
	}
}

// TestSteps goes to single steps and makes every mistake there is.
func TestSteps(t *testing.T) {
	toKeyFile := []string{"enter", "enter", "enter"}
	toProtection := append(toKeyFile, "keys.csv", "enter", "enter")
	toRules := []string{"2", "1", "2"} // ISO, asked at the machine
	toDirectory := []string{"enter", "1", "3", "dc1.example.com", "enter"}
	toBootServer := []string{"3", "1", "2", "enter", "enter", "enter", "enter"}
	toBootServer = slices.Clip(toBootServer)
	toFolder := slices.Clip(append(toBootServer, "10.0.0.2", "enter", "ctrl+u"))
	for name, test := range map[string]struct {
		keys []string
		at   string
		see  string
	}{
		"no such key file":           {append(toKeyFile, "nothing.csv", "enter"), "keyfile", "is not there"},
		"no key list":                {append(toKeyFile, "photo.jpg", "enter"), "keyfile", "is no key list"},
		"key list without keys":      {append(toKeyFile, "empty.csv", "enter"), "keyfile", "holds no usable recovery key"},
		"no key file named":          {append(toKeyFile, "enter"), "keyfile", "no name is given"},
		"key file chosen with keys":  {append(toKeyFile, "down", "down", "enter"), "keyfile", "214 recovery keys"},
		"key file completed":         {append(toKeyFile, "ke", "tab", "enter"), "keyfile", "214 recovery keys"},
		"note changed":               {append(toKeyFile, "keys.csv", "enter", "esc"), "keyfile", "> keys.csv"},
		"folder gone into":           {append(toKeyFile, "down", "down", "down", "enter"), "keyfile", "exports/"},
		"unprotected asks twice":     {append(toProtection, "3"), "unprotected", "loss of every key"},
		"unprotected, no":            {append(toProtection, "3", "enter"), "protection", "second stick"},
		"unprotected, yes":           {append(toProtection, "3", "2"), "rules", "Always healed"},
		"second stick, wrong key":    {append(toProtection, "2", "hello", "enter"), "recipient", "begins with age1"},
		"second stick":               {append(toProtection, "2", "age1xyz", "enter"), "rules", ""},
		"bad rule pack":              {append(toRules, "bad.yaml", "enter"), "rules", "bad.yaml:3:5: unknown field"},
		"rule pack":                  {append(toRules, "own.yaml", "enter"), "rules", "Printer driver of 2027. It has no signature"},
		"unsigned rule pack, no":     {append(toRules, "own.yaml", "enter", "enter", "enter"), "rules", "> own.yaml"},
		"unsigned rule pack, yes":    {append(toRules, "own.yaml", "enter", "enter", "2"), "policy", ""},
		"rule pack of others":        {append(toRules, "signed.yaml", "enter", "enter", "other.pub", "enter"), "ruleskey", "signed with another key"},
		"signed rule pack":           {append(toRules, "signed.yaml", "enter", "enter", "team.pub", "enter"), "ruleskey", "The signature is right"},
		"signature not checked":      {append(toRules, "signed.yaml", "enter", "enter", "enter"), "policy", ""},
		"no such rule pack":          {append(toRules, "none.yaml", "enter"), "rules", "is not there"},
		"odd passphrase":             {append(toProtection, "enter", "été en forêt, déjà vu", "enter"), "passphrase", "not every keyboard"},
		"output in a missing folder": {append(toRules, "enter", "enter", "enter", "enter", "x/", "enter"), "output", "is not there"},
		"output exists":              {append(toRules, "enter", "enter", "enter", "enter", "esc"), "failure", ""},
		"Windows PE":                 {[]string{"2", "2", "Win11.iso", "enter"}, "winpe", "Windows PE 10.0.26100, x64"},
		"no Windows PE":              {[]string{"2", "2", "photo.jpg", "enter"}, "winpe", "no Windows PE in it"},
		"Windows PE, server":         {[]string{"2", "2", "Win11.iso", "enter", "enter", "5", "server.yaml", "enter"}, "control", "Machines will ask https://10.0.0.1:8443"},
		"Windows PE, sticks now":     {[]string{"1", "2", "Win11.iso", "enter", "enter", "2", "enter", "enter", "enter", "enter", "1"}, "devices", "Kingston"},
		"no domain controller":       {[]string{"enter", "1", "3", "enter"}, "directory", "no name of a server"},
		"login refused":              {append(toDirectory, "EXAMPLE\\adm", "enter", "wrong", "enter"), "password", "refuses the login"},
		"directory":                  {append(toDirectory, "adm@example.com", "enter", good, "enter"), "password", "31 recovery keys of 30 computers"},
		"directory, then protection": {append(toDirectory, "adm@example.com", "enter", good, "enter", "enter"), "protection", "A passphrase"},
		"directory by ticket":        {append(toDirectory, "enter"), "user", "31 recovery keys"},
		"directory without keys":     {[]string{"enter", "1", "3", "empty", "enter", "enter"}, "user", "no recovery key that this ticket may read"},
		"control server":             {[]string{"enter", "1", "5", "server.yaml", "enter"}, "control", "Machines will ask https://10.0.0.1:8443"},
		"no control server":          {[]string{"enter", "1", "5", "own.yaml", "enter"}, "control", "names no server"},
		"control server, no keys":    {[]string{"enter", "1", "5", "server.yaml", "enter", "enter"}, "rules", "Always healed"},
		"network boot, keys":         {[]string{"3", "1", "1", "keys.csv", "enter", "enter", "3"}, "protection", "anybody on the network"},
		"network boot, address":      {append(toBootServer, "10.0.0", "enter"), "bootserver", "no IPv4 address"},
		"network boot, folder":       {append(toBootServer, "10.0.0.2", "enter", "x/boot", "enter"), "folder", "is not there"},
		"network boot":               {append(toBootServer, "10.0.0.2", "enter", "enter"), "review", "folder of the boot server is written to tftpboot"},
		"back from the first step":   {[]string{"esc"}, "goal", "What do you want?"},
		"back and again":             {[]string{"2", "esc", "esc"}, "goal", "> ISO"},
		"nothing to check":           {[]string{"4", "gone.img", "enter"}, "check", "is not there"},
		"check":                      {[]string{"4", "stick.img", "enter"}, "review", "is compared with"},
		"report":                     {[]string{"5", "exports", "enter", "enter", "enter"}, "review", "written to bootmend-report.html"},
		"no tenant":                  {[]string{"enter", "1", "4", "1", "exa mple", "enter"}, "tenant", "no tenant"},
		"tenant refuses":             {[]string{"enter", "1", "4", "1", "other.example.com", "enter"}, "tenant", "the login failed"},
		"tenant without keys":        {[]string{"enter", "1", "4", "1", "empty.example.com", "enter"}, "tenant", "no recovery keys"},
		"tenant":                     {[]string{"enter", "1", "4", "enter", "enter"}, "tenant", "12 recovery keys of 11 computers"},
		"tenant in China":            {[]string{"enter", "1", "4", "4", "enter"}, "tenant", "5 recovery keys of 5 computers"},
		"mix of one":                 {[]string{"enter", "1", "6", "space", "enter"}, "mix", "not several"},
		"report without a page":      {[]string{"5", "exports", "enter", "2"}, "review", "stay as they are"},
		"network boot, folder taken": {append(toFolder, "exports", "enter"), "folder", "folder with other files"},
		"network boot, no folder":    {append(toFolder, "enter"), "folder", "no name is given"},
		"network boot, no parent":    {append(toFolder, "gone/boot", "enter"), "folder", "is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t, &fake{devices: sticks})
			d.press(test.keys...).at(test.at).see(test.see)
		})
	}
}

// TestPlugged has a stick appear, and the chosen one go away.
func TestPlugged(t *testing.T) {
	w := &fake{}
	d := newDriver(t, w)
	d.press("enter", "1", "2", "enter", "enter", "enter", "enter", "enter").at("devices").see("plug a stick in")
	look := func() {
		w := d.s.look()
		_, cmd := d.s.Update(w())
		d.run(cmd)
	}
	w.devices = sticks[1:]
	look()
	d.see("Kingston").press("space")
	w.devices = sticks[2:]
	look()
	d.press("enter").at("devices").see("/dev/sdb is not there any more")
}

// TestStop interrupts the work: it is told to stop, and the screen waits for it.
func TestStop(t *testing.T) {
	d := newDriver(t, &fake{block: true})
	d.press("4", "stick.img", "enter")
	_, cmd := d.s.Update(tea.KeyMsg{Type: tea.KeyEnter})
	work := cmd().(tea.BatchMsg)[0]
	done := make(chan tea.Msg)
	go func() { done <- work() }()
	d.see("Working")
	d.press("ctrl+c").see("stopping ...")
	if d.quit {
		t.Fatal("left while the work was running")
	}
	_, _ = d.s.Update(<-done)
	d.see("Nothing half-written").press("enter")
	if !d.quit {
		t.Error("still there")
	}
}

func TestFailedWork(t *testing.T) {
	d := newDriver(t, &fake{fail: errors.New("heal.iso: no space left on device")})
	d.press("4", "stick.img", "enter", "enter").see("Not done", "no space left", "make room", "Esc back")
	d.press("esc").at("review").see("is compared with")
	if d.quit {
		t.Error("left")
	}
}

// TestScroll reads a result that is longer than the screen, from its first line to its last.
func TestScroll(t *testing.T) {
	var lines []Line
	for i := range 40 {
		lines = append(lines, Line{Text: fmt.Sprintf("machine %02d", i+1), Style: Row})
	}
	d := newDriver(t, &fake{lines: lines})
	d.press("5", "exports", "enter", "2", "enter").see("machine 01", "machine 20", "up/down scroll (24 more below)")
	d.press("down").see("machine 02", "machine 21", "(23 more below)")
	if strings.Contains(d.text(), "machine 01") {
		t.Errorf("it does not scroll:\n%s", d.text())
	}
	for range 60 {
		d.press("down")
	}
	d.see("machine 40", "bootmend report exports", "(0 more below)").press("up").see("(1 more below)")
}

// TestSmall draws every step on tiny and huge terminals.
func TestSmall(t *testing.T) {
	for _, size := range []tea.WindowSizeMsg{{Width: 20, Height: 5}, {Width: 1, Height: 1}, {Width: 300, Height: 100}} {
		d := newDriver(t, &fake{devices: sticks})
		_, _ = d.s.Update(size)
		for range d.s.flow.questions {
			_ = d.s.View()
			if !d.s.flow.next() {
				break
			}
			d.run(d.s.enter())
		}
		d.press("enter")
		_ = d.s.View()
	}
}

// TestLines drives the accessible mode with a script.
func TestLines(t *testing.T) {
	for name, test := range map[string]struct {
		input string
		see   []string
		err   error
		did   string
	}{
		"sticks": {
			input: "\n1\n1\nnothing.csv\nkeys.csv\n1\n\n\n\n\n1\n7\n1\n2 3\nyes\n",
			see:   []string{"Step 1 of ", "1. USB sticks: one or many", "That does not work", "214 recovery keys", "cannot be used: it holds the running system", "is erased", "1 stick written"},
			did:   "bootmend flash --to /dev/sdb --to /dev/sdc --unmount --keys keys.csv",
		},
		"back": {
			input: "2\nb\n4\nstick.img\nyes\n",
			see:   []string{"Step 1 of ", "Check a stick or image"},
			did:   "bootmend verify stick.img",
		},
		"network boot, keys of a directory": {
			input: "3\n\n3\ndc1.example.com\nadm\n2\nage1xyz\n\n\n\n\n10.0.0.2\n\nyes\n",
			see:   []string{"31 recovery keys", "bootmend keys fetch ad --server dc1.example.com --user adm -o keys.csv", "snippets"},
			did:   "bootmend build pxe -o tftpboot --server 10.0.0.2 --keys keys.csv --recipient age1xyz",
		},
		"ISO, keys of a server": {
			input: "2\n1\n5\nserver.yaml\n\n\n\n\n\nyes\n",
			see:   []string{"Machines will ask https://10.0.0.1:8443", "each machine asks https://10.0.0.1:8443 for its own"},
			did:   "bootmend build iso -o heal.iso --control server.yaml",
		},
		"several sources": {
			input: "2\n1\n6\n1\n1 2 3\ndc1.example.com\nadm\n2\n\nkeys.csv\n1\n\n\n\n\n\nyes\n",
			see: []string{"not several", "type the code ABCD-EFGH", "Keys: 214 ", "Keys: 31 ", "Keys: 12 ",
				"bootmend keys fetch ad --server dc1.example.com --user adm -o keys-ad.csv", "bootmend keys fetch entra --cloud usgov -o keys-entra.csv"},
			did: "bootmend build iso -o heal.iso --keys keys.csv --keys keys-ad.csv --keys keys-entra.csv",
		},
		"report": {
			input: "5\nexports\n2\nyes\n",
			see:   []string{"stay as they are"},
			did:   "bootmend report exports",
		},
		"Windows PE": {
			input: "2\n2\nWin11.iso\n2\n\n\n\n\n\nyes\n",
			see:   []string{"Windows PE 10.0.26100, x64"},
			did:   "bootmend build iso -o heal.iso --env winpe --winpe Win11.iso",
		},
		"Windows PE, sticks": {
			input: "1\n2\nWin11.iso\n2\n\n\n\n\n1\n2 3\nyes\n",
			see:   []string{"starts Windows PE: Windows PE 10.0.26100, x64.", "is erased"},
			did:   "bootmend flash --to /dev/sdb --to /dev/sdc --unmount --env winpe --winpe Win11.iso",
		},
		"Windows PE, network": {
			input: "3\n2\nWin11.iso\nphoto.jpg\nwimboot\n5\nserver.yaml\n\n\n\n\nheal\nyes\n",
			see:   []string{"photo.jpg: is no wimboot", "Machines will ask https://10.0.0.1:8443", "chain http://SERVER/boot.ipxe"},
			did:   "bootmend build pxe -o heal --env winpe --winpe Win11.iso --wimboot wimboot --control server.yaml",
		},
		"left":          {input: "q\n", err: ErrQuit},
		"input ends":    {input: "2\n", err: ErrQuit},
		"not confirmed": {input: "4\nstick.img\nno\nq\n", err: ErrQuit},
	} {
		t.Run(name, func(t *testing.T) {
			w := &fake{devices: sticks}
			newDriver(t, w) // for its files
			var out bytes.Buffer
			secret := func(string) (string, error) { return good, nil }
			err := RunLines(t.Context(), strings.NewReader(test.input), &out, secret, w)
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v\n%s", err, &out)
			}
			for _, want := range test.see {
				if !strings.Contains(out.String(), want) {
					t.Errorf("does not say %q:\n%s", want, &out)
				}
			}
			if test.did != "" && (w.did == nil || quoted(w.did.command()) != test.did) {
				t.Errorf("did %v\n%s", w.did, &out)
			}
			if strings.Contains(out.String(), good) {
				t.Error("the passphrase shows")
			}
		})
	}
}

// TestLinesFailed has the work fail: the person is told once, stays at the review with all answers, and may begin again.
func TestLinesFailed(t *testing.T) {
	full := errors.New("heal.iso: no space left on device")
	for name, test := range map[string]struct {
		rest  string
		tries int
		mends bool // the second try succeeds
	}{
		"left":       {"q\n", 1, false},
		"input ends": {"", 1, false},
		"once more":  {"yes\n", 2, true},
		"gone back":  {"b\nother.img\nyes\n", 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := &fake{fail: full, mends: test.mends}
			newDriver(t, w) // for its files
			if err := os.WriteFile("other.img", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err := RunLines(t.Context(), strings.NewReader("4\nstick.img\nyes\n"+test.rest), &out, nil, w)
			var told *Told
			if failed := errors.As(err, &told) && errors.Is(err, full); failed == test.mends || test.mends && err != nil {
				t.Errorf("error %v", err)
			}
			if n := strings.Count(out.String(), full.Error()); n != 1 || w.tries != test.tries {
				t.Errorf("told %d times after %d tries:\n%s", n, w.tries, &out)
			}
			for _, want := range []string{"make room on the disk", "begin again, or go back"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("does not say %q:\n%s", want, &out)
				}
			}
		})
	}
}

// TestLinesInterrupted presses Ctrl-C while a question waits: nothing was done, and that is said as on the full screen.
func TestLinesInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	in, typed := io.Pipe()
	t.Cleanup(func() { _ = typed.Close() })
	time.AfterFunc(50*time.Millisecond, cancel)
	var out bytes.Buffer
	if err := RunLines(ctx, in, &out, nil, &fake{}); !errors.Is(err, ErrQuit) {
		t.Errorf("error %v\n%s", err, &out)
	}
	if !strings.HasSuffix(out.String(), ": \n") {
		t.Errorf("what follows is not on a line of its own:\n%s", &out)
	}
}

// TestLogin shows the code while Entra ID waits for the login, which Esc ends.
func TestLogin(t *testing.T) {
	w := &fake{}
	d := newDriver(t, w)
	said := make(chan tea.Msg, 1)
	d.s.send = func(msg tea.Msg) { said <- msg }
	d.press("enter", "1", "4", "1", "slow.example.com", "enter")
	_, _ = d.s.Update(<-said)
	d.see("https://microsoft.com/devicelogin", "ABCD-EFGH", "Esc stops").golden("login")
	d.press("esc").at("tenant")
	if strings.Contains(d.text(), "ABCD") {
		t.Errorf("the code is still there:\n%s", d.text())
	}
	for deadline := time.Now().Add(5 * time.Second); !w.halted.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the login goes on")
		}
	}
}

func TestWrap(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"fits as it is", []string{"fits as it is"}},
		{"exactly as wide as it can be and more", []string{"exactly as wide as", "it can be and more"}},
		{"  bootmend build --allow-unsigned-rules", []string{"  bootmend build", "--allow-unsigned-rul", "es"}},
		{"two\nlines", []string{"two", "lines"}},
		{"日本語日本語日本語日本語", []string{"日本語日本語日本語日", "本語"}},
		{"   " + strings.Repeat("x", 20), []string{"   " + strings.Repeat("x", 17), "xxx"}},
	} {
		if got := wrap(test.text, 20); !slices.Equal(got, test.want) {
			t.Errorf("%q becomes %q, want %q", test.text, got, test.want)
		}
	}
}

func TestMeter(t *testing.T) {
	var m meter
	now := time.Unix(0, 0)
	for i := range 10 {
		m.add(Progress{State: "writing", Done: int64(i) * 10e6, Total: 200e6}, now.Add(time.Duration(i)*time.Second))
	}
	if m.speed < 9e6 || m.speed > 11e6 || m.left() < 10*time.Second || m.left() > 12*time.Second {
		t.Errorf("speed %.0f, left %s", m.speed, m.left())
	}
	m.add(Progress{State: "checking", Done: 0, Total: 200e6}, now.Add(10*time.Second))
	if m.left() != 0 {
		t.Errorf("a new state knows its speed already: %s", m.left())
	}
}
