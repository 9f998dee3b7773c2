package remediate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// healedTree is the incident after a quarantine.
func healedTree(t *testing.T) (root string, before map[string]string, res *Result) {
	t.Helper()
	root = makeTree(t, incident())
	before = snapshot(t, root)
	res, err := Quarantine(context.Background(), root, evaluateTree(t, root, FaultyOnly), testRun(t, "r1"))
	if err != nil {
		t.Fatal(err)
	}
	return root, before, res
}

func TestRestore(t *testing.T) {
	ctx := context.Background()
	root, before, _ := healedTree(t)
	for _, dir := range []string{"20240720T080000Z-r1", testRunDir} { // the second call finds it done
		res, err := Restore(ctx, root, dir, RestoreOptions{Packs: defaultPacks(t)})
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Restored)+len(res.AlreadyThere) != 2 || len(res.Failed) != 0 {
			t.Errorf("result %+v", res)
		}
		after := snapshot(t, root)
		delete(after, testRunDir+"/manifest.json")
		if !reflect.DeepEqual(after, before) {
			t.Errorf("after: %v\nwant: %v", after, before)
		}
	}
	info, err := os.Stat(filepath.Join(root, driversDir, "C-00000291-00000000-00000032.sys"))
	if err != nil || !info.ModTime().Equal(faultyTime) {
		t.Errorf("time %v, %v", info.ModTime(), err)
	}
	if healed, err := Healed(os.DirFS(root)); err != nil || len(healed) != 0 {
		t.Errorf("undone, and yet healed: %+v, %v", healed, err)
	}
	runs, err := Runs(os.DirFS(root))
	if err != nil || len(runs) != 1 || !reflect.DeepEqual(runs[0].States, []FileState{StateInPlace, StateInPlace}) {
		t.Errorf("runs %+v, %v", runs, err)
	}
}

