package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// content is bytes that repeat nowhere near.
func content(n int) []byte {
	data := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = random.Read(data) // never fails
	return data
}

// serve starts a server on the loopback and returns its address.
func serve(t testing.TB, files map[string][]byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Open: func(name string, _ netip.Addr) ([]byte, error) {
		data, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return data, nil
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // it was made above
}

// packetOf is a request, word by word.
func packetOf(op byte, words ...string) []byte {
	return append([]byte{0, op}, strings.Join(words, "\x00")+"\x00"...)
}

// client reads a file as firmware does. lose drops the packets that it says, by their number.
func client(t testing.TB, server netip.AddrPort, name string, options map[string]int, lose func(n int) bool) []byte {
	t.Helper()
	return clientFrom(t, net.IPv4(127, 0, 0, 1), server, name, options, lose)
}

func clientFrom(t testing.TB, local net.IP, server netip.AddrPort, name string, options map[string]int, lose func(n int) bool) []byte {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: local})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	words := []string{name, "octet"}
	for key, value := range options {
		words = append(words, key, strconv.Itoa(value))
	}
	if _, err := conn.WriteToUDPAddrPort(packetOf(opRead, words...), server); err != nil {
		t.Fatal(err)
	}
	block, window := usualBlock, 1
	var got []byte
	next, inWindow := uint16(1), 0
	buf := make([]byte, 65536)
	for n := 0; ; n++ {
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		k, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		if lose != nil && lose(n) {
			continue
		}
		ack := func(b uint16) {
			if _, err := conn.WriteToUDPAddrPort(binary.BigEndian.AppendUint16([]byte{0, opAck}, b), from); err != nil {
				t.Fatal(err)
			}
		}
		switch p := buf[:k]; binary.BigEndian.Uint16(p) {
		case opOAck:
			words := strings.Split(strings.TrimSuffix(string(p[2:]), "\x00"), "\x00")
			for i := 0; i+1 < len(words); i += 2 {
				value, err := strconv.Atoi(words[i+1])
				if err != nil {
					t.Fatal(err)
				}
				switch words[i] {
				case "blksize":
					block = value
				case "windowsize":
					window = value
				}
				if words[i] != "tsize" && value > options[words[i]] {
					t.Errorf("%s of %d was answered with %d", words[i], options[words[i]], value)
				}
			}
			ack(0)
		case opData:
			if number := binary.BigEndian.Uint16(p[2:]); number != next {
				ack(next - 1) // RFC 7440, section 4: the last one that came in order
				inWindow = 0
				continue
			}
			got = append(got, p[4:]...)
			inWindow++
			if len(p) < 4+block {
				ack(next)
				return got
			}
			if inWindow == window {
				ack(next)
				inWindow = 0
			}
			next++
		case opError:
			t.Fatalf("error packet %q", p)
		}
	}
}

func TestTransfer(t *testing.T) {
	files := map[string][]byte{}
	for _, size := range []int{0, 1, 511, 512, 513, 1468 * 7, 300_000, 33 << 20} {
		files[strconv.Itoa(size)] = content(size)
	}
	server := serve(t, files)
	every := func(k int) func(int) bool { return func(n int) bool { return n%k == k-1 } }
	for name, test := range map[string]struct {
		size    string
		options map[string]int
		lose    func(int) bool
	}{
		"empty":               {"0", nil, nil},
		"one byte":            {"1", nil, nil},
		"a byte short":        {"511", nil, nil},
		"a full block":        {"512", nil, nil},
		"a byte more":         {"513", nil, nil},
		"full blocks":         {"10276", map[string]int{"blksize": 1468, "tsize": 0}, nil},
		"window":              {"300000", map[string]int{"blksize": 1468, "windowsize": 16, "tsize": 0, "timeout": 2}, nil},
		"too much asked":      {"300000", map[string]int{"blksize": 65464, "windowsize": 65535}, nil},
		"65,536 blocks, once": {strconv.Itoa(33 << 20), map[string]int{"windowsize": 32}, nil},
		"losses":              {"10276", map[string]int{"blksize": 1024}, every(7)},
		"losses in windows":   {"300000", map[string]int{"blksize": 1468, "windowsize": 8}, every(61)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := client(t, server, test.size, test.options, test.lose); !bytes.Equal(got, files[test.size]) {
				t.Errorf("%d bytes arrived, not the %s that were sent", len(got), test.size)
			}
		})
	}
}

// TestOtherClients reads with clients that others wrote.
func TestOtherClients(t *testing.T) {
	data := content(200_000)
	server := serve(t, map[string][]byte{"file": data})
	for name, args := range map[string][]string{
		"tftp": {"-m", "binary", server.Addr().String(), strconv.Itoa(int(server.Port())), "-c", "get", "file"},
		"curl": {"-sS", "--tftp-blksize", "1400", "-o", "file", "tftp://" + server.String() + "/file"},
	} {
		t.Run(name, func(t *testing.T) {
			program, err := exec.LookPath(name)
			if err != nil {
				t.Skipf("%v: install it", err)
			}
			cmd := exec.Command(program, args...)
			cmd.Dir = t.TempDir()
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			got, err := os.ReadFile(filepath.Join(cmd.Dir, "file"))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes arrived, error %v", len(got), err)
			}
		})
	}
}

