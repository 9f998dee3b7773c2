package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/cmd/mend/screen"
)

// console is every place where a person may sit: the screen with its keyboard, and the serial ports (servers
// are healed over serial-over-LAN). Lines go to all of them, keys come from any.
type console struct {
	keys  chan byte
	terms []*terminal
	// open is set while a person types: what is told then begins on a line of its own, and clears it.
	open    bool
	display display
	history []noted
	// told hears of each step; it may be nil.
	told func(step string)
}

type terminal struct {
	f      *os.File
	out    chan string
	idle   sync.WaitGroup
	screen bool
	// pages is set on the machine's own screen, where its font can show them.
	pages bool
}

// backlog is how many lines a slow serial port may be behind before it misses some; the repair never waits for it.
const backlog = 512

// consoleNodes in the order in which people look at them. Serial ports are used where a chip answers.
var consoleNodes = []string{"/dev/tty1", "/dev/ttyS0", "/dev/ttyS1", "/dev/ttyS2", "/dev/ttyS3", "/dev/hvc0"}

func openConsole() *console {
	c := &console{keys: make(chan byte, 256)}
	for _, node := range consoleNodes {
		if t := openTerminal(node); t != nil {
			c.terms = append(c.terms, t)
			go t.write()
			go t.read(c.keys)
		}
	}
	return c
}

func openTerminal(node string) *terminal {
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	fd := int(f.Fd()) // Fd makes the file blocking again, which the two goroutines want
	serial := strings.HasPrefix(node, "/dev/ttyS")
	if serial && !hasUART(fd) {
		f.Close()
		return nil
	}
	termios, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		f.Close()
		return nil
	}
	// Raw: each key arrives at once and is echoed by us, on every terminal.
	termios.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	termios.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	termios.Oflag &^= unix.OPOST
	termios.Cc[unix.VMIN], termios.Cc[unix.VTIME] = 1, 0
	if serial {
		termios.Cflag = termios.Cflag&^(unix.CBAUD|unix.CSIZE|unix.PARENB|unix.CRTSCTS) | unix.B115200 | unix.CS8 | unix.CLOCAL | unix.CREAD
	}
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, termios); err != nil {
		f.Close()
		return nil
	}
	return &terminal{f: f, out: make(chan string, backlog), screen: !serial, pages: node == displayNode && prepareDisplay(fd)}
}

// hasUART asks whether a chip stands behind a serial port: the kernel makes the nodes in any case.
// struct serial_struct of linux/serial.h begins with the int "type", where 0 is PORT_UNKNOWN.
func hasUART(fd int) bool {
	var serial [32]int32
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGSERIAL, uintptr(unsafe.Pointer(&serial[0])))
	return errno == 0 && serial[0] != 0
}

func (t *terminal) write() {
	for s := range t.out {
		_, _ = t.f.WriteString(s) // an unplugged terminal must not stop the repair
		t.idle.Done()
	}
}

func (t *terminal) read(keys chan<- byte) {
	buf := make([]byte, 64)
	for {
		n, err := t.f.Read(buf)
		if err != nil || n == 0 {
			return
		}
		for _, b := range buf[:n] {
			select {
			case keys <- b:
			default: // nobody is asking
			}
		}
	}
}

func (t *terminal) print(s string) {
	t.idle.Add(1)
	select {
	case t.out <- s:
	default:
		t.idle.Done()
	}
}

// width is the number of columns of a screen; a serial line's other end breaks lines itself, or logs them.
func (t *terminal) width() int {
	if !t.screen {
		return 0
	}
	columns, _ := t.size()
	return columns
}

// size is that of a screen, in columns and rows.
func (t *terminal) size() (columns, rows int) {
	size, err := unix.IoctlGetWinsize(int(t.f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col < 40 || size.Row < 10 {
		return 80, 25
	}
	return int(size.Col), int(size.Row)
}

// print shows s as it is.
func (c *console) print(s string) {
	for _, t := range c.terms {
		t.print(s)
	}
}

// echo shows what a person types, which may differ between the screen and the serial lines.
func (c *console) echo(screen, serial string) {
	for _, t := range c.terms {
		s := serial
		if t.screen {
			s = screen
		}
		if s != "" {
			t.print(s)
		}
	}
}

// line prints one line of text.
func (c *console) line(format string, args ...any) { c.note("", format, args...) }

// Colours that the Linux console and serial terminals know.
const (
	green = "\x1b[1;32m"
	red   = "\x1b[1;31m"
	bold  = "\x1b[1m"
	plain = "\x1b[0m"
)

// note prints one line that must be seen, in a colour.
func (c *console) note(colour, format string, args ...any) {
	if c.open {
		c.open = false
		c.print("\r\n")
	}
	line := noted{colour, harmless(fmt.Sprintf(format, args...))}
	if c.history = append(c.history, line); len(c.history) > maxHistory {
		c.history = c.history[1:]
	}
	for _, t := range c.terms {
		c.printLine(t, line)
	}
}

func (c *console) printLine(t *terminal, line noted) {
	shown := wrap(line.text, t.width())
	switch {
	case line.colour == "":
	case t.pages && c.display.field != screen.Plain: // green on green says nothing
	default:
		shown = line.colour + shown + plain
	}
	t.print(shown + "\r\n")
}

// beep calls a person.
func (c *console) beep() { c.print("\a") }

// drain waits until all is on the terminals, but not longer than a second: a serial port may be stuck.
func (c *console) drain() {
	done := make(chan struct{})
	go func() {
		for _, t := range c.terms {
			t.idle.Wait()
			if !t.screen {
				_ = unix.IoctlSetInt(int(t.f.Fd()), unix.TCSBRK, 1) // wait for the line itself
			}
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
}

// forget throws away keys that were pressed before a question was asked.
func (c *console) forget() {
	for {
		select {
		case <-c.keys:
		default:
			return
		}
	}
}

// key waits for one key; ctx's end is an error.
func (c *console) key(ctx context.Context) (byte, error) {
	select {
	case b := <-c.keys:
		return b, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// choose asks until one of the letters in menu is pressed.
func (c *console) choose(ctx context.Context, question string, letters string) (byte, error) {
	c.forget()
	c.print(question)
	for {
		b, err := c.key(ctx)
		if err != nil {
			return 0, err
		}
		if b |= 0x20; strings.IndexByte(letters, b) >= 0 {
			c.line("%c", b)
			return b, nil
		}
	}
}

// maxAnswer bounds what answer takes in.
const maxAnswer = 64

// answer asks a question that a line answers, and shows it as it is typed.
func (c *console) answer(ctx context.Context, question string) (string, error) {
	c.forget()
	c.print(question)
	var line []byte
	for {
		b, err := c.key(ctx)
		if err != nil {
			c.print("\r\n")
			return "", err
		}
		switch {
		case b == '\r' || b == '\n':
			c.print("\r\n")
			return string(line), nil
		case (b == 0x7f || b == '\b') && len(line) > 0:
			line = line[:len(line)-1]
			c.print("\b \b")
		case b >= ' ' && b < 0x7f && len(line) < maxAnswer:
			line = append(line, b)
			c.print(string(b))
		}
	}
}