func TestRestoreRefuses(t *testing.T) {
	ctx := context.Background()
	for name, tc := range map[string]struct {
		spoil func(root string, m Moved) error
		want  string
		state FileState
	}{
		"place taken": {func(root string, m Moved) error {
			return os.WriteFile(filepath.Join(root, m.Path), []byte("corrected"), 0o644)
		}, "taken by another file", StateBoth},
		"place taken in other case": {func(root string, m Moved) error {
			return os.WriteFile(filepath.Join(root, filepath.Dir(m.Path), strings.ToUpper(filepath.Base(m.Path))), []byte("corrected"), 0o644)
		}, "taken by another file", StateBoth},
		"place taken by a folder": {func(root string, m Moved) error {
			return os.Mkdir(filepath.Join(root, m.Path), 0o755)
		}, "taken by another file", StateBoth},
		"changed in quarantine": {func(root string, m Moved) error {
			return os.WriteFile(filepath.Join(root, m.Quarantined), []byte("evil"), 0o644)
		}, "not what was put there", StateQuarantined},
		"gone": {func(root string, m Moved) error {
			return os.Remove(filepath.Join(root, m.Quarantined))
		}, "neither at its place nor in the quarantine", StateMissing},
		"folder gone": {func(root string, m Moved) error {
			return os.RemoveAll(filepath.Join(root, filepath.Dir(m.Path)))
		}, "its folder is gone", StateQuarantined},
	} {
		t.Run(name, func(t *testing.T) {
			root, _, res := healedTree(t)
			if err := tc.spoil(root, res.Moved[0]); err != nil {
				t.Fatal(err)
			}
			runs, err := Runs(os.DirFS(root))
			if err != nil || runs[0].States[0] != tc.state {
				t.Errorf("states %+v, %v", runs, err)
			}
			before := snapshot(t, root)
			got, err := Restore(ctx, root, testRunDir, RestoreOptions{Packs: defaultPacks(t)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
			if got == nil || len(got.Failed) == 0 || got.Failed[0].Path != res.Moved[0].Path {
				t.Errorf("result %+v", got)
			}
			after := snapshot(t, root)
			for _, p := range []string{res.Moved[0].Path, res.Moved[0].Quarantined} {
				if before[p] != after[p] {
					t.Errorf("%s was touched", p)
				}
			}
		})
	}
}

// TestRestorePlan writes nothing and says what Restore then does.
func TestRestorePlan(t *testing.T) {
	root, _, _ := healedTree(t)
	before := snapshot(t, root)
	plan, err := PlanRestore(context.Background(), root, testRunDir, RestoreOptions{Packs: defaultPacks(t)})
	if err != nil || len(plan.Restored) != 2 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if after := snapshot(t, root); !reflect.DeepEqual(after, before) {
		t.Errorf("after: %v\nwant: %v", after, before)
	}
	res, err := Restore(context.Background(), root, testRunDir, RestoreOptions{Packs: defaultPacks(t)})
	if err != nil || !reflect.DeepEqual(res, plan) {
		t.Errorf("planned %+v, did %+v, %v", plan, res, err)
	}
}

// TestRestoreRefusesAPlantedManifest has what a user of the machine could have written: a folder like a run's,
// whose manifest sends files where the user wants them.
func TestRestoreRefusesAPlantedManifest(t *testing.T) {
	channel := channelFile("x", faultyTime).data
	for name, tc := range map[string]struct {
		path string
		data []byte
		link string // a directory on the way that is a link
		want string
	}{
		"any place":           {"Windows/System32/evil.dll", []byte("MZ"), "", "no rule pack that is known here"},
		"any place, kind":     {"Windows/System32/evil.dll", channel, "", "no rule pack that is known here"},
		"beside the channels": {driversDir + "/csagent2.sys", []byte("MZ"), "", "no rule pack that is known here"},
		"below the rule":      {driversDir + "/sub/C-00000291-1.sys", channel, "", "folder is gone"},
		"other kind of file":  {driversDir + "/C-00000291-evil.sys", []byte("MZ evil"), "", "not of the kind that the rule"},
		"own folder":          {"ProgramData/bootmend/x", channel, "", "no rule pack that is known here"},
		"through a link":      {"Windows/System32/drivers/linked/C-00000291-1.sys", channel, "Windows/System32/drivers/linked", "is a link or reparse point"},
		"what a rule takes":   {driversDir + "/C-00000291-1.sys", channel, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := makeTree(t, incident())
			if tc.link != "" {
				if err := os.Symlink(filepath.Join(root, driversDir), filepath.Join(root, tc.link)); err != nil {
					t.Skip(err)
				}
			}
			sum := sha256.Sum256(tc.data)
			m := Manifest{Schema: ManifestSchema, Run: "evil", Files: []ManifestEntry{{
				Path: tc.path, Quarantined: tc.path + ".quarantined", Size: int64(len(tc.data)), SHA256: hex.EncodeToString(sum[:]),
				Rules: []string{"crowdstrike-2024-07-19/channel-file-291"}, Reason: "trust me",
			}}}
			data, err := m.encode()
			if err != nil {
				t.Fatal(err)
			}
			dir := QuarantineDir + "/20240720T080000Z-evil"
			writeTestFile(t, root, file{path: dir + "/manifest.json", data: data})
			writeTestFile(t, root, file{path: dir + "/" + tc.path + ".quarantined", data: tc.data, mtime: faultyTime})
			before := snapshot(t, root)
			res, err := Restore(context.Background(), root, dir, RestoreOptions{Packs: defaultPacks(t)})
			if tc.want == "" {
				if err != nil || len(res.Restored) != 1 {
					t.Errorf("%+v, %v", res, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if after := snapshot(t, root); !reflect.DeepEqual(after, before) {
				t.Errorf("something was moved: %v", after)
			}
		})
	}
}

func TestRestoreNeedsARun(t *testing.T) {
	root := makeTree(t, incident())
	if _, err := Restore(context.Background(), root, "20240720T080000Z-none", RestoreOptions{Packs: defaultPacks(t)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	for _, dir := range []string{"", "..", "../../etc", "manifest.json"} {
		if _, err := Restore(context.Background(), root, dir, RestoreOptions{Packs: defaultPacks(t)}); err == nil {
			t.Errorf("%q accepted", dir)
		}
	}
	if runs, err := Runs(os.DirFS(root)); err != nil || runs != nil {
		t.Errorf("runs %v, %v", runs, err)
	}
}

func TestRestorePowerCut(t *testing.T) {
	for n := 0; ; n++ {
		root, before, _ := healedTree(t)
		tr, err := openTree(root)
		if err != nil {
			t.Fatal(err)
		}
		tr.before, _ = cutAfter(n)
		r := restoring{tree: tr, packs: defaultPacks(t), res: &RestoreResult{}}
		err = r.run(context.Background(), testRunDir)
		_ = tr.close()
		if err == nil {
			if n == 0 {
				t.Error("no step was announced")
			}
			return
		}
		onceEach(t, root, before, true)
		if _, err := Restore(context.Background(), root, testRunDir, RestoreOptions{Packs: defaultPacks(t)}); err != nil {
			t.Errorf("cut at step %d: %v", n, err)
		}
		onceEach(t, root, before, false)
	}
}

func TestRunsTellsOfADamagedManifest(t *testing.T) {
	fsys := fstest.MapFS{
		testRunDir + "/manifest.json":             {Data: []byte("{")},
		QuarantineDir + "/20240719T080000Z-a/x":   {},
		QuarantineDir + "/not a run/x":            {},
		QuarantineDir + "/20240718T080000Z-b":     {},
		QuarantineDir + "/desktop.ini":            {},
		"ProgramData/bootmend/logs/whatever.json": {},
	}
	runs, err := Runs(fsys)
	if err != nil || len(runs) != 2 || runs[0].Problem == "" || !strings.Contains(runs[1].Problem, "not valid JSON") {
		t.Errorf("runs %+v, %v", runs, err)
	}
	if healed, err := Healed(fsys); err != nil || len(healed) != 0 {
		t.Errorf("healed %+v, %v", healed, err)
	}
}

const goodManifest = `{"schema":"bootmend.quarantine/v1","tool_version":"1","run":"a","time":"2024-07-20T08:00:00Z","machine":{},
"files":[{"path":"a/b","quarantined":"a/b.quarantined","size":1,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","times":{"modified":"2024-07-19T04:09:00Z"},"rules":["p/r"],"reason":"x","later":1}]}`

func TestParseManifest(t *testing.T) {
	m, err := ParseManifest([]byte(goodManifest))
	if err != nil || m.Files[0].Path != "a/b" {
		t.Fatalf("%+v, %v", m, err)
	}
	for name, tc := range map[string]struct{ old, new, want string }{
		"schema":      {"/v1", "/v2", "schema"},
		"escape":      {`"path":"a/b"`, `"path":"../b"`, "does not lie on the volume"},
		"absolute":    {`"path":"a/b"`, `"path":"/b"`, "does not lie on the volume"},
		"backslash":   {`"path":"a/b"`, `"path":"a\\..\\..\\b"`, "does not lie on the volume"},
		"drive":       {`"path":"a/b"`, `"path":"C:/b"`, "colon"},
		"quarantined": {`"a/b.quarantined"`, `"../../b"`, "quarantined as"},
		"hash":        {"e3b0", "E3B0", "sha256"},
		"size":        {`"size":1`, `"size":-1`, "negative size"},
		"twice":       {`"files":[`, `"files":[{"path":"a/b","quarantined":"a/b.quarantined","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},`, "twice"},
		"type":        {`"size":1`, `"size":"1"`, "not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(goodManifest, tc.old, tc.new, 1)
			if bad == goodManifest {
				t.Fatal("nothing replaced")
			}
			if _, err := ParseManifest([]byte(bad)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	f.Add([]byte(`{"schema":"bootmend.quarantine/v1","files":[{"path":"."}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		for _, e := range m.Files {
			if !filepath.IsLocal(e.Path) || strings.Contains(e.Path, `\`) || !strings.HasPrefix(e.Quarantined, e.Path) {
				t.Errorf("accepted %+v", e)
			}
		}
		b, err := m.encode()
		if err != nil {
			t.Skip() // a time that JSON cannot hold
		}
		var again Manifest
		if err := json.Unmarshal(b, &again); err != nil {
			t.Errorf("does not read back: %v", err)
		}
	})
}
