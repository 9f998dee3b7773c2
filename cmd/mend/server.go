//go:build linux || windows

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
	"github.com/bootmend/bootmend/cmd/mend/network"
	"github.com/bootmend/bootmend/image/config"
	"github.com/bootmend/bootmend/remediate/fleet"
)

// How long the machine waits for its site's server. A switch with spanning tree takes 30 seconds of the first one.
const (
	serverPatience = 75 * time.Second // for an address and the server's first answer
	helloPatience  = 20 * time.Second // for the server's first answer, once there is an address
	cablePatience  = 20 * time.Second // for a network cable to be plugged in
	cardPatience   = 8 * time.Second  // for a network card to show up: many a laptop has none
	keyPatience    = 8 * time.Second  // for its first word on a key, before a person is asked here
	keyAgain       = 3 * time.Second  // between two questions for the same key
	reportPatience = 20 * time.Second
	// helloAgain is between two tries to reach it; it goes on in the background.
	helloAgain = 3 * time.Second
)

// server is the control server that the media name. What it gives is fetched in the background and taken by the agent's
// main goroutine ([common.takeServerKeys]).
type server struct {
	config config.Server
	client *fleet.Client
	wake   chan<- struct{}
	// welcome is closed when the server has answered for the first time; decision may be read then.
	welcome  chan struct{}
	decision fleet.Welcome
	// asking is set once it was waited for, applied once the machine has heeded its decision.
	asking, applied bool

	mu      sync.Mutex
	address string                           // of this machine, once it has one
	since   time.Time                        // when it got that
	problem error                            // why the server is not reached, so far
	asked   map[bitlocker.GUID]chan struct{} // closed with the server's first word on a key
	arrived []keys.Entry
	tell    chan string // the newest step
}

// useServer begins to reach the server that the media name. It goes on until the machine restarts.
func (a *common) useServer(ctx context.Context, c config.Server) {
	if c.IsZero() || a.unlisted() != "" || a.server != nil && a.server.config == c {
		return
	}
	pin, err := c.Pin()
	if err != nil {
		a.con.note(red, "The server %s on the media: %v", c.URL, err)
		return
	}
	s := &server{
		config: c, client: fleet.NewClient(c.URL, pin, fleet.Token(c.Token), a.started), wake: a.wake,
		welcome: make(chan struct{}), asked: map[bitlocker.GUID]chan struct{}{}, tell: make(chan string, 1),
	}
	a.server = s
	a.con.told = s.step
	go s.connect(ctx)
}

// connect gets an address and introduces the machine.
func (s *server) connect(ctx context.Context) {
	for {
		soon, cancel := context.WithTimeout(ctx, serverPatience)
		link, err := network.Connect(soon)
		cancel()
		if err == nil {
			s.mu.Lock()
			s.address, s.since = link.String(), time.Now()
			s.mu.Unlock()
			go func() { s.failed(link.Keep(ctx)) }()
			break
		}
		// A server that gives nothing usable answers at once, each time.
		if s.failed(err); !pause(ctx, helloAgain) {
			return
		}
	}
	for {
		decision, err := s.client.Hello(ctx)
		if err == nil {
			s.decision = decision
			close(s.welcome)
			break
		}
		s.failed(err)
		if !pause(ctx, helloAgain) {
			return
		}
	}
	for {
		select {
		case step := <-s.tell:
			s.failed(s.client.Step(ctx, step))
		case <-ctx.Done():
			return
		}
	}
}

// failed keeps the newest problem for people.
func (s *server) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = err
}

// step tells the server how far the repair is; only the newest step counts.
func (s *server) step(step string) {
	for {
		select {
		case s.tell <- step:
			return
		default:
		}
		select {
		case <-s.tell:
		default:
		}
	}
}