// TestRefusals asks for what is not given out.
func TestRefusals(t *testing.T) {
	server := serve(t, map[string][]byte{"file": {1}})
	for name, test := range map[string]struct {
		packet []byte
		code   uint16
	}{
		"no such file": {packetOf(opRead, "other", "octet"), codeNotFound},
		"a way up":     {packetOf(opRead, "../../etc/passwd", "octet"), codeNotFound},
		"writing":      {packetOf(opWrite, "file", "octet"), codeIllegal},
		"as mail":      {packetOf(opRead, "file", "mail"), codeIllegal},
		"no end":       {[]byte("\x00\x01file\x00octet"), codeIllegal},
		"no name":      {packetOf(opRead, "", "octet"), codeIllegal},
		"data":         {[]byte{0, opData, 0, 1, 7}, codeIllegal},
		"too long":     {packetOf(opRead, strings.Repeat("x", 600), "octet"), codeIllegal},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := conn.WriteToUDPAddrPort(test.packet, server); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // shows at once
			buf := make([]byte, 600)
			n, err := conn.Read(buf)
			if err != nil || n < 5 || binary.BigEndian.Uint16(buf) != opError || binary.BigEndian.Uint16(buf[2:]) != test.code {
				t.Errorf("answer %q, %v; want an error %d", buf[:n], err, test.code)
			}
		})
	}
	// The server goes on.
	if got := client(t, server, "file", nil, nil); len(got) != 1 {
		t.Errorf("%d bytes afterwards", len(got))
	}
}

// TestFlood opens more transfers from one machine than it may have: another machine is served all the same.
func TestFlood(t *testing.T) {
	s := &Server{active: map[netip.AddrPort]bool{}, clients: map[netip.Addr]int{}}
	flood, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	begun := 0
	for port := range uint16(1000) {
		if s.begin(netip.AddrPortFrom(flood, port)) {
			begun++
		}
	}
	if begun != maxPerClient {
		t.Errorf("%d transfers of one machine at once, want %d", begun, maxPerClient)
	}
	if !s.begin(netip.AddrPortFrom(other, 1)) {
		t.Error("another machine was not served")
	}
	s.end(netip.AddrPortFrom(flood, 0))
	if !s.begin(netip.AddrPortFrom(flood, 5000)) {
		t.Error("a place that is free again was not given")
	}
}

// TestTimeout: a client may ask for a time-out, but not for one that holds its place for an hour when it has gone.
func TestTimeout(t *testing.T) {
	for asked, want := range map[string]time.Duration{"": 19 * time.Second, "1": 6 * time.Second, "10": time.Minute, "11": 19 * time.Second, "255": 19 * time.Second} {
		options := []string{"file", "octet", "blksize", "1468"}
		if asked != "" {
			options = append(options, "timeout", asked)
		}
		r, err := parseRequest(packetOf(opRead, options...))
		if err != nil {
			t.Fatal(err)
		}
		if agreed := bytes.Contains(r.accept(1), []byte("timeout")); agreed != (r.timeout > 0) {
			t.Errorf("%q: agreed %v", asked, agreed)
		}
		var most time.Duration
		for try := range maxTries {
			most += (&sender{request: r}).wait(try)
		}
		if most != want {
			t.Errorf("%q: given up after %s, want %s", asked, most, want)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(packetOf(opRead, "bootx64.efi", "octet", "tsize", "0", "blksize", "1468", "windowsize", "4"))
	f.Add(packetOf(opRead, "/grub/grub.cfg", "OCTET", "blksize", "1024", "tsize", "0"))
	f.Add(append(packetOf(opRead, "bios.0", "octet"), 0, 0, 0))
	f.Add([]byte{0, opAck, 0, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseRequest(p)
		if err != nil {
			return
		}
		if r.name == "" || r.block != 0 && (r.block < minBlock || r.block > maxBlock) || r.window < 0 || r.window > maxWindow || r.timeout < 0 || r.timeout > maxTimeout {
			t.Errorf("%q gave %+v", p, r)
		}
		if answer := r.accept(1 << 30); len(answer) > 512 {
			t.Errorf("an answer of %d bytes", len(answer))
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0, opAck, 0, 1})
	f.Add(errorPacket(8, "User aborted the transfer"))
	f.Fuzz(func(t *testing.T, p []byte) {
		_, err := parseAnswer(p)
		var broken *clientError
		if errors.As(err, &broken) && len(broken.text) > 100 {
			t.Errorf("a text of %d bytes", len(broken.text))
		}
	})
}
