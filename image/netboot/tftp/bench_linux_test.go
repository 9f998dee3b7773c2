package tftp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkServe has eight machines fetch a kernel at once, from this server and from dnsmasq, with what firmware asks
// for; and from this one with the window that it grants beside, which dnsmasq does not know.
func BenchmarkServe(b *testing.B) {
	const machines = 8
	kernel := content(4 << 20)
	ethernet := map[string]int{"blksize": 1468}
	fetch := func(b *testing.B, server netip.AddrPort, options map[string]int) {
		b.SetBytes(machines * int64(len(kernel)))
		for b.Loop() {
			var all sync.WaitGroup
			for i := range machines {
				all.Go(func() {
					if got := clientFrom(b, net.IPv4(127, 0, 1, byte(i)), server, "vmlinuz", options, nil); len(got) != len(kernel) {
						b.Errorf("%d bytes", len(got))
					}
				})
			}
			all.Wait()
		}
	}
	ours := program(b)
	b.Run("bootmend", func(b *testing.B) { fetch(b, ours, ethernet) })
	b.Run("dnsmasq", func(b *testing.B) { fetch(b, dnsmasq(b, "vmlinuz", kernel), ethernet) })
	b.Run("bootmend, windows of 16", func(b *testing.B) { fetch(b, ours, map[string]int{"blksize": 1468, "windowsize": 16}) })
}

const child = "BOOTMEND_TEST_TFTP"

// TestChild is no test: it is the server of the benchmark, in a process of its own as dnsmasq is.
func TestChild(t *testing.T) {
	if os.Getenv(child) == "" {
		t.Skip("the server of a benchmark")
	}
	fmt.Printf("address %s\n", serve(t, map[string][]byte{"vmlinuz": content(4 << 20)}))
	_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark ends
}

// program starts TestChild and returns where it answers.
func program(b *testing.B) netip.AddrPort {
	b.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), child+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // its own result
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "address "); ok {
			return netip.MustParseAddrPort(text)
		}
	}
	b.Fatal("the server has not started")
	return netip.AddrPort{}
}

// dnsmasq gives a file out on the port that it always uses.
func dnsmasq(b *testing.B, name string, data []byte) netip.AddrPort {
	b.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/dnsmasq"); err != nil {
			b.Skip("dnsmasq is not installed: install dnsmasq-base")
		}
	}
	dir, err := os.MkdirTemp("", "bootmend-tftp") // not below a folder that only root may enter
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), path, "-k", "-C", "/dev/null", "--port=0", "--enable-tftp", "--tftp-root="+dir, "--user=root", "--pid-file=",
		"--listen-address=127.0.0.1", "--bind-interfaces", "--log-facility=/dev/null", "--tftp-max=100")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	address := netip.MustParseAddrPort("127.0.0.1:69")
	for range 100 {
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(address))
		if err != nil {
			return address // it has the port
		}
		_ = conn.Close()
		time.Sleep(20 * time.Millisecond)
	}
	b.Skip("dnsmasq does not start here; it needs root")
	return address
}
