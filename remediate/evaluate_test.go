package remediate

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestEvaluateIncident(t *testing.T) {
	root := makeTree(t, incident())
	before := snapshot(t, root)
	plan := evaluateTree(t, root, FaultyOnly)

	want := []string{
		driversDir + "/C-00000291-00000000-00000031.sys",
		driversDir + "/C-00000291-00000000-00000032.sys",
	}
	if got := actionPaths(plan); !reflect.DeepEqual(got, want) {
		t.Fatalf("actions %q, want %q", got, want)
	}
	a := plan.Actions[1]
	if a.SHA256 != before[a.Path] || !a.Times.Modified.Equal(faultyTime) || a.Kind != ActionQuarantine ||
		!reflect.DeepEqual(a.Rules, []string{"crowdstrike-2024-07-19/channel-file-291"}) {
		t.Errorf("action %+v", a)
	}
	if a.Reason != "it begins with AA AA AA AA 01 00 23 01; it was modified 2024-07-19 04:09 UTC, before 2024-07-19 05:27 UTC" {
		t.Errorf("reason %q", a.Reason)
	}
	if !strings.HasPrefix(plan.Actions[0].Reason, "it is all zeros; ") {
		t.Errorf("reason %q", plan.Actions[0].Reason)
	}
	if len(plan.Kept) != 2 || len(plan.Problems) != 0 {
		t.Fatalf("kept %+v, problems %+v", plan.Kept, plan.Problems)
	}
	if k := plan.Kept[0]; !strings.HasSuffix(k.Path, "33.sys") ||
		k.Why != "not faulty: it was modified 2024-07-19 05:27 UTC, not before 2024-07-19 05:27 UTC" {
		t.Errorf("kept %+v", k)
	}
	if k := plan.Kept[1]; !strings.HasSuffix(k.Path, "decoy.sys") || !strings.Contains(k.Why, "it begins with 4D 5A 90 00") {
		t.Errorf("kept %+v", k)
	}
	if after := snapshot(t, root); !reflect.DeepEqual(before, after) {
		t.Error("evaluating changed the tree")
	}
}

func TestEvaluateAllMatchingKeepsTheDecoy(t *testing.T) {
	plan := evaluateTree(t, makeTree(t, incident()), AllMatching)
	if len(plan.Actions) != 3 || !strings.HasSuffix(plan.Actions[2].Path, "33.sys") {
		t.Errorf("actions %q", actionPaths(plan))
	}
	if len(plan.Kept) != 1 || !strings.HasSuffix(plan.Kept[0].Path, "decoy.sys") {
		t.Errorf("kept %+v", plan.Kept)
	}
}

