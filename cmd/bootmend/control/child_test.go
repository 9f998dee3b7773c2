package control

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
)

// The folder of the server, and the address of its database where it is PostgreSQL.
const (
	childFolder   = "BOOTMEND_TEST_CONTROL"
	childDatabase = "BOOTMEND_TEST_DATABASE"
)

// TestChild is no test: it is a server in a process of its own.
func TestChild(t *testing.T) {
	dir := os.Getenv(childFolder)
	if dir == "" {
		t.Skip("the server of other tests")
	}
	o := Options{Space: 4 << 30, KeysPerHour: 5000} // as the program does by itself
	if address := os.Getenv(childDatabase); address != "" {
		db, err := store.OpenURL(context.Background(), store.Address(address))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		o.DB = db
	}
	s := newSite(t, dir, o)
	fmt.Printf("server %s %x\n", s.web.URL, s.pin())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test is over
}

// child is a server in a process of its own.
type child struct {
	cmd *exec.Cmd
	url string
	pin [sha256.Size]byte
}

func startChild(t *testing.T, dir string, environment ...string) child {
	t.Helper()
	c := child{cmd: exec.CommandContext(context.Background(), os.Args[0], "-test.run=^TestChild$")}
	c.cmd.Env = append(append(os.Environ(), childFolder+"="+dir), environment...)
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = c.cmd.Wait() // its own result
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) == 3 && words[0] == "server" {
			sum, err := hex.DecodeString(words[2])
			if err != nil {
				t.Fatal(err)
			}
			c.url, c.pin = words[1], [sha256.Size]byte(sum)
			return c
		}
	}
	t.Fatal("the server does not start")
	return c
}
