package remediate

import (
	"fmt"
	"strings"
)

// Explain says in plain words what the pack does, one sentence for each rule and one for its limits.
func (p *Pack) Explain() []string {
	lines := make([]string, 0, len(p.Rules)+1)
	for i := range p.Rules {
		lines = append(lines, p.Rules[i].explain())
	}
	return append(lines, fmt.Sprintf("On one machine at most %s, all below %s; whatever is beyond that is asked about first.",
		plural(p.BlastRadius.MaxFiles, "file"), strings.Join(p.BlastRadius.Paths, ", ")))
}

func (r *Rule) explain() string {
	s := fmt.Sprintf("Rule %s moves %s into the quarantine", r.ID, r.Path)
	if r.Action == ActionDisableService {
		s = fmt.Sprintf("Rule %s keeps the service %s from starting", r.ID, r.Service)
		if r.Path != "" {
			s += " where there is " + r.Path
		}
	}
	if c := r.Identify.explain(); c != "" {
		s += ", if " + c
	}
	if c := r.Faulty.explain(); c != "" {
		s += "; of these only the faulty ones (unless the policy is all-matching): if " + c
	}
	return s + "."
}

func (c *Conditions) explain() string {
	var parts []string
	if len(c.LeadingBytes) > 0 {
		var alternatives []string
		for _, l := range c.LeadingBytes {
			if l.AllZeros {
				alternatives = append(alternatives, "it is all zeros")
			} else {
				alternatives = append(alternatives, "it begins with "+l.String())
			}
		}
		parts = append(parts, strings.Join(alternatives, " or "))
	}
	switch from, before := c.ModifiedFrom, c.ModifiedBefore; {
	case !from.IsZero() && !before.IsZero():
		parts = append(parts, fmt.Sprintf("it was modified from %s on and before %s", clock(from), clock(before)))
	case !from.IsZero():
		parts = append(parts, "it was modified at "+clock(from)+" or later")
	case !before.IsZero():
		parts = append(parts, "it was modified before "+clock(before))
	}
	switch {
	case c.MinSize != nil && c.MaxSize != nil:
		parts = append(parts, fmt.Sprintf("it has %s to %s bytes", groupDigits(*c.MinSize), groupDigits(*c.MaxSize)))
	case c.MinSize != nil:
		parts = append(parts, fmt.Sprintf("it has at least %s bytes", groupDigits(*c.MinSize)))
	case c.MaxSize != nil:
		parts = append(parts, fmt.Sprintf("it has at most %s bytes", groupDigits(*c.MaxSize)))
	}
	if n := len(c.SHA256); n > 0 {
		parts = append(parts, fmt.Sprintf("its SHA-256 is one of the %d listed", n))
	}
	return strings.Join(parts, ", and ")
}
