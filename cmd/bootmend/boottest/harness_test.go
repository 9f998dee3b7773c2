package boottest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestStandIn boots the disk alone: what the tests of the media rely on must work by itself, Secure Boot included.
func TestStandIn(t *testing.T) {
	for _, firmware := range []Firmware{UEFI, SecureBoot, BIOS} {
		t.Run(string(firmware), func(t *testing.T) {
			disk := newDisk(t, DiskOptions{Plain: true})
			m := boot(t, Options{Firmware: firmware, Disks: []Disk{{Path: disk.Path, Bus: AHCI}}})
			m.expect(StandIn, time.Minute)
			if err := m.WaitPowerOff(time.Minute); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// machine is a Machine that fails its test by itself.
type machine struct {
	*Machine
	t *testing.T
}

// boot starts a machine that ends with the test. On failure the test shows how it was started and what it said.
func boot(t *testing.T, o Options) machine {
	t.Helper()
	skipShort(t)
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	running, err := Start(context.Background(), o)
	check(t, err)
	m := machine{running, t}
	t.Cleanup(func() {
		if dir := os.Getenv("BOOTMEND_SCREENSHOTS"); dir != "" && m.running() {
			name := strings.NewReplacer("/", "-", " ", "_").Replace(t.Name()) + ".png"
			if err := errors.Join(os.MkdirAll(dir, 0o755), m.Screenshot(filepath.Join(dir, name))); err != nil {
				t.Log("screenshot:", err)
			}
		}
		if t.Failed() {
			t.Logf("machine: %s", m.Status())
		}
		m.Close()
		if t.Failed() || testing.Verbose() {
			t.Logf("console:\n%s", m.Transcript())
		}
		if t.Failed() {
			t.Logf("command:\n%s", m.CmdlineQuoted())
		}
	})
	return m
}

func (m machine) expect(pattern string, timeout time.Duration) []string {
	m.t.Helper()
	found, err := m.Expect(pattern, timeout)
	if err != nil {
		m.t.Fatal(err)
	}
	return found
}

func (m machine) send(text string) {
	m.t.Helper()
	if err := m.Send(text); err != nil {
		m.t.Fatal(err)
	}
}

// reset waits for the machine's own restart and tells how long it ran.
func (m machine) reset(timeout time.Duration) time.Duration {
	m.t.Helper()
	ran, err := m.WaitReset(timeout)
	if err != nil {
		m.t.Fatal(err)
	}
	return ran
}

func (m machine) resume() {
	m.t.Helper()
	if err := m.Resume(); err != nil {
		m.t.Fatal(err)
	}
}

// check fails the test, or skips it where this computer lacks something.
func check(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine; left out by -short")
	}
}

// disks are made once and copied for each test.
var disks struct {
	sync.Mutex
	dir  string
	made map[string]*WindowsDisk
}

// newDisk is a fresh copy of the disk that the options describe.
func newDisk(t *testing.T, o DiskOptions) *WindowsDisk {
	t.Helper()
	skipShort(t)
	name := diskName(o)
	disks.Lock()
	defer disks.Unlock()
	d := disks.made[name]
	if d == nil {
		var err error
		if disks.dir == "" {
			disks.dir, err = os.MkdirTemp("", "bootmend-disks")
			check(t, err)
			disks.made = map[string]*WindowsDisk{}
		}
		start := time.Now()
		d, err = MakeDisk(context.Background(), filepath.Join(disks.dir, name+".img"), o)
		check(t, err)
		t.Logf("disk %s made in %v", name, time.Since(start).Round(time.Millisecond))
		disks.made[name] = d
	}
	copied := *d
	copied.Path = filepath.Join(t.TempDir(), "disk.img")
	_, err := run(context.Background(), "cp", "--sparse=always", "--reflink=auto", d.Path, copied.Path)
	check(t, err)
	return &copied
}

// diskName is a file name that is the same for the same options only.
func diskName(o DiskOptions) string {
	// Functions and readers print as addresses: options with them are told apart, but not found again.
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%#v", o)))[:16]
}

func TestMain(m *testing.M) {
	code := m.Run()
	if disks.dir != "" {
		_ = os.RemoveAll(disks.dir)
	}
	if programDir != "" {
		_ = os.RemoveAll(programDir)
	}
	os.Exit(code)
}
