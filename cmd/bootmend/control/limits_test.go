package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

func TestSiteOf(t *testing.T) {
	for from, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "::ffff:10.0.0.1": "10.0.0.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64",
		"fe80::1%eth0": "fe80::/64", "nonsense": "nonsense",
	} {
		if got := siteOf(from); got != want {
			t.Errorf("%s is %s, want %s", from, got, want)
		}
	}
}

// asks has a machine at an address ask for a key, and returns what came of it.
func (s *site) asks(from, serial, run, id string) fleet.KeyState {
	s.t.Helper()
	answer, err := s.key(context.Background(), from, fleet.KeyRequest{Run: run, Machine: remediate.Identity{Serial: serial}, Protector: id})
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.State
}

func runNo(i int) string { return fmt.Sprintf("20261127T120000Z-%04d", i) }

// TestKeyLimits are those that hold for a machine, an address and all of them, whatever run they say they are in. Who is
// limited gets a key when the hour has gone on.
func TestKeyLimits(t *testing.T) {
	for name, test := range map[string]struct {
		keysPerHour int
		from        func(i int) string
		serial      func(i int) string
		want        int
	}{
		"one machine": {0, func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/250, i%250) }, func(int) string { return "ONE" }, maxKeysOfMachine},
		"one network": {0, func(i int) string { return fmt.Sprintf("2001:db8::%x", i) }, func(i int) string { return fmt.Sprint("SN", i) }, maxKeysOfAddress},
		"all":         {70, func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/250, i%250) }, func(i int) string { return fmt.Sprint("SN", i) }, 70},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "", Options{KeysPerHour: test.keysPerHour})
			now := time.Now()
			s.now = func() time.Time { return now }
			given := 0
			for i := range test.want + 10 {
				if s.asks(test.from(i), test.serial(i), runNo(i), knownID) == fleet.Given {
					given++
				}
				now = now.Add(time.Second)
			}
			if given != test.want {
				t.Errorf("%d keys were given, want %d", given, test.want)
			}
			last := test.want + 9
			if got := s.asks(test.from(last), test.serial(last), runNo(last), knownID); got != fleet.Wait {
				t.Errorf("asked again: %s", got)
			}
			now = now.Add(66 * time.Minute)
			if got := s.asks(test.from(last), test.serial(last), runNo(last), knownID); got != fleet.Given {
				t.Errorf("an hour later: %s", got)
			}
		})
	}
}

// TestSpace: who has the token must not fill the disk, neither with logs nor with machines and questions.
func TestSpace(t *testing.T) {
	line := logOf(remediate.Run{}, remediate.OutcomeHealed)
	large := append(line, bytes.Repeat([]byte(" "), 1<<20)...)
	report := func(s *site, from string, i int) error {
		return s.report(context.Background(), from, runNo(i), large)
	}
	t.Run("of an address", func(t *testing.T) {
		s := newSite(t, "", Options{})
		taken := 0
		for taken < 100 && report(s, "10.0.0.1", taken) == nil {
			taken++
		}
		if most := maxSpaceOfAddress >> 20; taken >= most || taken < most-2 {
			t.Errorf("%d MiB were taken, want a little less than %d", taken, most)
		}
		if err := report(s, "10.0.0.2", 200); err != nil {
			t.Errorf("another address: %v", err)
		}
		if !strings.Contains(s.lines.String(), "10.0.0.1 hands in more logs") {
			t.Errorf("nobody was told: %s", s.lines)
		}
	})
	t.Run("of all", func(t *testing.T) {
		s := newSite(t, "", Options{Space: 5 << 20})
		now := time.Now()
		s.now = func() time.Time { return now }
		taken := 0
		for taken < 100 && report(s, fmt.Sprintf("10.0.0.%d", taken), taken) == nil {
			taken++
			now = now.Add(time.Minute) // what is kept is looked up again
		}
		if taken != 4 {
			t.Errorf("%d MiB were taken of 5, which hold 4 logs with all that belongs to them", taken)
		}
		for i := 0; ; i++ {
			if _, err := s.hello(context.Background(), "10.0.1.1", fleet.Hello{Run: runNo(300 + i), Machine: remediate.Identity{Serial: fmt.Sprint("X", i)}}); err != nil {
				break
			}
			if i > 1<<20/spaceOfMachine {
				t.Fatal("machines take no space")
			}
		}
		// A log that is there already is still acknowledged.
		if err := report(s, "10.0.0.1", 0); err != nil {
			t.Errorf("sent twice: %v", err)
		}
		c, run := s.machine("LATE")
		if err := c.Report(context.Background(), logOf(run, remediate.OutcomeHealed)); err == nil || !strings.Contains(err.Error(), "507") {
			t.Errorf("too much: %v", err)
		}
		if !strings.Contains(s.lines.String(), "--space") {
			t.Errorf("nobody was told: %s", s.lines)
		}
	})
}

