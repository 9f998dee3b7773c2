package control

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	_ "embed" // the page
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	pageStyle []byte
	//go:embed page.js
	pageScript []byte

	pageTemplate = template.Must(template.New("page").Parse(pageText))
)

// Machine is a machine as the page and the exports show it.
type Machine struct {
	Run          string            `json:"run"`
	Name         string            `json:"name"`
	ComputerName string            `json:"computer_name,omitempty"`
	Serial       string            `json:"serial,omitempty"`
	Model        string            `json:"model,omitempty"`
	Address      string            `json:"address,omitempty"`
	Step         string            `json:"step"`
	Outcome      remediate.Outcome `json:"outcome,omitempty"`
	Message      string            `json:"message,omitempty"`
	Seen         time.Time         `json:"seen"`
	Waiting      []Waiting         `json:"waiting,omitempty"`
	CanApprove   bool              `json:"needs_approval"`
}

// Waiting is a volume that waits for a key.
type Waiting struct {
	KeyID  string `json:"key_id"`
	Volume string `json:"volume,omitempty"`
}

// Bad reports whether a person has to see to the machine.
func (m Machine) Bad() bool {
	return m.Outcome == remediate.OutcomeFailed || m.Outcome == remediate.OutcomeNeedsPerson
}

// Good reports whether nothing is left to do.
func (m Machine) Good() bool {
	return m.Outcome != "" && !m.Bad() && m.Outcome != remediate.OutcomeDryRun && m.Outcome != remediate.OutcomeLeft
}

// view is what the page shows.
type view struct {
	SignedIn bool
	Error    string
	Machines []Machine
	Halted   string
	Rings    []RingView
	Healed   int
	Waiting  int
	Bad      int
}

// RingView is a ring as the page shows it.
type RingView struct {
	Name       string
	Open, Next bool // Next is the one that opens next
	DryRun     bool
	Done, Well int
}

// rings are those of the rollout. mu is held.
func (s *Server) rings() (list []RingView) {
	if s.options.Rollout == nil {
		return nil
	}
	for i, ring := range s.options.Rollout.Rings {
		v := RingView{Name: ring.Name, Open: i <= s.state.Open, Next: i == s.state.Open+1, DryRun: ring.DryRun}
		v.Done, v.Well = s.tally(i)
		list = append(list, v)
	}
	return list
}

// snapshot lists the machines: those that wait for a person first, then the newest.
func (s *Server) snapshot() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := view{SignedIn: true, Halted: s.state.Halted, Rings: s.rings()}
	for _, m := range s.machines {
		shown := Machine{
			Run: m.run, Name: m.name(), ComputerName: m.identity.ComputerName, Serial: m.identity.Serial, Model: m.identity.Model,
			Address: m.address, Step: m.step, Outcome: m.outcome, Message: m.message, Seen: m.seen.UTC().Truncate(time.Second),
		}
		for _, w := range m.wants {
			_, known := s.keys[w.protector]
			if w.given || w.typed != nil || m.outcome != "" {
				continue
			}
			if known && (s.options.Approve || w.limited) && !w.approved {
				shown.CanApprove = true
			}
			shown.Waiting = append(shown.Waiting, Waiting{w.protector.String(), w.volume})
		}
		if len(shown.Waiting) > 0 {
			v.Waiting++
		}
		switch {
		case shown.Bad():
			v.Bad++
		case shown.Good():
			v.Healed++
		}
		v.Machines = append(v.Machines, shown)
	}
	slices.SortFunc(v.Machines, func(a, b Machine) int {
		return cmp.Or(cmp.Compare(min(len(b.Waiting), 1), min(len(a.Waiting), 1)), b.Seen.Compare(a.Seen), cmp.Compare(a.Run, b.Run))
	})
	return v
}

// pages are what people use.
func (s *Server) pages(mux *http.ServeMux) {
	// Forms of other sites are refused by the headers that browsers send with them.
	foreign := http.NewCrossOriginProtection()
	page := func(pattern string, h http.HandlerFunc) {
		mux.Handle(pattern, foreign.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := h
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Referrer-Policy", "no-referrer")
			w.Header().Set("Cache-Control", "no-store")
			h(w, r)
		})))
	}
	inside := func(pattern string, h http.HandlerFunc) {
		page(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !s.signedIn(r) {
				http.Error(w, "sign in first", http.StatusUnauthorized)
				return
			}
			h(w, r)
		})
	}
	page("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if !s.signedIn(r) {
			s.show(w, http.StatusOK, view{})
			return
		}
		s.show(w, http.StatusOK, s.snapshot())
	})
	page("POST /sign-in", s.signIn)
	page("GET /page.css", content("text/css; charset=utf-8", pageStyle))
	page("GET /page.js", content("text/javascript; charset=utf-8", pageScript))
	inside("POST /sign-out", s.signOut)
	inside("POST /approve", s.action(func(r *http.Request) error { return s.approve(r.PostFormValue("run"), hostOf(r.RemoteAddr)) }))
	inside("POST /key", s.action(func(r *http.Request) error {
		return s.typeKey(r.PostFormValue("run"), r.PostFormValue("id"), strings.TrimSpace(r.PostFormValue("key")), hostOf(r.RemoteAddr))
	}))
	inside("POST /pause", s.action(func(r *http.Request) error { return s.halt("paused by a person", hostOf(r.RemoteAddr)) }))
	inside("POST /resume", s.action(func(r *http.Request) error { return s.halt("", hostOf(r.RemoteAddr)) }))
	inside("POST /ring", s.action(func(r *http.Request) error { return s.openNext(hostOf(r.RemoteAddr)) }))
	inside("GET /events", s.events)
	inside("GET /machines.json", s.exportJSON)
	inside("GET /machines.csv", s.exportCSV)
	inside("GET /metrics", s.metrics)
}