// pause waits; false is the end of ctx.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// unlisted is why the machine is not among those that the media are for; "" if it is.
func (a *common) unlisted() string {
	switch serial := a.started.Machine.Serial; {
	case a.serials == nil || a.serials.Has(serial):
		return ""
	case len(a.serials) == 0:
		return "the list of the machines that the media are for cannot be read"
	case serial == "":
		return "the media are for certain serial numbers, and this machine's firmware tells none"
	default:
		return fmt.Sprintf("the media are for other machines: serial number %s is not in their list of %d", serial, len(a.serials))
	}
}

// consult finds out whether the machine is to be left as it is, and why; "" if it is not. What the media say comes first.
// A dry run changes nothing, so that nobody is asked.
func (a *common) consult(ctx context.Context) (leave string) {
	if a.forceDry {
		return ""
	}
	if reason := a.unlisted(); reason != "" {
		a.con.note(bold, "This machine is left as it is: %s.", reason)
		a.log.Errorf("looking whether this machine is meant", "left as it is: %s", reason)
		return reason
	}
	return a.askDecision(ctx)
}

// askDecision waits for the server's decision, at the beginning and again before each try of a machine that was left as it
// is. Without an answer the machine does what the media say: a server that is down must not keep a floor of machines from
// being healed.
func (a *common) askDecision(ctx context.Context) (leave string) {
	s := a.server
	switch {
	case s == nil:
		return ""
	case s.asking && !s.answered():
		return "" // it was waited for already
	case s.asking && s.applied && s.decision.Decision != fleet.Leave:
		return ""
	case s.asking && s.applied:
		soon, cancel := context.WithTimeout(ctx, helloPatience)
		defer cancel()
		decision, err := s.client.Hello(soon)
		if err == nil {
			s.decision = decision
		} // otherwise what it said last holds
	}
	s.asking = true
	if !s.answered() {
		a.con.line("Asking the server %s ...", s.config)
		s.await(ctx)
	}
	if !s.answered() {
		a.con.note(red, "The server %s does not answer: %s. This machine goes on without it.", s.config, oneLine(s.reason()))
		a.log.Errorf("asking the server", "%s", oneLine(s.reason()))
		return ""
	}
	return a.applyDecision()
}

// lateDecision applies what the server has answered after it was waited for in vain: from then on it gives keys, and what
// it wants has to be heeded before they are used.
func (a *common) lateDecision() (leave string) {
	s := a.server
	switch {
	case s == nil, a.forceDry, !s.answered():
		return ""
	case !s.applied:
		return a.applyDecision()
	case s.decision.Decision == fleet.Leave: // another volume was spared before
		return cmp.Or(s.decision.Reason, serverWish)
	}
	return ""
}

// serverWish is the reason of a server that tells none.
const serverWish = "the server wants it so"

// applyDecision does as the server, which has answered, wants, and tells it.
func (a *common) applyDecision() (leave string) {
	s := a.server
	s.applied = true
	s.mu.Lock()
	address := s.address
	s.mu.Unlock()
	switch s.decision.Decision {
	case fleet.DryRun:
		a.con.note(bold, "The server %s wants a dry run of this machine (%s)", s.config, address)
		a.serverDry = true
	case fleet.Leave:
		a.con.note(bold, "The server %s wants this machine (%s) to be left as it is: %s", s.config, address, harmless(s.decision.Reason))
		a.log.Errorf("asking the server", "left as it is: %s", s.decision.Reason)
		return cmp.Or(s.decision.Reason, serverWish)
	default:
		a.con.line("Server %s, reached as %s", s.config, address)
	}
	return ""
}

// await waits for the server's first answer, for as long as there is hope.
func (s *server) await(ctx context.Context) {
	for began := time.Now(); ; {
		select {
		case <-s.welcome:
			return
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
		waited, patience := time.Since(began), serverPatience
		s.mu.Lock()
		since := s.since
		s.mu.Unlock()
		switch missing := network.Missing(); {
		case !since.IsZero():
			waited, patience = time.Since(since), helloPatience
		case errors.Is(missing, network.ErrNoCard):
			patience = cardPatience
		case errors.Is(missing, network.ErrNoCable):
			patience = cablePatience
		}
		if waited > patience {
			if missing := network.Missing(); missing != nil {
				s.failed(missing)
			}
			return
		}
	}
}

// answered reports whether the server has answered.
func (s *server) answered() bool {
	select {
	case <-s.welcome:
		return true
	default:
		return false
	}
}

// reason is why the server does not answer.
func (s *server) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problem == nil {
		return errors.New("no answer yet")
	}
	return s.problem
}