// TestSpaceOfAudit: the same key may be asked for again and again, but each time there is a line.
func TestSpaceOfAudit(t *testing.T) {
	const most = 64 << 10
	s := newSite(t, "", Options{Space: most})
	for i := 0; ; i++ {
		if _, err := s.key(context.Background(), "10.0.0.1", fleet.KeyRequest{Run: runNo(0), Machine: remediate.Identity{Serial: "A"}, Protector: knownID}); err != nil {
			if !errors.Is(err, errFull) || len(s.audit()) != i+1 { // asked once, given i times
				t.Errorf("%v after %d, with %d lines", err, i, len(s.audit()))
			}
			return
		}
		if i > most/spaceOfLine {
			t.Fatal("lines take no space")
		}
	}
}

// TestExpired: a server that runs on when the time of its vault is over gives none of its keys.
func TestExpired(t *testing.T) {
	now := time.Now()
	end := now.Add(time.Hour)
	s := newSite(t, "", Options{Approve: true, Expired: func(at time.Time) error {
		if at.After(end) {
			return errors.New("the vault has expired")
		}
		return nil
	}})
	s.now = func() time.Time { return now }
	s.asks("10.0.0.1", "A", runNo(0), knownID)
	s.asks("10.0.0.1", "B", runNo(1), knownID)
	for i := range 2 {
		if err := s.approve(context.Background(), runNo(i), []string{knownID}, "me"); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.asks("10.0.0.1", "A", runNo(0), knownID); got != fleet.Given {
		t.Errorf("in time: %s", got)
	}
	now = end.Add(time.Second)
	for range 3 {
		if got := s.asks("10.0.0.1", "B", runNo(1), knownID); got != fleet.Wait {
			t.Errorf("too late: %s", got)
		}
	}
	if n := strings.Count(s.lines.String(), "the vault has expired: none of them"); n != 1 {
		t.Errorf("told %d times: %s", n, s.lines)
	}
	if err := s.typeKey(context.Background(), runNo(1), knownID, typedKey, "me"); err != nil {
		t.Fatal(err)
	}
	if got := s.asks("10.0.0.1", "B", runNo(1), knownID); got != fleet.Given {
		t.Errorf("typed: %s", got)
	}
}

// TestUnknownOutcome is a log of a newer program, or of who wants to be taken for one: nobody calls that machine healed, and
// what it says does no harm.
func TestUnknownOutcome(t *testing.T) {
	for _, outcome := range []remediate.Outcome{"perfect", "", "Healed", "healed\x00", remediate.Outcome("\x1b[2J" + strings.Repeat("x", 1<<20))} {
		s := newSite(t, "", Options{HaltAfter: new(1)})
		c, run := s.machine("A")
		if err := c.Report(context.Background(), logOf(run, outcome)); err != nil {
			t.Fatal(err)
		}
		v := s.shows()
		if m := v.Machines[0]; m.Outcome != remediate.OutcomeNeedsPerson || !strings.Contains(m.Message, "not known to this version") || len(m.Message) > 2*maxText {
			t.Errorf("%.20q: %.20q, %.200q", outcome, m.Outcome, m.Message)
		}
		if v.Totals.Healed != 0 || v.Totals.Bad != 1 || v.Halted == "" {
			t.Errorf("%.20q: %+v", outcome, v.Totals)
		}
		if strings.ContainsAny(s.lines.String(), "\x1b\x00") {
			t.Errorf("%.20q reached the terminal", outcome)
		}
	}
}

// TestPages shows machines part by part, and exports all of them.
func TestPages(t *testing.T) {
	s := newSite(t, "", Options{})
	const n = part + perPage
	if err := s.options.DB.Do(context.Background(), func(tx *store.Tx) error {
		for i := range n {
			m := store.Machine{ID: fmt.Sprintf("SN%05d", i), Run: runNo(i), Seen: time.Unix(int64(i), 0), Identity: remediate.Identity{Serial: fmt.Sprintf("SN%05d", i)}}
			if err := tx.PutMachine(&m); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	browser := s.browser()
	for path, want := range map[string][]string{
		"/":            {"1 to 200 of 1200", `<a href="/?page=2">More</a>`, fmt.Sprintf("SN%05d", n-1)},
		"/?page=2":     {"201 to 400 of 1200", `<a href="/?page=1">Back</a> `, `<a href="/?page=3">More</a>`},
		"/?page=6":     {"1001 to 1200 of 1200", "SN00000", `<a href="/?page=5">Back</a>`},
		"/?page=99":    {"1001 to 1200 of 1200"},
		"/?page=x":     {"1 to 200 of 1200"},
		"/?page=-1":    {"1 to 200 of 1200"},
		"/metrics":     {"bootmend_machines 1200\n"},
		"/logs.jsonl":  {""},
		"/audit.jsonl": {""},
	} {
		status, page := s.get(browser, path)
		for _, text := range want {
			if status != http.StatusOK || !strings.Contains(page, text) {
				t.Errorf("%s: %d, no %q", path, status, text)
			}
		}
	}
	if _, text := s.get(browser, "/machines.csv"); strings.Count(text, "\n") != n+1 {
		t.Errorf("%d lines of CSV", strings.Count(text, "\n"))
	}
	if _, text := s.get(browser, "/machines.json"); strings.Count(text, `"serial":"SN`) != n {
		t.Errorf("%d machines in JSON", strings.Count(text, `"serial":"SN`))
	}
}

// TestRingsStay without being given again, until somebody says otherwise.
func TestRingsStay(t *testing.T) {
	rings, err := ParseRollout([]byte(rollout))
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "", Options{Rollout: rings, HaltAfter: new(7)})
	s.post(s.browser(), "/ring", nil)
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{}, `3 rings, up to "some"`},
		{Options{Rollout: rings}, `3 rings, up to "some"`},
		{Options{HaltAfter: new(0)}, `3 rings, up to "some"`},
	} {
		s = newSite(t, s.dir, test.o)
		if !strings.Contains(s.lines.String(), test.want) {
			t.Errorf("%+v: %s", test.o, s.lines)
		}
	}
	if strings.Contains(s.lines.String(), "7 were not healed") {
		t.Errorf("the limit of failures was taken away, and yet: %s", s.lines)
	}
	other, err := ParseRollout([]byte("rings: [{name: first, machines: [X]}, {name: some, percent: 1}, {name: last, percent: 100}]"))
	if err != nil {
		t.Fatal(err)
	}
	if s = newSite(t, s.dir, Options{Rollout: other}); !s.shows().Rings[1].Open || s.shows().Rings[2].Open {
		t.Errorf("a ring of the same name: %+v", s.shows().Rings)
	}
	third, err := ParseRollout([]byte("rings: [{name: a, machines: [X]}, {name: b, percent: 100}]"))
	if err != nil {
		t.Fatal(err)
	}
	if s = newSite(t, s.dir, Options{Rollout: third}); s.shows().Rings[1].Open {
		t.Errorf("rings of other names: %+v", s.shows().Rings)
	}
	if s = newSite(t, s.dir, Options{Rollout: NoRollout()}); len(s.shows().Rings) != 0 {
		t.Errorf("no rings: %+v", s.shows().Rings)
	}
	c, _ := s.machine("Y")
	if w, err := c.Hello(context.Background()); err != nil || w.Decision != fleet.Heal {
		t.Errorf("without rings: %+v, %v", w, err)
	}
}
