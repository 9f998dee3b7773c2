// Package tftp is a server that gives files in memory out by TFTP (RFC 1350) with the options blksize, tsize and timeout
// (RFC 2347 to 2349) and windowsize (RFC 7440). It takes nothing in. [Server.Serve] is the way in.
package tftp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Server gives files out.
type Server struct {
	// Open returns the whole content of a file as named by a client, unchanged while it is read, or fs.ErrNotExist or
	// fs.ErrPermission.
	Open func(name string, client netip.Addr) ([]byte, error)
	// Done is told of each transfer that ended: err is nil where the client has all of the file. It may be nil, and is
	// called from several goroutines.
	Done func(name string, client netip.Addr, err error)

	mu      sync.Mutex
	active  map[netip.AddrPort]bool
	clients map[netip.Addr]int
}

// Bounds, so that a flood leaves room for others.
const (
	maxTransfers = 4096
	maxPerClient = 8
	// A client that has gone is given up after all of these.
	firstTimeout = time.Second
	maxTries     = 6
)

// Serve answers requests that come to conn until ctx ends, and then waits for no transfer. Answers come from conn's
// own address with ports of their own.
func (s *Server) Serve(ctx context.Context, conn *net.UDPConn) error {
	s.active, s.clients = map[netip.AddrPort]bool{}, map[netip.Addr]int{}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return fmt.Errorf("tftp: %v is not a UDP address", conn.LocalAddr())
	}
	buf := make([]byte, maxNames+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("tftp: %w", err)
		}
		if err != nil { // of an answer that could not be delivered, or of a packet that is too long
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		r, err := parseRequest(buf[:n])
		if err != nil {
			if binary.BigEndian.Uint16(append(buf[:n:n], 0, 0)) != opError { // errors are not answered
				_, _ = conn.WriteToUDPAddrPort(errorPacket(codeIllegal, err.Error()), from)
			}
			continue
		}
		if !s.begin(from) {
			continue // a request sent twice, or one too many: the client asks again
		}
		go func() {
			err := s.transfer(ctx, local.IP, from, r)
			s.end(from)
			if s.Done != nil {
				s.Done(r.name, from.Addr(), err)
			}
		}()
	}
}

func (s *Server) begin(from netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active[from] || len(s.active) >= maxTransfers || s.clients[from.Addr()] >= maxPerClient {
		return false
	}
	s.active[from] = true
	s.clients[from.Addr()]++
	return true
}

func (s *Server) end(from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.active, from)
	if s.clients[from.Addr()]--; s.clients[from.Addr()] == 0 {
		delete(s.clients, from.Addr())
	}
}

func (s *Server) transfer(ctx context.Context, local net.IP, client netip.AddrPort, r request) error {
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: local}, net.UDPAddrFromAddrPort(client))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	data, err := s.Open(r.name, client.Addr())
	if err != nil {
		code, text := uint16(codeUndefined), "file cannot be read"
		switch {
		case errors.Is(err, fs.ErrNotExist):
			code, text = codeNotFound, "file not found"
		case errors.Is(err, fs.ErrPermission):
			code, text = codeAccess, "not for this machine"
		}
		_, _ = conn.Write(errorPacket(code, text)) // nobody asks again for what there is not
		return err
	}
	return (&sender{conn: conn, data: data, request: r}).run()
}

// sender is one transfer.
type sender struct {
	conn *net.UDPConn
	data []byte
	request
}

func (t *sender) run() error {
	answer := make([]byte, 512)
	if hello := t.accept(len(t.data)); hello != nil {
		if _, err := t.exchange(answer, func() error { _, err := t.conn.Write(hello); return err }, 0, 0); err != nil {
			return err
		}
	}
	size := t.block
	if size == 0 {
		size = usualBlock
	}
	blocks := len(t.data)/size + 1 // the last one is shorter, and empty where the file fills the others
	packet := make([]byte, 4+size)
	for base := 0; base < blocks; {
		count := min(max(t.window, 1), blocks-base)
		acked, err := t.exchange(answer, func() error {
			for i := base; i < base+count; i++ {
				binary.BigEndian.PutUint16(packet, opData)
				binary.BigEndian.PutUint16(packet[2:], uint16(i+1)) // begins again at 0 behind 65,535
				n := copy(packet[4:], t.data[i*size:])
				if _, err := t.conn.Write(packet[:4+n]); err != nil {
					return err
				}
			}
			return nil
		}, uint16(base), count)
		if err != nil {
			return err
		}
		base += acked
	}
	return nil
}

// wait is how long an answer is waited for: what was agreed on, or a little longer each time.
func (t *sender) wait(try int) time.Duration {
	if t.timeout > 0 {
		return time.Duration(t.timeout) * time.Second
	}
	return firstTimeout << min(try, 2)
}

// exchange sends until an answer acknowledges one of the count blocks behind base, or base itself where there are none,
// and returns how many it acknowledges. Where the first block of a window was lost, the client says so by
// acknowledging base again (RFC 7440); that is believed once between two timeouts, and never without windows: answering
// each one doubles every packet from there on.
func (t *sender) exchange(answer []byte, send func() error, base uint16, count int) (int, error) {
	for try := range maxTries {
		if err := send(); err != nil {
			return 0, err // among others: nobody listens there any more
		}
		resent := count <= 1
		if err := t.conn.SetReadDeadline(time.Now().Add(t.wait(try))); err != nil {
			return 0, err
		}
		for {
			n, err := t.conn.Read(answer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return 0, err
			}
			ack, err := parseAnswer(answer[:n])
			var broken *clientError
			switch ahead := int(ack - base); {
			case errors.As(err, &broken):
				return 0, err
			case err != nil:
			case count == 0 && ahead == 0, ahead >= 1 && ahead <= count:
				return ahead, nil
			case ahead == 0 && !resent:
				resent = true
				_ = send() // what fails shows as a timeout
			}
		}
	}
	return 0, fmt.Errorf("the client has not answered %d times", maxTries)
}
