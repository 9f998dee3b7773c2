package boottest

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Console is a serial line: everything that came over it is kept, and text can be waited for and sent.
type Console struct {
	in io.Writer

	mu     sync.Mutex
	text   strings.Builder // what came, without escape sequences and carriage returns
	pos    int             // Expect has matched up to here
	marks  []mark          // when the text reached which length
	more   chan struct{}   // closed and replaced when text grows
	eof    error           // set when the line is dead
	fatal  chan struct{}   // closed when the kernel panics
	reason string
	escape escapeState
}

type mark struct {
	length int
	at     time.Time
}

// A kernel says this and nothing more: waiting for the next line would only hide it.
var panicText = regexp.MustCompile(`Kernel panic - not syncing[^\n]*|Oops: [^\n]*|BUG: unable to handle[^\n]*`)

// NewConsole reads out until it ends.
func NewConsole(out io.Reader, in io.Writer) *Console {
	c := &Console{in: in, more: make(chan struct{}), fatal: make(chan struct{})}
	go c.read(out)
	return c
}

func (c *Console) read(out io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		c.mu.Lock()
		for _, b := range buf[:n] {
			if c.escape.printable(b) {
				c.text.WriteByte(b)
			}
		}
		c.marks = append(c.marks, mark{c.text.Len(), time.Now()})
		if c.reason == "" {
			if found := panicText.FindString(c.tail(8192)); found != "" {
				c.reason = found
				close(c.fatal)
			}
		}
		if err != nil {
			c.eof = err
		}
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *Console) tail(n int) string {
	text := c.text.String()
	return text[max(0, len(text)-n):]
}

// length of what has come.
func (c *Console) length() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Len()
}

// awaitOutput waits until the text is longer than it was, the line dies or the time is over.
func (c *Console) awaitOutput(length int, timeout time.Duration) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		c.mu.Lock()
		grown, more := c.text.Len() > length || c.eof != nil, c.more
		c.mu.Unlock()
		if grown {
			return
		}
		select {
		case <-more:
		case <-timer.C:
			return
		}
	}
}

// Expect waits for the first match behind the previous one and returns it with its groups. It fails at once when the
// kernel panics or the line dies.
func (c *Console) Expect(pattern string, timeout time.Duration) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		c.mu.Lock()
		more, eof, fatal := c.more, c.eof, c.reason
		rest := c.text.String()[c.pos:]
		if loc := re.FindStringIndex(rest); loc != nil {
			c.pos += loc[1]
			c.mu.Unlock()
			return re.FindStringSubmatch(rest), nil
		}
		c.mu.Unlock()
		if fatal != "" {
			return nil, fmt.Errorf("waiting for %q: %w", pattern, c.fatalError())
		}
		if eof != nil {
			return nil, fmt.Errorf("waiting for %q: console closed: %w", pattern, eof)
		}
		select {
		case <-more:
		case <-timer.C:
			return nil, fmt.Errorf("waiting for %q: not seen within %v", pattern, timeout)
		}
	}
}

// Seen tells whether the pattern occurs anywhere in what has come so far.
func (c *Console) Seen(pattern string) bool {
	return regexp.MustCompile(pattern).MatchString(c.Transcript())
}

// SeenAt tells when the pattern's first occurrence had come, the zero time for never.
func (c *Console) SeenAt(pattern string) time.Time {
	loc := regexp.MustCompile(pattern).FindStringIndex(c.Transcript())
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.marks {
		if loc != nil && m.length >= loc[1] {
			return m.at
		}
	}
	return time.Time{}
}

// Send types text. Add "\r" for the Enter key.
func (c *Console) Send(text string) error {
	_, err := io.WriteString(c.in, text)
	return err
}

// Transcript is everything that has come so far.
func (c *Console) Transcript() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// Fatal is closed when the kernel panics.
func (c *Console) Fatal() <-chan struct{} { return c.fatal }

func (c *Console) fatalError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Errorf("the kernel of the machine crashed: %s", c.reason)
}

// escapeState drops terminal control sequences (ECMA-48: ESC [ parameters final), which firmware and GRUB draw with.
type escapeState int

const (
	escapeNone escapeState = iota
	escapeStart
	escapeSequence
	escapeCharset
)

func (s *escapeState) printable(b byte) bool {
	switch *s {
	case escapeStart:
		switch b {
		case '[':
			*s = escapeSequence
		case '(', ')':
			*s = escapeCharset
		default:
			*s = escapeNone
		}
		return false
	case escapeSequence:
		if b >= 0x40 && b <= 0x7e {
			*s = escapeNone
		}
		return false
	case escapeCharset:
		*s = escapeNone
		return false
	}
	if b == 0x1b {
		*s = escapeStart
		return false
	}
	return b == '\n' || b == '\t' || b >= ' '
}
