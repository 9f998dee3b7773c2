package remediate

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// PlanSchema names the JSON form of a [Plan].
const PlanSchema = "bootmend.plan/v1"

// Plan is what a repair would do, and what it leaves alone and why.
type Plan struct {
	Schema string    `json:"schema"`
	Policy Policy    `json:"policy"`
	Packs  []PackRef `json:"packs"`
	// Actions are what would be done, in the order of paths.
	Actions []Action `json:"actions"`
	// Kept are near misses: files of a rule's name that stay, and why.
	Kept []Finding `json:"kept,omitempty"`
	// Problems are places that could not be looked at. With one of them, an
	// empty plan does not mean that there is nothing to heal.
	Problems []Finding `json:"problems,omitempty"`
	// Beyond is where the plan reaches beyond a pack's blast radius. Approved
	// says who agreed to that; [Quarantine] asks for it.
	Beyond   []Beyond `json:"beyond_blast_radius,omitempty"`
	Approved string   `json:"approved,omitempty"`

	roots []string // Windows directories of the volume
}

// PackRef names a rule pack that a plan was made from.
type PackRef struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	SHA256 string `json:"sha256"`
}

// Action is one file and what is to be done with it.
type Action struct {
	Kind ActionKind `json:"action"`
	// Path is relative to the volume, slash-separated, spelled as on disk. For
	// a service it is that of the registry hive.
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Times  Times  `json:"times"`
	// Rules are the "pack/rule" that took the file.
	Rules  []string `json:"rules"`
	Reason string   `json:"reason"`
	// Service is set for ActionDisableService.
	Service *Service `json:"service,omitempty"`
}

// Target names what the action is about, in a few words.
func (a *Action) Target() string {
	if a.Service != nil {
		return "service " + a.Service.Name
	}
	return a.Path
}

// Intent is what is done, as it is said before: "to quarantine: X".
func (k ActionKind) Intent() string {
	switch k {
	case ActionDisableService:
		return "to disable"
	case ActionPutBack:
		return "to put back"
	}
	return "to quarantine"
}

// Times are a file's times in UTC; zero where the platform does not tell.
type Times struct {
	Modified time.Time `json:"modified"`
	Accessed time.Time `json:"accessed,omitzero"`
	Created  time.Time `json:"created,omitzero"`
}

// Finding is a path that a rule looked at and why nothing is done with it.
type Finding struct {
	Path string `json:"path"`
	Rule string `json:"rule"` // "pack/rule"
	Why  string `json:"why"`
	// Size and Modified are given for regular files.
	Size     int64     `json:"size,omitempty"`
	Modified time.Time `json:"modified,omitzero"`
}

// Empty reports whether the plan asks for no action.
func (p *Plan) Empty() bool { return p == nil || len(p.Actions) == 0 }

// WriteText writes the plan for people.
func (p *Plan) WriteText(w io.Writer) error {
	out := bufio.NewWriter(w)
	if p.Empty() {
		fmt.Fprintln(out, "nothing to quarantine")
	}
	p.writeActions(out, ActionPutBack, "file")
	p.writeActions(out, ActionQuarantine, "file")
	p.writeActions(out, ActionDisableService, "service")
	findings := func(title string, list []Finding) {
		if len(list) == 0 {
			return
		}
		fmt.Fprintf(out, "%s: %d\n", title, len(list))
		for _, f := range list {
			fmt.Fprintf(out, "  %s\n    %s (rule %s)\n", Printable(f.Path), f.Why, f.Rule)
		}
	}
	findings("looked at and left alone", p.Kept)
	findings("could not be looked at", p.Problems)
	for _, b := range p.Beyond {
		fmt.Fprintf(out, "beyond the blast radius: %s\n", b)
	}
	return out.Flush()
}

// writeActions writes the actions of one kind.
func (p *Plan) writeActions(out io.Writer, kind ActionKind, noun string) {
	if p == nil {
		return
	}
	n := 0
	for _, a := range p.Actions {
		if a.Kind == kind {
			n++
		}
	}
	if n > 0 {
		fmt.Fprintf(out, "%s: %s\n", kind.Intent(), plural(n, noun))
	}
	for _, a := range p.Actions {
		if a.Kind != kind {
			continue
		}
		if a.Service != nil {
			fmt.Fprintf(out, "  %s\n    %s in %s\n", Printable(a.Service.Name), a.Service.describe(), Printable(a.Path))
		} else {
			fmt.Fprintf(out, "  %s\n", Printable(a.Path))
			fmt.Fprintf(out, "    %s, modified %s, SHA-256 %s\n", groupDigits(a.Size)+" bytes", clock(a.Times.Modified), a.SHA256)
		}
		if len(a.Rules) == 0 {
			fmt.Fprintf(out, "    %s\n", a.Reason)
			continue
		}
		fmt.Fprintf(out, "    %s (rule %s)\n", a.Reason, strings.Join(a.Rules, ", "))
	}
}

// clock writes a time as the incident reports do; seconds only if there are any.
func clock(t time.Time) string {
	t = t.UTC()
	if t.Second() == 0 && t.Nanosecond() == 0 {
		return t.Format("2006-01-02 15:04 UTC")
	}
	return t.Format("2006-01-02 15:04:05 UTC")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return groupDigits(int64(n)) + " " + what + "s"
}

// groupDigits writes 40768 as 40,768.
func groupDigits(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
