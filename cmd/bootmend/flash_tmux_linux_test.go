package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/cmd/bootmend/tui/termtest"
	"github.com/bootmend/bootmend/image/flash/flashtest"
)

// terminal runs bootmend in a terminal of its own.
type terminal struct {
	*termtest.Terminal
	t    *testing.T
	mask func(screen string) string // of what varies; may be nil
}

func newTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	return terminalOf(t, "100x20", t.TempDir(), env, args...)
}

// terminalOf has a size in columns and rows, and runs the program in a folder.
func terminalOf(t *testing.T, size, dir string, env []string, args ...string) *terminal {
	t.Helper()
	options := termtest.Options{Size: size, Dir: dir, Env: env}
	return &terminal{Terminal: termtest.Start(t, options, append([]string{programName(t)}, args...)...), t: t}
}

// programName is the test program, which is bootmend under that name, as in the scripts.
func programName(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "bootmend")
	if err := os.Symlink(self, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// slowStick is a stick that takes long enough to be watched.
func slowStick(t *testing.T, f *flashtest.Faulty) (dev string, detach func()) {
	t.Helper()
	path, err := f.Mount(t.TempDir())
	if err != nil {
		t.Skipf("serving a disk from memory needs root and FUSE: %v", err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	dev, undo, err := flashtest.Attach(path)
	if err != nil {
		t.Skipf("loop devices need root: %v", err)
	}
	done := false
	detach = func() {
		if !done {
			done = true
			if err := undo(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(detach)
	return dev, detach
}

func bootImage(t *testing.T, size int) string {
	t.Helper()
	data := make([]byte, size)
	data[510], data[511] = 0x55, 0xaa
	path := filepath.Join(t.TempDir(), "heal.img")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTable looks at the live table of several sticks, at the question before, and at what is left after.
func TestTable(t *testing.T) {
	image := bootImage(t, 12<<20)
	var devs []string
	for range 3 {
		dev, _ := slowStick(t, &flashtest.Faulty{Size: 64 << 20, Rate: 8e6})
		devs = append(devs, dev)
	}
	bad, _ := slowStick(t, &flashtest.Faulty{Size: 64 << 20, Rate: 8e6, DieAt: 9 << 20})
	devs = append(devs, bad)
	term := newTerminal(t, []string{testSticksEnv + "=" + strings.Join(devs, ",")}, "flash", image, "--all")
	screen := term.Expect(`Write 4\? \[y/N\]`)
	for _, dev := range devs {
		if !strings.Contains(screen, "  "+dev+", 67.1 MB") {
			t.Errorf("%s is not shown before it is erased:\n%s", dev, screen)
		}
	}
	term.Keys("y", "Enter")
	screen = term.Expect(devs[0] + ` .* writing +[#.]{12} +\d+% +\d+\.\d MB/s +\d+s`)
	t.Logf("the table:\n%s", screen)
	for _, dev := range devs[1:3] {
		if !regexp.MustCompile(dev + " .*(testing|writing)").MatchString(screen) {
			t.Errorf("%s has no row:\n%s", dev, screen)
		}
	}
	screen = term.Expect(bad + `.*: bad: cannot be written at byte`)
	if n := strings.Count(screen, "DEVICE"); n != 1 {
		t.Errorf("the table is there %d times:\n%s", n, screen)
	}
	screen = term.Expect(`(?s)3 good, 1 bad.*hint: bad sticks are named above`)
	if strings.Contains(screen, "DEVICE") {
		t.Errorf("the table is still there:\n%s", screen)
	}
}

// TestBar looks at the bar of one stick.
func TestBar(t *testing.T) {
	dev, _ := slowStick(t, &flashtest.Faulty{Size: 64 << 20, Rate: 8e6})
	term := newTerminal(t, []string{testSticksEnv + "=" + dev}, "flash", bootImage(t, 12<<20), "--to", dev, "--yes")
	screen := term.Expect(dev + ` writing +\d+% .*MB/s`)
	t.Logf("the bar:\n%s", screen)
	term.Expect(dev + ` verifying +\d+% .*MB/s`)
	if screen = term.Expect(dev + `, 67.1 MB: good`); strings.Contains(screen, "verifying") {
		t.Errorf("the bar is still there:\n%s", screen)
	}
}

// TestWatch plugs sticks in, one after the other, and ends with Ctrl-C.
func TestWatch(t *testing.T) {
	image := bootImage(t, 4<<20)
	before, _ := slowStick(t, &flashtest.Faulty{Size: 16 << 20})
	// What will be plugged in must be known by name: tests may not take loop devices of others.
	first, unplugFirst := slowStick(t, &flashtest.Faulty{Size: 16 << 20})
	second, unplugSecond := slowStick(t, &flashtest.Faulty{Size: 16 << 20, FlipAt: 3 << 20})
	unplugFirst()
	unplugSecond()
	term := newTerminal(t, []string{testSticksEnv + "=" + strings.Join([]string{before, first, second}, ",")}, "flash", image, "--watch")
	screen := term.Expect(`is erased. Begin\? \[y/N\]`)
	if !strings.Contains(screen, "left alone, since it was plugged in before: "+before) {
		t.Errorf("the stick that was there is not named:\n%s", screen)
	}
	term.Keys("y", "Enter")
	term.Expect("plug in the sticks")
	plug := func(dev string, f *flashtest.Faulty) {
		path, err := f.Mount(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		detach, err := flashtest.AttachTo(path, dev)
		if err != nil {
			t.Skipf("%s was taken by another program: %v", dev, err)
		}
		t.Cleanup(func() { _ = detach() })
	}
	plug(first, &flashtest.Faulty{Size: 16 << 20})
	term.Expect(first + `, 16.8 MB: good: 4.2 MB written`)
	plug(second, &flashtest.Faulty{Size: 16 << 20, FlipAt: 3 << 20})
	term.Expect(second + `, 16.8 MB: bad: returns other bytes than were written, at byte 3145728`)
	term.Keys("C-c")
	screen = term.Expect(`(?s)1 good, 1 bad.*hint: bad sticks are named above`)
	if status := term.Status(); status != "1" {
		t.Errorf("exit status %q", status)
	}
	if strings.Contains(screen, before+", 16.8 MB: ") {
		t.Errorf("the stick that was there was written:\n%s", screen)
	}
}
