package report

import (
	"cmp"
	"io"
	"strings"
	"sync"
	"time"
	"unique"

	"github.com/bootmend/bootmend/remediate"
)

// Collector takes logs. Its methods may be called by several goroutines; the zero value is ready.
type Collector struct {
	mu      sync.Mutex
	runs    map[string]*run
	copies  int
	skipped int
}

// run is what is kept of one run's log.
type run struct {
	name      string
	lines     int
	began     time.Time
	identity  remediate.Identity
	names     string // the computer name that Windows has
	described string // the one that BitLocker's description has
	windows   string
	tool      string
	firmware  string
	dry       bool
	outcome   remediate.Outcome
	before    bool // healed by an earlier run
	why       string
	moved     int
	volumes   map[string]string // device to BitLocker's description
	keys      []Key
}

// Bounds on what a log can make a report keep: logs come from sticks that anybody may have written to.
const (
	maxText    = 600
	maxKeys    = 64
	maxVolumes = 256
)

// Add reads one log, or several behind each other, and returns how many runs it told of. A log of a run that is
// known already counts as a copy; the longer of the two is kept, since a log only grows.
func (c *Collector) Add(r io.Reader) (runs int, err error) {
	found := map[string]*run{}
	skipped, err := remediate.ScanLog(r, wanted, func(l *remediate.Line) {
		if l.Run == "" {
			return
		}
		one := found[l.Run]
		if one == nil {
			one = &run{name: clip(l.Run), outcome: Unfinished, why: "the log has no end: the power failed or the stick was pulled"}
			found[l.Run] = one
		}
		one.add(l)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs == nil {
		c.runs = map[string]*run{}
	}
	c.skipped += skipped
	for _, one := range found {
		one.volumes = nil
		known := c.runs[one.name]
		if known != nil {
			c.copies++
		}
		if known == nil || known.lines < one.lines {
			c.runs[one.name] = one
		}
	}
	return len(found), err
}

// wanted are the events that a report needs; the plan alone makes up most of a log.
func wanted(event string) bool {
	switch event {
	case "plan", "disk", "verify", "error":
		return false
	}
	return true
}

func (r *run) add(l *remediate.Line) {
	r.lines++
	if r.began.IsZero() || l.Time.Before(r.began) {
		r.began = l.Time.UTC()
	}
	switch {
	case l.Boot != nil:
		r.tool, r.firmware, r.dry = common(l.Boot.ToolVersion), common(l.Boot.Firmware), l.Boot.DryRun
	case l.Machine != nil:
		r.identity = remediate.Identity{Serial: clip(l.Machine.Serial), UUID: clip(l.Machine.UUID),
			Model: common(l.Machine.Model), ComputerName: clip(l.Machine.ComputerName)}
	case l.Volume != nil:
		r.found(l.Volume)
	case l.Windows != nil:
		r.names, r.windows = clip(l.Windows.ComputerName), common(l.Windows.Version.String())
	case l.Unlock != nil:
		r.unlocked(l)
	case l.Quarantine != nil:
		if l.Quarantine.Result != nil {
			r.moved += len(l.Quarantine.Result.Moved)
		}
	case l.Result != nil:
		r.ended(l.Result)
	}
}

// found notes a volume, whose description, "COMPUTER C: 7/19/2024", may be all that tells what machine this is.
func (r *run) found(v *remediate.VolumeEvent) {
	if v.Description == "" || len(r.volumes) >= maxVolumes {
		return
	}
	if r.volumes == nil {
		r.volumes = map[string]string{}
	}
	text := clip(v.Description)
	r.volumes[v.Device] = text
	if words := strings.Fields(text); len(words) > 1 && strings.HasSuffix(words[1], ":") && (r.described == "" || strings.EqualFold(words[1], "C:")) {
		r.described = words[0]
	}
}

// unlocked notes the key of a volume that was opened. A clear key lies on the volume for anyone to read, and Windows
// discards it by itself: there is nothing to rotate.
func (r *run) unlocked(l *remediate.Line) {
	u := l.Unlock
	if !u.OK || u.KeyID == "" || strings.HasPrefix(u.Source, "clear key") || len(r.keys) >= maxKeys {
		return
	}
	r.keys = append(r.keys, Key{ID: strings.ToUpper(clip(u.KeyID)), Volume: r.volumes[u.Device], Source: common(u.Source), LastUsed: l.Time.UTC()})
}

// ended notes a result. A run that a person let try again has several; the last one counts.
func (r *run) ended(e *remediate.ResultEvent) {
	r.before = e.Outcome == remediate.OutcomeHealedBefore
	r.outcome, r.why = e.Outcome, common(e.Message)
	switch {
	case !e.Outcome.Known():
		r.outcome, r.why = remediate.OutcomeNeedsPerson, "result "+clip(string(e.Outcome))+" is not known to this version"
	case e.Outcome == remediate.OutcomeDryRun:
		r.dry = true
	case e.Outcome == remediate.OutcomeLeft:
		r.outcome = remediate.OutcomeNeedsPerson
	case r.before:
		r.outcome = remediate.OutcomeHealed
	}
	if needsPerson(r.outcome) && r.why == "" {
		r.why = "the log does not tell why"
	}
}

func (r *run) computer() string {
	return cmp.Or(r.names, r.identity.ComputerName, r.described)
}

// machine identifies the machine that the run was on.
func (r *run) machine() string {
	id := r.identity
	id.ComputerName = r.computer()
	return cmp.Or(id.Known(), "run "+r.name)
}

// clip bounds a text and makes it safe for a terminal.
func clip(s string) string {
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return remediate.Printable(s)
}

// common is clip for texts that most machines of a company share, of which one copy is kept.
func common(s string) string { return unique.Make(clip(s)).Value() }
