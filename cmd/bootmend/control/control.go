// Package control is the server that machines under repair ask: it gives them keys, one at a time, decides whether they
// are to be healed, and takes their logs; a page lets people watch, approve machines and type keys from their desk.
//
// What the machines say is in package fleet. [New] makes a server, [Server.Handler] is all of it. Keys are kept in memory
// and nowhere else. All that must outlast a server, or that several servers share, is in the database of package store:
// each request is one transaction there, and is answered when that is on the disk.
package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

// Options are what the person who starts the server decides.
type Options struct {
	Keys *keys.List // those with an ID are given; may be nil: all keys are typed then
	// Expired has an error once the time of Keys is over, and they are not given any more; nil is never.
	Expired func(now time.Time) error
	// Token is on the media of this server; SignIn lets people in.
	Token  fleet.Token
	SignIn fleet.Token
	// Name is the address of this server, for those who look at another one that shares its database.
	Name string
	// Approve has each machine wait for a person before it gets keys.
	Approve bool
	// HaltAfter is how many machines may fail before no other one is healed; 0 is no limit. It goes into the database, for
	// all servers; nil takes what is there.
	HaltAfter *int
	// Rollout heals machines in rings; [NoRollout] heals all. It goes into the database, too; nil takes what is there.
	Rollout *Rollout
	// KeysPerHour is how many different keys machines may ask for within an hour, all servers together; more wait for a
	// person, or for the hour to go on. 0 is no limit.
	KeysPerHour int
	// Space is how many bytes of logs and records are kept; 0 is no limit.
	Space int64
	DB    *store.DB
	// Printf tells the person at the terminal; it may be nil.
	Printf func(format string, args ...any)
}

// Server is one control server. Its methods may be called by several goroutines.
type Server struct {
	options    Options
	keys       map[bitlocker.GUID]bitlocker.RecoveryPassword
	challenges *challenges
	reading    *reading
	now        func() time.Time
	sessions   sessions

	mu      sync.Mutex
	typed   map[question]bitlocker.RecoveryPassword
	counts  counts
	space   space
	rollout *Rollout      // what the database had last
	down    bool          // the database did not answer last
	told    time.Time     // when the person was last told that the space is used up
	expired bool          // and the person was told
	tidied  time.Time     // when old limits were last removed
	changed chan struct{} // closed and replaced at each change
}

// question is a key that a machine asks for in a run.
type question struct {
	run       string
	protector bitlocker.GUID
}

// counts are for the metrics: what this server has done since it was started.
type counts struct{ given, limited, refused, reports int }

// New makes a server.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.Keys == nil {
		o.Keys = &keys.List{}
	}
	if o.Printf == nil {
		o.Printf = func(string, ...any) {}
	}
	s := &Server{
		options: o, challenges: newChallenges(), reading: newReading(), now: time.Now, sessions: newSessions(),
		typed: map[question]bitlocker.RecoveryPassword{}, changed: make(chan struct{}),
		keys: make(map[bitlocker.GUID]bitlocker.RecoveryPassword, len(o.Keys.Entries)),
	}
	for _, e := range o.Keys.Entries {
		if _, twice := s.keys[e.ID]; e.HasID && !twice {
			s.keys[e.ID] = e.Password
		}
	}
	return s, s.settle(ctx)
}

// settle writes what the person has decided for all servers into the database, and tells what holds.
func (s *Server) settle(ctx context.Context) error {
	var f store.Fleet
	err := s.options.DB.Do(ctx, func(tx *store.Tx) (err error) {
		if f, err = tx.LockFleet(); err != nil {
			return err
		}
		was := f
		if r := s.options.Rollout; r != nil && r.text != f.Rings {
			if f.Rings = r.text; r.index(f.Open) < 0 {
				f.Open = ""
			}
			if err := tx.Audit(s.event("rings changed", nil, nil, "")); err != nil {
				return err
			}
		}
		if n := s.options.HaltAfter; n != nil && *n != f.HaltAfter {
			f.HaltAfter = *n
			if err := tx.Audit(s.event(fmt.Sprintf("halt after %d", *n), nil, nil, "")); err != nil {
				return err
			}
		}
		if f == was {
			return nil
		}
		return tx.SetFleet(f)
	})
	if err != nil {
		return err
	}
	r, err := s.rolloutOf(f)
	if err != nil {
		return err
	}
	if len(r.Rings) > 0 {
		s.options.Printf("machines are healed in %d rings, up to %q now", len(r.Rings), r.Rings[max(0, r.index(f.Open))].Name)
	}
	if f.HaltAfter > 0 {
		s.options.Printf("no further machine is healed after %d were not healed", f.HaltAfter)
	}
	if f.Halted != "" {
		s.options.Printf("%s: no machine is healed until somebody resumes", f.Halted)
	}
	return nil
}

