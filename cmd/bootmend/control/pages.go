package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed" // the page
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
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

// Machine is a machine as the page, the live view and the exports show it.
type Machine struct {
	Run          string            `json:"run"`
	Name         string            `json:"name"`
	ComputerName string            `json:"computer_name,omitempty"`
	Serial       string            `json:"serial,omitempty"`
	Model        string            `json:"model,omitempty"`
	Address      string            `json:"address,omitempty"`
	Ring         string            `json:"ring,omitempty"`
	Step         string            `json:"step"`
	Outcome      remediate.Outcome `json:"outcome,omitempty"`
	Message      string            `json:"message,omitempty"`
	Seen         time.Time         `json:"seen"`
	Since        time.Time         `json:"since"`            // of the step
	Server       string            `json:"server,omitempty"` // which it asks, where that is another one
	Waiting      []Waiting         `json:"waiting,omitempty"`
	CanApprove   bool              `json:"needs_approval"`
}

// Waiting is a volume that waits for a key.
type Waiting struct {
	KeyID   string `json:"key_id"`
	Volume  string `json:"volume,omitempty"`
	Approve bool   `json:"needs_approval"` // a person's, and then it gets the key
}

// ToApprove are the IDs of the keys that it gets when a person approves them.
func (m Machine) ToApprove() (ids []string) {
	for _, w := range m.Waiting {
		if w.Approve {
			ids = append(ids, w.KeyID)
		}
	}
	return ids
}

// Bad reports whether a person has to see to the machine.
func (m Machine) Bad() bool {
	return bad(m.Outcome)
}

// Good reports whether nothing is left to do.
func (m Machine) Good() bool {
	return m.Outcome != "" && !m.Bad() && m.Outcome != remediate.OutcomeDryRun && m.Outcome != remediate.OutcomeLeft
}

// view is what the page shows.
type view struct {
	SignedIn bool
	Error    string
	Down     bool // the database does not answer
	View
	First    int // the place of the first machine shown, from 1
	Last     int
	Previous int // the number of that page, or 0
	Next     int
}

// RingView is a ring as people see it.
type RingView struct {
	Name       string
	Open, Next bool // Next is the one that opens next
	DryRun     bool
	Done, Well int
}

// perPage is how many machines the page shows.
const perPage = 200

// snapshot is a page, from 1.
func (s *Server) snapshot(ctx context.Context, page int) (v view, err error) {
	v = view{SignedIn: true}
	v.View, err = s.Look(ctx, store.All, (max(1, page)-1)*perPage, perPage)
	v.First, v.Last, v.Previous = v.Offset+1, v.Offset+len(v.Machines), v.Offset/perPage
	if v.Last < v.Totals.Machines {
		v.Next = v.Previous + 2
	}
	return v, err
}

