package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/cmd/bootmend/tui/termtest"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

const (
	servedKey   = "111111-222222-333333-444444-555555-666666-111111-222222"
	servedKeyID = "11111111-2222-3333-4444-555555555555"
	otherKeyID  = "99999999-2222-3333-4444-555555555555"
)

// controlIn runs "bootmend control" in a terminal and waits until it answers.
func controlIn(t *testing.T, size string, env []string, args ...string) (*terminal, *siteMachines) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "keys.csv"), []byte("KeyID,RecoveryKey\n"+servedKeyID+","+servedKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	term := terminalOf(t, size, dir, env, append([]string{"control", "--listen", "127.0.0.1:0", "--keys", "keys.csv"}, args...)...)
	term.Expect(`(?s)Token to sign in: +[A-Z0-9]{52}`)
	return term, &siteMachines{t, filepath.Join(dir, "bootmend-control", "server.yaml")}
}

// siteMachines are machines that know a server by what media know of it.
type siteMachines struct {
	t    *testing.T
	file string
}

func (s *siteMachines) start(serial string) (*fleet.Client, remediate.Run) {
	s.t.Helper()
	section, err := readServerFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	pin, err := hex.DecodeString(section.Fingerprint)
	if err != nil {
		s.t.Fatal(err)
	}
	run, err := remediate.NewRun(time.Now(), "test", strings.NewReader(serial))
	if err != nil {
		s.t.Fatal(err)
	}
	run.Machine = remediate.Identity{Serial: serial, Model: "ThinkPad T14"}
	return fleet.NewClient(section.URL, [sha256.Size]byte(pin), fleet.Token(section.Token), run), run
}

func (s *siteMachines) greets(c *fleet.Client, want fleet.Decision) {
	s.t.Helper()
	if w, err := c.Hello(context.Background()); err != nil || w.Decision != want {
		s.t.Fatalf("%+v, %v, want %s", w, err, want)
	}
}

// asks for a key and reports whether there is one.
func (s *siteMachines) asks(c *fleet.Client, id string) bool {
	s.t.Helper()
	protector, err := bitlocker.ParseGUID(id)
	if err != nil {
		s.t.Fatal(err)
	}
	_, ok, err := c.Key(context.Background(), protector, "PC C: 1/1/2024")
	if err != nil {
		s.t.Fatal(err)
	}
	return ok
}

func (s *siteMachines) report(c *fleet.Client, run remediate.Run, outcome remediate.Outcome) {
	s.t.Helper()
	log := remediate.NewLog(run)
	log.Add(remediate.BootEvent{ToolVersion: "test"})
	log.Add(run.Machine)
	log.Add(remediate.ResultEvent{Outcome: outcome, Message: "1 file in quarantine"})
	if err := c.Report(context.Background(), log.Bytes()); err != nil {
		s.t.Fatal(err)
	}
}

