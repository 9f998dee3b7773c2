package main

import (
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bootmend/bootmend/cmd/mend/screen"
)

// displayNode is the screen that pages are shown on. Every other terminal has the plain lines only.
const displayNode = "/dev/tty1"

// consoleNodes in the order in which people look at them. Serial ports are used where a chip answers.
var consoleNodes = []string{displayNode, "/dev/ttyS0", "/dev/ttyS1", "/dev/ttyS2", "/dev/ttyS3", "/dev/hvc0"}

func openConsole() *console {
	var terms []*terminal
	var files []*os.File
	for _, node := range consoleNodes {
		if f, t := openTerminal(node); t != nil {
			terms, files = append(terms, t), append(files, f)
		}
	}
	c := newConsole(terms)
	for _, f := range files {
		go c.read(f, false)
	}
	return c
}

func openTerminal(node string) (*os.File, *terminal) {
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil
	}
	fd := int(f.Fd()) // Fd makes the file blocking again, which the two goroutines want
	serial := strings.HasPrefix(node, "/dev/ttyS")
	if serial && !hasUART(fd) {
		f.Close()
		return nil, nil
	}
	termios, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		f.Close()
		return nil, nil
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
		return nil, nil
	}
	t := newTerminal(f)
	if serial {
		t.settle = func() { _ = unix.IoctlSetInt(fd, unix.TCSBRK, 1) } // wait for the line itself
		return f, t
	}
	t.screen, t.pages = true, node == displayNode && prepareDisplay(fd)
	t.size = func() (columns, rows int) { return size(fd) }
	if t.pages {
		t.print("\x1b[0m\x1b[2J\x1b[H")
	}
	t.tone = func(good bool) {
		if good {
			play(fd, 880, 1320)
		} else {
			play(fd, 220, 220, 165)
		}
	}
	return f, t
}

// hasUART asks whether a chip stands behind a serial port: the kernel makes the nodes in any case.
// struct serial_struct of linux/serial.h begins with the int "type", where 0 is PORT_UNKNOWN.
func hasUART(fd int) bool {
	var serial [32]int32
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGSERIAL, uintptr(unsafe.Pointer(&serial[0])))
	return errno == 0 && serial[0] != 0
}

// size is that of a screen, in columns and rows.
func size(fd int) (columns, rows int) {
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil || size.Col < 40 || size.Row < 10 {
		return 80, 25
	}
	return int(size.Col), int(size.Row)
}

// Console ioctls of linux/kd.h.
const (
	kdMakeTone  = 0x4b30 // KDMKTONE: milliseconds << 16 | period in ticks of 1,193,180 Hz
	kdSetLocks  = 0x4b65 // KDSKBLED: flags now | flags after a reset << 4
	kdGetGlyphs = 0x4b66 // GIO_UNIMAP
	numLock     = 2      // K_NUMLOCK
)

// play sounds tones of so many hertz on the PC speaker, if there is one.
func play(fd int, hertz ...int) {
	const length = 250 // milliseconds
	for _, h := range hertz {
		if unix.IoctlSetInt(fd, kdMakeTone, length<<16|1193180/h) != nil {
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