func content(kind string, data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(data) // a browser that is gone asks again
	}
}

func (s *Server) show(w http.ResponseWriter, status int, v view) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, v) // the same
}

// action does what a form asks and shows the page again, with the error where there is one.
func (s *Server) action(do func(r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
		if err := do(r); err != nil {
			v := s.snapshot()
			v.Error = err.Error()
			s.show(w, http.StatusUnprocessableEntity, v)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// events tells the page when to look again (HTML Living Standard, section 9.2, server-sent events).
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		_ = control.SetWriteDeadline(time.Now().Add(30 * time.Second)) // supported by the server of this package
		if _, err := fmt.Fprint(w, "data: changed\n\n"); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case <-changed:
			time.Sleep(200 * time.Millisecond) // a floor of machines changes all the time
		case <-time.After(15 * time.Second):
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) exportJSON(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.snapshot().Machines)
}

func (s *Server) exportCSV(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="machines.csv"`)
	out := csv.NewWriter(w)
	_ = out.Write([]string{"Computer", "Serial", "Model", "Address", "Step", "Outcome", "Message", "Seen", "Run"})
	for _, m := range s.snapshot().Machines {
		row := []string{m.ComputerName, m.Serial, m.Model, m.Address, m.Step, string(m.Outcome), m.Message, m.Seen.Format(time.RFC3339), m.Run}
		for i, field := range row {
			if field != "" && strings.ContainsRune("=+-@", rune(field[0])) {
				row[i] = "'" + field // a spreadsheet would take it for a formula
			}
		}
		_ = out.Write(row)
	}
	out.Flush()
}

// metrics are for Prometheus (text format 0.0.4).
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	v := s.snapshot()
	s.mu.Lock()
	c, halted, open := s.counts, 0, s.state.Open+1
	if s.state.Halted != "" {
		halted = 1
	}
	s.mu.Unlock()
	for _, m := range []struct {
		name, kind, help string
		value            int
	}{
		{"bootmend_machines", "gauge", "Machines that are known.", len(v.Machines)},
		{"bootmend_machines_healed", "gauge", "Machines with nothing left to do.", v.Healed},
		{"bootmend_machines_failed", "gauge", "Machines that a person has to see to.", v.Bad},
		{"bootmend_machines_waiting", "gauge", "Machines that wait for a key.", v.Waiting},
		{"bootmend_halted", "gauge", "1 while no machine is healed.", halted},
		{"bootmend_rings_open", "gauge", "Rings that are open; 1 where there is no rollout.", open},
		{"bootmend_keys_given_total", "counter", "Recovery keys given to machines.", c.given},
		{"bootmend_keys_limited_total", "counter", "Questions for keys beyond the limits.", c.limited},
		{"bootmend_requests_refused_total", "counter", "Requests without a right proof.", c.refused},
		{"bootmend_reports_total", "counter", "Logs taken.", c.reports},
	} {
		fmt.Fprintf(w, "# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n%[1]s %[4]d\n", m.name, m.help, m.kind, m.value)
	}
}

// sessions are signed-in browsers.
type sessions struct {
	mu     sync.Mutex
	until  map[string]time.Time
	failed int // sign-ins in this minute
	minute time.Time
}

const (
	sessionName  = "bootmend"
	sessionTime  = 12 * time.Hour
	maxSessions  = 1000
	maxFailed    = 30
	bearerPrefix = "Bearer "
)

func newSessions() sessions { return sessions{until: map[string]time.Time{}} }

// same compares two secrets in a time that says nothing of how far they agree.
func same(a string, b fleet.Token) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(string(b))) == 1
}

// signedIn accepts a session, or the token itself from programs.
func (s *Server) signedIn(r *http.Request) bool {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), bearerPrefix); ok {
		return s.sessions.tries(s.now()) && (same(token, s.options.SignIn) || s.sessions.fail())
	}
	cookie, err := r.Cookie(sessionName)
	if err != nil {
		return false
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	return s.now().Before(s.sessions.until[cookie.Value])
}

// tries reports whether a secret may be tried now.
func (s *sessions) tries(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.minute) > time.Minute {
		s.minute, s.failed = now, 0
	}
	return s.failed < maxFailed
}

// fail counts a wrong secret; it is false, for its callers.
func (s *sessions) fail() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed++
	return false
}

var errSignIn = errors.New("this is not the token that the server printed when it started")

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if !s.sessions.tries(s.now()) {
		s.show(w, http.StatusTooManyRequests, view{Error: "too many wrong tokens: wait a minute"})
		return
	}
	if !same(strings.TrimSpace(r.PostFormValue("token")), s.options.SignIn) {
		s.sessions.fail()
		s.show(w, http.StatusUnauthorized, view{Error: errSignIn.Error()})
		return
	}
	id := rand.Text()
	s.sessions.mu.Lock()
	if len(s.sessions.until) >= maxSessions {
		clear(s.sessions.until)
	}
	s.sessions.until[id] = s.now().Add(sessionTime)
	s.sessions.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: sessionName, Value: id, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: int(sessionTime / time.Second)})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(sessionName); err == nil {
		s.sessions.mu.Lock()
		delete(s.sessions.until, cookie.Value)
		s.sessions.mu.Unlock()
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