// askServer begins to ask for the keys of a volume, waits a moment for the server's first word, and takes those that have
// arrived.
func (a *common) askServer(ctx context.Context, v *volume) {
	s := a.server
	if s == nil || !s.answered() || !v.locked() {
		return
	}
	var words []chan struct{}
	for _, p := range v.meta.Protectors {
		if p.Kind == bitlocker.ProtectorRecoveryPassword {
			words = append(words, s.ask(ctx, p.ID, v.meta.Description))
		}
	}
	awaitAll(ctx, words, keyPatience)
	a.takeServerKeys(ctx)
}

// awaitAll waits until all of the channels are closed, but no longer than patience.
func awaitAll(ctx context.Context, words []chan struct{}, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, word := range words {
		select {
		case <-word:
		case <-ctx.Done():
			return
		}
	}
}

// askLate asks for the keys of all volumes that are still locked while a person is asked, too: the network may have come
// up meanwhile.
func (a *common) askLate(ctx context.Context) {
	if a.server == nil || !a.server.answered() {
		return
	}
	for _, v := range a.locked() {
		for _, p := range v.meta.Protectors {
			if p.Kind == bitlocker.ProtectorRecoveryPassword {
				a.server.ask(ctx, p.ID, v.meta.Description)
			}
		}
	}
}

// ask asks for one key until it has it.
func (s *server) ask(ctx context.Context, protector bitlocker.GUID, volume string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if word := s.asked[protector]; word != nil {
		return word
	}
	word := make(chan struct{})
	s.asked[protector] = word
	go func() {
		first := sync.OnceFunc(func() { close(word) })
		for {
			password, ok, err := s.client.Key(ctx, protector, volume)
			s.failed(err)
			if ok {
				s.mu.Lock()
				s.arrived = append(s.arrived, keys.Entry{ID: protector, HasID: true, Password: password})
				delete(s.asked, protector) // another try begins with no keys
				s.mu.Unlock()
				select {
				case s.wake <- struct{}{}:
				default:
				}
			}
			if err == nil {
				first()
			}
			if ok || !pause(ctx, keyAgain) {
				return
			}
		}
	}()
	return word
}

// takeServerKeys puts the keys that have arrived onto the keyring.
func (a *common) takeServerKeys(ctx context.Context) {
	if a.server == nil {
		return
	}
	a.server.mu.Lock()
	arrived := a.server.arrived
	a.server.arrived = nil
	a.server.mu.Unlock()
	if len(arrived) == 0 {
		return
	}
	a.con.line("The server has sent %s", count(len(arrived), "recovery key"))
	list := &keys.List{Entries: arrived}
	a.takeKeys(ctx, keyFiles{lists: []keySource{{"server " + a.server.config.URL, list}}, count: len(arrived)})
}

// report hands the log in.
func (s *server) report(log []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), reportPatience)
	defer cancel()
	for {
		err := s.client.Report(ctx, log)
		if err == nil || errors.Is(err, fleet.ErrRefused) || errors.Is(err, fleet.ErrCertificate) || !pause(ctx, time.Second) {
			return err
		}
	}
}

// reportToServer hands the log in, where there is a server that has answered before.
func (a *common) reportToServer() {
	if a.server == nil || !a.server.answered() {
		return // nobody waits twice for a server that is not there
	}
	if err := a.server.report(a.log.Bytes()); err != nil {
		a.con.line("The log could not be handed in at the server %s: %s", a.server.config, oneLine(err))
		return
	}
	a.con.line("The server %s has the log", a.server.config)
}
