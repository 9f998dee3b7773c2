package remediate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/bootmend/bootmend/assets"
)

var (
	// The incident: faulty from 04:09, corrected from 05:27 UTC.
	faultyTime    = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	correctedTime = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
	channel291    = []byte{0xAA, 0xAA, 0xAA, 0xAA, 1, 0, 0x23, 1}
)

const driversDir = "Windows/System32/drivers/CrowdStrike"

// file is one file of a test volume.
type file struct {
	path  string
	data  []byte
	mtime time.Time
}

func channelFile(path string, mtime time.Time) file {
	data := append(slices.Clone(channel291), bytes.Repeat([]byte(filepath.Base(path)), 700)...)
	return file{path, data, mtime}
}

// incident is a volume as the outage left it: one faulty file, one that is all
// zeros, the corrected one, neighbours, and a decoy with another header.
func incident() []file {
	return []file{
		channelFile(driversDir+"/C-00000291-00000000-00000032.sys", faultyTime),
		{driversDir + "/C-00000291-00000000-00000031.sys", make([]byte, 5000), faultyTime},
		channelFile(driversDir+"/C-00000291-00000000-00000033.sys", correctedTime),
		channelFile(driversDir+"/C-00000290-00000000-00000001.sys", faultyTime),
		{driversDir + "/C-00000291-decoy.sys", []byte("MZ\x90\x00 no channel file"), faultyTime},
		{driversDir + "/csagent.sys", []byte("MZ driver"), faultyTime},
		{"Windows/System32/config/SYSTEM", []byte("no hive"), faultyTime},
		{"Windows/System32/ntoskrnl.exe", []byte("MZ"), faultyTime},
	}
}

// tempDir is t.TempDir in memory where that can be had: the tests sync thousands
// of times, and a busy disk takes its time over each.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "bootmend-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func makeTree(t testing.TB, files []file) string {
	t.Helper()
	root := tempDir(t)
	for _, f := range files {
		writeTestFile(t, root, f)
	}
	return root
}

func writeTestFile(t testing.TB, root string, f file) {
	t.Helper()
	p := filepath.Join(root, filepath.FromSlash(f.path))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, f.data, 0o644); err != nil {
		t.Fatal(err)
	}
	if !f.mtime.IsZero() {
		if err := os.Chtimes(p, f.mtime, f.mtime); err != nil {
			t.Fatal(err)
		}
	}
}

// snapshot is every regular file of a tree with its hash.
func snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(data)
			files[filepath.ToSlash(rel)] = hex.EncodeToString(sum[:])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func defaultPacks(t testing.TB) []*Pack {
	t.Helper()
	packs, err := ParsePacks(assets.DefaultRules())
	if err != nil {
		t.Fatal(err)
	}
	if len(packs) == 0 {
		t.Fatal("no default rule pack")
	}
	return packs
}

func evaluateTree(t testing.TB, root string, policy Policy) *Plan {
	t.Helper()
	plan, err := Evaluate(context.Background(), os.DirFS(root), defaultPacks(t), policy)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func actionPaths(p *Plan) []string {
	var paths []string
	for _, a := range p.Actions {
		paths = append(paths, a.Path)
	}
	return paths
}

func testRun(t testing.TB, id string) Run {
	t.Helper()
	return Run{ID: id, Time: time.Date(2024, 7, 20, 8, 0, 0, 0, time.UTC), ToolVersion: "test",
		Machine: Identity{Serial: "S1", ComputerName: "WS-0001"}}
}

// unpacked keeps unpacked test data for the tests that share it.
var unpacked = make(map[string][]byte)

// shared reads a file of the shared test data, unpacked, or skips.
func shared(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("BOOTMEND_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "testdata")
	}
	data, ok := unpacked[name]
	if ok {
		return data
	}
	p := filepath.Join(dir, filepath.FromSlash(name))
	data, err := os.ReadFile(p)
	if err != nil {
		t.Skipf("shared test data is absent: %v", err)
	}
	if filepath.Ext(name) == ".xz" {
		data = unxz(t, p, data)
	}
	unpacked[name] = data
	return data
}

// unxz unpacks with the xz program, which takes a tenth of the time, or without.
func unxz(t testing.TB, p string, data []byte) []byte {
	t.Helper()
	if out, err := exec.Command("xz", "-dc", p).Output(); err == nil {
		return out
	}
	if testing.Short() {
		t.Skip("the xz program is absent, and unpacking without it takes long")
	}
	r, err := xz.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
