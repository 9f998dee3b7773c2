// Package control is the server that machines under repair ask: it gives them keys, one at a time, decides whether they
// are to be healed, and takes their logs; a page lets people watch, approve machines and type keys from their desk.
//
// What the machines say is in package fleet. [New] makes a server, [Server.Handler] is all of it. Keys are kept in memory
// and nowhere else. Logs are files of the state folder ([Store]), the same as on a stick, so that "bootmend report" reads
// them; a log that a machine was told is kept is on the disk.
package control

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

// Options are what the person who starts the server decides.
type Options struct {
	Keys *keys.List // those with an ID are given; may be nil: all keys are typed then
	// Token is on the media of this server; SignIn lets people in.
	Token  fleet.Token
	SignIn fleet.Token
	// Approve has each machine wait for a person before it gets keys.
	Approve bool
	// HaltAfter is how many machines may fail before no other one is healed; 0 is no limit.
	HaltAfter int
	// Rollout heals machines in rings; nil heals all.
	Rollout *Rollout
	Store   *Store
	// Printf tells the person at the terminal; it may be nil.
	Printf func(format string, args ...any)
}

// Server is one control server. Its methods may be called by several goroutines.
type Server struct {
	options    Options
	keys       map[bitlocker.GUID]bitlocker.RecoveryPassword
	challenges *challenges
	limits     limits
	now        func() time.Time
	sessions   sessions

	mu       sync.Mutex
	machines map[string]*machine // by what a machine is known by
	runs     map[string]*machine // by run
	state    state
	counts   counts
	changed  chan struct{} // closed and replaced at each change
}

// counts are for the metrics.
type counts struct{ given, limited, refused, reports int }

// machine is one computer, in its last run.
type machine struct {
	identity remediate.Identity
	run      string
	address  string
	version  string
	decision fleet.Decision
	step     string
	outcome  remediate.Outcome
	message  string
	seen     time.Time
	ring     int
	failed   bool // counts for HaltAfter
	wants    []*want
}

// want is a volume that waits for a key, or has got it.
type want struct {
	protector bitlocker.GUID
	volume    string
	given     bool
	approved  bool // by a person, for this volume in this run
	limited   bool
	typed     *bitlocker.RecoveryPassword
}

