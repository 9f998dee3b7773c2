package main

import (
	"time"
	"unicode/utf8"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/cmd/mend/screen"
)

// displayNode is the screen that pages are shown on. Every other terminal has the plain lines only.
const displayNode = "/dev/tty1"

// display is what the pages on the machine's own screen tell. The plain lines go on below them.
type display struct {
	machine string
	step    screen.Step
	field   screen.Field
}

// noted is a line that was told, for the pages and for the person who asks for the log.
type noted struct{ colour, text string }

// maxHistory bounds what is kept of them.
const maxHistory = 2000

// begin shows which machine this is, from now on.
func (c *console) begin(machine string) {
	c.display.machine = harmless(machine)
	c.show(nil, screen.Plain)
}

// step shows which part of the work runs.
func (c *console) step(s screen.Step) {
	if c.display.step == s {
		return
	}
	c.display.step = s
	if c.told != nil {
		c.told(s.String())
	}
	for _, t := range c.terms {
		if t.pages {
			width, _ := t.size()
			t.print(screen.Reheader(screen.Header(c.display.machine, s, width)))
		}
	}
}

// show puts a page on the screen, below it the last lines again. body may be nil, or return nil where it does not fit.
func (c *console) show(body func(width, room int) []string, field screen.Field) {
	c.display.field = field
	for _, t := range c.terms {
		if !t.pages {
			continue
		}
		width, height := t.size()
		rows := screen.Header(c.display.machine, c.display.step, width)
		if body != nil {
			rows = append(rows, body(width, height-len(rows)-screen.MinLines)...)
		}
		t.print(screen.Page(rows, field, height))
		// What is still to come has half of the room.
		room := (height - len(rows)) / 2
		first := len(c.history)
		for first > 0 {
			n := 1 + utf8.RuneCountInString(c.history[first-1].text)/width
			if room -= n; room < 0 {
				break
			}
			first--
		}
		for _, line := range c.history[first:] {
			c.printLine(t, line)
		}
	}
}

// review shows what was told so far, a screen at a time.
func (c *console) review(key func() (byte, error)) {
	lines := c.history
	if c.display.field != screen.Plain {
		c.show(nil, screen.Plain)
	}
	const perPage = 15 // of 25 rows, since long lines take two
	for len(lines) > 0 {
		n := min(perPage, len(lines))
		for _, line := range lines[:n] {
			for _, t := range c.terms {
				c.printLine(t, line)
			}
		}
		if lines = lines[n:]; len(lines) == 0 {
			return
		}
		c.print("Any key: go on   Q: enough  ")
		b, err := key()
		c.print("\r\n")
		if err != nil || b|0x20 == 'q' {
			return
		}
	}
}

// tone calls a person, or tells one without a screen how it ended: two rising tones are good, a low one is bad.
func (c *console) tone(good bool) {
	for _, t := range c.terms {
		switch {
		case t.screen && good:
			go t.play(880, 1320)
		case t.screen:
			go t.play(220, 220, 165)
		default:
			t.print("\a")
		}
	}
}

// Console ioctls of linux/kd.h.
const (
	kdMakeTone  = 0x4b30 // KDMKTONE: milliseconds << 16 | period in ticks of 1,193,180 Hz
	kdSetLocks  = 0x4b65 // KDSKBLED: flags now | flags after a reset << 4
	kdGetGlyphs = 0x4b66 // GIO_UNIMAP
	numLock     = 2      // K_NUMLOCK
)

// play sounds tones of so many hertz on the PC speaker, if there is one.
func (t *terminal) play(hertz ...int) {
	const length = 250 // milliseconds
	for _, h := range hertz {
		if unix.IoctlSetInt(int(t.f.Fd()), kdMakeTone, length<<16|1193180/h) != nil {
			return
		}
		time.Sleep((length + 50) * time.Millisecond)
	}
}

// prepareDisplay makes the number pad type digits, and reports whether the font has what pages are made of.
func prepareDisplay(fd int) bool {
	_ = unix.IoctlSetInt(fd, kdSetLocks, numLock<<4|numLock)
	type pair struct{ unicode, position uint16 }
	var pairs [4096]pair
	table := struct {
		count uint16
		pairs unsafe.Pointer
	}{uint16(len(pairs)), unsafe.Pointer(&pairs[0])}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), kdGetGlyphs, uintptr(unsafe.Pointer(&table))); errno != 0 {
		return false
	}
	known := map[rune]bool{}
	for _, p := range pairs[:min(int(table.count), len(pairs))] {
		known[rune(p.unicode)] = true
	}
	for _, glyph := range screen.Glyphs {
		if !known[glyph] {
			return false
		}
	}
	return true
}
