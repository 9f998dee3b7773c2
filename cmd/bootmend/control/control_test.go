package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
	"github.com/bootmend/bootmend/remediate/report"
)

const (
	secretKey  = "111111-222222-333333-444444-555555-666666-111111-222222"
	typedKey   = "222222-111111-333333-444444-555555-666666-111111-222222"
	knownID    = "11111111-2222-3333-4444-555555555555"
	otherID    = "22222222-2222-3333-4444-555555555555" // of secretKey, too
	unknownID  = "99999999-2222-3333-4444-555555555555"
	boot       = fleet.Token("boot-token-boot-token-boot-token")
	signInWord = fleet.Token("sign-in-token-sign-in-token")
)

func guid(t *testing.T, text string) bitlocker.GUID {
	t.Helper()
	id, err := bitlocker.ParseGUID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// site is a server with its state folder.
type site struct {
	*Server
	t     *testing.T
	web   *httptest.Server
	dir   string
	lines *printed
}

// printed is what a server has told its person.
type printed struct {
	mu   sync.Mutex
	text strings.Builder
}

func (p *printed) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(&p.text, format+"\n", args...)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func openStore(t testing.TB, dir string) *store.DB {
	t.Helper()
	db, err := store.OpenFile(context.Background(), filepath.Join(dir, "bootmend.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func newSite(t *testing.T, dir string, o Options) *site {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	if o.DB == nil {
		o.DB = openStore(t, dir)
	}
	list, err := keys.Read(strings.NewReader("KeyID,RecoveryKey\n"+knownID+","+secretKey+"\n"+otherID+","+secretKey+"\n"), "keys.csv")
	if err != nil {
		t.Fatal(err)
	}
	lines := &printed{}
	o.Keys, o.Token, o.SignIn, o.Printf = list, boot, signInWord, lines.printf
	s, err := New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(s.Handler())
	web.Config = s.HTTPServer()
	web.StartTLS()
	t.Cleanup(web.Close)
	return &site{s, t, web, dir, lines}
}

// shows is what the page shows.
func (s *site) shows() view {
	s.t.Helper()
	v, err := s.snapshot(context.Background(), 1)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *site) pin() [32]byte { return sha256.Sum256(s.web.Certificate().Raw) }

// runs tells those apart that begin in the same second.
var runs atomic.Uint32

// machine is the client of a machine that has just started.
func (s *site) machine(serial string) (*fleet.Client, remediate.Run) {
	s.t.Helper()
	run, err := remediate.NewRun(time.Now(), "test", bytes.NewReader(binary.BigEndian.AppendUint32(nil, runs.Add(1))))
	if err != nil {
		s.t.Fatal(err)
	}
	run.Machine = remediate.Identity{Serial: serial, Model: "Test <b>"}
	return fleet.NewClient(s.web.URL, s.pin(), boot, run), run
}

// wants asks for a key and says what came: the key, "wait" or the error.
func (s *site) wants(c *fleet.Client, id string) string {
	s.t.Helper()
	key, ok, err := c.Key(context.Background(), guid(s.t, id), "PC C: 1/1/2024")
	switch {
	case err != nil:
		return err.Error()
	case !ok:
		return "wait"
	}
	return key.Reveal()
}

func logOf(run remediate.Run, outcome remediate.Outcome) []byte {
	l := remediate.NewLog(run)
	l.Add(remediate.BootEvent{ToolVersion: "test"})
	l.Add(run.Machine)
	l.Add(remediate.ResultEvent{Outcome: outcome, Message: "the reason"})
	return l.Bytes()
}

// browser is signed in.
func (s *site) browser() *http.Client {
	s.t.Helper()
	c := s.web.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Jar = &jar{}
	if status := s.post(c, "/sign-in", url.Values{"token": {string(signInWord)}}); status != http.StatusSeeOther {
		s.t.Fatalf("sign in: %d", status)
	}
	return c
}

type jar struct{ cookies []*http.Cookie }

func (j *jar) SetCookies(_ *url.URL, c []*http.Cookie) { j.cookies = c }
func (j *jar) Cookies(*url.URL) []*http.Cookie         { return j.cookies }

// post sends a form and tells the status of the answer.
func (s *site) post(c *http.Client, path string, form url.Values) int {
	s.t.Helper()
	r, err := c.PostForm(s.web.URL+path, form)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = r.Body.Close()
	return r.StatusCode
}

func (s *site) get(c *http.Client, path string) (int, string) {
	s.t.Helper()
	r, err := c.Get(s.web.URL + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(data)
}

func (s *site) audit() (events []store.Event) {
	s.t.Helper()
	if err := EachEvent(context.Background(), s.options.DB, func(e store.Event) error {
		events = append(events, e)
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	return events
}

// logs are those that are kept, by run.
func (s *site) logs() map[string][]byte {
	s.t.Helper()
	logs := map[string][]byte{}
	if err := EachLog(context.Background(), s.options.DB, func(r store.Report) error {
		logs[r.Run] = r.Log
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	return logs
}

// TestWholeWay is a machine from its first word to its log, and what is left of it.
func TestWholeWay(t *testing.T) {
	s := newSite(t, "", Options{})
	c, run := s.machine("PF2X")
	ctx := context.Background()
	if w, err := c.Hello(ctx); err != nil || w.Decision != fleet.Heal {
		t.Fatalf("%+v, %v", w, err)
	}
	if got := s.wants(c, knownID); got != secretKey {
		t.Errorf("key: %s", got)
	}
	if err := c.Step(ctx, "quarantines"); err != nil {
		t.Error(err)
	}
	if v := s.shows(); len(v.Machines) != 1 || v.Machines[0].Step != "quarantines" || v.Totals.Waiting != 0 {
		t.Errorf("%+v", v)
	}
	log := logOf(run, remediate.OutcomeHealed)
	for _, part := range [][]byte{log[:len(log)/2], log, log[:len(log)/3]} { // a shorter one that comes late changes nothing
		if err := c.Report(ctx, part); err != nil {
			t.Fatal(err)
		}
	}
	kept := s.logs()[run.Name()]
	if !bytes.Equal(kept, log) {
		t.Errorf("kept %d bytes of %d", len(kept), len(log))
	}
	var all report.Collector
	if n, err := all.Add(bytes.NewReader(kept)); n != 1 || err != nil {
		t.Errorf("a report of it: %d runs, %v", n, err)
	}
	var said []string
	for _, e := range s.audit() {
		said = append(said, e.Event+" "+e.Machine.Serial+" "+e.KeyID)
	}
	if got, want := strings.Join(said, "; "), "asked PF2X "+knownID+"; given PF2X "+knownID; !strings.EqualFold(got, want) {
		t.Errorf("audit: %s", got)
	}
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		data, _ := os.ReadFile(filepath.Join(s.dir, e.Name()))
		if bytes.Contains(data, []byte("333333-444444")) {
			t.Errorf("%s holds the key", e.Name())
		}
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s may be read by others: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if strings.Contains(s.lines.String(), "333333-444444") {
		t.Error("the terminal showed the key")
	}

	// Another server over the same folder knows the machine.
	again := newSite(t, s.dir, Options{})
	if v := again.shows(); len(v.Machines) != 1 || v.Totals.Healed != 1 || v.Machines[0].Serial != "PF2X" {
		t.Errorf("after a restart: %+v", v)
	}
}

// TestApproval has a person approve one machine and type the key of another.
func TestApproval(t *testing.T) {
	s := newSite(t, "", Options{Approve: true})
	known, run := s.machine("A")
	other, otherRun := s.machine("B")
	if got := s.wants(known, knownID) + s.wants(other, unknownID); got != "waitwait" {
		t.Fatalf("before anybody agreed: %s", got)
	}
	browser := s.browser()
	status, page := s.get(browser, "/")
	for _, want := range []string{"Approve: give its key", "Test &lt;b&gt;", strings.ToUpper(unknownID), "<b class=\"wait\">2</b> waiting"} {
		if !strings.Contains(page, want) {
			t.Errorf("%d: no %q in\n%s", status, want, page)
		}
	}
	if status := s.post(browser, "/approve", url.Values{"run": {run.Name()}, "id": {knownID}}); status != http.StatusSeeOther {
		t.Errorf("approve: %d", status)
	}
	if got := s.wants(known, knownID); got != secretKey {
		t.Errorf("approved: %s", got)
	}
	// Who has the token asks for another key under the name of that run: nobody has seen that one.
	if got := s.wants(known, otherID); got != "wait" {
		t.Errorf("approved without having been seen: %s", got)
	}
	if status := s.post(browser, "/approve", url.Values{"run": {run.Name()}, "id": {knownID, "nonsense"}}); status != http.StatusSeeOther {
		t.Errorf("approve: %d", status)
	}
	if got := s.wants(known, otherID); got != "wait" {
		t.Errorf("asked for while the page was looked at, and approved with it: %s", got)
	}
	if _, page := s.get(browser, "/"); !strings.Contains(page, `name="id" value="`+strings.ToUpper(otherID)+`"><button>Approve: give its key`) {
		t.Errorf("it can't be approved now: %s", page)
	}
	// Somebody else who claims to be that machine: another run, and another volume.
	again, err := remediate.NewRun(time.Now(), "test", strings.NewReader("else"))
	if err != nil {
		t.Fatal(err)
	}
	again.Machine = run.Machine
	if got := s.wants(fleet.NewClient(s.web.URL, s.pin(), boot, again), knownID); got != "wait" {
		t.Errorf("approved for somebody else: %s", got)
	}
	form := url.Values{"run": {otherRun.Name()}, "id": {unknownID}, "key": {typedKey[:len(typedKey)-1] + "3"}}
	if status := s.post(browser, "/key", form); status != http.StatusUnprocessableEntity {
		t.Errorf("a mistyped key: %d", status)
	}
	form.Set("key", " "+typedKey+" ")
	if status := s.post(browser, "/key", form); status != http.StatusSeeOther {
		t.Errorf("a typed key: %d", status)
	}
	if got := s.wants(other, unknownID); got != typedKey {
		t.Errorf("typed: %s", got)
	}
	if _, page := s.get(browser, "/"); strings.Contains(page, "333333") {
		t.Error("the page shows a key")
	}
}

// TestHalt stops after failures, and goes on when a person says so.
func TestHalt(t *testing.T) {
	s := newSite(t, "", Options{HaltAfter: new(2)})
	for _, serial := range []string{"A", "B"} {
		c, run := s.machine(serial)
		if w, err := c.Hello(context.Background()); err != nil || w.Decision != fleet.Heal {
			t.Fatalf("%s: %+v, %v", serial, w, err)
		}
		for range 2 { // the same log twice is one failure
			if err := c.Report(context.Background(), logOf(run, remediate.OutcomeFailed)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c, _ := s.machine("C")
	if w, err := c.Hello(context.Background()); err != nil || w.Decision != fleet.Leave || !strings.Contains(w.Reason, "2 machines were not healed") {
		t.Errorf("%+v, %v", w, err)
	}
	if got := s.wants(c, knownID); got != "wait" {
		t.Errorf("halted, and yet: %s", got)
	}
	left, leftRun := s.machine("D") // is no failure
	if _, err := left.Hello(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := left.Report(context.Background(), logOf(leftRun, remediate.OutcomeLeft)); err != nil {
		t.Fatal(err)
	}
	if got := s.shows().Halted; got != "halted: 2 machines were not healed" {
		t.Errorf("%q", got)
	}
	s.post(s.browser(), "/resume", nil)
	if w, err := c.Hello(context.Background()); err != nil || w.Decision != fleet.Heal {
		t.Errorf("resumed: %+v, %v", w, err)
	}
	s.post(s.browser(), "/pause", nil)
	if w, err := c.Hello(context.Background()); err != nil || w.Decision != fleet.Leave {
		t.Errorf("paused: %+v, %v", w, err)
	}
}

// TestPlaceholderSerial has boards whose maker left the serial number out: they are machines of their own all the same.
func TestPlaceholderSerial(t *testing.T) {
	s := newSite(t, "", Options{HaltAfter: new(2), Approve: true})
	identity := func(i int) remediate.Identity {
		return remediate.Identity{Serial: "To be filled by O.E.M.", UUID: fmt.Sprintf("4c4c4544-0000-0000-0000-%012d", i)}
	}
	const n = maxKeysOfMachine + 6
	for i := range n {
		q := fleet.KeyRequest{Run: runNo(i), Machine: identity(i), Protector: knownID}
		if a, err := s.key(context.Background(), "10.0.0.1", q); err != nil || a.State != fleet.Wait {
			t.Fatalf("%d: %v, %v", i, a, err)
		}
	}
	if got := s.shows().Totals; got.Machines != n || got.Waiting != n {
		t.Fatalf("%+v of %d machines", got, n)
	}
	for _, e := range s.audit() {
		if e.Event == "limited" {
			t.Fatalf("limits of one machine hold for all: %+v", e)
		}
	}
	if s.post(s.browser(), "/approve", url.Values{"run": {runNo(0)}, "id": {knownID}}); s.asks("10.0.0.1", "", runNo(n), knownID) != fleet.Wait {
		t.Error("one was approved, and another one has the key")
	}
	for i := range 2 {
		if s.shows().Halted != "" {
			t.Fatalf("halted after %d", i)
		}
		run := remediate.Run{ID: fmt.Sprintf("fail%d", i), Time: time.Now(), Machine: identity(i)}
		if err := s.report(context.Background(), "10.0.0.1", run.Name(), logOf(run, remediate.OutcomeFailed)); err != nil {
			t.Fatal(err)
		}
	}
	if s.shows().Halted == "" {
		t.Error("two machines failed, and it goes on")
	}
}

const rollout = `
rings:
  - {name: pilot, machines: ["pf2*"], dry_run: true}
  - {name: some, machines: [B, C, D]}
  - {name: all, percent: 100}
open_at: 60
least: 2
`

// TestHaltAfterRestart counts the failures from before a restart.
func TestHaltAfterRestart(t *testing.T) {
	s := newSite(t, "", Options{HaltAfter: new(2)})
	for _, serial := range []string{"A", "B"} {
		c, run := s.machine(serial)
		if err := c.Report(context.Background(), logOf(run, remediate.OutcomeFailed)); err != nil {
			t.Fatal(err)
		}
		if halted := s.shows().Halted != ""; halted != (serial == "B") {
			t.Errorf("after %s: halted %v", serial, halted)
		}
		s = newSite(t, s.dir, Options{HaltAfter: new(2)})
	}
}

// TestRings heals in stages.
func TestRings(t *testing.T) {
	rings, err := ParseRollout([]byte(rollout))
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "", Options{Rollout: rings, HaltAfter: new(2)})
	ctx := context.Background()
	is := func(serial string, want fleet.Decision, outcome remediate.Outcome) {
		t.Helper()
		c, run := s.machine(serial)
		w, err := c.Hello(ctx)
		if err != nil || w.Decision != want {
			t.Fatalf("%s: %+v, %v, want %s", serial, w, err, want)
		}
		if got := s.wants(c, knownID); (got == secretKey) != (want != fleet.Leave) {
			t.Errorf("%s got the key: %s", serial, got)
		}
		if outcome == "" {
			return
		}
		if err := c.Report(ctx, logOf(run, outcome)); err != nil {
			t.Fatal(err)
		}
	}
	is("PF2A", fleet.DryRun, remediate.OutcomeDryRun)
	is("B", fleet.Leave, remediate.OutcomeLeft) // counts nowhere
	is("E", fleet.Leave, "")
	is("PF2B", fleet.DryRun, remediate.OutcomeDryRun)
	is("B", fleet.Heal, remediate.OutcomeHealed)
	is("C", fleet.Heal, remediate.OutcomeFailed)
	is("E", fleet.Leave, "") // 1 of 2
	is("D", fleet.Heal, remediate.OutcomeHealed)
	if got := s.shows().Rings; len(got) != 3 || got[1].Done != 3 || got[1].Well != 2 || !got[2].Open {
		t.Errorf("%+v", got)
	}

	// It is the same after a restart.
	s = newSite(t, s.dir, Options{Rollout: rings, HaltAfter: new(1)})
	is("E", fleet.Heal, remediate.OutcomeFailed)
	is("Y", fleet.Leave, "")
	s = newSite(t, s.dir, Options{Rollout: rings})
	is("Y", fleet.Leave, "") // halted is kept, too

	// Who does not ask whether it may gets no key, either.
	s = newSite(t, "", Options{Rollout: rings})
	skips, _ := s.machine("B")
	if got := s.wants(skips, knownID); got != "wait" {
		t.Errorf("its ring is not open, and yet: %s", got)
	}

	// A person need not wait.
	s = newSite(t, "", Options{Rollout: rings})
	is("B", fleet.Leave, "")
	browser := s.browser()
	if _, page := s.get(browser, "/"); !strings.Contains(page, "Open it now") || !strings.Contains(page, "<b>some</b>: not open yet") {
		t.Error(page)
	}
	for i, want := range []int{http.StatusSeeOther, http.StatusSeeOther, http.StatusUnprocessableEntity} {
		if status := s.post(browser, "/ring", nil); status != want {
			t.Errorf("opened %d times: %d", i+1, status)
		}
	}
	is("B", fleet.Heal, "")
	is("E", fleet.Heal, "")
}

// TestPercent chooses about as many as it says, and always the same.
func TestPercent(t *testing.T) {
	r, err := ParseRollout([]byte("rings: [{name: tenth, percent: 10}]"))
	if err != nil {
		t.Fatal(err)
	}
	in := 0
	for i := range 10_000 {
		serial := fmt.Sprintf("SN%d", i)
		ringOf := func(id remediate.Identity) int { return r.of(id, knownBy(id, "run")) }
		ring := ringOf(remediate.Identity{Serial: serial})
		if ring != ringOf(remediate.Identity{Serial: strings.ToLower(serial), UUID: "00000000-0000-0000-0000-000000000000"}) {
			t.Fatalf("%s changes its ring", serial)
		}
		if ring == 0 {
			in++
		}
	}
	if in < 900 || in > 1100 {
		t.Errorf("%d of 10000 are in", in)
	}
}

func TestParseRollout(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "no rings",
		"rings: []":              "no rings",
		"rings: [{name: a}]":     "holds no machine",
		"rings: [{percent: 10}]": "name of its own",
		"rings: [{name: a, percent: 10}, {name: a, percent: 20}]": "ring 2: give it a name",
		"rings: [{name: a, percent: 101}]":                        "percent 101",
		"rings: [{name: a, machines: ['[']}]":                     "syntax error in pattern",
		"rings: [{name: a, percent: 1}]\nopen_at: 0":              "open_at 0",
		"rings: [{name: a, percent: 1}]\nleast: 0":                "least 0",
		"rings: [{name: a, procent: 1}]":                          "procent",
		"rings: {":                                                "yaml",
	} {
		if _, err := ParseRollout([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestStrangers try to get at something without the tokens.
func TestStrangers(t *testing.T) {
	s := newSite(t, "", Options{})
	_, run := s.machine("X")
	ctx := context.Background()
	if _, err := fleet.NewClient(s.web.URL, s.pin(), "another-token-another-token", run).Hello(ctx); !errors.Is(err, fleet.ErrRefused) {
		t.Errorf("another token: %v", err)
	}
	if _, err := fleet.NewClient(s.web.URL, [32]byte{1}, boot, run).Hello(ctx); !errors.Is(err, fleet.ErrCertificate) {
		t.Errorf("another certificate: %v", err)
	}
	sum := func(body []byte) [sha256.Size]byte { return sha256.Sum256(body) }
	send := func(path, challenge, proof string, body []byte) int {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.web.URL+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(fleet.HeaderChallenge, challenge)
		r.Header.Set(fleet.HeaderProof, proof)
		r.Header.Set(fleet.HeaderDigest, fleet.Digest(sum(body)))
		answer, err := s.web.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	body, err := json.Marshal(fleet.KeyRequest{Run: run.Name(), Machine: run.Machine, Protector: knownID})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	fresh := s.challenges.make(now)
	good := boot.Proof(fresh, fleet.PathKey, sum(body))
	old := s.challenges.make(now.Add(-time.Hour))
	foreign := newChallenges().make(now)
	for name, test := range map[string]struct {
		path, challenge, proof string
		body                   []byte
	}{
		"nothing":             {fleet.PathKey, "", "", body},
		"no proof":            {fleet.PathKey, fresh, "", body},
		"wrong token":         {fleet.PathKey, fresh, fleet.Token("x").Proof(fresh, fleet.PathKey, sum(body)), body},
		"another body":        {fleet.PathKey, fresh, good, []byte("{}")},
		"another path":        {fleet.PathHello, fresh, good, body},
		"old challenge":       {fleet.PathKey, old, boot.Proof(old, fleet.PathKey, sum(body)), body},
		"made-up challenge":   {fleet.PathKey, foreign, boot.Proof(foreign, fleet.PathKey, sum(body)), body},
		"report of no one":    {fleet.PathReport + "/" + run.Name(), "", "", logOf(run, remediate.OutcomeHealed)},
		"no base64 challenge": {fleet.PathKey, "%%%", good, body},
	} {
		if got := send(test.path, test.challenge, test.proof, test.body); got != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got)
		}
	}
	if got := send(fleet.PathKey, fresh, good, body); got != http.StatusOK {
		t.Errorf("the right one: %d", got)
	}
	if got := send(fleet.PathKey, fresh, good, body); got != http.StatusUnauthorized {
		t.Errorf("sent again: %d", got)
	}
	// A proof does not make everything right.
	prove := func(path string, body []byte) int {
		challenge := s.challenges.make(time.Now())
		return send(path, challenge, boot.Proof(challenge, path, sum(body)), body)
	}
	for name, test := range map[string]struct {
		path string
		body []byte
		want int
	}{
		"not JSON":        {fleet.PathHello, []byte("{"), 400},
		"run with a path": {fleet.PathHello, []byte(`{"run":"../../x"}`), 400},
		"no GUID":         {fleet.PathKey, []byte(`{"run":"` + run.Name() + `","protector":"*"}`), 400},
		"too large":       {fleet.PathHello, bytes.Repeat([]byte(" "), fleet.MaxRequest+1), 413},
		"report way up":   {fleet.PathReport + "/..%2f..%2fx", logOf(run, remediate.OutcomeHealed), 401}, // signed as it is written, seen as it is meant
		"report, no log":  {fleet.PathReport + "/" + run.Name(), []byte("<script>"), 400},
		"step of no run":  {fleet.PathStep, []byte(`{"run":"20260101T000000Z-ffff","step":"x"}`), 400},
	} {
		if got := prove(test.path, test.body); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
	for _, path := range []string{"/events", "/machines.json", "/machines.csv", "/metrics"} {
		if status, _ := s.get(s.web.Client(), path); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, status)
		}
	}
	for _, path := range []string{"/approve", "/key", "/pause", "/resume"} {
		if status := s.post(s.web.Client(), path, url.Values{"run": {run.Name()}}); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, status)
		}
	}
	if _, page := s.get(s.web.Client(), "/"); strings.Contains(page, "X") && strings.Contains(page, "<table") {
		t.Error("the page shows machines to strangers")
	}
	// A form of another site, sent by a browser that is signed in.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.web.URL+"/pause", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	answer, err := s.browser().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden || s.shows().Halted != "" {
		t.Errorf("another site paused it: %s", answer.Status)
	}
}

// counted counts what is read of it.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

func (c *counted) Close() error { return nil }

// TestBodies: of a request without a proof nothing is read, and of all others no more at once than the memory holds.
func TestBodies(t *testing.T) {
	s := newSite(t, "", Options{})
	_, run := s.machine("A")
	log := logOf(run, remediate.OutcomeHealed)
	path := fleet.PathReport + "/" + run.Name()
	post := func(token fleet.Token, from string, said, sent []byte, length int64) (status, read int) {
		challenge, sum := s.challenges.make(time.Now()), sha256.Sum256(said)
		body := &counted{Reader: bytes.NewReader(sent)}
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: path}, Body: body, ContentLength: length, RemoteAddr: from, Header: http.Header{}}
		r.Header.Set(fleet.HeaderChallenge, challenge)
		r.Header.Set(fleet.HeaderDigest, fleet.Digest(sum))
		r.Header.Set(fleet.HeaderProof, token.Proof(challenge, path, sum))
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w.Code, body.n
	}
	whole := int64(len(log))
	for name, test := range map[string]struct {
		token      fleet.Token
		said, sent []byte
		length     int64
		want, read int
	}{
		"no proof":       {"another token", log, log, whole, 401, 0},
		"too large":      {boot, log, log, fleet.MaxReport + 1, 413, 0},
		"of any length":  {boot, log, log, -1, 411, 0},
		"something else": {boot, log, bytes.ToUpper(log), whole, 400, len(log)},
		"right":          {boot, log, log, whole, 204, len(log)},
	} {
		if status, read := post(test.token, "10.0.0.1:1", test.said, test.sent, test.length); status != test.want || read != test.read {
			t.Errorf("%s: %d, %d bytes were read; want %d, %d", name, status, read, test.want, test.read)
		}
	}
	if s.reading.all != 0 || len(s.reading.of) != 0 {
		t.Errorf("nothing is held any more, and yet %+v", s.reading)
	}
	sites := 0
	for ; s.reading.take(fmt.Sprint("site ", sites), maxReadingOfSite-whole); sites++ {
		if status, _ := post(boot, "10.0.0.1:1", log, log, whole); status != 204 {
			t.Errorf("while others send, too: %d", status)
		}
	}
	if status, read := post(boot, "10.0.0.1:1", log, log, maxReading-int64(sites)*(maxReadingOfSite-whole)+1); status != 503 || read != 0 {
		t.Errorf("more than there is room for: %d, %d bytes were read", status, read)
	}
	if s.reading.take("site 0", whole+1) {
		t.Error("one address may send more than its part")
	}
}

// TestLargeLog hands a log in that waits for the server's word to go on, with a challenge that has grown old meanwhile.
func TestLargeLog(t *testing.T) {
	s := newSite(t, "", Options{})
	c, run := s.machine("A")
	if _, err := c.Hello(context.Background()); err != nil { // its answer brings the next challenge
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Now().Add(2 * challengeAge) }
	log := append(logOf(run, remediate.OutcomeHealed), bytes.Repeat([]byte(" "), fleet.MaxReport-2000)...)
	if err := c.Report(context.Background(), log); err != nil {
		t.Fatal(err)
	}
	if kept := s.logs()[run.Name()]; !bytes.Equal(kept, log) || s.counts.refused != 1 {
		t.Errorf("%d bytes of %d are kept, %d requests were refused", len(kept), len(log), s.counts.refused)
	}
	if err := c.Report(context.Background(), append(log, make([]byte, 2000)...)); err == nil || !strings.Contains(err.Error(), "413") {
		t.Errorf("more than a log has: %v", err)
	}
}

// TestTryingAllIDs asks for many keys with the token of a stick that was found.
func TestTryingAllIDs(t *testing.T) {
	s := newSite(t, "", Options{})
	c, _ := s.machine("THIEF")
	for i := range maxWants + 5 {
		if got := s.wants(c, fmt.Sprintf("%08x-0000-0000-0000-000000000000", i)); got != "wait" {
			t.Fatalf("%d: %s", i, got)
		}
	}
	if got := s.wants(c, knownID); got != "wait" {
		t.Errorf("after so many, it got %s", got)
	}
	// Under other names, from the same address.
	if err := s.options.DB.Do(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Take(store.Limit{Kind: "keys of an address", Who: "127.0.0.1", Most: maxKeysOfAddress}, maxKeysOfAddress-maxWants, time.Now())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	other, otherRun := s.machine("THIEF2")
	if got := s.wants(other, knownID); got != "wait" {
		t.Errorf("under another name, it got %s", got)
	}
	if status := s.post(s.browser(), "/approve", url.Values{"run": {otherRun.Name()}, "id": {knownID}}); status != http.StatusSeeOther {
		t.Errorf("approve: %d", status)
	}
	if got := s.wants(other, knownID); got != secretKey {
		t.Errorf("a person knows better, and yet it got %s", got)
	}
	if s.counts.limited == 0 || !strings.Contains(s.lines.String(), "more keys than a machine has") {
		t.Error("nobody was told")
	}
	// Asking again and again takes no space, and is written down once.
	before := s.shows().Totals.Space
	lines := len(s.audit())
	for range 20 {
		if got := s.wants(c, knownID); got != "wait" {
			t.Errorf("asked again, it got %s", got)
		}
	}
	if after := s.shows().Totals.Space; after != before || len(s.audit()) != lines {
		t.Errorf("%d bytes and %d lines more", after-before, len(s.audit())-lines)
	}
}

// TestSignIn: strangers try as often as they like, and lock nobody out.
func TestSignIn(t *testing.T) {
	s := newSite(t, "", Options{})
	c := s.web.Client()
	for range 50 {
		if status := s.post(c, "/sign-in", url.Values{"token": {"guess"}}); status != http.StatusUnauthorized {
			t.Fatal(status)
		}
	}
	browser := s.browser()
	cookie := browser.Jar.Cookies(nil)[0]
	if !cookie.HttpOnly || !cookie.Secure || cookie.SameSite != http.SameSiteStrictMode {
		t.Errorf("cookie %v", cookie)
	}
	if status, _ := s.get(browser, "/metrics"); status != http.StatusOK {
		t.Errorf("metrics: %d", status)
	}
	s.post(browser, "/sign-out", nil)
	if status, _ := s.get(browser, "/metrics"); status != http.StatusUnauthorized {
		t.Errorf("signed out: %d", status)
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.web.URL+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+string(signInWord))
	r, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(text), "bootmend_keys_given_total 0\n") {
		t.Errorf("Prometheus gets %s %q, %v", r.Status, text, err)
	}
}

// TestEvents has a page watch: it is told at once.
func TestEvents(t *testing.T) {
	s := newSite(t, "", Options{})
	r, err := s.browser().Get(s.web.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	lines := bufio.NewScanner(r.Body)
	next := func() string {
		for lines.Scan() {
			if lines.Text() != "" {
				return lines.Text()
			}
		}
		return ""
	}
	if got := next(); got != "data: changed" {
		t.Fatal(got)
	}
	c, _ := s.machine("A")
	if _, err := c.Hello(context.Background()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if got := next(); got != "data: changed" || time.Since(start) > 10*time.Second {
		t.Errorf("%q after %s", got, time.Since(start))
	}
}

// TestExport: a spreadsheet must not take a name for a formula.
func TestExport(t *testing.T) {
	s := newSite(t, "", Options{})
	c, _ := s.machine("=cmd|calc")
	if _, err := c.Hello(context.Background()); err != nil {
		t.Fatal(err)
	}
	browser := s.browser()
	if _, text := s.get(browser, "/machines.csv"); !strings.Contains(text, ",'=cmd|calc,") {
		t.Error(text)
	}
	_, text := s.get(browser, "/machines.json")
	var list []Machine
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 || list[0].Serial != "=cmd|calc" {
		t.Errorf("%s, %v", text, err)
	}
}

// TestKilled kills a server, in a process of its own, while machines hand their logs in: each that was accepted is there.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	killed(t, startChild(t, dir), func() *site { return newSite(t, dir, Options{}) })
}

// killed kills a server that runs already; again starts one with the same database.
func killed(t *testing.T, child child, again func() *site) {
	t.Helper()
	var mu sync.Mutex
	accepted := map[string][]byte{}
	enough := make(chan struct{})
	var machines sync.WaitGroup
	for i := range 8 {
		machines.Go(func() {
			for n := 0; ; n++ {
				run, err := remediate.NewRun(time.Now(), "test", strings.NewReader(fmt.Sprintf("%d%03d", i, n)))
				if err != nil {
					t.Error(err)
					return
				}
				run.Machine = remediate.Identity{Serial: fmt.Sprintf("SN%d-%d", i, n)}
				log := logOf(run, remediate.OutcomeHealed)
				if fleet.NewClient(child.url, child.pin, boot, run).Report(context.Background(), log) != nil {
					return // the server is gone
				}
				mu.Lock()
				if accepted[run.Name()] = log; len(accepted) == 100 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Error("it takes no logs")
	}
	if err := child.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	machines.Wait()
	s := again()
	kept := s.logs()
	for run, log := range accepted {
		if !bytes.Equal(kept[run], log) {
			t.Errorf("%s was accepted and is lost", run)
		}
	}
	if n := s.shows().Totals; n.Machines != len(kept) || n.Healed != len(kept) || n.Machines > len(accepted)+8 {
		t.Errorf("%+v of %d accepted", n, len(accepted))
	}
}

// BenchmarkKey is one look-up over TLS, with its proof and the line on the disk.
func BenchmarkKey(b *testing.B) {
	list, err := keys.Read(strings.NewReader("KeyID,RecoveryKey\n"+knownID+","+secretKey+"\n"), "keys.csv")
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(context.Background(), Options{Keys: list, Token: boot, SignIn: signInWord, DB: openStore(b, b.TempDir())})
	if err != nil {
		b.Fatal(err)
	}
	web := httptest.NewTLSServer(s.Handler())
	defer web.Close()
	id, err := bitlocker.ParseGUID(knownID)
	if err != nil {
		b.Fatal(err)
	}
	run, err := remediate.NewRun(time.Now(), "test", strings.NewReader("abcd"))
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		c := fleet.NewClient(web.URL, sha256.Sum256(web.Certificate().Raw), boot, run)
		for pb.Next() {
			if _, ok, err := c.Key(context.Background(), id, ""); err != nil || !ok {
				b.Error(ok, err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}

// FuzzRequest is a machine that has the token and says anything: it gets no key that it did not ask for, and nothing
// breaks.
func FuzzRequest(f *testing.F) {
	run := "20261127T040000Z-abcd"
	f.Add(fleet.PathHello, []byte(`{"run":"`+run+`","machine":{"serial":"A"}}`))
	f.Add(fleet.PathKey, []byte(`{"run":"`+run+`","machine":{"serial":"A"},"protector":"`+unknownID+`","volume":"C:"}`))
	f.Add(fleet.PathStep, []byte(`{"run":"`+run+`","step":"x"}`))
	f.Add(fleet.PathReport+"/"+run, []byte(`{"schema":"bootmend.log/v1","time":"2026-11-27T04:00:00Z","run":"r","seq":1,"event":"result","result":{"outcome":"healed"}}`))
	list, err := keys.Read(strings.NewReader("KeyID,RecoveryKey\n"+knownID+","+secretKey+"\n"), "keys.csv")
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(context.Background(), Options{Keys: list, Token: boot, SignIn: signInWord, DB: openStore(f, f.TempDir())})
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	s.now = func() time.Time { return now }
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		now = now.Add(2 * time.Hour) // what was asked before counts no more
		for range 2 {
			challenge := s.challenges.make(now)
			sum := sha256.Sum256(body)
			r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: path}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
				RemoteAddr: "10.0.0.1:1", Header: http.Header{}}
			r.Header.Set(fleet.HeaderChallenge, challenge)
			r.Header.Set(fleet.HeaderDigest, fleet.Digest(sum))
			r.Header.Set(fleet.HeaderProof, boot.Proof(challenge, path, sum))
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if strings.Contains(w.Body.String(), "333333-444444") && !strings.Contains(strings.ToLower(string(body)), knownID) {
				t.Errorf("%s %q gave a key", path, body)
			}
		}
		v, err := s.snapshot(context.Background(), 1)
		if err != nil {
			t.Fatal(err)
		}
		s.show(httptest.NewRecorder(), http.StatusOK, v)
	})
}
