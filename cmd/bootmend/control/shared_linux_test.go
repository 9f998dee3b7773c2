package control

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store/storetest"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

// at is the client of the same machine and run at another server.
func (s *site) at(run remediate.Run) *fleet.Client {
	return fleet.NewClient(s.web.URL, s.pin(), boot, run)
}

// pair are two servers that share a database.
func pair(t *testing.T, p *storetest.Postgres, a, b Options) (*site, *site) {
	a.Name, a.DB = "https://a.example:8443", p.Open()
	b.Name, b.DB = "https://b.example:8443", p.Open()
	return newSite(t, t.TempDir(), a), newSite(t, t.TempDir(), b)
}

// TestShared has two servers share a database, which is stopped and started again in between.
func TestShared(t *testing.T) {
	p := storetest.Start(t)
	a, b := pair(t, p, Options{Approve: true}, Options{})
	ctx := context.Background()

	// A key is asked for at A and approved at B, the log is handed in at B.
	c, run := a.machine("PF2X")
	if w, err := c.Hello(ctx); err != nil || w.Decision != fleet.Heal {
		t.Fatalf("%+v, %v", w, err)
	}
	if got := a.wants(c, knownID); got != "wait" {
		t.Fatalf("before anybody agreed: %s", got)
	}
	atA, atB := a.browser(), b.browser()
	if _, page := b.get(atB, "/"); !strings.Contains(page, "Approve: give its key") || !strings.Contains(page, "the server that it asks: https://a.example:8443") {
		t.Errorf("B shows %s", page)
	}
	if status := b.post(atB, "/key", url.Values{"run": {run.Name()}, "id": {knownID}, "key": {typedKey}}); status != http.StatusUnprocessableEntity {
		t.Errorf("a key typed where the machine does not ask: %d", status)
	}
	if status := b.post(atB, "/approve", url.Values{"run": {run.Name()}, "id": {knownID}}); status != http.StatusSeeOther {
		t.Errorf("approve: %d", status)
	}
	if got := a.wants(c, knownID); got != secretKey {
		t.Errorf("approved at B, and yet A says %s", got)
	}
	log := logOf(run, remediate.OutcomeHealed)
	if err := b.at(run).Report(ctx, log); err != nil {
		t.Fatal(err)
	}
	if v := a.shows(); v.Totals.Healed != 1 || len(v.Machines) != 1 || v.Machines[0].Server != "" {
		t.Errorf("A does not know what was reported at B: %+v", v)
	}
	if d, err := a.Detail(ctx, run.Name()); err != nil || d.Decision != string(fleet.Heal) || len(d.Log) == 0 {
		t.Errorf("A shows of the machine %+v, %v", d, err)
	}

	// A pauses: B stops at once, in the middle of a run, too.
	other, otherRun := b.machine("PF2Y")
	if w, err := other.Hello(ctx); err != nil || w.Decision != fleet.Heal {
		t.Fatalf("%+v, %v", w, err)
	}
	a.post(atA, "/pause", nil)
	if got := b.wants(other, knownID); got != "wait" {
		t.Errorf("paused at A, and yet B says %s", got)
	}
	if w, err := b.at(otherRun).Hello(ctx); err != nil || w.Decision != fleet.Leave {
		t.Errorf("paused at A, and yet B says %+v, %v", w, err)
	}
	if _, page := b.get(atB, "/"); !strings.Contains(page, "paused by a person") {
		t.Errorf("B shows %s", page)
	}

	// The database is gone: nothing is given, nothing is lost, and it is said.
	p.Stop()
	for _, s := range []*site{a, b} {
		third, thirdRun := s.machine("PF2Z")
		if _, err := third.Hello(ctx); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("hello without a database: %v", err)
		}
		if got := s.wants(s.at(run), knownID); !strings.Contains(got, "503") {
			t.Errorf("key without a database: %s", got)
		}
		if err := third.Report(ctx, logOf(thirdRun, remediate.OutcomeHealed)); err == nil || !strings.Contains(err.Error(), "503") {
			t.Errorf("log without a database: %v", err)
		}
		if got := strings.Count(s.lines.String(), "machines are told to ask again"); got != 1 {
			t.Errorf("the person was told %d times:\n%s", got, s.lines)
		}
	}
	if status, page := a.get(atA, "/"); status != http.StatusServiceUnavailable || !strings.Contains(page, "The database does not answer") {
		t.Errorf("the page, without a database: %d %s", status, page)
	}
	if status := a.post(atA, "/resume", nil); status != http.StatusServiceUnavailable {
		t.Errorf("resume, without a database: %d", status)
	}
	for path, want := range map[string]string{"/metrics": "bootmend_database_up 0\n", "/machines.json": "does not answer", "/audit.jsonl": "does not answer", "/logs.jsonl": "does not answer"} {
		if _, text := a.get(atA, path); !strings.Contains(text, want) {
			t.Errorf("%s, without a database: %s", path, text)
		}
	}
	p.Start()
	if status, page := a.get(atA, "/"); status != http.StatusOK || !strings.Contains(page, "<b>2</b> machines") {
		t.Errorf("after the restart: %d %s", status, page)
	}
	b.post(atB, "/resume", nil)
	if w, err := a.at(otherRun).Hello(ctx); err != nil || w.Decision != fleet.Heal {
		t.Errorf("resumed at B, and yet A says %+v, %v", w, err)
	}
	if got := b.wants(b.at(otherRun), knownID); got != secretKey {
		t.Errorf("after the restart: %s", got)
	}
	if !strings.Contains(a.lines.String(), "the database answers again") {
		t.Errorf("nobody was told that it is back:\n%s", a.lines)
	}

	// PostgreSQL's own client sees it, too.
	if got, want := p.Query("SELECT count(*), min(length(log)), max(size) FROM reports"), fmt.Sprintf("1|%d|%d", len(log), len(log)); got != want {
		t.Errorf("reports: %s, want %s", got, want)
	}
	const steps = "asked a\napproved b\ngiven a\npaused a\nasked b\nresumed b\ngiven b"
	if got := p.Query("SELECT event || ' ' || substr(server, 9, 1) FROM audit ORDER BY id"); got != steps {
		t.Errorf("audit:\n%s\nwant\n%s", got, steps)
	}
	if got := p.Query("SELECT count(*) FROM audit WHERE audit::text LIKE '%333333-444444%'"); got != "0" {
		t.Error("the audit holds a key")
	}
	if text := a.lines.String() + b.lines.String(); strings.Contains(text, storetest.Password) || strings.Contains(text, "333333-444444") {
		t.Errorf("the terminal shows a secret:\n%s", text)
	}
}