// TestControlTable drives the live table by its keys while machines are healed.
func TestControlTable(t *testing.T) {
	term, site := controlIn(t, "100x30", nil)
	term.Expect(`No machine has asked yet`)
	first, firstRun := site.start("PF2AAAA1")
	second, secondRun := site.start("5CDBBBB2")
	site.greets(first, fleet.Heal)
	term.Expect(`> PF2AAAA1 +started +\d+s`)
	site.greets(second, fleet.Heal)
	if site.asks(second, otherKeyID) || !site.asks(first, servedKeyID) {
		t.Fatal("the first machine was to get a key, and the second one none")
	}
	// Who waits for a person comes first; the cursor stays where it was.
	term.Expect(`(?s)2 machines: 1 waiting for a key, 1 being healed.* 5CDBBBB2 +waits for a key .*key 99999999.*> PF2AAAA1 +unlocks`)
	term.Keys("Up", "Enter")
	term.Expect(`Waits for key +` + otherKeyID)
	term.Keys("Escape")
	term.Expect("MACHINE")

	term.Keys("p")
	term.Expect(`Pause\? .*y/n`)
	term.Keys("y")
	term.Expect("No machine is healed: paused by a person")
	third, _ := site.start("CCCC0003")
	site.greets(third, fleet.Leave)
	term.Keys("r", "y")
	screen := term.Expect(`Healing goes on`)
	if strings.Contains(term.Expect("3 machines"), "No machine is healed") {
		t.Errorf("it is still paused:\n%s", screen)
	}
	site.greets(third, fleet.Heal)

	site.report(first, firstRun, remediate.OutcomeHealed)
	term.Expect(`PF2AAAA1 +healed .*1 file in quarantine`)
	term.Keys("5")
	term.Expect(`(?s)only: healed \(1\).*> PF2AAAA1`)
	term.Keys("Enter")
	term.Expect(`(?s)The end of its log.*result: outcome healed, message 1 file in quarantine`)
	term.Keys("q", "1")
	term.Resize("120x40")
	wide := term.Expect(`SERIAL +STEP +RESULT`)
	if regexp.MustCompile(`\d{6}-\d{6}`).MatchString(wide) {
		t.Errorf("a key shows:\n%s", wide)
	}
	t.Logf("the table:\n%s", wide)

	term.Keys("q")
	term.Expect(`Stop the server\? 2 machines under way`)
	term.Keys("n")
	term.Expect("q stop")
	site.report(second, secondRun, remediate.OutcomeFailed)
	term.Expect("1 being healed, 1 healed, 1 not healed")
	term.Keys("C-c")
	term.Expect(`Stop the server\? 1 machine under way`)
	term.Keys("y")
	if status := term.Status(); status != "0" {
		t.Errorf("ended with %s", status)
	}
	term.Expect(`3 machines: 0 waiting for a key, 1 being healed, 1 healed, 1 not healed`)
}

// TestServeTable starts machines and shows them in one program, whose two servers end together. It does so in a network
// namespace, where nobody else has the ports.
func TestServeTable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	for name, test := range map[string]struct {
		before string   // in the namespace
		keys   []string // that end it
		status string
		want   string
	}{
		"a person ends it":     {"", []string{"q", "y"}, "0", "0 machines: 0 waiting"},
		"a port is taken":      {"%s control --listen 127.0.0.1:80 --state other --accessible >taken 2>&1 & while ! grep -q Token taken; do sleep 0.1; done", nil, "1", "HTTP: .*address already in use"},
		"the page's is, as it": {"%s control --listen 127.0.0.1:8443 --state other --accessible >taken 2>&1 & while ! grep -q Token taken; do sleep 0.1; done", nil, "1", "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "keys.csv"), []byte("KeyID,RecoveryKey\n"+servedKeyID+","+servedKey+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			bootmend := programName(t)
			script := "ip link set lo up; " + strings.ReplaceAll(test.before, "%s", bootmend) + "\n" +
				bootmend + " serve --with-control --interface lo --keys keys.csv; status=$?; kill $! 2>/dev/null; exit $status"
			term := &terminal{Terminal: termtest.Start(t, termtest.Options{Size: "100x30", Dir: dir}, "unshare", "--net", "sh", "-c", script), t: t}
			if test.keys != nil {
				term.Expect("No machine has asked yet")
				term.Expect(`serving machines on lo as 127\.0\.0\.1`)
				term.Keys(test.keys...)
			}
			if status := term.Status(); status != test.status {
				t.Errorf("ended with %s", status)
			}
			term.Expect(test.want)
		})
	}
}

// TestControlLines has a line for each event where no table is wanted, and none of the table's colours with NO_COLOR.
func TestControlLines(t *testing.T) {
	for name, args := range map[string][]string{"accessible": {"--accessible"}, "no colour": nil} {
		t.Run(name, func(t *testing.T) {
			term, site := controlIn(t, "90x24", []string{"NO_COLOR=1"}, args...)
			c, _ := site.start("PF2AAAA1")
			site.greets(c, fleet.Heal)
			if args != nil {
				term.Expect(`\d\d:\d\d:\d\d PF2AAAA1 has started \(127\.0\.0\.1\)`)
				term.Keys("C-c")
			} else {
				term.Expect(`> PF2AAAA1 +started`)
				if screen := term.Painted(); strings.Contains(screen, "\x1b[") {
					t.Errorf("there are colours: %q", screen)
				}
				term.Keys("q", "y")
			}
			if status := term.Status(); status != "0" {
				t.Errorf("ended with %s", status)
			}
		})
	}
}
