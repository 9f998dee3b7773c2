package remediate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const testRunDir = "ProgramData/bootmend/quarantine/20240720T080000Z-r1"

func TestQuarantineIncident(t *testing.T) {
	root := makeTree(t, incident())
	before := snapshot(t, root)
	plan := evaluateTree(t, root, FaultyOnly)
	res, err := Quarantine(context.Background(), root, plan, testRun(t, "r1"))
	if err != nil {
		t.Fatal(err)
	}
	if res.Dir != testRunDir || len(res.Moved) != 2 || len(res.Failed) != 0 {
		t.Fatalf("result %+v", res)
	}
	if err := Verify(context.Background(), os.DirFS(root), res); err != nil {
		t.Error(err)
	}
	// What is there now is what was there, two files elsewhere, and a manifest.
	want := make(map[string]string)
	for p, sum := range before {
		want[p] = sum
	}
	for _, a := range plan.Actions {
		delete(want, a.Path)
		want[testRunDir+"/"+a.Path+".quarantined"] = a.SHA256
	}
	after := snapshot(t, root)
	manifest := after[testRunDir+"/manifest.json"]
	if manifest == "" {
		t.Error("no manifest")
	}
	want[testRunDir+"/manifest.json"] = manifest
	if !reflect.DeepEqual(after, want) {
		t.Errorf("tree after:\n%v\nwant:\n%v", after, want)
	}
	// Renaming keeps the times.
	info, err := os.Stat(filepath.Join(root, filepath.FromSlash(res.Moved[0].Quarantined)))
	if err != nil || !info.ModTime().Equal(faultyTime) {
		t.Errorf("time of the file in quarantine: %v, %v", info.ModTime(), err)
	}
	m, err := readManifest(os.DirFS(root), testRunDir)
	if err != nil {
		t.Fatal(err)
	}
	if m.ToolVersion != "test" || m.Run != "r1" || m.Machine.Serial != "S1" || m.Policy != FaultyOnly || len(m.Packs) != 1 || len(m.Files) != 2 {
		t.Errorf("manifest %+v", m)
	}
	e := m.Files[0]
	if e.Path != plan.Actions[0].Path || e.SHA256 != plan.Actions[0].SHA256 || e.Size != 5000 ||
		!e.Times.Modified.Equal(faultyTime) || e.Rules[0] != "crowdstrike-2024-07-19/channel-file-291" {
		t.Errorf("entry %+v", e)
	}

	healed, err := Healed(os.DirFS(root))
	if err != nil || len(healed) != 1 || healed[0].Moved() != 2 || healed[0].Dir != testRunDir {
		t.Errorf("healed %+v, %v", healed, err)
	}
	if plan := evaluateTree(t, root, FaultyOnly); !plan.Empty() {
		t.Errorf("healed, and yet there is a plan: %q", actionPaths(plan))
	}
}

func TestQuarantineEmptyPlanWritesNothing(t *testing.T) {
	root := makeTree(t, nil)
	for _, plan := range []*Plan{nil, {}} {
		if _, err := Quarantine(context.Background(), root, plan, testRun(t, "r1")); !errors.Is(err, ErrEmptyPlan) {
			t.Errorf("got %v", err)
		}
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("wrote %v, %v", entries, err)
	}
}

