package store

import (
	"strconv"
	"strings"
	"time"

	"github.com/bootmend/bootmend/remediate"
)

// Fleet is what all machines have in common.
type Fleet struct {
	Halted    string // why no machine is healed; empty: they are
	Open      string // the last open ring; empty is the first one
	Rings     string // the text of the rollout; empty is none
	HaltAfter int    // how many machines may fail before no other one is healed; 0 is no limit
	Epoch     int64  // machines that failed in an earlier one do not count any more
}

const selectFleet = "SELECT halted, open_ring, rings, halt_after, epoch FROM fleet WHERE one = 1"

// Fleet reads it.
func (t *Tx) Fleet() (f Fleet, err error) { return t.fleet(selectFleet) }

// LockFleet reads it and keeps every other server from changing it until the end of the transaction. Who locks a machine,
// too, locks that first.
func (t *Tx) LockFleet() (f Fleet, err error) { return t.fleet(selectFleet + forUpdate) }

func (t *Tx) fleet(query string) (f Fleet, err error) {
	_, err = t.one([]any{&f.Halted, &f.Open, &f.Rings, &f.HaltAfter, &f.Epoch}, query)
	return f, err
}

// SetFleet changes it. It is locked.
func (t *Tx) SetFleet(f Fleet) error {
	_, err := t.exec("UPDATE fleet SET halted = ?1, open_ring = ?2, rings = ?3, halt_after = ?4, epoch = ?5 WHERE one = 1",
		f.Halted, f.Open, f.Rings, f.HaltAfter, f.Epoch)
	return err
}

// Machine is one computer, in its last run.
type Machine struct {
	ID       string // what it is known by
	Run      string
	Identity remediate.Identity
	Address  string
	Server   string // which it asks
	Version  string
	Decision string
	Ring     string // empty is none
	Step     string
	Outcome  remediate.Outcome
	Message  string
	Seen     time.Time
	FailedIn int64 // the epoch in which it failed; 0 is none
	Waiting  bool  // for a key
	Space    int64 // bytes that are kept of it
	// Since is when it was first seen in the step. The store sees to it.
	Since time.Time
}

const machineColumns = "id, run, serial, uuid, model, computer_name, address, server, version, decision, ring, step, outcome, message, seen, failed_in, waiting, space, since"

// MachineOfRun is the machine whose last run that is, and in a transaction that may write keeps others from changing it;
// nil is none.
func (t *Tx) MachineOfRun(run string) (*Machine, error) {
	return t.machine("SELECT "+machineColumns+" FROM machines WHERE run = ?1"+forUpdate, run)
}

// Machine is the one that is known by id, in the same way.
func (t *Tx) Machine(id string) (*Machine, error) {
	return t.machine("SELECT "+machineColumns+" FROM machines WHERE id = ?1"+forUpdate, id)
}

func (t *Tx) machine(query, name string) (m *Machine, err error) {
	err = t.eachMachine(func(found Machine) { m = &found }, query, name)
	return m, err
}

func (t *Tx) eachMachine(fn func(Machine), query string, args ...any) error {
	return t.each(func(scan func(...any) error) error {
		var m Machine
		var seen, since int64
		if err := scan(&m.ID, &m.Run, &m.Identity.Serial, &m.Identity.UUID, &m.Identity.Model, &m.Identity.ComputerName, &m.Address, &m.Server,
			&m.Version, &m.Decision, &m.Ring, &m.Step, &m.Outcome, &m.Message, &seen, &m.FailedIn, &m.Waiting, &m.Space, &since); err != nil {
			return err
		}
		m.Seen, m.Since = fromMicro(seen), fromMicro(since)
		if since == 0 { // put there by a server of an earlier version that shares the database
			m.Since = m.Seen
		}
		fn(m)
		return nil
	}, query, args...)
}