func TestEvaluateCases(t *testing.T) {
	const name = "/C-00000291-00000000-00000032.sys"
	win := []file{{"WINNT/System32/config/SYSTEM", []byte("x"), faultyTime}, {"WINNT/System32/ntoskrnl.exe", []byte("MZ"), faultyTime}}
	for title, tc := range map[string]struct {
		files []file
		want  int // actions
		kept  int
	}{
		"other case":            {[]file{channelFile("WINDOWS/system32/Drivers/crowdstrike/c-00000291-1.SYS", faultyTime)}, 1, 0},
		"a second before":       {[]file{channelFile(driversDir+name, correctedTime.Add(-time.Second))}, 1, 0},
		"100 ns before":         {[]file{channelFile(driversDir+name, correctedTime.Add(-100))}, 1, 0},
		"at the boundary":       {[]file{channelFile(driversDir+name, correctedTime)}, 0, 1},
		"years later":           {[]file{channelFile(driversDir+name, correctedTime.AddDate(2, 0, 0))}, 0, 1},
		"all zeros, later":      {[]file{{driversDir + name, make([]byte, 100), correctedTime}}, 0, 1},
		"zeros, then a byte":    {[]file{{driversDir + name, append(make([]byte, 70000), 1), faultyTime}}, 0, 1},
		"only the header":       {[]file{{driversDir + name, channel291, faultyTime}}, 1, 0},
		"one byte short":        {[]file{{driversDir + name, channel291[:7], faultyTime}}, 0, 1},
		"empty file":            {[]file{{driversDir + name, nil, faultyTime}}, 0, 1},
		"deeper folder":         {[]file{channelFile(driversDir+"/sub"+name, faultyTime)}, 0, 0},
		"Windows.old":           {[]file{channelFile("Windows.old/System32/drivers/CrowdStrike"+name, faultyTime)}, 0, 0},
		"WINNT":                 {append(win, channelFile("WINNT/System32/drivers/CrowdStrike"+name, faultyTime)), 1, 0},
		"other top folder":      {[]file{channelFile("WINNT/System32/drivers/CrowdStrike"+name, faultyTime)}, 0, 0},
		"a folder of that name": {[]file{channelFile(driversDir+name+"/x", faultyTime)}, 0, 0},
		"empty volume":          {nil, 0, 0},
	} {
		t.Run(title, func(t *testing.T) {
			plan := evaluateTree(t, makeTree(t, tc.files), "")
			if len(plan.Actions) != tc.want || len(plan.Kept) != tc.kept || len(plan.Problems) != 0 {
				t.Errorf("got %d actions, kept %+v, problems %+v", len(plan.Actions), plan.Kept, plan.Problems)
			}
		})
	}
}

func TestEvaluateFollowsNoLink(t *testing.T) {
	outside := makeTree(t, []file{channelFile("CrowdStrike/C-00000291-1.sys", faultyTime)})
	t.Run("folder", func(t *testing.T) {
		root := makeTree(t, []file{{"Windows/System32/drivers/x.sys", nil, faultyTime}})
		if err := os.Symlink(filepath.Join(outside, "CrowdStrike"), filepath.Join(root, driversDir)); err != nil {
			t.Skip(err)
		}
		plan := evaluateTree(t, root, FaultyOnly)
		if !plan.Empty() || len(plan.Kept) != 1 || !strings.Contains(plan.Kept[0].Why, "link") {
			t.Errorf("plan %+v", plan)
		}
	})
	t.Run("file", func(t *testing.T) {
		root := makeTree(t, []file{{driversDir + "/x.sys", nil, faultyTime}})
		if err := os.Symlink(filepath.Join(outside, "CrowdStrike/C-00000291-1.sys"), filepath.Join(root, driversDir, "C-00000291-1.sys")); err != nil {
			t.Skip(err)
		}
		plan := evaluateTree(t, root, FaultyOnly)
		if !plan.Empty() || len(plan.Kept) != 1 || !strings.Contains(plan.Kept[0].Why, "link") {
			t.Errorf("plan %+v", plan)
		}
	})
}

// junctionFS lists links to directories as directories, as ntfs3 does.
type junctionFS struct{ fs.ReadLinkFS }

func (j junctionFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(j.ReadLinkFS, name)
	for i, e := range entries {
		if e.Type()&fs.ModeSymlink != 0 {
			entries[i] = junction{e}
		}
	}
	return entries, err
}

type junction struct{ fs.DirEntry }

func (junction) IsDir() bool       { return true }
func (junction) Type() fs.FileMode { return fs.ModeDir }

func TestJunctionsAreNotFollowed(t *testing.T) {
	outside := makeTree(t, incident())
	for name, link := range map[string][2]string{
		"Windows":     {"Windows", "Windows"},
		"CrowdStrike": {driversDir, driversDir},
		"run":         {"Windows", testRunDir},
	} {
		t.Run(name, func(t *testing.T) {
			root := tempDir(t)
			p := filepath.Join(root, link[1])
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(outside, link[0]), p); err != nil {
				t.Skip(err)
			}
			fsys := junctionFS{os.DirFS(root).(fs.ReadLinkFS)}
			plan, err := Evaluate(context.Background(), fsys, defaultPacks(t), FaultyOnly)
			if err != nil || !plan.Empty() || (name != "run" && len(plan.Kept) != 1) {
				t.Errorf("plan %+v, %v", plan, err)
			}
			if w, err := FindWindows(fsys); !errors.Is(err, ErrNoWindows) {
				t.Errorf("found %+v, %v", w, err)
			}
			if runs, err := Runs(fsys); err != nil || len(runs) != 0 {
				t.Errorf("runs %+v, %v", runs, err)
			}
		})
	}
}