// Handler answers machines and people.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+fleet.PathChallenge, s.serveChallenge)
	mux.HandleFunc("POST "+fleet.PathHello, proven(s, fleet.MaxRequest, s.hello))
	mux.HandleFunc("POST "+fleet.PathKey, proven(s, fleet.MaxRequest, s.key))
	mux.HandleFunc("POST "+fleet.PathStep, proven(s, fleet.MaxRequest, s.step))
	mux.HandleFunc("POST "+fleet.PathReport+"/{run}", s.serveReport)
	s.pages(mux)
	return mux
}

// HTTPServer is what the handler runs on: slow clients are cut off.
func (s *Server) HTTPServer() *http.Server {
	return &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: quietLog(), // scanners and broken handshakes are nothing to tell
	}
}

// patience is how long a request waits for the database: less than a machine waits for the answer.
const patience = 10 * time.Second

// do writes, and lets everybody know who watches.
func (s *Server) do(ctx context.Context, fn func(*store.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.options.DB.Do(ctx, fn)
	s.reached(err)
	if err == nil {
		s.mu.Lock()
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
	return err
}

// view reads.
func (s *Server) view(ctx context.Context, fn func(*store.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.options.DB.View(ctx, fn)
	s.reached(err)
	return err
}

// reached tells the person when the database is gone and when it is back, but not each time.
func (s *Server) reached(err error) {
	gone := errors.Is(err, store.ErrDatabase)
	if gone && errors.Is(err, context.Canceled) {
		return // it was the machine that has gone
	}
	s.mu.Lock()
	was := s.down
	s.down = gone
	s.mu.Unlock()
	switch {
	case gone && !was:
		s.options.Printf("error: %v: machines are told to ask again", err)
	case was && !gone:
		s.options.Printf("the database answers again")
	}
}

// knownBy is what tells a machine from others, or its run where nothing does. A machine may say anything here, so nothing
// is given for it alone.
func knownBy(m remediate.Identity, run string) string { return cmp.Or(clipped(m).Known(), run) }

// maxText bounds what a machine says of itself, in bytes.
const maxText = 100

func clip(s string) string {
	return strings.ToValidUTF8(remediate.Printable(s[:min(len(s), maxText)]), "")
}

func clipped(m remediate.Identity) remediate.Identity {
	return remediate.Identity{Serial: clip(m.Serial), UUID: clip(m.UUID), Model: clip(m.Model), ComputerName: clip(m.ComputerName)}
}

// visit is one request of a machine, in its transaction.
type visit struct {
	s       *Server
	tx      *store.Tx
	from    string
	m       *store.Machine
	fleet   store.Fleet
	rollout *Rollout
	over    string // a run of the machine that is over now
}

// begin finds or makes the machine of a run. The caller puts it back.
func (s *Server) begin(tx *store.Tx, run string, identity remediate.Identity, from string) (v *visit, err error) {
	if !validRun(run) {
		return nil, errBadRequest
	}
	v = &visit{s: s, tx: tx, from: from}
	identity = clipped(identity)
	id := knownBy(identity, run)
	if v.m, err = tx.MachineOfRun(run); err != nil {
		return nil, err
	}
	if v.m != nil && v.m.ID != id {
		return nil, errBadRequest // a run is of one machine
	}
	if v.m == nil {
		if v.m, err = tx.Machine(id); err != nil {
			return nil, err
		}
	}
	if v.m == nil {
		v.m = &store.Machine{ID: id, Run: run}
		if err := v.charge(spaceOfMachine); err != nil {
			return nil, err
		}
	}
	if v.m.Run != run {
		if err := tx.DropWants(v.m.Run); err != nil {
			return nil, err
		}
		v.over = v.m.Run
		*v.m = store.Machine{ID: id, Run: run, FailedIn: v.m.FailedIn, Space: v.m.Space}
	}
	if v.fleet, err = tx.Fleet(); err != nil {
		return nil, err
	}
	if v.rollout, err = s.rolloutOf(v.fleet); err != nil {
		return nil, err
	}
	v.m.Identity, v.m.Seen, v.m.Server = identity, s.now(), s.options.Name
	v.m.Ring = v.rollout.ring(v.rollout.of(identity, id))
	return v, nil
}

// decide says what a machine is to do in this run.
func (v *visit) decide() fleet.Welcome {
	answer := fleet.Welcome{Decision: fleet.Heal}
	switch {
	case v.fleet.Halted != "":
		answer = fleet.Welcome{Decision: fleet.Leave, Reason: v.fleet.Halted}
	case len(v.rollout.Rings) > 0:
		answer = v.rollout.decide(v.rollout.index(v.m.Ring), max(0, v.rollout.index(v.fleet.Open)))
	}
	v.m.Decision = string(answer.Decision)
	return answer
}

// hello decides what a machine is to do.
func (s *Server) hello(ctx context.Context, from string, q fleet.Hello) (answer fleet.Welcome, err error) {
	var v *visit
	err = s.do(ctx, func(tx *store.Tx) error {
		if v, err = s.begin(tx, q.Run, q.Machine, from); err != nil {
			return err
		}
		v.m.Address, v.m.Version, v.m.Step = from, clip(q.Version), "started"
		answer = v.decide()
		return tx.PutMachine(v.m)
	})
	if err != nil {
		return fleet.Welcome{}, err
	}
	s.forget(v)
	s.options.Printf("%s has started (%s)", name(v.m), from)
	return answer, nil
}

// forget wipes the keys that were typed for a run that is over.
func (s *Server) forget(v *visit) {
	if v.over == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for q := range s.typed {
		if q.run == v.over {
			delete(s.typed, q)
		}
	}
}

// name is what a person knows a machine by.
func name(m *store.Machine) string {
	serial := m.Identity.Serial
	if !remediate.Meaningful(serial) {
		serial = ""
	}
	return cmp.Or(m.Identity.ComputerName, serial, m.ID)
}

// key gives a key, or has the machine wait. What must not be given looks to the machine like what nobody has.
func (s *Server) key(ctx context.Context, from string, q fleet.KeyRequest) (fleet.KeyAnswer, error) {
	protector, err := bitlocker.ParseGUID(q.Protector)
	if err != nil {
		return fleet.KeyAnswer{}, errBadRequest
	}
	var v *visit
	var outcome asked
	err = s.do(ctx, func(tx *store.Tx) (err error) {
		if v, err = s.begin(tx, q.Run, q.Machine, from); err != nil {
			return err
		}
		if outcome, err = v.ask(protector, clip(q.Volume)); err != nil {
			return err
		}
		return tx.PutMachine(v.m)
	})
	if err != nil {
		return fleet.KeyAnswer{}, err
	}
	s.forget(v)
	s.mu.Lock()
	if outcome.limited {
		s.counts.limited++
	}
	if outcome.first {
		s.counts.given++
	}
	s.mu.Unlock()
	if outcome.limited {
		s.options.Printf("%s (%s) asks for more keys than a machine has, or many machines ask: it gets none", name(v.m), from)
	}
	if outcome.first {
		s.options.Printf("%s has got the key %s", name(v.m), protector)
	}
	if outcome.key == nil {
		return fleet.KeyAnswer{State: fleet.Wait}, nil
	}
	return fleet.KeyAnswer{State: fleet.Given, Key: outcome.key.Reveal()}, nil
}

// asked is what came of a question for a key.
type asked struct {
	key     *bitlocker.RecoveryPassword // nil: the machine waits
	first   bool                        // it was not given before in this run
	limited bool                        // by this question
}

// ask answers a question for a key.
func (v *visit) ask(protector bitlocker.GUID, volume string) (result asked, err error) {
	if v.m.Decision == "" { // no server has greeted it: somebody skips the question
		v.decide()
	}
	wants, err := v.tx.Wants(v.m.Run)
	if err != nil {
		return result, err
	}
	w := store.Want{Protector: protector.String(), Volume: volume}
	i := slices.IndexFunc(wants, func(other store.Want) bool { return other.Protector == w.Protector })
	fresh := i < 0
	if fresh {
		// Each further key that is asked for counts: who has the token must not get at all of them by asking.
		if len(wants) >= maxWants {
			result.limited, err = v.refuse(&w)
			return result, err
		}
		if err := v.charge(spaceOfQuestion); err != nil {
			return result, err
		}
		wants, i = append(wants, w), len(wants)
	}
	at := &wants[i]
	before := *at
	v.s.mu.Lock()
	typed, isTyped := v.s.typed[question{v.m.Run, protector}]
	v.s.mu.Unlock()
	password, found := v.s.stored(protector)
	if isTyped {
		password = typed
	}
	if fresh || at.Limited && found && !isTyped && !at.Approved {
		room, err := v.takeKey()
		if err != nil {
			return result, err
		}
		at.Limited = !room
	}
	if fresh {
		what := "asked"
		if result.limited = at.Limited; at.Limited {
			what = "limited"
		}
		if err := v.audit(what, at); err != nil {
			return result, err
		}
	}
	held := (at.Limited || v.s.options.Approve) && !at.Approved || v.fleet.Halted != "" || v.m.Decision == string(fleet.Leave) || !found
	if v.m.Step = "waits for a key"; isTyped || !held {
		if at.Given {
			if err := v.charge(spaceOfLine); err != nil {
				return result, err
			}
		}
		// Before it is given: no key leaves without a line.
		if err := v.audit("given", at); err != nil {
			return result, err
		}
		result.key, result.first = &password, !at.Given
		at.Given, v.m.Step = true, "unlocks"
	}
	v.m.Waiting = slices.ContainsFunc(wants, func(w store.Want) bool { return !w.Given })
	if fresh || *at != before {
		return result, v.tx.PutWant(v.m.Run, *at)
	}
	return result, nil
}

// stored is a key that this server was started with, and may still give.
func (s *Server) stored(protector bitlocker.GUID) (password bitlocker.RecoveryPassword, found bool) {
	if password, found = s.keys[protector]; !found || s.options.Expired == nil {
		return password, found
	}
	err := s.options.Expired(s.now())
	if err == nil {
		return password, true
	}
	s.mu.Lock()
	told := s.expired
	s.expired = true
	s.mu.Unlock()
	if !told {
		s.options.Printf("%v: none of them is given any more; start the server again with a new vault, or type keys on the page", err)
	}
	return bitlocker.RecoveryPassword{}, false
}

// refuse writes down that a run asks for more keys than a machine has, once: it goes on asking. first is false when it was
// written before.
func (v *visit) refuse(w *store.Want) (first bool, err error) {
	first, err = v.tx.Take(store.Limit{Kind: "refusals of a run", Who: v.m.Run, Most: 1}, 1, v.s.now())
	if err != nil || !first {
		return false, err
	}
	if err := v.charge(spaceOfLine); err != nil {
		return false, err
	}
	return true, v.audit("limited", w)
}

// audit writes a line of this machine.
func (v *visit) audit(what string, w *store.Want) error {
	return v.tx.Audit(v.s.event(what, v.m, w, v.from))
}

// event is a line of the audit.
func (s *Server) event(what string, m *store.Machine, w *store.Want, from string) store.Event {
	e := store.Event{Time: s.now().UTC(), Event: what, Address: from, Server: s.options.Name}
	if m != nil {
		e.Run, e.Machine = m.Run, m.Identity
	}
	if w != nil {
		e.KeyID, e.Volume = w.Protector, w.Volume
	}
	return e
}

func (s *Server) step(ctx context.Context, from string, q fleet.Step) (struct{}, error) {
	return struct{}{}, s.do(ctx, func(tx *store.Tx) error {
		known, err := tx.Step(q.Run, clip(q.Step), from, s.options.Name, s.now())
		if err == nil && !known {
			err = errBadRequest
		}
		return err
	})
}

// report keeps a log. The machine is told so only when it is on the disk. It may come twice, and with more in it.
func (s *Server) report(ctx context.Context, from, run string, log []byte) error {
	if !validLog(run, log) {
		return errBadRequest
	}
	said := readLog(log)
	var v *visit
	var lines []string
	err := s.do(ctx, func(tx *store.Tx) (err error) {
		v, lines = nil, nil
		size, err := tx.ReportSize(run)
		if err != nil || size >= int64(len(log)) {
			return err
		}
		if v, err = s.reports(tx, run, said, from); err != nil {
			return err
		}
		if err := v.charge(int64(len(log)) - size); err != nil {
			return err
		}
		if err := tx.PutReport(store.Report{Run: run, Log: log}, s.now()); err != nil {
			return err
		}
		if v.m.Run != run {
			return tx.PutMachine(v.m)
		}
		if said.identity.ComputerName != "" {
			v.m.Identity.ComputerName = clip(said.identity.ComputerName)
		}
		if said.outcome == "" {
			return tx.PutMachine(v.m)
		}
		v.m.Outcome, v.m.Message, v.m.Step, v.m.Waiting = said.outcome, said.message, "done", false
		lines, err = v.done()
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.counts.reports++
	s.mu.Unlock()
	if v != nil {
		s.forget(v)
		s.options.Printf("%s: %s", name(v.m), cmp.Or(said.message, string(said.outcome), "an unfinished log"))
	}
	for _, line := range lines {
		s.options.Printf("%s", line)
	}
	return nil
}

// reports finds the machine of a log. It may be one that is in a later run by now, which the log changes nothing of.
func (s *Server) reports(tx *store.Tx, run string, said said, from string) (*visit, error) {
	m, err := tx.MachineOfRun(run)
	if err != nil {
		return nil, err
	}
	identity := said.identity
	if m != nil {
		identity = m.Identity // the beginning of a log does not have it yet
	} else if m, err = tx.Machine(knownBy(identity, run)); err != nil {
		return nil, err
	} else if m != nil && m.Seen.After(said.at) {
		return &visit{s: s, tx: tx, from: from, m: m}, nil
	}
	known := m != nil && m.Run == run
	if known {
		v := &visit{s: s, tx: tx, from: from, m: m}
		if v.fleet, err = tx.Fleet(); err == nil {
			v.rollout, err = s.rolloutOf(v.fleet)
		}
		return v, err
	}
	v, err := s.begin(tx, run, identity, from)
	if err == nil {
		v.m.Seen = said.at
	}
	return v, err
}

// bad reports whether a person has to see to a machine.
func bad(o remediate.Outcome) bool {
	return o == remediate.OutcomeFailed || o == remediate.OutcomeNeedsPerson
}

// done puts back a machine whose run has come to an end, and draws the conclusions for the others. It returns what the
// person is to be told.
func (v *visit) done() (lines []string, err error) {
	if v.fleet.HaltAfter > 0 || len(v.rollout.Rings) > 0 {
		// Two servers that count at the same time would both count too few.
		if v.fleet, err = v.tx.LockFleet(); err != nil {
			return nil, err
		}
		if v.rollout, err = v.s.rolloutOf(v.fleet); err != nil {
			return nil, err
		}
	}
	if bad(v.m.Outcome) {
		v.m.FailedIn = v.fleet.Epoch
	}
	if err := v.tx.PutMachine(v.m); err != nil {
		return nil, err
	}
	if bad(v.m.Outcome) && v.fleet.HaltAfter > 0 && v.fleet.Halted == "" {
		failed, err := v.tx.Failed(v.fleet.Epoch)
		if err != nil {
			return nil, err
		}
		if failed >= v.fleet.HaltAfter {
			v.fleet.Halted = fmt.Sprintf("halted: %d machines were not healed", failed)
			lines = append(lines, v.fleet.Halted+": no other machine is healed until somebody resumes")
			if err := v.s.keep(v.tx, v.fleet, "halted", ""); err != nil {
				return nil, err
			}
		}
	}
	opened, err := v.advance()
	return append(lines, opened...), err
}

// approve lets a machine have keys that it waits for, which somebody has seen. Anybody with the token can claim its serial
// number later, or ask for more under the name of its run, so nothing else is approved by that.
func (s *Server) approve(ctx context.Context, run string, keyIDs []string, who string) error {
	seen := map[string]bool{}
	for _, text := range keyIDs {
		if id, err := bitlocker.ParseGUID(text); err == nil {
			seen[id.String()] = true
		}
	}
	return s.do(ctx, func(tx *store.Tx) error {
		m, err := tx.MachineOfRun(run)
		if err != nil {
			return err
		}
		if m == nil {
			return errUnknownMachine
		}
		wants, err := tx.Wants(run)
		if err != nil {
			return err
		}
		for _, w := range wants {
			if w.Given || w.Approved || !seen[w.Protector] {
				continue
			}
			if err := tx.Audit(s.event("approved", m, &w, who)); err != nil {
				return err
			}
			w.Approved = true
			if err := tx.PutWant(run, w); err != nil {
				return err
			}
		}
		return nil
	})
}

// typeKey is a key that a person types for a machine. It stays in the memory of this server.
func (s *Server) typeKey(ctx context.Context, run, keyID, text, who string) error {
	password, err := bitlocker.ParseRecoveryPassword(text)
	if err != nil {
		return err
	}
	protector, err := bitlocker.ParseGUID(keyID)
	if err != nil {
		return errUnknownMachine
	}
	err = s.do(ctx, func(tx *store.Tx) error {
		m, err := tx.MachineOfRun(run)
		if err != nil {
			return err
		}
		if m == nil {
			return errUnknownMachine
		}
		if m.Server != s.options.Name {
			return fmt.Errorf("%s asks the server %s: type its key on the page of that one, since keys are in the memory of one server only", name(m), m.Server)
		}
		wants, err := tx.Wants(run)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(wants, func(w store.Want) bool { return w.Protector == protector.String() })
		if i < 0 {
			return errUnknownMachine
		}
		return tx.Audit(s.event("typed", m, &wants[i], who))
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.typed[question{run, protector}] = password
	return nil
}

// halt stops healing for a reason, or goes on where it is empty.
func (s *Server) halt(ctx context.Context, reason, who string) error {
	what := "resumed"
	if reason != "" {
		what = "paused"
	}
	err := s.do(ctx, func(tx *store.Tx) error {
		f, err := tx.LockFleet()
		if err != nil {
			return err
		}
		if f.Halted = reason; reason == "" {
			f.Epoch++ // failures are counted anew
		}
		return s.keep(tx, f, what, who)
	})
	if err == nil {
		s.options.Printf("healing is %s", what)
	}
	return err
}

// keep writes what all machines have in common, and who changed it.
func (s *Server) keep(tx *store.Tx, f store.Fleet, what, who string) error {
	if err := tx.Audit(s.event(what, nil, nil, who)); err != nil {
		return err
	}
	return tx.SetFleet(f)
}

// NewSecret draws a token.
func NewSecret() fleet.Token { return fleet.Token(rand.Text() + rand.Text()) }

// hostOf is an address without its port.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// siteOf is what the limits know an address by: with IPv6 one computer has as many addresses as it likes, but one /64.
func siteOf(from string) string {
	address, err := netip.ParseAddr(from)
	if err != nil {
		return from
	}
	if address = address.Unmap().WithZone(""); address.Is6() {
		if prefix, err := address.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return address.String()
}