// rings are those of the rollout.
func (s *Server) rings(tx *store.Tx, f store.Fleet) (list []RingView, err error) {
	r, err := s.rolloutOf(f)
	if err != nil {
		return nil, err
	}
	open := max(0, r.index(f.Open))
	for i, ring := range r.Rings {
		v := RingView{Name: ring.Name, Open: i <= open, Next: i == open+1, DryRun: ring.DryRun}
		if v.Done, v.Well, err = tx.Tally(ring.Name); err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// shown are machines as people see them.
func (s *Server) shown(tx *store.Tx, machines []store.Machine) (list []Machine, err error) {
	var waiting []string
	for _, m := range machines {
		if m.Waiting {
			waiting = append(waiting, m.Run)
		}
	}
	wants, err := tx.WantsOf(waiting)
	if err != nil {
		return nil, err
	}
	for _, m := range machines {
		shown := Machine{
			Run: m.Run, Name: name(&m), ComputerName: m.Identity.ComputerName, Serial: m.Identity.Serial, Model: m.Identity.Model,
			Address: m.Address, Ring: m.Ring, Step: m.Step, Outcome: m.Outcome, Message: m.Message,
			Seen: m.Seen.Truncate(time.Second), Since: m.Since.Truncate(time.Second),
		}
		if m.Server != s.options.Name {
			shown.Server = m.Server
		}
		for _, w := range wants[m.Run] {
			protector, err := bitlocker.ParseGUID(w.Protector)
			if err != nil {
				return nil, err
			}
			_, known := s.stored(protector)
			s.mu.Lock()
			_, typed := s.typed[question{m.Run, protector}]
			s.mu.Unlock()
			if w.Given || typed {
				continue
			}
			// Whether another server has the key and waits for somebody is known there only.
			approve := (shown.Server != "" || known && (s.options.Approve || w.Limited)) && !w.Approved
			shown.CanApprove = shown.CanApprove || approve
			shown.Waiting = append(shown.Waiting, Waiting{w.Protector, w.Volume, approve})
		}
		list = append(list, shown)
	}
	return list, nil
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
		page, _ := strconv.Atoi(r.URL.Query().Get("page")) // otherwise it is the first
		s.showMachines(w, r, http.StatusOK, page, nil)
	})
	page("POST /sign-in", s.signIn)
	page("GET /page.css", content("text/css; charset=utf-8", pageStyle))
	page("GET /page.js", content("text/javascript; charset=utf-8", pageScript))
	inside("POST /sign-out", s.signOut)
	inside("POST /approve", s.action(func(r *http.Request) error {
		run := r.PostFormValue("run") // parses the form
		return s.approve(r.Context(), run, r.PostForm["id"], hostOf(r.RemoteAddr))
	}))
	inside("POST /key", s.action(func(r *http.Request) error {
		return s.typeKey(r.Context(), r.PostFormValue("run"), r.PostFormValue("id"), strings.TrimSpace(r.PostFormValue("key")), hostOf(r.RemoteAddr))
	}))
	inside("POST /pause", s.action(func(r *http.Request) error { return s.Pause(r.Context(), hostOf(r.RemoteAddr)) }))
	inside("POST /resume", s.action(func(r *http.Request) error { return s.Resume(r.Context(), hostOf(r.RemoteAddr)) }))
	inside("POST /ring", s.action(func(r *http.Request) error { return s.openNext(r.Context(), hostOf(r.RemoteAddr)) }))
	inside("GET /events", s.events)
	inside("GET /machines.json", s.exportJSON)
	inside("GET /machines.csv", s.exportCSV)
	inside("GET /audit.jsonl", s.exportAudit)
	inside("GET /logs.jsonl", s.exportLogs)
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

// showMachines shows the page with the machines, and an error where there is one.
func (s *Server) showMachines(w http.ResponseWriter, r *http.Request, status, page int, problem error) {
	v, err := s.snapshot(r.Context(), page)
	if errors.Is(problem, store.ErrDatabase) {
		problem = nil // it is said below, or it is over
		status = http.StatusServiceUnavailable
	}
	if problem != nil {
		v.Error = problem.Error()
	}
	if err != nil {
		v, status = view{SignedIn: true, Down: true, Error: v.Error}, http.StatusServiceUnavailable
	}
	s.show(w, status, v)
}

// action does what a form asks and shows the page again, with the error where there is one.
func (s *Server) action(do func(r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
		if err := do(r); err != nil {
			s.showMachines(w, r, http.StatusUnprocessableEntity, 1, err)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// events tells the page when to look again (HTML Living Standard, section 9.2, server-sent events).
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	_ = s.Watch(r.Context(), func() error { // a browser that is gone comes back by itself
		_ = control.SetWriteDeadline(time.Now().Add(30 * time.Second)) // supported by the server of this package
		if _, err := fmt.Fprint(w, "data: changed\n\n"); err != nil {
			return err
		}
		return control.Flush()
	})
}

// failed answers a program that the database does not answer. Where the answer had begun, it is broken off: it must not
// look whole.
func (s *Server) failed(w http.ResponseWriter, begun bool) {
	if begun {
		panic(http.ErrAbortHandler)
	}
	http.Error(w, "the database does not answer: ask again", http.StatusServiceUnavailable)
}

// part is how many rows are asked of the database at once by those who want all.
const part = 1000

// each calls fn for all machines, part by part.
func (s *Server) each(ctx context.Context, fn func(Machine) error) error {
	for last := ""; ; {
		var list []Machine
		if err := s.view(ctx, func(tx *store.Tx) error {
			machines, err := tx.MachinesAfter(last, part)
			if err != nil {
				return err
			}
			if len(machines) > 0 {
				last = machines[len(machines)-1].ID
			}
			list, err = s.shown(tx, machines)
			return err
		}); err != nil {
			return err
		}
		for _, m := range list {
			if err := fn(m); err != nil {
				return err
			}
		}
		if len(list) < part {
			return nil
		}
	}
}

// longer gives an answer time that may take long: 30 seconds for each part of it.
func longer(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(30 * time.Second)) // supported by the server of this package
}

func (s *Server) exportJSON(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	n := 0
	err := s.each(r.Context(), func(m Machine) error {
		before := ",\n"
		if n == 0 {
			before = "["
		}
		if n++; n%part == 1 {
			longer(w)
		}
		data, err := json.Marshal(m)
		if err != nil {
			return err
		}
		_, err = w.Write(append([]byte(before), data...))
		return err
	})
	switch {
	case err != nil:
		s.failed(w, n > 0)
	case n == 0:
		_, _ = w.Write([]byte("[]\n"))
	default:
		_, _ = w.Write([]byte("]\n"))
	}
}

func (s *Server) exportCSV(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	out := csv.NewWriter(w)
	n := 0
	head := func() {
		w.Header().Set("Content-Disposition", `attachment; filename="machines.csv"`)
		_ = out.Write([]string{"Computer", "Serial", "Model", "Address", "Step", "Outcome", "Message", "Seen", "Run"})
	}
	err := s.each(r.Context(), func(m Machine) error {
		if n == 0 {
			head()
		}
		if n++; n%part == 1 {
			longer(w)
		}
		row := []string{m.ComputerName, m.Serial, m.Model, m.Address, m.Step, string(m.Outcome), m.Message, m.Seen.Format(time.RFC3339), m.Run}
		for i, field := range row {
			if field != "" && strings.ContainsRune("=+-@", rune(field[0])) {
				row[i] = "'" + field // a spreadsheet would take it for a formula
			}
		}
		return out.Write(row)
	})
	if err != nil {
		s.failed(w, n > 0)
		return
	}
	if n == 0 {
		head()
	}
	out.Flush()
}

// exportAudit gives the keys' audit as JSON Lines.
func (s *Server) exportAudit(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/jsonl")
	begun := false
	if err := EachEvent(r.Context(), s.options.DB, func(e store.Event) error {
		if !begun {
			longer(w)
		}
		begun = true
		return json.NewEncoder(w).Encode(e)
	}); err != nil {
		s.failed(w, begun)
	}
}

// exportLogs gives all logs, one behind the other, which "bootmend report" reads.
func (s *Server) exportLogs(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/jsonl")
	begun := false
	if err := EachLog(r.Context(), s.options.DB, func(l store.Report) error {
		longer(w)
		begun = true
		_, err := w.Write(endLine(l.Log))
		return err
	}); err != nil {
		s.failed(w, begun)
	}
}

// endLine ends the last line of a log, which may be torn.
func endLine(log []byte) []byte {
	if bytes.HasSuffix(log, []byte("\n")) {
		return log
	}
	return append(log, '\n')
}

// metrics are for Prometheus (text format 0.0.4).
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	v, err := s.snapshot(r.Context(), 1)
	halted, open, up := 0, 1, 1
	if v.Halted != "" {
		halted = 1
	}
	if len(v.Rings) > 0 {
		open = 0
	}
	for _, ring := range v.Rings {
		if ring.Open {
			open++
		}
	}
	if err != nil {
		up = 0
	}
	s.mu.Lock()
	c := s.counts
	s.mu.Unlock()
	for _, m := range []struct {
		name, kind, help string
		value            int
	}{
		{"bootmend_database_up", "gauge", "1 while the database answers; the other gauges are of no use while it does not.", up},
		{"bootmend_machines", "gauge", "Machines that are known.", v.Totals.Machines},
		{"bootmend_machines_healed", "gauge", "Machines with nothing left to do.", v.Totals.Healed},
		{"bootmend_machines_failed", "gauge", "Machines that a person has to see to.", v.Totals.Bad},
		{"bootmend_machines_waiting", "gauge", "Machines that wait for a key.", v.Totals.Waiting},
		{"bootmend_halted", "gauge", "1 while no machine is healed.", halted},
		{"bootmend_rings_open", "gauge", "Rings that are open; 1 where there is no rollout.", open},
		{"bootmend_keys_given_total", "counter", "Recovery keys given to machines by this server.", c.given},
		{"bootmend_keys_limited_total", "counter", "Questions for keys beyond the limits, to this server.", c.limited},
		{"bootmend_requests_refused_total", "counter", "Requests without a right proof, to this server.", c.refused},
		{"bootmend_reports_total", "counter", "Logs taken by this server.", c.reports},
	} {
		fmt.Fprintf(w, "# HELP %[1]s %[2]s\n# TYPE %[1]s %[3]s\n%[1]s %[4]d\n", m.name, m.help, m.kind, m.value)
	}
}

// sessions are signed-in browsers.
type sessions struct {
	mu    sync.Mutex
	until map[string]time.Time
}

const (
	sessionName  = "bootmend"
	sessionTime  = 12 * time.Hour
	maxSessions  = 1000
	bearerPrefix = "Bearer "
)

func newSessions() sessions { return sessions{until: map[string]time.Time{}} }

// same compares two secrets in a time that says nothing of how far they agree. [NewSecret] has drawn them: nobody comes
// upon one by trying, so tries are not counted, and strangers can't lock anybody out.
func same(a string, b fleet.Token) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(string(b))) == 1
}

// signedIn accepts a session, or the token itself from programs.
func (s *Server) signedIn(r *http.Request) bool {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), bearerPrefix); ok {
		return same(token, s.options.SignIn)
	}
	cookie, err := r.Cookie(sessionName)
	if err != nil {
		return false
	}
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	return s.now().Before(s.sessions.until[cookie.Value])
}

var errSignIn = errors.New("this is not the token that the server printed when it started")

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	if !same(strings.TrimSpace(r.PostFormValue("token")), s.options.SignIn) {
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
