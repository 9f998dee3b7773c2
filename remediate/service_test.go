package remediate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bootmend/bootmend/remediate/hive"
)

const systemPath = "Windows/System32/config/SYSTEM"

// servicePack disables CSAgent, and another service only where a file shows that it is the faulty one.
const servicePack = `apiVersion: bootmend/v1
id: services
title: Drivers that cannot be moved
rules:
  - id: agent
    service: csagent
    action: disable-service
  - id: by-file
    service: Other
    path: Windows/System32/drivers/other.sys
    identify: {leadingBytes: ["4D 5A"]}
    faulty: {size: {max: 100}}
    action: disable-service
`

func parsePack(t testing.TB, text string) *Pack {
	t.Helper()
	pack, err := ParsePack([]byte(text), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return pack
}

// servicesHive is a SYSTEM hive with three control sets, of which two may be used.
var servicesHive = sync.OnceValue(func() []byte {
	root := &hiveKey{}
	root.at("Select").values = map[string]any{"Current": uint32(2), "Default": uint32(2), "LastKnownGood": uint32(1), "Failed": uint32(3)}
	for i := range 3 {
		services := fmt.Sprintf(`ControlSet%03d\Services\`, i+1)
		root.at(services+"CSAgent").set("Start", uint32(1))
		root.at(services+"CSAgent").set("ImagePath", `\SystemRoot\System32\drivers\CrowdStrike\csagent.sys`)
		root.at(services+"Other").set("Start", uint32(0))
		root.at(services+"NoStart").set("Group", "x")
	}
	return buildHive(root)
})

func serviceTree(t testing.TB, files ...file) string {
	t.Helper()
	return makeTree(t, append([]file{
		{systemPath, servicesHive(), faultyTime},
		{systemPath + ".LOG1", nil, faultyTime},
		{"Windows/System32/ntoskrnl.exe", []byte("MZ"), faultyTime},
	}, files...))
}

func startsIn(t testing.TB, root, service string) map[string]uint32 {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, systemPath))
	if err != nil {
		t.Fatal(err)
	}
	h, err := hive.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]uint32{}
	for i := range 3 {
		set := controlSetName(uint32(i + 1))
		n, err := startIn(h, service, set)
		if err != nil {
			t.Fatal(err)
		}
		found[set] = n
	}
	return found
}

func plan(t testing.TB, root string, packs ...*Pack) *Plan {
	t.Helper()
	p, err := Evaluate(context.Background(), os.DirFS(root), packs, FaultyOnly)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDisableService(t *testing.T) {
	for name, other := range map[string][]file{
		"without the file":  nil,
		"with a good file":  {{"Windows/System32/drivers/other.sys", append([]byte("MZ"), make([]byte, 200)...), faultyTime}},
		"with a faulty one": {{"Windows/System32/drivers/OTHER.sys", []byte("MZ faulty"), faultyTime}},
	} {
		t.Run(name, func(t *testing.T) {
			root := serviceTree(t, other...)
			before := snapshot(t, root)
			p := plan(t, root, parsePack(t, servicePack))
			want := map[string]uint32{"ControlSet001": 4, "ControlSet002": 4, "ControlSet003": 1}
			wantOther := map[string]uint32{"ControlSet001": 0, "ControlSet002": 0, "ControlSet003": 0}
			services := 1
			if name == "with a faulty one" {
				services = 2
				wantOther["ControlSet001"], wantOther["ControlSet002"] = 4, 4
			}
			if len(p.Actions) != services || len(p.Problems) > 0 || p.Actions[0].Service.Name != "CSAgent" {
				t.Fatalf("plan: %+v, problems %v", p.Actions, p.Problems)
			}
			var text strings.Builder
			if err := p.WriteText(&text); err != nil || !strings.Contains(text.String(), "starts with the system in ControlSet001") {
				t.Errorf("%s %v", text.String(), err)
			}
			if after := snapshot(t, root); !maps.Equal(before, after) {
				t.Error("planning changed something")
			}
			run := testRun(t, "svc1")
			res, err := Quarantine(context.Background(), root, p, run)
			if err != nil || len(res.Disabled) != services {
				t.Fatalf("%+v, %v", res, err)
			}
			if err := Verify(context.Background(), os.DirFS(root), res); err != nil {
				t.Error(err)
			}
			if got := startsIn(t, root, "CSAgent"); !maps.Equal(got, want) {
				t.Errorf("CSAgent starts as %v", got)
			}
			if got := startsIn(t, root, "Other"); !maps.Equal(got, wantOther) {
				t.Errorf("Other starts as %v", got)
			}
			after := snapshot(t, root)
			if after[systemPath+".bootmend-svc1"] != before[systemPath] {
				t.Error("the old hive was not kept")
			}
			if len(after) != len(before)+2 { // kept hive, manifest
				t.Errorf("files: %v", slices.Sorted(maps.Keys(after)))
			}

			// Again: nothing to do, and the earlier run is told.
			if p := plan(t, root, parsePack(t, servicePack)); !p.Empty() || len(p.Kept) == 0 || !strings.Contains(p.Kept[0].Why+p.Kept[len(p.Kept)-1].Why, "disabled already") {
				t.Errorf("second plan: %+v", p)
			}
			healed, err := Healed(os.DirFS(root))
			if err != nil || len(healed) != 1 || healed[0].Disabled != services {
				t.Errorf("%+v, %v", healed, err)
			}
			// The same plan and run once more is done already.
			res, err = Quarantine(context.Background(), root, p, run)
			if err != nil || len(res.Disabled) != services {
				t.Errorf("%+v, %v", res, err)
			}

			back, err := Restore(context.Background(), root, run.Name(), RestoreOptions{Packs: []*Pack{parsePack(t, servicePack)}})
			if err != nil || len(back.Services) != services {
				t.Fatalf("%+v, %v", back, err)
			}
			restored := snapshot(t, root)
			if restored[systemPath] != before[systemPath] {
				t.Error("the hive is not what it was")
			}
			info, err := os.Stat(filepath.Join(root, systemPath))
			if err != nil || !info.ModTime().Equal(faultyTime) {
				t.Errorf("modified %v, %v", info.ModTime(), err)
			}
			back, err = Restore(context.Background(), root, run.Name(), RestoreOptions{Packs: []*Pack{parsePack(t, servicePack)}})
			if err != nil || len(back.Services) != 0 || len(back.ServicesThere) != services {
				t.Errorf("%+v, %v", back, err)
			}
		})
	}
}

// TestRestoreServiceAfterWindows undoes a run after Windows has written to its registry: that stays.
func TestRestoreServiceAfterWindows(t *testing.T) {
	root := serviceTree(t)
	run := testRun(t, "svc2")
	if _, err := Quarantine(context.Background(), root, plan(t, root, parsePack(t, servicePack)), run); err != nil {
		t.Fatal(err)
	}
	edit := func(change func(*hive.Hive) error) {
		t.Helper()
		name := filepath.Join(root, systemPath)
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		h, err := hive.Load(data)
		if err == nil {
			err = change(h)
		}
		if err == nil {
			data, err = h.Bytes()
		}
		if err == nil {
			err = os.WriteFile(name, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	edit(func(h *hive.Hive) error {
		k, err := h.Key("Select")
		if err != nil {
			return err
		}
		return k.SetText("Windows", "was here")
	})
	back, err := Restore(context.Background(), root, run.Name(), RestoreOptions{Packs: []*Pack{parsePack(t, servicePack)}})
	if err != nil || len(back.Services) != 1 {
		t.Fatalf("%+v, %v", back, err)
	}
	if got := startsIn(t, root, "CSAgent"); got["ControlSet001"] != 1 || got["ControlSet002"] != 1 {
		t.Errorf("CSAgent starts as %v", got)
	}
	data, err := os.ReadFile(filepath.Join(root, systemPath))
	if err != nil || !strings.Contains(string(data), string(hive.EncodeUTF16("was here"))) {
		t.Errorf("what Windows wrote is lost (%v)", err)
	}

	// Somebody else has set another start type since: that is theirs.
	root = serviceTree(t)
	if _, err := Quarantine(context.Background(), root, plan(t, root, parsePack(t, servicePack)), run); err != nil {
		t.Fatal(err)
	}
	edit(func(h *hive.Hive) error { return setStart(h, "CSAgent", "ControlSet002", 4, 3) })
	before := startsIn(t, root, "CSAgent")
	back, err = Restore(context.Background(), root, run.Name(), RestoreOptions{Packs: []*Pack{parsePack(t, servicePack)}})
	if err == nil || len(back.Failed) != 1 {
		t.Errorf("%+v, %v", back, err)
	}
	if got := startsIn(t, root, "CSAgent"); got["ControlSet002"] != before["ControlSet002"] {
		t.Errorf("CSAgent starts as %v", got)
	}
}

// TestPowerCutService cuts the power ahead of every step of a run, starts over, and looks.
func TestPowerCutService(t *testing.T) {
	pack := parsePack(t, servicePack)
	errCut := errors.New("power cut")
	oldHive := servicesHive()
	for cut := 0; ; cut++ {
		root := serviceTree(t)
		p := plan(t, root, pack)
		tr, err := openTree(root)
		if err != nil {
			t.Fatal(err)
		}
		steps, at := 0, ""
		tr.before = func(step, name string) error {
			if steps++; steps > cut {
				if at == "" {
					at = step + " " + name
				}
				return errCut
			}
			return nil
		}
		_, err = tr.quarantine(context.Background(), p, testRun(t, "cut1"))
		if err := tr.close(); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			if cut < 10 {
				t.Fatalf("only %d steps", cut)
			}
			t.Logf("%d steps", cut)
			return
		}
		// A complete hive, old or new, is there: in its place, or where the next run looks.
		data, err := os.ReadFile(filepath.Join(root, systemPath))
		if errors.Is(err, fs.ErrNotExist) {
			kept, ok := cutShort(os.DirFS(root), "Windows/System32/config", "SYSTEM")
			if !ok {
				t.Fatalf("%s: the hive is gone", at)
			}
			data, err = os.ReadFile(filepath.Join(root, kept))
		}
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if _, err := hive.Load(data); err != nil {
			t.Fatalf("%s: %v", at, err)
		}

		// The next run, also one with no rule for it, leaves a machine that starts.
		for _, packs := range [][]*Pack{nil, {pack}} {
			if _, err := FindWindows(os.DirFS(root)); err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			next := plan(t, root, packs...)
			if len(next.Problems) > 0 {
				t.Fatalf("%s: %+v", at, next.Problems)
			}
			if next.Empty() {
				continue
			}
			res, err := Quarantine(context.Background(), root, next, testRun(t, "next"))
			if err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			if err := Verify(context.Background(), os.DirFS(root), res); err != nil {
				t.Fatalf("%s: %v", at, err)
			}
		}
		if got := startsIn(t, root, "CSAgent"); got["ControlSet001"] != 4 || got["ControlSet002"] != 4 {
			t.Fatalf("%s: CSAgent starts as %v", at, got)
		}
		runs, err := Healed(os.DirFS(root))
		if err != nil || len(runs) == 0 {
			t.Fatalf("%s: %v, %v", at, runs, err)
		}
		restored := false
		for _, r := range runs {
			if res, err := Restore(context.Background(), root, r.Dir, RestoreOptions{Packs: []*Pack{pack}}); err == nil && len(res.Services) > 0 {
				restored = true
			}
		}
		data, err = os.ReadFile(filepath.Join(root, systemPath))
		if !restored || err != nil || string(data) != string(oldHive) {
			t.Fatalf("%s: restored %t, %v", at, restored, err)
		}
	}
}

func TestServiceProblems(t *testing.T) {
	pack := parsePack(t, servicePack)
	dirty := slices.Clone(servicesHive())
	dirty[4]++
	for name, tc := range map[string]struct {
		hive []byte
		want string
	}{
		"not a hive":   {[]byte("no hive"), "not a registry hive"},
		"dirty":        {dirty, "not closed cleanly"},
		"no Select":    {buildHive(&hiveKey{}), "not found"},
		"wrong type":   {func() []byte { r := &hiveKey{}; r.at("Select").set("Current", "one"); return buildHive(r) }(), "expected a DWORD"},
		"names no set": {func() []byte { r := &hiveKey{}; r.at("Select").set("Current", uint32(0)); return buildHive(r) }(), "names no control set"},
	} {
		root := makeTree(t, []file{{systemPath, tc.hive, faultyTime}, {"Windows/System32/ntoskrnl.exe", []byte("MZ"), faultyTime}})
		p := plan(t, root, pack)
		if !p.Empty() || len(p.Problems) == 0 || !strings.Contains(p.Problems[0].Why, tc.want) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	// The hive changed between plan and run.
	root := serviceTree(t)
	p := plan(t, root, pack)
	now := time.Now()
	if err := os.Chtimes(filepath.Join(root, systemPath), now, now); err != nil {
		t.Fatal(err)
	}
	res, err := Quarantine(context.Background(), root, p, testRun(t, "svc3"))
	if err == nil || len(res.Failed) != 1 || len(res.Disabled) != 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestServiceRules(t *testing.T) {
	for _, tc := range []struct{ rule, want string }{
		{"{id: a, action: disable-service}", `no field "service"`},
		{"{id: a, service: X, path: Windows/x.sys, action: quarantine}", "only disable-service takes"},
		{"{id: a, action: quarantine}", `no field "path"`},
		{`{id: a, service: 'X\Y', action: disable-service}`, "name of one service"},
		{"{id: a, service: 'X*', action: disable-service}", "name of one service"},
		{"{id: a, service: X, identify: {size: {min: 1}}, action: disable-service}", "conditions for a file"},
		{"{id: a, service: X, action: delete}", "use quarantine or disable-service"},
	} {
		_, err := ParsePack([]byte("apiVersion: bootmend/v1\nid: p\ntitle: t\nrules:\n  - "+tc.rule+"\n"), "p.yaml")
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "p.yaml:") {
			t.Errorf("%s: %v", tc.rule, err)
		}
	}
}

func TestHostileHiveManifest(t *testing.T) {
	good := Manifest{Schema: ManifestSchema, Run: "r1", Files: []ManifestEntry{}, Hives: []ManifestHive{{
		Path: systemPath, Kept: systemPath + ".bootmend-r1", Services: []ManifestService{{Service: Service{"X", []Start{{"ControlSet001", 1}}}}},
	}}}
	for name, change := range map[string]func(*ManifestHive){
		"":              func(*ManifestHive) {},
		"path":          func(h *ManifestHive) { h.Path = "../SYSTEM" },
		"kept":          func(h *ManifestHive) { h.Kept = "Windows/notepad.exe" },
		"no start type": func(h *ManifestHive) { h.Services[0].Starts = nil },
	} {
		m := good
		m.Hives = []ManifestHive{good.Hives[0]}
		m.Hives[0].Services = slices.Clone(good.Hives[0].Services)
		change(&m.Hives[0])
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(data); (err == nil) != (name == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPowerCutRestoreService cuts the power at each step of an undo: doing it again leaves a Windows with the hive that it
// had.
func TestPowerCutRestoreService(t *testing.T) {
	pack := parsePack(t, servicePack)
	errCut := errors.New("power cut")
	options := RestoreOptions{Packs: []*Pack{pack}}
	for cut := 0; ; cut++ {
		root := serviceTree(t)
		done, err := Quarantine(context.Background(), root, plan(t, root, pack), testRun(t, "one"))
		if err != nil {
			t.Fatal(err)
		}
		tr, err := openTree(root)
		if err != nil {
			t.Fatal(err)
		}
		steps, at := 0, ""
		tr.before = func(step, name string) error {
			if steps++; steps > cut {
				if at == "" {
					at = step + " " + name
				}
				return errCut
			}
			return nil
		}
		r := restoring{tree: tr, packs: options.Packs, res: &RestoreResult{}}
		cutErr := r.run(context.Background(), done.Dir)
		if err := tr.close(); err != nil {
			t.Fatal(err)
		}
		// It is listed for as long as there is something to undo.
		runs, err := Healed(os.DirFS(root))
		now, _ := os.ReadFile(filepath.Join(root, systemPath))
		if undone := string(now) == string(servicesHive()); err != nil || undone != (len(runs) == 0) {
			t.Fatalf("%s: undone: %t, but %d runs are listed, %v", at, undone, len(runs), err)
		}
		if _, err := Restore(context.Background(), root, done.Dir, options); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		data, err := os.ReadFile(filepath.Join(root, systemPath))
		if err != nil || string(data) != string(servicesHive()) {
			t.Fatalf("%s: the hive is not as it was: %v", at, err)
		}
		if cutErr == nil {
			if cut < 5 {
				t.Fatalf("only %d steps", cut)
			}
			t.Logf("%d steps", cut)
			return
		}
	}
}