func TestEvaluateMergesRules(t *testing.T) {
	pack := func(id, extra string) *Pack {
		p, err := ParsePack([]byte("apiVersion: bootmend/v1\nid: "+id+"\ntitle: t\nrules:\n  - id: r\n    path: Windows/*.sys\n    action: quarantine\n"+extra), id)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	fsys := fstest.MapFS{"Windows/a.sys": {Data: []byte("abc"), ModTime: faultyTime}}
	packs := []*Pack{
		pack("b", ""), pack("miss", "    faulty: {size: {max: 1}}\n"), pack("a", "    identify: {leadingBytes: ['61 62']}\n"), pack("b", ""),
	}
	plan, err := Evaluate(context.Background(), fsys, packs, FaultyOnly)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Actions) != 1 || strings.Join(plan.Actions[0].Rules, " ") != "a/r b/r" || len(plan.Kept) != 0 {
		t.Errorf("plan %+v", plan)
	}
	b1, _ := json.Marshal(plan)
	again, err := Evaluate(context.Background(), fsys, packs, FaultyOnly)
	if err != nil {
		t.Fatal(err)
	}
	if b2, _ := json.Marshal(again); string(b1) != string(b2) {
		t.Error("two evaluations differ")
	}
}

// brokenFS fails below one path, as a disk with a bad sector does.
type brokenFS struct {
	fstest.MapFS
	bad string
}

var errSector = errors.New("input/output error")

func (b brokenFS) Open(name string) (fs.File, error) {
	if name == b.bad {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errSector}
	}
	return b.MapFS.Open(name)
}

func (b brokenFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == b.bad {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errSector}
	}
	return b.MapFS.ReadDir(name)
}

func TestEvaluateTellsWhatItCouldNotRead(t *testing.T) {
	m := fstest.MapFS{
		driversDir + "/C-00000291-1.sys": {Data: channel291, ModTime: faultyTime},
		driversDir + "/C-00000291-2.sys": {Data: channel291, ModTime: faultyTime},
	}
	for _, bad := range []string{driversDir, driversDir + "/C-00000291-1.sys"} {
		plan, err := Evaluate(context.Background(), brokenFS{m, bad}, defaultPacks(t), FaultyOnly)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Problems) != 1 || plan.Problems[0].Path != bad || plan.Problems[0].Why != errSector.Error() {
			t.Errorf("problems %+v", plan.Problems)
		}
	}
	if _, err := Evaluate(context.Background(), brokenFS{m, "."}, defaultPacks(t), FaultyOnly); !errors.Is(err, errSector) {
		t.Errorf("unreadable top: %v", err)
	}
}

func TestEvaluateStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Evaluate(ctx, fstest.MapFS{}, defaultPacks(t), FaultyOnly); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := Evaluate(context.Background(), fstest.MapFS{}, nil, "most"); err == nil {
		t.Error("unknown policy accepted")
	}
}

func TestPlanText(t *testing.T) {
	files := incident()
	if runtime.GOOS != "windows" {
		files = append(files, channelFile(driversDir+"/C-00000291-\x1b[2J.sys", faultyTime))
	}
	plan := evaluateTree(t, makeTree(t, files), FaultyOnly)
	var b strings.Builder
	if err := plan.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"to quarantine: 3 files\n",
		"  " + driversDir + "/C-00000291-00000000-00000031.sys\n    5,000 bytes, modified 2024-07-19 04:09 UTC, SHA-256 ",
		"looked at and left alone: 2\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("a control character of a file name reached the text")
	}
}