func TestQuarantineUsesExistingFolders(t *testing.T) {
	root := makeTree(t, append(incident(), file{path: "PROGRAMDATA/BootMend/other.txt"}))
	res, err := Quarantine(context.Background(), root, evaluateTree(t, root, FaultyOnly), testRun(t, "r1"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "PROGRAMDATA/BootMend/quarantine/20240720T080000Z-r1"; res.Dir != want {
		t.Errorf("used %q, want %q", res.Dir, want)
	}
	if err := Verify(context.Background(), os.DirFS(root), res); err != nil {
		t.Error(err)
	}
	if healed, err := Healed(os.DirFS(root)); err != nil || len(healed) != 1 {
		t.Errorf("healed %+v, %v", healed, err)
	}
	if _, err := Restore(context.Background(), root, res.Dir, RestoreOptions{Packs: defaultPacks(t)}); err != nil {
		t.Error(err)
	}
}

func TestQuarantineRefusesLinks(t *testing.T) {
	for _, name := range []string{"ProgramData", "programdata", "ProgramData/bootmend", "ProgramData/bootmend/quarantine"} {
		for _, inside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s inside=%v", name, inside), func(t *testing.T) {
				root := makeTree(t, incident())
				target := tempDir(t)
				link := target
				if inside {
					target = filepath.Join(root, "Users")
					link = strings.Repeat("../", strings.Count(name, "/")) + "Users"
					if err := os.Mkdir(target, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				p := filepath.Join(root, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(link, p); err != nil {
					t.Skip(err)
				}
				before := snapshot(t, root)
				_, err := Quarantine(context.Background(), root, evaluateTree(t, root, FaultyOnly), testRun(t, "r1"))
				if !errors.Is(err, errLinked) {
					t.Errorf("got %v", err)
				}
				if !reflect.DeepEqual(before, snapshot(t, root)) {
					t.Error("the tree changed")
				}
				if entries, _ := os.ReadDir(target); len(entries) != 0 {
					t.Errorf("written through the link: %v", entries)
				}
				if _, err := WriteLogFile(root, WindowsLogDir, testRun(t, "r1"), []byte("{}\n")); name != "ProgramData/bootmend/quarantine" && !errors.Is(err, errLinked) {
					t.Errorf("log: got %v", err)
				}
				if entries, _ := os.ReadDir(target); len(entries) != 0 {
					t.Errorf("log written through the link: %v", entries)
				}
			})
		}
	}
}

func TestQuarantineRefusesALinkOnTheWayToTheFile(t *testing.T) {
	root := makeTree(t, incident())
	plan := evaluateTree(t, root, FaultyOnly)
	outside := tempDir(t)
	dir := filepath.Join(root, filepath.FromSlash(driversDir))
	moved := filepath.Join(outside, "CrowdStrike")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(moved, dir); err != nil {
		t.Skip(err)
	}
	before := snapshot(t, outside)
	res, err := Quarantine(context.Background(), root, plan, testRun(t, "r1"))
	if !errors.Is(err, errLinked) || len(res.Failed) != 2 || len(res.Moved) != 0 || res.Dir != "" {
		t.Errorf("got %+v, %v", res, err)
	}
	if !reflect.DeepEqual(before, snapshot(t, outside)) {
		t.Error("a file outside was touched")
	}
}

func TestQuarantineRefusesPathsOfAPlan(t *testing.T) {
	root := makeTree(t, incident())
	for _, p := range []string{"", ".", "..", "../x", "/etc/passwd", "a/../b", `a\..\b`, "C:/x", "a//b", "a:stream"} {
		plan := &Plan{Actions: []Action{{Kind: ActionQuarantine, Path: p}}}
		if _, err := Quarantine(context.Background(), root, plan, testRun(t, "r1")); err == nil || !strings.Contains(err.Error(), "path") {
			t.Errorf("%q: got %v", p, err)
		}
	}
	if _, err := Quarantine(context.Background(), root, &Plan{Actions: []Action{{Kind: "delete", Path: "a"}}}, testRun(t, "r1")); err == nil {
		t.Error("unknown action accepted")
	}
	for _, id := range []string{"", "../x", "A", strings.Repeat("a", 33)} {
		run := testRun(t, "r1")
		run.ID = id
		if _, err := Quarantine(context.Background(), root, evaluateTree(t, root, FaultyOnly), run); err == nil {
			t.Errorf("run id %q accepted", id)
		}
	}
}

func TestQuarantineLeavesWhatChanged(t *testing.T) {
	const first, second = driversDir + "/C-00000291-00000000-00000031.sys", driversDir + "/C-00000291-00000000-00000032.sys"
	for name, change := range map[string]func(root string) error{
		"size": func(root string) error { return os.Truncate(filepath.Join(root, first), 4999) },
		"time": func(root string) error {
			return os.Chtimes(filepath.Join(root, first), time.Time{}, correctedTime.Add(time.Hour))
		},
		"content": func(root string) error {
			p := filepath.Join(root, first)
			if err := os.WriteFile(p, append(make([]byte, 4999), 1), 0o644); err != nil {
				return err
			}
			return os.Chtimes(p, faultyTime, faultyTime)
		},
		"gone": func(root string) error { return os.Remove(filepath.Join(root, first)) },
	} {
		t.Run(name, func(t *testing.T) {
			root := makeTree(t, incident())
			plan := evaluateTree(t, root, FaultyOnly)
			if err := change(root); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, root)
			res, err := Quarantine(context.Background(), root, plan, testRun(t, "r1"))
			if err == nil || !strings.Contains(err.Error(), first) {
				t.Errorf("error %v", err)
			}
			if len(res.Failed) != 1 || res.Failed[0].Path != first || len(res.Moved) != 1 || res.Moved[0].Path != second {
				t.Errorf("result %+v", res)
			}
			if snapshot(t, root)[first] != before[first] {
				t.Error("the changed file was touched")
			}
			if err := Verify(context.Background(), os.DirFS(root), res); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestQuarantineSameRunAgain(t *testing.T) {
	root := makeTree(t, incident())
	plan := evaluateTree(t, root, FaultyOnly)
	first, err := Quarantine(context.Background(), root, plan, testRun(t, "r1"))
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, root)
	again, err := Quarantine(context.Background(), root, plan, testRun(t, "r1"))
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("again: %+v, %v", again, err)
	}
	// The vendor's agent brings a faulty file again: the same run takes another
	// name into its manifest, and never replaces what it holds.
	writeTestFile(t, root, channelFile(driversDir+"/C-00000291-new.sys", faultyTime))
	third, err := Quarantine(context.Background(), root, evaluateTree(t, root, FaultyOnly), testRun(t, "r1"))
	if err != nil || len(third.Moved) != 1 {
		t.Fatalf("%+v, %v", third, err)
	}
	m, err := readManifest(os.DirFS(root), testRunDir)
	if err != nil || len(m.Files) != 3 {
		t.Errorf("manifest %+v, %v", m, err)
	}
	writeTestFile(t, root, channelFile(driversDir+"/C-00000291-new.sys", faultyTime))
	fourth, err := Quarantine(context.Background(), root, evaluateTree(t, root, FaultyOnly), testRun(t, "r1"))
	if !errors.Is(err, fs.ErrExist) || len(fourth.Moved) != 0 || len(fourth.Failed) != 1 {
		t.Errorf("%+v, %v", fourth, err)
	}
	after := snapshot(t, root)
	for p, sum := range before {
		if after[p] != sum && !strings.HasSuffix(p, "manifest.json") {
			t.Errorf("%s changed", p)
		}
	}
}

var errPower = errors.New("the power is cut")

// cutAfter lets n steps happen; from then on none does.
func cutAfter(n int) (before func(string, string) error, steps *int) {
	count := 0
	return func(string, string) error {
		if count++; count > n {
			return errPower
		}
		return nil
	}, &count
}

// onceEach checks invariant 2: every file that was on the volume exists exactly
// once, at its old place or in some run's quarantine. A move that is under way may
// have given it both names.
func onceEach(t *testing.T, root string, before map[string]string, underWay bool) {
	t.Helper()
	after := snapshot(t, root)
	for p, sum := range before {
		var places []string
		for q, other := range after {
			old := q
			if i := strings.Index(q, "/quarantine/"); i >= 0 {
				_, old, _ = strings.Cut(q[i+len("/quarantine/"):], "/")
				old = strings.TrimSuffix(old, quarantineSuffix)
			}
			if old == p {
				if other != sum {
					t.Errorf("%s has other bytes", q)
				}
				places = append(places, q)
			}
		}
		if underWay && len(places) == 2 && sameFile(os.DirFS(root), places[0], places[1]) {
			continue
		}
		if len(places) != 1 {
			t.Errorf("%s exists at %q", p, places)
		}
	}
}

// TestPowerCut cuts the power before each step in turn, checks that every file
// exists exactly once, and lets the next boot finish: by the same run and by a new
// one.
func TestPowerCut(t *testing.T) {
	ctx := context.Background()
	total := 0
	for _, next := range []string{"r1", "r2"} {
		for n := 0; ; n++ {
			root := makeTree(t, incident())
			before := snapshot(t, root)
			plan := evaluateTree(t, root, FaultyOnly)
			tr, err := openTree(root)
			if err != nil {
				t.Fatal(err)
			}
			var steps *int
			tr.before, steps = cutAfter(n)
			_, err = tr.quarantine(ctx, plan, testRun(t, "r1"))
			_ = tr.close()
			if err == nil {
				total += n
				break
			}
			if !errors.Is(err, errPower) || *steps <= n {
				t.Fatalf("cut at step %d: got %v", n, err)
			}
			onceEach(t, root, before, true)

			// The next boot.
			fsys := os.DirFS(root)
			if _, err := Runs(fsys); err != nil {
				t.Errorf("cut at step %d: list runs: %v", n, err)
			}
			if plan = evaluateTree(t, root, FaultyOnly); !plan.Empty() {
				res, err := Quarantine(ctx, root, plan, testRun(t, next))
				if err != nil {
					t.Fatalf("cut at step %d: finish: %v", n, err)
				}
				if err := Verify(ctx, fsys, res); err != nil {
					t.Errorf("cut at step %d: %v", n, err)
				}
			}
			onceEach(t, root, before, false)
			if plan := evaluateTree(t, root, FaultyOnly); !plan.Empty() {
				t.Errorf("cut at step %d: not finished", n)
			}
			healed, err := Healed(fsys)
			moved := 0
			for _, r := range healed {
				moved += r.Moved()
			}
			if err != nil || moved != 2 {
				t.Errorf("cut at step %d: %d files in quarantine, %v", n, moved, err)
			}
			for p := range snapshot(t, root) {
				if strings.HasSuffix(p, ".tmp") && !strings.Contains(p, ".tmp/") { // an unpublished folder stays
					t.Errorf("cut at step %d: %s is left", n, p)
				}
			}
			// And back, over however many runs.
			for _, r := range healed {
				if _, err := Restore(ctx, root, r.Dir, RestoreOptions{Packs: defaultPacks(t)}); err != nil {
					t.Errorf("cut at step %d: restore: %v", n, err)
				}
			}
			after := snapshot(t, root)
			for p, sum := range before {
				if after[p] != sum {
					t.Errorf("cut at step %d: %s is not back", n, p)
				}
			}
		}
	}
	if total < 40 {
		t.Errorf("only %d steps were cut; are all of them announced?", total)
	}
	t.Logf("%d cuts", total)
}

// TestDiskFailure lets one step fail with an I/O error and no other.
func TestDiskFailure(t *testing.T) {
	ctx := context.Background()
	for n := 0; ; n++ {
		root := makeTree(t, incident())
		before := snapshot(t, root)
		tr, err := openTree(root)
		if err != nil {
			t.Fatal(err)
		}
		count, name := 0, ""
		tr.before = func(step, p string) error {
			if count++; count == n+1 {
				name = step + " " + p
				return errSector
			}
			return nil
		}
		res, err := tr.quarantine(ctx, evaluateTree(t, root, FaultyOnly), testRun(t, "r1"))
		_ = tr.close()
		if count <= n {
			break
		}
		if err == nil && !strings.HasPrefix(name, "remove") {
			t.Errorf("%s: no error", name)
		}
		onceEach(t, root, before, true)
		if res != nil {
			if err := Verify(ctx, os.DirFS(root), res); err != nil {
				t.Errorf("%s: what is said to be moved is not: %v", name, err)
			}
		}
	}
}

func TestQuarantineStopsWhenAsked(t *testing.T) {
	root := makeTree(t, incident())
	before := snapshot(t, root)
	plan := evaluateTree(t, root, FaultyOnly)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Quarantine(ctx, root, plan, testRun(t, "r1")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !reflect.DeepEqual(before, snapshot(t, root)) {
		t.Error("the tree changed")
	}
}

// TestFullVolume has a volume that takes new names and a few hundred bytes in a file's own record, but no cluster.
func TestFullVolume(t *testing.T) {
	ctx := context.Background()
	for name, tc := range map[string]struct {
		room   int // bytes a file may have
		healed bool
	}{
		"no cluster":     {320, true},
		"no file record": {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := makeTree(t, incident())
			before := snapshot(t, root)
			plan := evaluateTree(t, root, FaultyOnly)
			tr, err := openTree(root)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tr.close() }()
			// Told after a file was written, in whose middle it would have been told.
			tr.before = func(step, file string) error {
				if step != "sync" {
					return nil
				}
				info, err := os.Lstat(filepath.Join(root, file))
				if err == nil && info.Mode().IsRegular() && strings.Contains(file, "manifest") && info.Size() > int64(tc.room) {
					return syscall.ENOSPC
				}
				return nil
			}
			res, err := tr.quarantine(ctx, plan, testRun(t, "r1"))
			if !tc.healed {
				if !errors.Is(err, ErrFull) || !reflect.DeepEqual(before, snapshot(t, root)) {
					t.Errorf("error %v, before:\n%v\nafter:\n%v", err, before, snapshot(t, root))
				}
				return
			}
			if err != nil || len(res.Moved) != 2 || len(res.Failed) > 0 {
				t.Fatalf("result %+v, %v", res, err)
			}
			tr.before = nil
			if err := Verify(ctx, os.DirFS(root), res); err != nil {
				t.Error(err)
			}
			var whole []byte
			pieces, err := os.ReadDir(filepath.Join(root, res.Dir, "manifest"))
			if err != nil || len(pieces) > 7 {
				t.Fatalf("%d pieces, %v", len(pieces), err)
			}
			for i := range pieces {
				piece, err := os.ReadFile(filepath.Join(root, res.Dir, "manifest", strconv.Itoa(i+1)))
				if err != nil || len(piece) > tc.room {
					t.Errorf("piece %d: %d bytes, %v", i, len(piece), err)
				}
				whole = append(whole, piece...)
			}
			m, err := ParseManifest(whole)
			if err != nil || len(m.Files) != 2 || m.Machine.Serial != "S1" {
				t.Errorf("%s: %+v, %v", whole, m, err)
			}
			if healed, err := Healed(os.DirFS(root)); err != nil || len(healed) != 1 {
				t.Errorf("healed %+v, %v", healed, err)
			}
			back, err := Restore(ctx, root, res.Dir, RestoreOptions{Packs: defaultPacks(t)})
			if err != nil || len(back.Restored) != 2 {
				t.Errorf("restored %+v, %v", back, err)
			}
			// The last piece lost is a manifest lost, not one with fewer files.
			if err := os.Remove(filepath.Join(root, res.Dir, "manifest", strconv.Itoa(len(pieces)))); err != nil {
				t.Fatal(err)
			}
			if _, err := readManifest(os.DirFS(root), res.Dir); err == nil {
				t.Error("a manifest without its end was taken")
			}
		})
	}
}

func TestVerifySees(t *testing.T) {
	ctx := context.Background()
	for name, tc := range map[string]struct {
		spoil func(root string, res *Result) error
		want  string
	}{
		"still there": {func(root string, res *Result) error {
			return os.Rename(filepath.Join(root, res.Moved[0].Quarantined), filepath.Join(root, res.Moved[0].Path))
		}, "still at its old place"},
		"there in other case": {func(root string, res *Result) error {
			return os.WriteFile(filepath.Join(root, filepath.Dir(res.Moved[0].Path), strings.ToLower(filepath.Base(res.Moved[0].Path))), nil, 0o644)
		}, "still at its old place"},
		"gone": {func(root string, res *Result) error {
			return os.Remove(filepath.Join(root, res.Moved[0].Quarantined))
		}, "not in the quarantine either"},
		"other bytes": {func(root string, res *Result) error {
			return os.WriteFile(filepath.Join(root, res.Moved[0].Quarantined), append(make([]byte, 4999), 1), 0o644)
		}, "SHA-256"},
		"shorter": {func(root string, res *Result) error {
			return os.Truncate(filepath.Join(root, res.Moved[0].Quarantined), 1)
		}, "it has 1 bytes, expected 5,000"},
		"no manifest": {func(root string, res *Result) error {
			return os.Remove(filepath.Join(root, res.Dir, manifestName))
		}, "manifest.json did not reach the disk intact"},
		"torn manifest": {func(root string, res *Result) error {
			return os.Truncate(filepath.Join(root, res.Dir, manifestName), 100)
		}, "manifest.json did not reach the disk intact"},
	} {
		t.Run(name, func(t *testing.T) {
			root := makeTree(t, incident())
			res, err := Quarantine(ctx, root, evaluateTree(t, root, FaultyOnly), testRun(t, "r1"))
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.spoil(root, res); err != nil {
				t.Fatal(err)
			}
			if err := Verify(ctx, os.DirFS(root), res); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
	if err := Verify(ctx, os.DirFS(t.TempDir()), nil); err != nil {
		t.Errorf("nothing moved: %v", err)
	}
}
