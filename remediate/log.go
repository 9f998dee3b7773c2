package remediate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// LogSchema names the form of the log: JSON Lines, one event a line.
const LogSchema = "bootmend.log/v1"

// MaxLogSize bounds what a log keeps, in bytes. The end of it is for results: what came of a run must not be missing.
const (
	MaxLogSize = 4 << 20
	roomToEnd  = 64 << 10
)

// Line is one line of a log. The member that Event names is set, the others are
// not.
type Line struct {
	Schema string    `json:"schema"`
	Time   time.Time `json:"time"`
	Run    string    `json:"run"` // Run.Name
	Seq    int       `json:"seq"` // from 1, so that a missing line shows
	Event  string    `json:"event"`

	Boot       *BootEvent       `json:"boot,omitempty"`
	Machine    *Identity        `json:"machine,omitempty"`
	Disk       *DiskEvent       `json:"disk,omitempty"`
	Volume     *VolumeEvent     `json:"volume,omitempty"`
	Unlock     *UnlockEvent     `json:"unlock,omitempty"`
	Windows    *Windows         `json:"windows,omitempty"`
	Plan       *PlanEvent       `json:"plan,omitempty"`
	Quarantine *QuarantineEvent `json:"quarantine,omitempty"`
	Restore    *RestoreEvent    `json:"restore,omitempty"`
	SafeMode   *SafeModeEvent   `json:"safe_mode,omitempty"`
	Driver     *DriverEvent     `json:"driver,omitempty"`
	Verify     *VerifyEvent     `json:"verify,omitempty"`
	Result     *ResultEvent     `json:"result,omitempty"`
	Error      *ErrorEvent      `json:"error,omitempty"`
}

// Event is what a log records: one of the Event types of this package, an
// [Identity] or a [*Windows].
type Event interface {
	put(*Line)
}

// BootEvent begins a run.
type BootEvent struct {
	ToolVersion string `json:"tool_version"`
	Kernel      string `json:"kernel,omitempty"`
	Firmware    string `json:"firmware,omitempty"` // "uefi" or "bios"
	SecureBoot  *bool  `json:"secure_boot,omitempty"`
	Media       string `json:"media,omitempty"`
	DryRun      bool   `json:"dry_run,omitempty"`
}

// DiskEvent is a disk that was found.
type DiskEvent struct {
	Device string `json:"device"`
	Model  string `json:"model,omitempty"`
	Serial string `json:"serial,omitempty"`
	Size   int64  `json:"size"`
	Bus    string `json:"bus,omitempty"`
	Note   string `json:"note,omitempty"` // why it is left alone
}

// VolumeEvent is a volume that was found.
type VolumeEvent struct {
	Device      string `json:"device"`
	Kind        string `json:"kind"` // "bitlocker", "ntfs", …
	ID          string `json:"id,omitempty"`
	Description string `json:"description,omitempty"`
	Size        int64  `json:"size"`
	Note        string `json:"note,omitempty"`
}

// UnlockEvent is an attempt to unlock a volume. KeyID is the GUID of the protector
// and never the key; it is recorded because a used key must be rotated.
type UnlockEvent struct {
	Device    string `json:"device"`
	Protector string `json:"protector,omitempty"` // kind
	KeyID     string `json:"key_id,omitempty"`
	Source    string `json:"source,omitempty"` // "clear key", "file keys.csv", "typed", …
	OK        bool   `json:"ok"`
	Reason    string `json:"reason,omitempty"`
}

// PlanEvent is a plan for a volume.
type PlanEvent struct {
	Device string `json:"device"`
	Plan   *Plan  `json:"plan"`
}

// QuarantineEvent is what a quarantine did on a volume.
type QuarantineEvent struct {
	Device string  `json:"device"`
	Result *Result `json:"result"`
}

// RestoreEvent is what an undo did on a volume.
type RestoreEvent struct {
	Device string         `json:"device"`
	Result *RestoreResult `json:"result"`
}

// DriverEvent is a driver that was loaded so that disks show.
type DriverEvent struct {
	Name string `json:"name"`
}

// SafeModeEvent is a change to whether Windows starts in Safe Mode.
type SafeModeEvent struct {
	Device string `json:"device"`
	Set    bool   `json:"set"` // false: taken back
	OK     bool   `json:"ok"`
	Mode   string `json:"mode,omitempty"`  // "minimal" or "network"
	Entry  string `json:"entry,omitempty"` // GUID of the loader's entry
	Store  string `json:"store,omitempty"` // path of the boot configuration store
	Kept   string `json:"kept,omitempty"`  // the store as it was before
	Reason string `json:"reason,omitempty"`
}

