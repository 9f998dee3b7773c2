package remediate

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// ntfsVolume is a small NTFS in a file, mounted with ntfs-3g.
type ntfsVolume struct{ image, dir string }

func newNTFS(t *testing.T) *ntfsVolume {
	t.Helper()
	for _, tool := range []string{"mkntfs", "ntfs-3g", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	v := &ntfsVolume{image: filepath.Join(t.TempDir(), "ntfs.img"), dir: t.TempDir()}
	f, err := os.Create(v.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(16 << 20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkntfs", "-F", "-Q", "-q", v.image).CombinedOutput(); err != nil {
		t.Fatalf("mkntfs: %v\n%s", err, out)
	}
	return v
}

// mount mounts until the returned function is called.
func (v *ntfsVolume) mount(t *testing.T, options string) (unmount func()) {
	t.Helper()
	if out, err := exec.Command("ntfs-3g", "-o", options, v.image, v.dir).CombinedOutput(); err != nil {
		t.Skipf("ntfs-3g does not mount here: %v\n%s", err, out)
	}
	mounted := true
	unmount = func() {
		if !mounted {
			return
		}
		if out, err := exec.Command("umount", v.dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
		mounted = false
	}
	t.Cleanup(unmount)
	return unmount
}

// TestNTFS heals a real NTFS, mounted anew for each step as the agent does.
func TestNTFS(t *testing.T) {
	ctx := context.Background()
	v := newNTFS(t)
	var before map[string]string
	var res *Result
	var plan *Plan
	run := testRun(t, "r1")

	step := func(options string, f func()) {
		t.Helper()
		unmount := v.mount(t, options)
		f()
		unmount()
	}
	step("rw", func() {
		for _, f := range append(incident(), file{path: "PROGRAMDATA/Vendor/x"}) {
			writeTestFile(t, v.dir, f)
		}
		before = snapshot(t, v.dir)
	})
	step("ro", func() {
		if w, err := FindWindows(os.DirFS(v.dir)); err != nil || w.Root != "Windows" || w.Hibernated {
			t.Errorf("%+v, %v", w, err)
		}
		plan = evaluateTree(t, v.dir, FaultyOnly)
		if len(plan.Actions) != 2 || len(plan.Kept) != 2 || len(plan.Problems) != 0 {
			t.Fatalf("plan %+v", plan)
		}
		if _, err := Quarantine(ctx, v.dir, plan, run); err == nil {
			t.Error("quarantine on a read-only volume")
		}
	})
	step("rw", func() {
		var err error
		if res, err = Quarantine(ctx, v.dir, plan, run); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(res.Dir, "PROGRAMDATA/bootmend/") {
			t.Errorf("folder %q", res.Dir)
		}
		if _, err := WriteLogFile(v.dir, WindowsLogDir, run, []byte("{}\n")); err != nil {
			t.Error(err)
		}
	})
	step("ro", func() {
		if err := Verify(ctx, os.DirFS(v.dir), res); err != nil {
			t.Error(err)
		}
		onceEach(t, v.dir, before, false)
		if healed, err := Healed(os.DirFS(v.dir)); err != nil || len(healed) != 1 || healed[0].Moved() != 2 {
			t.Errorf("%+v, %v", healed, err)
		}
		if plan := evaluateTree(t, v.dir, FaultyOnly); !plan.Empty() {
			t.Error("not healed")
		}
	})
	step("rw", func() {
		if _, err := Restore(ctx, v.dir, res.Dir, RestoreOptions{Packs: defaultPacks(t)}); err != nil {
			t.Error(err)
		}
	})
	step("ro", func() {
		after := snapshot(t, v.dir)
		for p := range after {
			if strings.Contains(p, "/bootmend/") {
				delete(after, p)
			}
		}
		if !reflect.DeepEqual(before, after) {
			t.Errorf("after: %v\nwant: %v", after, before)
		}
		if again := evaluateTree(t, v.dir, FaultyOnly); !reflect.DeepEqual(actionPaths(again), actionPaths(plan)) ||
			!again.Actions[0].Times.Modified.Equal(plan.Actions[0].Times.Modified) {
			t.Error("restored, but the plan is another")
		}
	})
}

// TestNTFSPowerCut cuts the power at chosen steps on a real NTFS.
func TestNTFSPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts many times")
	}
	ctx := context.Background()
	for n := 0; ; n += 3 {
		v := newNTFS(t)
		unmount := v.mount(t, "rw")
		for _, f := range incident() {
			writeTestFile(t, v.dir, f)
		}
		before := snapshot(t, v.dir)
		tr, err := openTree(v.dir)
		if err != nil {
			t.Fatal(err)
		}
		tr.before, _ = cutAfter(n)
		_, err = tr.quarantine(ctx, evaluateTree(t, v.dir, FaultyOnly), testRun(t, "r1"))
		_ = tr.close()
		unmount()
		done := err == nil
		unmount = v.mount(t, "rw")
		onceEach(t, v.dir, before, true)
		if plan := evaluateTree(t, v.dir, FaultyOnly); !plan.Empty() {
			if _, err := Quarantine(ctx, v.dir, plan, testRun(t, "r2")); err != nil {
				t.Errorf("cut at step %d: %v", n, err)
			}
			onceEach(t, v.dir, before, false)
		}
		unmount()
		if done {
			return
		}
	}
}

// TestGuardOnNTFS looks at what a repair leaves on a real NTFS, and plants a manifest there as a user would.
func TestGuardOnNTFS(t *testing.T) {
	v := newNTFS(t)
	unmount := v.mount(t, "rw")
	defer unmount()
	for _, f := range incident() {
		writeTestFile(t, v.dir, f)
	}
	res, err := Quarantine(t.Context(), v.dir, evaluateTree(t, v.dir, FaultyOnly), testRun(t, "r1"))
	if err != nil || res.Unguarded != "" {
		t.Fatalf("%+v, %v", res, err)
	}
	tr, err := openTree(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tr.close() }()
	for _, p := range []string{ownDir, QuarantineDir, res.Dir, manifestPath(res.Dir), res.Dir + "/" + driversDir} {
		if sd, err := tr.descriptor(p); err != nil || string(sd) != string(guard) {
			t.Errorf("%s: %x, %v", p, sd, err)
		}
	}
	// The file itself keeps the rights that it had.
	if sd, err := tr.descriptor(res.Moved[0].Quarantined); err != nil || sd == nil || string(sd) == string(guard) {
		t.Errorf("%s: %x, %v", res.Moved[0].Quarantined, sd, err)
	}
	// The same folder, made by somebody else.
	planted := filepath.Join(v.dir, QuarantineDir, "20240721T080000Z-r1")
	if err := os.CopyFS(planted, os.DirFS(filepath.Join(v.dir, res.Dir))); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), v.dir, filepath.Base(planted), RestoreOptions{Packs: defaultPacks(t)}); !errors.Is(err, ErrUnguarded) {
		t.Errorf("planted run: %v", err)
	}
	if plan, err := PlanRestore(t.Context(), v.dir, filepath.Base(planted), RestoreOptions{Packs: defaultPacks(t), TrustRecord: true}); err != nil || plan == nil {
		t.Errorf("planted run that a person trusts: %+v, %v", plan, err)
	}
	if res, err := Restore(t.Context(), v.dir, res.Dir, RestoreOptions{Packs: defaultPacks(t)}); err != nil || len(res.Restored) != 2 {
		t.Errorf("%+v, %v", res, err)
	}
}
