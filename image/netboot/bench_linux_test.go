package netboot

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// BenchmarkHTTP has sixteen machines fetch a disc at once, from memory as "bootmend serve" does it, and from nginx.
func BenchmarkHTTP(b *testing.B) {
	const machines, size = 16, 32 << 20
	disc := make([]byte, size)
	for i := range disc {
		disc[i] = byte(i * i >> 8)
	}
	fetch := func(b *testing.B, url string) {
		b.SetBytes(machines * size)
		for b.Loop() {
			var all sync.WaitGroup
			for range machines {
				all.Go(func() {
					client := &http.Client{Transport: &http.Transport{}}
					defer client.CloseIdleConnections()
					r, err := client.Get(url)
					if err != nil {
						b.Error(err)
						return
					}
					defer func() { _ = r.Body.Close() }()
					if n, err := io.Copy(io.Discard, r.Body); n != size || err != nil {
						b.Errorf("%d bytes, %v", n, err)
					}
				})
			}
			all.Wait()
		}
	}
	b.Run("bootmend", func(b *testing.B) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		files := &Files{ID: "1", content: map[string][]byte{"/disc.iso": disc}}
		server := &http.Server{Handler: files.Handler(nil), ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(listener) }() // until it is closed
		defer func() { _ = server.Close() }()
		fetch(b, "http://"+listener.Addr().String()+"/disc.iso")
	})
	b.Run("nginx", func(b *testing.B) { fetch(b, nginx(b, disc)) })
}

// nginx gives a file out, and returns its URL.
func nginx(b *testing.B, data []byte) string {
	b.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			b.Skip("nginx is not installed: install nginx-light")
		}
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "disc.iso"), data, 0o644); err != nil {
		b.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	conf := fmt.Sprintf("%s daemon off; worker_processes auto; pid %s/pid; error_log stderr; events { worker_connections 1024; } http { access_log off; sendfile on; tcp_nopush on; server { listen %s; root %[2]s; } }",
		user, dir, address)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), path, "-c", file)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // lets it end its workers, too
		_ = cmd.Wait()
	})
	for range 200 {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return "http://" + address + "/disc.iso"
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.Fatal("nginx does not start")
	return ""
}