// VerifyEvent is the outcome of reading the disk again.
type VerifyEvent struct {
	Device string `json:"device"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
}

// Outcome is how a run ended.
type Outcome string

// The outcomes of a run.
const (
	OutcomeHealed        Outcome = "healed"
	OutcomeNothingToHeal Outcome = "nothing-to-heal"
	OutcomeHealedBefore  Outcome = "healed-before"
	OutcomeDryRun        Outcome = "dry-run"
	OutcomeNeedsPerson   Outcome = "needs-person"
	OutcomeFailed        Outcome = "failed"
	OutcomeLeft          Outcome = "left" // as it was, because a server said so: it is still to be healed
)

// Known reports whether it is one of these; a log may be of a newer program, or not of one of ours.
func (o Outcome) Known() bool {
	switch o {
	case OutcomeHealed, OutcomeNothingToHeal, OutcomeHealedBefore, OutcomeDryRun, OutcomeNeedsPerson, OutcomeFailed, OutcomeLeft:
		return true
	}
	return false
}

// ResultEvent ends a run.
type ResultEvent struct {
	Outcome Outcome `json:"outcome"`
	Message string  `json:"message,omitempty"`
	Next    string  `json:"next,omitempty"` // what the machine does now
}

// ErrorEvent is something that went wrong.
type ErrorEvent struct {
	Step    string `json:"step"`
	Device  string `json:"device,omitempty"`
	Message string `json:"message"`
}

func (e BootEvent) put(l *Line)       { l.Event, l.Boot = "boot", &e }
func (e Identity) put(l *Line)        { l.Event, l.Machine = "machine", &e }
func (e DiskEvent) put(l *Line)       { l.Event, l.Disk = "disk", &e }
func (e VolumeEvent) put(l *Line)     { l.Event, l.Volume = "volume", &e }
func (e UnlockEvent) put(l *Line)     { l.Event, l.Unlock = "unlock", &e }
func (w *Windows) put(l *Line)        { l.Event, l.Windows = "windows", w }
func (e PlanEvent) put(l *Line)       { l.Event, l.Plan = "plan", &e }
func (e QuarantineEvent) put(l *Line) { l.Event, l.Quarantine = "quarantine", &e }
func (e RestoreEvent) put(l *Line)    { l.Event, l.Restore = "restore", &e }
func (e DriverEvent) put(l *Line)     { l.Event, l.Driver = "driver", &e }
func (e SafeModeEvent) put(l *Line)   { l.Event, l.SafeMode = "safe-mode", &e }
func (e VerifyEvent) put(l *Line)     { l.Event, l.Verify = "verify", &e }
func (e ResultEvent) put(l *Line)     { l.Event, l.Result = "result", &e }
func (e ErrorEvent) put(l *Line)      { l.Event, l.Error = "error", &e }

// Log records events as JSON Lines, in memory and to any number of sinks. Nothing
// that goes wrong with a sink reaches the caller: a repair never stops because a
// line could not be written. A Log may be used by several goroutines.
type Log struct {
	now func() time.Time

	mu    sync.Mutex
	run   string
	seq   int
	lines bytes.Buffer
	sinks []*sink
	full  bool
}

type sink struct {
	w   io.Writer
	err error
}

// NewLog begins the log of a run.
func NewLog(run Run, sinks ...io.Writer) *Log {
	l := &Log{now: time.Now, run: run.Name()}
	for _, w := range sinks {
		l.AddSink(w)
	}
	return l
}

// AddSink adds a writer. It gets the lines so far at once and every later line as
// one Write. It gets no more after its first error ([Log.SinkErrors]).
func (l *Log) AddSink(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &sink{w: w}
	l.sinks = append(l.sinks, s)
	if l.lines.Len() > 0 {
		s.write(l.lines.Bytes())
	}
}

func (s *sink) write(b []byte) {
	if s.err == nil {
		_, s.err = s.w.Write(b)
	}
}

// Add records an event.
func (l *Log) Add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	line := Line{Schema: LogSchema, Time: l.now().UTC(), Run: l.run, Seq: l.seq}
	e.put(&line)
	b, err := json.Marshal(&line)
	if err != nil {
		// Only an absurd time can do this; the event's name is still worth it.
		b, _ = json.Marshal(&Line{Schema: LogSchema, Time: line.Time, Run: l.run, Seq: l.seq, Event: line.Event,
			Error: &ErrorEvent{Step: "log", Message: err.Error()}})
	}
	b = append(redact(b), '\n')
	most := MaxLogSize
	if line.Result == nil {
		most -= roomToEnd
	}
	if l.lines.Len()+len(b) <= most {
		l.lines.Write(b)
	} else {
		l.full = true
	}
	for _, s := range l.sinks {
		s.write(b)
	}
}

// Errorf records an error of a step in words.
func (l *Log) Errorf(step, format string, args ...any) {
	l.Add(ErrorEvent{Step: step, Message: fmt.Sprintf(format, args...)})
}

// Bytes returns the lines so far, to be written as a file.
func (l *Log) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.lines.Bytes())
}

// SinkErrors returns the first error of each sink that failed.
func (l *Log) SinkErrors() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, s := range l.sinks {
		errs = append(errs, s.err)
	}
	if l.full {
		errs = append(errs, fmt.Errorf("log: more than %d bytes, the last lines are not kept", MaxLogSize))
	}
	return errors.Join(errs...)
}

// keyLike is a recovery password as somebody may have put it into a message:
// eight groups of six digits. No caller logs one; this is the second lock.
var keyLike = regexp.MustCompile(`([0-9]{6}[-_./, \x{2010}-\x{2015}]?){7}[0-9]{6}`)

func redact(b []byte) []byte { return keyLike.ReplaceAll(b, []byte("[recovery key removed]")) }

// maxLogLine bounds one line of a log.
const maxLogLine = 4 << 20

// lineBuffers are shared by those who read many small logs.
var lineBuffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// ScanLog reads logs, one or several behind each other, and gives fn each line,
// which it may keep. want, which may be nil, is asked for each event by its name;
// lines that it declines are not parsed further, which makes reading many logs
// much faster. What is no log line is skipped and counted.
func ScanLog(r io.Reader, want func(event string) bool, fn func(*Line)) (skipped int, err error) {
	buf := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(buf)
	sc := bufio.NewScanner(r)
	sc.Buffer(*buf, maxLogLine)
	for sc.Scan() {
		b := bytes.TrimSpace(sc.Bytes())
		if len(b) == 0 {
			continue
		}
		l, rest, ok := ownLine(b)
		if ok && want != nil && !want(l.Event) {
			continue
		}
		if json.Unmarshal(rest, &l) != nil || l.Schema != LogSchema {
			skipped++
			continue
		}
		fn(&l)
	}
	if err := sc.Err(); err != nil {
		return skipped, fmt.Errorf("read log: %w", err)
	}
	return skipped, nil
}

// ownLine reads the beginning of a line as [Log] writes it, which all lines have in common and which stands before
// anything that could hold the same text; rest is an object with what is left. Of any other line, rest is all of it. The
// line is used up.
func ownLine(line []byte) (l Line, rest []byte, ok bool) {
	const first, second, third, fourth = `{"schema":"` + LogSchema + `","time":"`, `","run":"`, `","seq":`, `,"event":"`
	head, rest, ok := bytes.Cut(line[:min(len(line), 256)], []byte(fourth))
	if !ok || !bytes.HasPrefix(head, []byte(first)) || bytes.LastIndexAny(head, "\\{[") > 0 {
		return Line{}, line, false
	}
	event, _, ok1 := bytes.Cut(rest, []byte(`"`))
	stamp, numbered, ok2 := bytes.Cut(head[len(first):], []byte(second))
	run, number, ok3 := bytes.Cut(numbered, []byte(third))
	when, err := time.Parse(time.RFC3339Nano, string(stamp))
	seq, err2 := strconv.Atoi(string(number))
	behind := len(head) + len(fourth) + len(event) + 1 // the comma before the event's own object
	if !ok1 || !ok2 || !ok3 || err != nil || err2 != nil || !bytes.HasPrefix(line[behind:], []byte(`,"`)) || line[len(line)-1] != '}' {
		return Line{}, line, false
	}
	line[behind] = '{'
	return Line{Schema: LogSchema, Time: when, Run: string(run), Seq: seq, Event: string(event)}, line[behind:], true
}
