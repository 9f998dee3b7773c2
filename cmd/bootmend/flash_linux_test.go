package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/bootmend/bootmend/image/flash/flashtest"
)

// TestFlashScripts has scripts that need block devices.
func TestFlashScripts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "probe")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	_, detach, err := flashtest.Attach(file)
	if err != nil {
		t.Skipf("loop devices need root: %v", err)
	}
	if err := detach(); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/flash",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mkstick": mkstick,
			"mkimage": mkimage,
			"holds":   holds,
			"format":  format,
		},
		Condition: bundleCondition,
	})
}

// mkstick NAME SIZE [dies=BYTE] [flips=BYTE] [real=SIZE] makes a stick. Its device is in $NAME from then on, and
// counts as a stick.
func mkstick(ts *testscript.TestScript, _ bool, args []string) {
	name := args[0]
	path := ts.MkAbs(name + ".stick")
	disk := &flashtest.Faulty{Size: scriptSize(ts, args[1])}
	if len(args) == 2 {
		write(ts, path, nil)
		ts.Check(os.Truncate(path, disk.Size))
	}
	for _, vice := range args[2:] {
		key, value, _ := strings.Cut(vice, "=")
		field, ok := map[string]*int64{"dies": &disk.DieAt, "flips": &disk.FlipAt, "real": &disk.Real, "rate": &disk.Rate}[key]
		if !ok {
			ts.Fatalf("vice %q is not known", vice)
		}
		*field = scriptSize(ts, value)
	}
	if len(args) > 2 {
		dir := ts.MkAbs(name + ".mount")
		ts.Check(os.MkdirAll(dir, 0o700))
		var err error
		path, err = disk.Mount(dir)
		ts.Check(err)
		ts.Defer(func() { ts.Check(disk.Close()) })
	}
	dev, detach, err := flashtest.Attach(path)
	ts.Check(err)
	ts.Defer(func() { ts.Check(detach()) })
	ts.Setenv(name, dev)
	ts.Setenv(testSticksEnv, strings.Trim(ts.Getenv(testSticksEnv)+","+dev, ","))
}

func scriptSize(ts *testscript.TestScript, s string) int64 {
	var n int64
	unit := ""
	if _, err := fmt.Sscanf(s, "%d%s", &n, &unit); err != nil && unit != "" {
		ts.Fatalf("size %q", s)
	}
	return n << map[string]int{"": 0, "K": 10, "M": 20, "G": 30}[unit]
}

// mkimage FILE SIZE writes an image with a boot sector and other bytes everywhere.
func mkimage(ts *testscript.TestScript, _ bool, args []string) {
	data := make([]byte, scriptSize(ts, args[1]))
	for i := range data {
		data[i] = byte(i>>8 ^ i>>16 ^ i)
	}
	data[510], data[511] = 0x55, 0xaa
	write(ts, ts.MkAbs(args[0]), data)
}

// holds DEVICE FILE compares the beginning of a device.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	want := ts.ReadFile(args[1])
	f, err := os.Open(args[0])
	ts.Check(err)
	defer f.Close()
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil && !neg {
		ts.Fatalf("%s: %v", args[0], err)
	}
	if same := string(got) == want; same == neg {
		ts.Fatalf("%s holds %s: %t", args[0], args[1], same)
	}
}

// format DEVICE FOLDER makes a file system and mounts it.
func format(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("mkfs.ext2", "-q", args[0]))
	dir := ts.MkAbs(args[1])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(syscall.Mount(args[0], dir, "ext2", 0, ""))
	ts.Defer(func() { _ = syscall.Unmount(dir, 0) }) // the script may have had it unmounted
}
