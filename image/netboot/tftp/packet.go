package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The kinds of packet (RFC 1350, section 5; RFC 2347).
const (
	opRead   = 1
	opWrite  = 2
	opData   = 3
	opAck    = 4
	opError  = 5
	opOAck   = 6
	maxNames = 512 // bytes of a request: RFC 2347, "the maximum size of a request packet is 512 octets"
)

// The codes of errors (RFC 1350, appendix; RFC 2347).
const (
	codeUndefined = 0
	codeNotFound  = 1
	codeAccess    = 2
	codeIllegal   = 4
	codeOptions   = 8
)

// What a client may negotiate.
const (
	minBlock, usualBlock = 8, 512
	// maxBlock fills an Ethernet frame of 1,500 bytes behind the headers of IP and UDP and the four bytes of its own:
	// fragments are what firmware fails at.
	maxBlock  = 1500 - 20 - 8 - 4
	maxWindow = 64
	// maxTimeout keeps a client that has gone from holding its place for long.
	maxTimeout = 10
)

// request is a request to read a file, with what was asked for in options; zero where it was not.
type request struct {
	name    string
	block   int // RFC 2348
	window  int // RFC 7440
	timeout int // in seconds, RFC 2349
	size    bool
}

var errWrite = errors.New("this server is for reading only")

// parseRequest reads a packet that came to the server's own port.
func parseRequest(p []byte) (request, error) {
	var r request
	if len(p) < 2 || len(p) > maxNames {
		return r, fmt.Errorf("request of %d bytes, expected 2 to %d", len(p), maxNames)
	}
	switch op := binary.BigEndian.Uint16(p); op {
	case opRead:
	case opWrite:
		return r, errWrite
	default:
		return r, fmt.Errorf("packet of kind %d, expected a request", op)
	}
	words := bytes.Split(p[2:], []byte{0})
	// The last one is what follows the last NUL. Some firmware pads the packet with NULs.
	if len(words) < 3 || len(words[len(words)-1]) != 0 {
		return r, errors.New("request without an end of its last word")
	}
	r.name = string(words[0])
	if mode := strings.ToLower(string(words[1])); r.name == "" || mode != "octet" {
		return r, fmt.Errorf("file %q in mode %q: only octet can be read", r.name, mode)
	}
	for options := words[2 : len(words)-1]; len(options) >= 2; options = options[2:] {
		value, err := strconv.Atoi(string(options[1]))
		if err != nil || value < 0 {
			continue // an option that is not understood is left out of the answer: RFC 2347
		}
		switch strings.ToLower(string(options[0])) {
		case "blksize":
			if value >= minBlock {
				r.block = min(value, maxBlock)
			}
		case "windowsize":
			if value >= 1 {
				r.window = min(value, maxWindow)
			}
		case "timeout":
			if value >= 1 && value <= maxTimeout { // otherwise the server's own holds
				r.timeout = value
			}
		case "tsize":
			r.size = true
		}
	}
	return r, nil
}

// accept is the answer to the options; nil where there were none.
func (r request) accept(size int) []byte {
	p := []byte{0, opOAck}
	add := func(name string, value int) {
		p = append(append(append(p, name...), 0), strconv.Itoa(value)...)
		p = append(p, 0)
	}
	if r.block > 0 {
		add("blksize", r.block)
	}
	if r.window > 0 {
		add("windowsize", r.window)
	}
	if r.timeout > 0 {
		add("timeout", r.timeout)
	}
	if r.size {
		add("tsize", size)
	}
	if len(p) == 2 {
		return nil
	}
	return p
}

func errorPacket(code uint16, text string) []byte {
	p := binary.BigEndian.AppendUint16([]byte{0, opError}, code)
	return append(append(p, text[:min(len(text), 100)]...), 0) // no longer than what asked for it
}

// parseAnswer reads a packet of a transfer under way: the number of the block that it acknowledges, or the client's error.
func parseAnswer(p []byte) (ack uint16, err error) {
	if len(p) < 4 {
		return 0, errShort
	}
	switch binary.BigEndian.Uint16(p) {
	case opAck:
		return binary.BigEndian.Uint16(p[2:]), nil
	case opError:
		text, _, _ := bytes.Cut(p[4:], []byte{0})
		return 0, &clientError{binary.BigEndian.Uint16(p[2:]), string(text[:min(len(text), 100)])}
	}
	return 0, errShort
}

var errShort = errors.New("packet that is no answer")

// clientError is why a client broke off.
type clientError struct {
	code uint16
	text string
}

func (e *clientError) Error() string {
	return fmt.Sprintf("the client broke off: %q (%d)", e.text, e.code)
}
