package remediate

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// subject is a file as conditions see it.
type subject struct {
	*content
	modified time.Time
}

// empty reports whether there is no condition.
func (c *Conditions) empty() bool {
	return len(c.LeadingBytes) == 0 && c.ModifiedFrom.IsZero() && c.ModifiedBefore.IsZero() &&
		c.MinSize == nil && c.MaxSize == nil && len(c.SHA256) == 0
}

// check tests the conditions and says why they hold or which one does not.
func (c *Conditions) check(s *subject) (why string, ok bool) {
	var reasons []string
	for _, test := range []func(*subject) (string, bool){c.checkBytes, c.checkModified, c.checkSize, c.checkHash} {
		why, ok := test(s)
		if !ok {
			return why, false
		}
		if why != "" {
			reasons = append(reasons, why)
		}
	}
	return strings.Join(reasons, "; "), true
}

func (c *Conditions) checkBytes(s *subject) (string, bool) {
	if len(c.LeadingBytes) == 0 {
		return "", true
	}
	for _, l := range c.LeadingBytes {
		if l.AllZeros {
			if s.allZeros {
				return "it is all zeros", true
			}
			continue
		}
		if bytes.HasPrefix(s.head, l.Bytes) {
			return "it begins with " + l.String(), true
		}
	}
	if s.size == 0 {
		return "it is empty", false
	}
	return fmt.Sprintf("it begins with %s, expected %s", spacedHex(s.head), explain(c.LeadingBytes)), false
}

func (c *Conditions) checkModified(s *subject) (string, bool) {
	if !c.ModifiedFrom.IsZero() && s.modified.Before(c.ModifiedFrom) {
		return fmt.Sprintf("it was modified %s, before %s", clock(s.modified), clock(c.ModifiedFrom)), false
	}
	if !c.ModifiedBefore.IsZero() && !s.modified.Before(c.ModifiedBefore) {
		return fmt.Sprintf("it was modified %s, not before %s", clock(s.modified), clock(c.ModifiedBefore)), false
	}
	switch {
	case c.ModifiedFrom.IsZero() && c.ModifiedBefore.IsZero():
		return "", true
	case c.ModifiedFrom.IsZero():
		return fmt.Sprintf("it was modified %s, before %s", clock(s.modified), clock(c.ModifiedBefore)), true
	case c.ModifiedBefore.IsZero():
		return fmt.Sprintf("it was modified %s, not before %s", clock(s.modified), clock(c.ModifiedFrom)), true
	}
	return fmt.Sprintf("it was modified %s, between %s and %s", clock(s.modified), clock(c.ModifiedFrom), clock(c.ModifiedBefore)), true
}

func (c *Conditions) checkSize(s *subject) (string, bool) {
	if c.MinSize != nil && s.size < *c.MinSize {
		return fmt.Sprintf("it has %s bytes, fewer than %s", groupDigits(s.size), groupDigits(*c.MinSize)), false
	}
	if c.MaxSize != nil && s.size > *c.MaxSize {
		return fmt.Sprintf("it has %s bytes, more than %s", groupDigits(s.size), groupDigits(*c.MaxSize)), false
	}
	if c.MinSize == nil && c.MaxSize == nil {
		return "", true
	}
	return fmt.Sprintf("it has %s bytes", groupDigits(s.size)), true
}

func (c *Conditions) checkHash(s *subject) (string, bool) {
	if len(c.SHA256) == 0 {
		return "", true
	}
	if slices.Contains(c.SHA256, s.sha256) {
		return "its SHA-256 is listed", true
	}
	return fmt.Sprintf("its SHA-256 %s is not listed", s.sha256), false
}
