package control

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate"
)

// View is what people see of the machines.
type View struct {
	Machines []Machine
	Offset   int    // how many are before them
	Halted   string // why no machine is healed; empty: they are
	Rings    []RingView
	Totals   store.Totals
}

// Look lists up to most machines that a filter lets through, behind the first offset ones: those that wait for a key
// first, then those whose step changed last. Behind the end it goes back to the last ones, by whole pages.
func (s *Server) Look(ctx context.Context, filter store.Filter, offset, most int) (v View, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		f, err := tx.Fleet()
		if err != nil {
			return err
		}
		v.Halted = f.Halted
		if v.Rings, err = s.rings(tx, f); err != nil {
			return err
		}
		if v.Totals, err = tx.Totals(); err != nil {
			return err
		}
		v.Offset = max(0, min(offset, (filter.Of(v.Totals)-1)/most*most))
		machines, err := tx.Machines(filter, v.Offset, most)
		if err != nil {
			return err
		}
		v.Machines, err = s.shown(tx, machines)
		return err
	})
	return v, err
}

// Detail is all that is known of a machine.
type Detail struct {
	Machine
	UUID     string
	Version  string // of the media that it started from
	Decision string // heal, dry-run or leave
	Log      []LogLine
}

// LogLine is a line of a machine's log in words.
type LogLine struct {
	Time time.Time
	Text string
}

// logEnd is how many bytes of a log are looked at for its last lines.
const logEnd = 32 << 10

// Detail looks at the machine of a run. It is an error where the machine has started again since.
func (s *Server) Detail(ctx context.Context, run string) (d Detail, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		m, err := tx.MachineOfRun(run)
		if err != nil {
			return err
		}
		if m == nil {
			return errUnknownMachine
		}
		shown, err := s.shown(tx, []store.Machine{*m})
		if err != nil {
			return err
		}
		log, err := tx.ReportEnd(run, logEnd)
		if err != nil {
			return err
		}
		d = Detail{shown[0], m.Identity.UUID, m.Version, m.Decision, logLines(log)}
		return nil
	})
	return d, err
}

// keyLike is what could be a recovery key. No machine of ours writes one into its log, but anybody may send a log.
var keyLike = regexp.MustCompile(`[0-9]{6}([ -]?[0-9]{6}){7}`)

// logLines are the lines of a log. What is torn is left out.
func logLines(log []byte) (lines []LogLine) {
	for line := range bytes.Lines(log) {
		var known remediate.Line
		var fields map[string]json.RawMessage
		if json.Unmarshal(line, &known) != nil || known.Schema != remediate.LogSchema || json.Unmarshal(line, &fields) != nil {
			continue
		}
		text := known.Event
		for _, name := range []string{"schema", "time", "run", "seq", "event"} {
			delete(fields, name)
		}
		for _, value := range fields { // there is one
			text += ": " + inWords(value)
		}
		text = remediate.Printable(strings.ToValidUTF8(text, "?"))
		lines = append(lines, LogLine{known.Time, keyLike.ReplaceAllString(text, "(withheld)")})
	}
	return lines
}

// inWords is an object of JSON as "name value, name value", in its own order.
func inWords(object json.RawMessage) string {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return string(object)
	}
	var parts []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			break
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			break
		}
		text := string(value)
		var plain string
		if json.Unmarshal(value, &plain) == nil {
			text = plain
		}
		parts = append(parts, strings.ReplaceAll(name.(string), "_", " ")+" "+text) // a name is a string (RFC 8259, section 4)
	}
	return strings.Join(parts, ", ")
}

// Watch calls changed at once, and then whenever something may be different, until ctx ends or changed has an error.
func (s *Server) Watch(ctx context.Context, changed func() error) error {
	for {
		s.mu.Lock()
		next := s.changed
		s.mu.Unlock()
		if err := changed(); err != nil {
			return err
		}
		select {
		case <-next:
			time.Sleep(200 * time.Millisecond) // a floor of machines changes all the time
		case <-time.After(s.quiet()):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// quiet is how long those wait who watch and whom nobody tells of a change. What other servers do is seen by looking.
func (s *Server) quiet() time.Duration {
	if s.options.DB.Shared {
		return 2 * time.Second
	}
	return 15 * time.Second
}

// Pause has no machine healed until somebody resumes. who is written down.
func (s *Server) Pause(ctx context.Context, who string) error {
	return s.halt(ctx, "paused by a person", who)
}

// Resume heals machines again.
func (s *Server) Resume(ctx context.Context, who string) error { return s.halt(ctx, "", who) }
