// Package report turns the logs of many sticks into what the person who answers for an incident wants to know: how
// many machines are healed, which of them need a person and why, and which recovery keys were used and must be
// rotated.
//
// A [Collector] takes logs in any order and number, from several goroutines; [Collector.Report] is the result, a
// plain structure that marshals to JSON and that [Report.WriteTable], [Report.WriteCSV], [Report.WriteRotation] and
// [Report.WriteHTML] write in other forms.
package report

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/bootmend/bootmend/remediate"
)

// Schema names the JSON form of a [Report].
const Schema = "bootmend.report/v1"

// Unfinished is the outcome of a run whose log has no end: the power failed, or the stick was pulled.
const Unfinished remediate.Outcome = "unfinished"

// Report is what a set of logs tells.
type Report struct {
	Schema string `json:"schema"`
	// First and Last are when the first and the last run began, by the clocks of the machines.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	// Counts are machines by result.
	Counts []Count `json:"counts"`
	// Machines are ordered by need: those that need a person first, then by computer name.
	Machines []Machine `json:"machines"`
	// Rotate are the recovery keys that were used, ordered by computer.
	Rotate []Key `json:"rotate"`
	// Timeline counts runs over time; see [Slot].
	Timeline []Slot `json:"timeline"`
	// Runs counts different runs, Copies the logs that repeated one of them, Skipped the lines that are not log
	// lines, as a power cut leaves them.
	Runs    int `json:"runs"`
	Copies  int `json:"copies"`
	Skipped int `json:"skipped_lines"`
}

// Count is how many machines ended with a result.
type Count struct {
	Result   remediate.Outcome `json:"result"`
	Machines int               `json:"machines"`
}

