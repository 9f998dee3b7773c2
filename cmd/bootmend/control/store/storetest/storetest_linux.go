// Package storetest runs PostgreSQL for tests: [Start] makes a database in a temporary folder, which several servers may
// share, and which can be stopped and started again.
package storetest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
)

// Password is that of the database's user. It must show nowhere.
const Password = "pa%ss w/ord@291"

// Postgres is a PostgreSQL server of a test.
type Postgres struct {
	t    testing.TB
	bin  string
	dir  string
	port int
	attr *syscall.SysProcAttr
	cmd  *exec.Cmd
	log  *bytes.Buffer
}

// Start makes a database and starts its server, as a user without rights, since initdb refuses root. It skips the test where
// PostgreSQL is not installed.
func Start(t testing.TB) *Postgres {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // Debian has them in no PATH
	if err != nil {
		t.Fatal(err)
	}
	if path, err := exec.LookPath("initdb"); err == nil && len(found) == 0 {
		found = append(found, path)
	}
	if len(found) == 0 {
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	p := &Postgres{t: t, bin: filepath.Dir(found[len(found)-1]), attr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
	if p.dir, err = os.MkdirTemp("", "bootmend-postgres"); err != nil { // the folders of the test are for its own user
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	secret := filepath.Join(p.dir, "password")
	if err := os.WriteFile(secret, []byte(Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Fatal(err)
		}
		uid, err1 := strconv.Atoi(nobody.Uid)
		gid, err2 := strconv.Atoi(nobody.Gid)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		for _, path := range []string{p.dir, secret} {
			if err := os.Chown(path, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
		p.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	initdb := p.command("initdb", "-D", filepath.Join(p.dir, "data"), "-U", "fleet", "--pwfile", secret, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = free.Addr().(*net.TCPAddr).Port
	_ = free.Close()
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(p.bin, name), args...)
	cmd.SysProcAttr, cmd.Dir = p.attr, p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	return cmd
}

// Start starts the server again, and waits until it answers.
func (p *Postgres) Start() {
	p.t.Helper()
	p.log = &bytes.Buffer{}
	p.cmd = p.command("postgres", "-D", filepath.Join(p.dir, "data"), "-p", strconv.Itoa(p.port), "-k", p.dir, "-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=16MB")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		db, err := store.OpenURL(context.Background(), p.Address())
		if err == nil {
			_ = db.Close()
			return
		}
		if time.Now().After(end) {
			p.Stop()
			p.t.Fatalf("PostgreSQL does not answer: %v\n%s", err, p.log)
		}
	}
}

// Stop has it end as if it had crashed: what it has said to be kept must be there when it starts again.
func (p *Postgres) Stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // immediate shutdown
	_ = p.cmd.Wait()                          // it was told to
	p.cmd = nil
}

// Address is where the database is, with the password.
func (p *Postgres) Address() store.Address {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("fleet", Password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)), Path: "postgres", RawQuery: "sslmode=disable"}
	return store.Address(u.String())
}

// Open opens it once more, as another server does.
func (p *Postgres) Open() *store.DB {
	p.t.Helper()
	db, err := store.OpenURL(context.Background(), p.Address())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = db.Close() })
	return db
}

// Query asks PostgreSQL's own client, and returns what it prints.
func (p *Postgres) Query(query string) string {
	p.t.Helper()
	cmd := p.command("psql", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "fleet", "-d", "postgres", "-Atc", query)
	cmd.Env = append(cmd.Env, "PGPASSWORD="+Password)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatal(fmt.Errorf("psql: %w: %s", err, out))
	}
	return strings.TrimSpace(string(out))
}