// New makes a server, with the machines of which the store has logs.
func New(o Options) (*Server, error) {
	if o.Keys == nil {
		o.Keys = &keys.List{}
	}
	if o.Printf == nil {
		o.Printf = func(string, ...any) {}
	}
	s := &Server{
		options: o, challenges: newChallenges(), now: time.Now, sessions: newSessions(),
		machines: map[string]*machine{}, runs: map[string]*machine{}, changed: make(chan struct{}),
		keys: make(map[bitlocker.GUID]bitlocker.RecoveryPassword, len(o.Keys.Entries)),
	}
	for _, e := range o.Keys.Entries {
		if _, twice := s.keys[e.ID]; e.HasID && !twice {
			s.keys[e.ID] = e.Password
		}
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, o.Store.each(func(run string, log []byte) {
		m := s.remember(run, log)
		if m != nil && m.seen.After(s.state.Since) {
			m.failed = m.outcome == remediate.OutcomeFailed || m.outcome == remediate.OutcomeNeedsPerson
		}
	})
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

// change lets everybody know who watches. mu is held.
func (s *Server) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// knownBy is what tells a machine from others: its serial number, or what else it has. A machine may say anything here,
// so nothing is given for it alone.
func knownBy(m remediate.Identity, run string) string {
	return clip(cmp.Or(m.Serial, m.UUID, m.ComputerName, run))
}

// maxText bounds what a machine says of itself, in bytes.
const maxText = 100

func clip(s string) string {
	return strings.ToValidUTF8(remediate.Printable(s[:min(len(s), maxText)]), "")
}

// maxMachines bounds what is remembered: a flood with the token must not fill the memory.
const maxMachines = 50_000

// begin finds or makes the machine of a run. mu is held.
func (s *Server) begin(run string, identity remediate.Identity) (*machine, error) {
	if !validRun(run) {
		return nil, errBadRequest
	}
	identity = remediate.Identity{Serial: clip(identity.Serial), UUID: clip(identity.UUID), Model: clip(identity.Model), ComputerName: clip(identity.ComputerName)}
	id := knownBy(identity, run)
	if m := s.runs[run]; m != nil && knownBy(m.identity, m.run) != id {
		return nil, errBadRequest // a run is of one machine
	}
	m := s.machines[id]
	if m == nil {
		if len(s.machines) >= maxMachines {
			return nil, errFull
		}
		m = &machine{}
		s.machines[id] = m
	}
	if m.run != run {
		delete(s.runs, m.run)
		*m = machine{run: run, failed: m.failed}
		s.runs[run] = m
	}
	m.identity, m.seen = identity, s.now()
	if s.options.Rollout != nil {
		m.ring = s.options.Rollout.of(identity, id)
	}
	return m, nil
}

// hello decides what a machine is to do.
func (s *Server) hello(from string, q fleet.Hello) (fleet.Welcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.begin(q.Run, q.Machine)
	if err != nil {
		return fleet.Welcome{}, err
	}
	defer s.change()
	m.address, m.version, m.step = from, clip(q.Version), "started"
	answer := s.decide(m)
	s.options.Printf("%s has started (%s)", m.name(), from)
	return answer, nil
}

// decide says what a machine is to do in this run. mu is held.
func (s *Server) decide(m *machine) fleet.Welcome {
	answer := fleet.Welcome{Decision: fleet.Heal}
	switch {
	case s.state.Halted != "":
		answer = fleet.Welcome{Decision: fleet.Leave, Reason: s.state.Halted}
	case s.options.Rollout != nil:
		answer = s.options.Rollout.decide(m.ring, s.state.Open)
	}
	m.decision = answer.Decision
	return answer
}

// name is what a person knows a machine by.
func (m *machine) name() string { return cmp.Or(m.identity.ComputerName, knownBy(m.identity, m.run)) }

// key gives a key, or has the machine wait. What must not be given looks to the machine like what nobody has.
func (s *Server) key(from string, q fleet.KeyRequest) (fleet.KeyAnswer, error) {
	protector, err := bitlocker.ParseGUID(q.Protector)
	if err != nil {
		return fleet.KeyAnswer{}, errBadRequest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.begin(q.Run, q.Machine)
	if err != nil {
		return fleet.KeyAnswer{}, err
	}
	if m.decision == "" { // this server has not been greeted: it was started anew, or somebody skips the question
		s.decide(m)
	}
	w := m.want(protector)
	if w == nil {
		w = &want{protector: protector, volume: clip(q.Volume)}
		// Each further key that is asked for counts: who has the token must not get at all of them by asking.
		if w.limited = len(m.wants) >= maxWants || !s.limits.allow(from, s.now()); w.limited {
			s.counts.limited++
			s.options.Printf("%s (%s) asks for more keys than a machine has: it gets none", m.name(), from)
			if len(m.wants) >= maxWants {
				return fleet.KeyAnswer{State: fleet.Wait}, s.options.Store.Audit(s.event("limited", m, w, from))
			}
		}
		m.wants = append(m.wants, w)
		if err := s.options.Store.Audit(s.event("asked", m, w, from)); err != nil {
			return fleet.KeyAnswer{}, err
		}
		s.change()
	}
	m.step = "waits for a key"
	password, found := s.keys[protector]
	switch {
	case w.typed != nil:
		password = *w.typed
	case (w.limited || s.options.Approve) && !w.approved || s.state.Halted != "" || m.decision == fleet.Leave || !found:
		return fleet.KeyAnswer{State: fleet.Wait}, nil
	}
	// Before it is given: no key leaves without a line.
	if err := s.options.Store.Audit(s.event("given", m, w, from)); err != nil {
		return fleet.KeyAnswer{}, err
	}
	if !w.given {
		s.counts.given++
		s.options.Printf("%s has got the key %s", m.name(), protector)
	}
	w.given, m.step = true, "unlocks"
	s.change()
	return fleet.KeyAnswer{State: fleet.Given, Key: password.Reveal()}, nil
}

// maxWants is how many different keys a machine may ask for: volumes times their recovery passwords.
const maxWants = 16

func (m *machine) want(protector bitlocker.GUID) *want {
	i := slices.IndexFunc(m.wants, func(w *want) bool { return w.protector == protector })
	if i < 0 {
		return nil
	}
	return m.wants[i]
}

// event is a line of the audit file.
func (s *Server) event(what string, m *machine, w *want, from string) Event {
	e := Event{Time: s.now().UTC(), Event: what, Address: from}
	if m != nil {
		e.Run, e.Machine = m.run, m.identity
	}
	if w != nil {
		e.KeyID, e.Volume = w.protector.String(), w.volume
	}
	return e
}

func (s *Server) step(from string, q fleet.Step) (struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.runs[q.Run]
	if m == nil {
		return struct{}{}, errBadRequest
	}
	m.step, m.seen, m.address = clip(q.Step), s.now(), from
	s.change()
	return struct{}{}, nil
}

// report keeps a log. The machine is told so only when it is on the disk.
func (s *Server) report(run string, log []byte) error {
	if err := s.options.Store.save(run, log); err != nil {
		return err
	}
	s.mu.Lock()
	s.counts.reports++
	s.mu.Unlock()
	m := s.remember(run, log)
	if m == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.change()
	s.options.Printf("%s: %s", m.name(), cmp.Or(m.message, string(m.outcome)))
	if err := s.advance(); err != nil {
		return err
	}
	if m.outcome != remediate.OutcomeFailed && m.outcome != remediate.OutcomeNeedsPerson || m.failed {
		return nil
	}
	m.failed = true
	failed := 0
	for _, other := range s.machines {
		if other.failed {
			failed++
		}
	}
	if s.options.HaltAfter == 0 || failed < s.options.HaltAfter || s.state.Halted != "" {
		return nil
	}
	s.state.Halted = fmt.Sprintf("halted: %d machines were not healed", failed)
	s.options.Printf("%s: no other machine is healed until somebody resumes", s.state.Halted)
	return s.keep(s.event("halted", nil, nil, ""))
}

// remember takes from a log what is shown of a machine; nil is a log without one.
func (s *Server) remember(run string, log []byte) *machine {
	identity, outcome, message, at := readLog(log)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.runs[run]
	if m == nil {
		if other := s.machines[knownBy(identity, run)]; other != nil && other.seen.After(at) {
			return nil // an older run of a machine that is here again
		}
		var err error
		if m, err = s.begin(run, identity); err != nil {
			return nil
		}
		m.seen = at
	}
	if identity.ComputerName != "" {
		m.identity.ComputerName = clip(identity.ComputerName)
	}
	if outcome != "" {
		m.outcome, m.message, m.step = outcome, message, "done"
	}
	return m
}

// approve lets a machine have the keys that it waits for now. Anybody with the token can claim its serial number later, so
// nothing else is approved by that.
func (s *Server) approve(run, who string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.runs[run]
	if m == nil {
		return errUnknownMachine
	}
	for _, w := range m.wants {
		if w.given || w.approved {
			continue
		}
		if err := s.options.Store.Audit(s.event("approved", m, w, who)); err != nil {
			return err
		}
		w.approved = true
	}
	s.change()
	return nil
}

// typeKey is a key that a person types for a machine.
func (s *Server) typeKey(run, keyID, text, who string) error {
	password, err := bitlocker.ParseRecoveryPassword(text)
	if err != nil {
		return err
	}
	protector, err := bitlocker.ParseGUID(keyID)
	if err != nil {
		return errUnknownMachine
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.runs[run]
	if m == nil || m.want(protector) == nil {
		return errUnknownMachine
	}
	w := m.want(protector)
	if err := s.options.Store.Audit(s.event("typed", m, w, who)); err != nil {
		return err
	}
	w.typed = &password
	s.change()
	return nil
}

// halt stops healing for a reason, or goes on where it is empty.
func (s *Server) halt(reason, who string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	what := "resumed"
	if reason != "" {
		what = "paused"
	}
	if s.state.Halted = reason; reason == "" {
		s.state.Since = s.now()
	}
	if err := s.keep(s.event(what, nil, nil, who)); err != nil {
		return err
	}
	if reason == "" {
		for _, m := range s.machines {
			m.failed = false // counted anew
		}
	}
	s.options.Printf("healing is %s", what)
	s.change()
	return nil
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