// TestSharedKilled kills a server, and then the database.
func TestSharedKilled(t *testing.T) {
	p := storetest.Start(t)
	killed(t, startChild(t, t.TempDir(), childDatabase+"="+string(p.Address())), func() *site {
		p.Stop()
		p.Start()
		return newSite(t, t.TempDir(), Options{DB: p.Open()})
	})
}

// TestSharedDecisions has two servers count at the same time: together they must decide as one does.
func TestSharedDecisions(t *testing.T) {
	p := storetest.Start(t)
	rings, err := ParseRollout([]byte("rings: [{name: one, machines: [A*]}, {name: two, machines: [B*]}, {name: all, percent: 100}]\nleast: 10\nopen_at: 50\n"))
	if err != nil {
		t.Fatal(err)
	}
	// B takes the rings and the limit of failures from the database.
	a, b := pair(t, p, Options{Rollout: rings, HaltAfter: new(4), KeysPerHour: 30}, Options{KeysPerHour: 30})
	if text := b.lines.String(); !strings.Contains(text, `machines are healed in 3 rings, up to "one" now`) || !strings.Contains(text, "after 4 were not healed") {
		t.Errorf("B does not say what holds: %s", text)
	}
	ctx := context.Background()
	together := func(serial string, n int, do func(s *site, c *fleet.Client, run remediate.Run) error) {
		t.Helper()
		var all sync.WaitGroup
		for i := range n {
			s := []*site{a, b}[i%2]
			c, run := s.machine(fmt.Sprintf("%s%d", serial, i))
			all.Go(func() {
				if err := do(s, c, run); err != nil {
					t.Errorf("%s%d: %v", serial, i, err)
				}
			})
		}
		all.Wait()
	}
	given := 0
	var waits remediate.Run
	var mu sync.Mutex
	together("A", 10, func(s *site, c *fleet.Client, run remediate.Run) error {
		if w, err := c.Hello(ctx); err != nil || w.Decision != fleet.Heal {
			return fmt.Errorf("%+v, %w", w, err)
		}
		return c.Report(ctx, logOf(run, remediate.OutcomeHealed))
	})
	if got := b.shows().Rings; !got[1].Open || got[2].Open {
		t.Errorf("after ten went well: %+v", got)
	}
	together("B", 40, func(s *site, c *fleet.Client, run remediate.Run) error {
		for _, id := range []string{knownID, knownID} {
			_, ok, err := c.Key(ctx, guid(t, id), "")
			if err != nil {
				return err
			}
			mu.Lock()
			if ok {
				given++
			} else {
				waits = run
			}
			mu.Unlock()
		}
		return nil
	})
	if given != 2*30 {
		t.Errorf("%d answers with a key, want 60: 30 keys an hour, each asked for twice", given)
	}
	together("B", 20, func(s *site, c *fleet.Client, run remediate.Run) error {
		return c.Report(ctx, logOf(run, remediate.OutcomeFailed))
	})
	if got := a.shows().Halted; got != "halted: 4 machines were not healed" {
		t.Errorf("%q", got)
	}
	for event, want := range map[string]string{"halted": "1", "ring two opened": "1", "ring all opened": "0", "limited": "10", "asked": "30"} {
		if got := p.Query("SELECT count(*) FROM audit WHERE event = '" + event + "'"); got != want {
			t.Errorf("%q: %s times, want %s", event, got, want)
		}
	}

	// The hour goes on: a machine that waits gets its key without anybody.
	b.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	b.post(b.browser(), "/resume", nil)
	if got := b.wants(b.at(waits), knownID); got != secretKey {
		t.Errorf("an hour later: %s", got)
	}
}