// PutMachine adds or changes one.
func (t *Tx) PutMachine(m *Machine) error {
	_, err := t.exec("INSERT INTO machines ("+machineColumns+`)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?15)
		ON CONFLICT (id) DO UPDATE SET run = excluded.run, serial = excluded.serial, uuid = excluded.uuid, model = excluded.model,
		computer_name = excluded.computer_name, address = excluded.address, server = excluded.server, version = excluded.version,
		decision = excluded.decision, ring = excluded.ring, step = excluded.step, outcome = excluded.outcome, message = excluded.message,
		seen = excluded.seen, failed_in = excluded.failed_in, waiting = excluded.waiting, space = excluded.space,
		since = CASE WHEN machines.run = excluded.run AND machines.step = excluded.step THEN machines.since ELSE excluded.seen END`,
		m.ID, m.Run, m.Identity.Serial, m.Identity.UUID, m.Identity.Model, m.Identity.ComputerName, m.Address, m.Server,
		m.Version, m.Decision, m.Ring, m.Step, string(m.Outcome), m.Message, toMicro(m.Seen), m.FailedIn, m.Waiting, m.Space)
	return err
}

// Step notes how far a run is; false is a run that is no machine's last one.
func (t *Tx) Step(run, step, address, server string, seen time.Time) (bool, error) {
	n, err := t.exec(`UPDATE machines SET since = CASE WHEN step = ?2 THEN since ELSE ?5 END,
		step = ?2, address = ?3, server = ?4, seen = ?5 WHERE run = ?1`, run, step, address, server, toMicro(seen))
	return n > 0, err
}

// Failed counts the machines that failed in an epoch.
func (t *Tx) Failed(epoch int64) (n int, err error) {
	_, err = t.one([]any{&n}, "SELECT COUNT(*) FROM machines WHERE failed_in = ?1", epoch)
	return n, err
}