// Machine is what became of one machine over all its runs.
type Machine struct {
	Serial   string `json:"serial,omitempty"`
	UUID     string `json:"uuid,omitempty"`
	Model    string `json:"model,omitempty"`
	Computer string `json:"computer,omitempty"`
	Windows  string `json:"windows,omitempty"`
	// Result is that of the last run that was no dry run; a machine that was healed before counts as healed.
	Result remediate.Outcome `json:"result"`
	// NeedsPerson says that somebody has to go there, Why tells for what.
	NeedsPerson bool      `json:"needs_person"`
	Why         string    `json:"why,omitempty"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	Runs        int       `json:"runs"`
	Quarantined int       `json:"quarantined"`
	KeyIDs      []string  `json:"key_ids,omitempty"`
	ToolVersion string    `json:"tool_version,omitempty"`
	Firmware    string    `json:"firmware,omitempty"`
}

// Key is a recovery key that opened a volume and should be rotated.
type Key struct {
	ID       string    `json:"key_id"`
	Computer string    `json:"computer,omitempty"`
	Serial   string    `json:"serial,omitempty"`
	Volume   string    `json:"volume,omitempty"` // BitLocker's own description of it
	Source   string    `json:"source,omitempty"` // where the key came from
	LastUsed time.Time `json:"last_used"`
}

// Slot is a stretch of time, an hour or a day long, and the runs that began in it.
type Slot struct {
	Start       time.Time `json:"start"`
	Hours       int       `json:"hours"`
	Healed      int       `json:"healed"`
	NothingToDo int       `json:"nothing_to_do"`
	NeedsPerson int       `json:"needs_person"`
}

// Report merges what was collected so far.
func (c *Collector) Report() *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &Report{Schema: Schema, Runs: len(c.runs), Copies: c.copies, Skipped: c.skipped,
		Counts: []Count{}, Timeline: []Slot{}}
	r.Machines = make([]Machine, 0, len(c.runs))
	r.Rotate = make([]Key, 0, len(c.runs))
	runs := make([]*run, 0, len(c.runs))
	for _, one := range c.runs {
		runs = append(runs, one)
	}
	slices.SortFunc(runs, func(a, b *run) int { return cmp.Or(a.began.Compare(b.began), strings.Compare(a.name, b.name)) })
	if len(runs) == 0 {
		return r
	}
	r.First, r.Last = runs[0].began, runs[len(runs)-1].began
	r.Timeline = timeline(runs)

	at := map[string]int{}
	keys := map[string]int{}
	for _, one := range runs { // oldest first, so that later runs overrule
		id := one.machine()
		i, ok := at[id]
		if !ok {
			i = len(r.Machines)
			at[id] = i
			r.Machines = append(r.Machines, Machine{First: one.began})
		}
		m := &r.Machines[i]
		m.add(one)
		for _, used := range one.keys {
			if !slices.Contains(m.KeyIDs, used.ID) {
				m.KeyIDs = append(m.KeyIDs, used.ID)
			}
			used.Computer, used.Serial = m.Computer, m.Serial
			if k, ok := keys[used.ID]; ok {
				r.Rotate[k] = used
				continue
			}
			keys[used.ID] = len(r.Rotate)
			r.Rotate = append(r.Rotate, used)
		}
	}
	byResult := map[remediate.Outcome]int{}
	for i := range r.Machines {
		byResult[r.Machines[i].Result]++
	}
	for _, result := range results {
		if n := byResult[result]; n > 0 {
			r.Counts = append(r.Counts, Count{result, n})
		}
	}
	slices.SortStableFunc(r.Machines, func(a, b Machine) int {
		return cmp.Or(-boolCompare(a.NeedsPerson, b.NeedsPerson), compareFold(a.Computer, b.Computer), strings.Compare(a.Serial, b.Serial))
	})
	slices.SortStableFunc(r.Rotate, func(a, b Key) int {
		return cmp.Or(compareFold(a.Computer, b.Computer), strings.Compare(a.ID, b.ID))
	})
	return r
}

// NeedPerson are the machines that somebody has to go to.
func (r *Report) NeedPerson() []Machine {
	i := slices.IndexFunc(r.Machines, func(m Machine) bool { return !m.NeedsPerson })
	if i < 0 {
		i = len(r.Machines)
	}
	return r.Machines[:i]
}

// results are all outcomes, in the order in which they are shown.
var results = []remediate.Outcome{
	remediate.OutcomeHealed, remediate.OutcomeNothingToHeal, remediate.OutcomeDryRun,
	remediate.OutcomeNeedsPerson, remediate.OutcomeFailed, Unfinished,
}

func needsPerson(o remediate.Outcome) bool {
	return o == remediate.OutcomeNeedsPerson || o == remediate.OutcomeFailed || o == Unfinished
}

func (m *Machine) add(one *run) {
	set := func(to *string, from string) {
		if from != "" {
			*to = from
		}
	}
	if remediate.Meaningful(one.identity.Serial) {
		m.Serial = one.identity.Serial
	}
	set(&m.UUID, one.identity.UUID)
	set(&m.Model, one.identity.Model)
	set(&m.Computer, one.computer())
	set(&m.Windows, one.windows)
	set(&m.ToolVersion, one.tool)
	set(&m.Firmware, one.firmware)
	m.Runs++
	m.Last = one.began
	m.Quarantined += one.moved
	if one.dry && m.Result != "" && m.Result != remediate.OutcomeDryRun {
		return // a dry run changes nothing about what is known
	}
	m.Result, m.Why = one.outcome, one.why
	m.NeedsPerson = needsPerson(one.outcome)
}

// timeline counts runs by the hour, or by the day where hours would be too many. runs are sorted by their beginning. Clocks
// that are years off, one way or the other, must not make a chart of a thousand empty days: only the busiest time is shown.
func timeline(runs []*run) []Slot {
	runs = busiest(runs, (maxSlots-1)*24*time.Hour)
	first, last := runs[0].began, runs[len(runs)-1].began
	step := time.Hour
	if last.Sub(first) > maxSlots/2*time.Hour {
		step = 24 * time.Hour
	}
	first = first.Truncate(step)
	slots := make([]Slot, last.Sub(first)/step+1)
	for i := range slots {
		slots[i].Start, slots[i].Hours = first.Add(time.Duration(i)*step), int(step/time.Hour)
	}
	for _, one := range runs {
		s := &slots[one.began.Sub(first)/step]
		switch {
		case needsPerson(one.outcome):
			s.NeedsPerson++
		case one.outcome == remediate.OutcomeHealed && !one.before:
			s.Healed++
		default:
			s.NothingToDo++
		}
	}
	return slots
}

// busiest are the most runs that began within a span; the later ones where there are as many twice.
func busiest(runs []*run, span time.Duration) []*run {
	var best []*run
	from := 0
	for i, one := range runs {
		for one.began.Sub(runs[from].began) > span {
			from++
		}
		if i+1-from >= len(best) {
			best = runs[from : i+1]
		}
	}
	return best
}

// maxSlots bounds the chart.
const maxSlots = 120

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// compareFold orders names as people do, without regard to the case of ASCII letters.
func compareFold(a, b string) int {
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	for i := range min(len(a), len(b)) {
		if c := cmp.Compare(lower(a[i]), lower(b[i])); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}