// Tally counts the machines of a ring that are done, and those of them that went well. Machines that were left as they are
// are not done.
func (t *Tx) Tally(ring string) (done, well int, err error) {
	_, err = t.one([]any{&done, &well}, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN outcome IN (?2, ?3) THEN 0 ELSE 1 END), 0)
		FROM machines WHERE ring = ?1 AND outcome NOT IN ('', ?4)`,
		ring, string(remediate.OutcomeFailed), string(remediate.OutcomeNeedsPerson), string(remediate.OutcomeLeft))
	return done, well, err
}

// Totals are numbers of machines.
type Totals struct {
	Machines, Healed, Bad, Waiting int
	Healing                        int   // neither done nor waiting for a key
	Space                          int64 // bytes that are kept of all
}

// Totals counts all machines.
func (t *Tx) Totals() (n Totals, err error) {
	_, err = t.one([]any{&n.Machines, &n.Healed, &n.Bad, &n.Waiting, &n.Healing, &n.Space}, `SELECT COUNT(*),
		COALESCE(SUM(CASE WHEN outcome IN ('', ?1, ?2, ?3, ?4) THEN 0 ELSE 1 END), 0),
		COALESCE(SUM(CASE WHEN outcome IN (?1, ?2) THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN waiting THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN outcome = '' AND NOT waiting THEN 1 ELSE 0 END), 0), CAST(COALESCE(SUM(space), 0) AS BIGINT) FROM machines`,
		string(remediate.OutcomeFailed), string(remediate.OutcomeNeedsPerson), string(remediate.OutcomeDryRun), string(remediate.OutcomeLeft))
	return n, err
}

// Filter chooses machines by how they are.
type Filter int

// The filters.
const (
	All       Filter = iota
	Waiting          // for a key
	Healing          // neither done nor waiting
	NotHealed        // a person has to see to them
	Healed           // nothing is left to do
	Left             // as they were, or in a dry run
)

// filters are the conditions of SQL. The outcomes in them are constants of package remediate.
var filters = [...]string{
	All:       "",
	Waiting:   "WHERE waiting",
	Healing:   "WHERE outcome = '' AND NOT waiting",
	NotHealed: "WHERE outcome IN " + outcomes(remediate.OutcomeFailed, remediate.OutcomeNeedsPerson),
	Healed: "WHERE outcome NOT IN " + outcomes("", remediate.OutcomeFailed, remediate.OutcomeNeedsPerson, remediate.OutcomeDryRun,
		remediate.OutcomeLeft),
	Left: "WHERE outcome IN " + outcomes(remediate.OutcomeDryRun, remediate.OutcomeLeft),
}

func outcomes(list ...remediate.Outcome) string {
	var quoted []string
	for _, o := range list {
		quoted = append(quoted, "'"+string(o)+"'")
	}
	return "(" + strings.Join(quoted, ", ") + ")"
}

// Of is how many of all machines a filter lets through.
func (f Filter) Of(n Totals) int {
	return [...]int{All: n.Machines, Waiting: n.Waiting, Healing: n.Healing, NotHealed: n.Bad, Healed: n.Healed,
		Left: n.Machines - n.Waiting - n.Healing - n.Bad - n.Healed}[f]
}

// Machines lists them for people: those that wait for a key first, then those whose step changed last.
func (t *Tx) Machines(f Filter, offset, most int) (list []Machine, err error) {
	err = t.eachMachine(func(m Machine) { list = append(list, m) },
		"SELECT "+machineColumns+" FROM machines "+filters[f]+" ORDER BY waiting DESC, since DESC, id LIMIT ?1 OFFSET ?2", most, offset)
	return list, err
}

// MachinesAfter lists them by what they are known by, for those who want all, part by part.
func (t *Tx) MachinesAfter(id string, most int) (list []Machine, err error) {
	err = t.eachMachine(func(m Machine) { list = append(list, m) },
		"SELECT "+machineColumns+" FROM machines WHERE id > ?1 ORDER BY id LIMIT ?2", id, most)
	return list, err
}

// Want is a volume that waits for a key, or has got it.
type Want struct {
	Protector string // its GUID
	Volume    string
	Given     bool
	Approved  bool // by a person, for this volume in this run
	Limited   bool
}

// Wants are those of a run.
func (t *Tx) Wants(run string) (list []Want, err error) {
	err = t.each(func(scan func(...any) error) error {
		var w Want
		defer func() { list = append(list, w) }()
		return scan(&w.Protector, &w.Volume, &w.Given, &w.Approved, &w.Limited)
	}, "SELECT protector, volume, given, approved, limited FROM wants WHERE run = ?1 ORDER BY protector", run)
	return list, err
}

// WantsOf are those of several runs, by run.
func (t *Tx) WantsOf(runs []string) (map[string][]Want, error) {
	list := map[string][]Want{}
	if len(runs) == 0 {
		return list, nil
	}
	var marks []string
	var args []any
	for i, run := range runs {
		marks, args = append(marks, "?"+strconv.Itoa(i+1)), append(args, run)
	}
	err := t.each(func(scan func(...any) error) error {
		var run string
		var w Want
		if err := scan(&run, &w.Protector, &w.Volume, &w.Given, &w.Approved, &w.Limited); err != nil {
			return err
		}
		list[run] = append(list[run], w)
		return nil
	}, "SELECT run, protector, volume, given, approved, limited FROM wants WHERE run IN ("+strings.Join(marks, ", ")+") ORDER BY run, protector", args...)
	return list, err
}

// PutWant adds or changes one.
func (t *Tx) PutWant(run string, w Want) error {
	_, err := t.exec(`INSERT INTO wants (run, protector, volume, given, approved, limited) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
		ON CONFLICT (run, protector) DO UPDATE SET given = excluded.given, approved = excluded.approved, limited = excluded.limited`,
		run, w.Protector, w.Volume, w.Given, w.Approved, w.Limited)
	return err
}

// DropWants forgets those of a run that is over.
func (t *Tx) DropWants(run string) error {
	_, err := t.exec("DELETE FROM wants WHERE run = ?1", run)
	return err
}

// Event is a line of the audit, which is only ever appended to.
type Event struct {
	Time    time.Time          `json:"time"`
	Event   string             `json:"event"`            // asked, limited, given, typed, approved, paused, resumed, halted and so on
	Server  string             `json:"server,omitempty"` // where it happened
	Run     string             `json:"run,omitempty"`
	Machine remediate.Identity `json:"machine,omitzero"`
	KeyID   string             `json:"key_id,omitempty"`
	Volume  string             `json:"volume,omitempty"`
	Address string             `json:"address"`
}

// Audit appends a line.
func (t *Tx) Audit(e Event) error {
	_, err := t.exec(`INSERT INTO audit (time, event, server, run, serial, uuid, model, computer_name, key_id, volume, address)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)`, toMicro(e.Time), e.Event, e.Server, e.Run,
		e.Machine.Serial, e.Machine.UUID, e.Machine.Model, e.Machine.ComputerName, e.KeyID, e.Volume, e.Address)
	return err
}

// EventsAfter lists the lines behind the one with an ID, which is 0 for all of them, and returns the ID of the last one.
func (t *Tx) EventsAfter(id int64, most int) (list []Event, last int64, err error) {
	last = id
	err = t.each(func(scan func(...any) error) error {
		var e Event
		var at int64
		if err := scan(&last, &at, &e.Event, &e.Server, &e.Run, &e.Machine.Serial, &e.Machine.UUID, &e.Machine.Model, &e.Machine.ComputerName,
			&e.KeyID, &e.Volume, &e.Address); err != nil {
			return err
		}
		e.Time = fromMicro(at)
		list = append(list, e)
		return nil
	}, `SELECT id, time, event, server, run, serial, uuid, model, computer_name, key_id, volume, address
		FROM audit WHERE id > ?1 ORDER BY id LIMIT ?2`, id, most)
	return list, last, err
}

// Report is the log of a run.
type Report struct {
	Run string
	Log []byte
}

// ReportSize is the size of the log that is kept of a run, in bytes; 0 is none.
func (t *Tx) ReportSize(run string) (size int64, err error) {
	_, err = t.one([]any{&size}, "SELECT size FROM reports WHERE run = ?1", run)
	return size, err
}

// ReportEnd is the end of the log that is kept of a run, no more than most bytes of it; it may begin within a line.
func (t *Tx) ReportEnd(run string, most int) (log []byte, err error) {
	_, err = t.one([]any{&log}, "SELECT SUBSTR(log, CASE WHEN size > ?2 THEN CAST(size - ?2 + 1 AS INTEGER) ELSE 1 END) FROM reports WHERE run = ?1", run, most)
	return log, err
}

// PutReport keeps a log. A shorter one than there is already does not replace it: a machine's log only grows.
func (t *Tx) PutReport(r Report, received time.Time) error {
	_, err := t.exec(`INSERT INTO reports (run, received, size, log) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (run) DO UPDATE SET received = excluded.received, size = excluded.size, log = excluded.log
		WHERE excluded.size > reports.size`, r.Run, toMicro(received), len(r.Log), r.Log)
	return err
}

// ReportsAfter lists logs by the names of their runs, part by part: those behind one, but no more than most of them, and
// none but the first where they are more bytes than size together.
func (t *Tx) ReportsAfter(run string, most int, size int64) (list []Report, err error) {
	total := int64(0)
	var names []string
	if err := t.each(func(scan func(...any) error) error {
		var name string
		var n int64
		if err := scan(&name, &n); err != nil {
			return err
		}
		if total += n; total <= size || len(names) == 0 {
			names = append(names, name)
		}
		return nil
	}, "SELECT run, size FROM reports WHERE run > ?1 ORDER BY run LIMIT ?2", run, most); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, nil
	}
	err = t.each(func(scan func(...any) error) error {
		var r Report
		if err := scan(&r.Run, &r.Log); err != nil {
			return err
		}
		list = append(list, r)
		return nil
	}, "SELECT run, log FROM reports WHERE run > ?1 AND run <= ?2 ORDER BY run", run, names[len(names)-1])
	return list, err
}
