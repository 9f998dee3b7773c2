package bcd

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/bcd/bcdtest"
	"github.com/bootmend/bootmend/remediate/hive"
)

var when = time.Date(2024, 7, 20, 8, 0, 0, 0, time.UTC)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func shared(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("BOOTMEND_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Skipf("shared test data is absent: %v", err)
	}
	if filepath.Ext(name) == ".xz" {
		r, err := xz.NewReader(bytes.NewReader(data))
		must(t, err)
		data, err = io.ReadAll(r)
		must(t, err)
	}
	return data
}

func synthetic(t testing.TB) []byte {
	t.Helper()
	data, err := bcdtest.Store("Windows 11", `\Windows\system32\winload.efi`)
	must(t, err)
	return data
}

// stores are those that the tests run on: one made here, and one of a real machine where there is one.
func stores(t *testing.T, test func(t *testing.T, data []byte, entry string)) {
	t.Run("synthetic", func(t *testing.T) { test(t, synthetic(t), bcdtest.Loader) })
	t.Run("real", func(t *testing.T) { test(t, shared(t, "bcd/BCD.xz"), "{733b62e5-f608-11eb-825c-c112f60133ab}") })
}

// export is what hivex reads of a store.
func export(t testing.TB, data []byte) []string {
	t.Helper()
	if _, err := exec.LookPath("hivexregedit"); err != nil {
		t.Skip("hivexregedit is absent: apt-get install libwin-hivex-perl")
	}
	path := filepath.Join(t.TempDir(), "BCD")
	must(t, os.WriteFile(path, data, 0o600))
	out, err := exec.Command("hivexregedit", "--export", path, `\`).Output()
	must(t, err)
	return strings.Split(string(out), "\n")
}

func added(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(after), func(line string) bool { return line == "" || slices.Contains(before, line) })
}

func TestSafeBoot(t *testing.T) {
	stores(t, func(t *testing.T, data []byte, entry string) {
		for mode, number := range map[Mode]string{Minimal: "00", Network: "01"} {
			s, err := Parse(data)
			must(t, err)
			e, err := s.Default()
			must(t, err)
			if e.ID != entry || !strings.HasPrefix(e.Description, "Windows 1") {
				t.Fatalf("default entry %+v", e)
			}
			must(t, s.SetSafeBoot(e, mode, when))
			out, err := s.Bytes()
			must(t, err)
			want := []string{`[\Objects\` + entry + `\Elements\25000080]`, `"Element"=hex(3):` + number + ",00,00,00,00,00,00,00"}
			before, after := export(t, data), export(t, out)
			// The value's line may be the same as another element's.
			if d := added(before, after); !slices.Contains(d, want[0]) || len(d) > 2 || len(d) == 2 && d[1] != want[1] {
				t.Errorf("%s: hivex finds new: %q", mode, d)
			}
			if i := slices.Index(after, want[0]); after[i+1] != want[1] {
				t.Errorf("%s: hivex reads %q", mode, after[i+1])
			}
			if d := added(after, before); len(d) != 0 {
				t.Errorf("%s: hivex misses %q", mode, d)
			}

			s, err = Parse(out)
			must(t, err)
			if err := s.SetSafeBoot(e, mode, when); !errors.Is(err, ErrOthers) {
				t.Errorf("set twice: %v", err)
			}
			other := map[Mode]Mode{Minimal: Network, Network: Minimal}[mode]
			if done, err := s.ClearSafeBoot(e.ID, other, when); done || err != nil {
				t.Errorf("cleared another mode: %t, %v", done, err)
			}
			if done, err := s.ClearSafeBoot(e.ID, mode, when); !done || err != nil {
				t.Errorf("cleared: %t, %v", done, err)
			}
			out, err = s.Bytes()
			must(t, err)
			if a, b := export(t, data), export(t, out); !slices.Equal(a, b) {
				t.Errorf("%s: set and cleared, hivex finds new %q, misses %q", mode, added(a, b), added(b, a))
			}
		}
	})
}

func TestNoWindows(t *testing.T) {
	memtest, err := bcdtest.Store("Memory test", `\boot\memtest.exe`)
	must(t, err)
	h, err := hive.New("Root")
	must(t, err)
	empty, err := h.Bytes()
	must(t, err)
	for name, data := range map[string][]byte{"memtest": memtest, "no store": empty, "no hive": []byte("BCD")} {
		s, err := Parse(data)
		if err == nil {
			_, err = s.Default()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// The store of installation media starts a Windows, too: its setup. There is no harm in Safe Mode there.
	s, err := Parse(shared(t, "bcd/BCD-install-media"))
	must(t, err)
	e, err := s.Default()
	t.Logf("%+v, %v", e, err)
}

func tree(t testing.TB, place string, data []byte) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(place)), 0o755))
	must(t, os.WriteFile(filepath.Join(root, place), data, 0o600))
	must(t, os.WriteFile(filepath.Join(root, place+".LOG"), nil, 0o600))
	return root
}

func run(id string) remediate.Run {
	return remediate.Run{ID: id, Time: when, ToolVersion: "test"}
}

func TestSafeMode(t *testing.T) {
	for _, place := range []string{"EFI/Microsoft/Boot/BCD", "efi/MICROSOFT/boot/bcd", "Boot/BCD"} {
		data := synthetic(t)
		root := tree(t, place, data)
		if _, err := ReadMarker(os.DirFS(root)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a marker at once: %v", err)
		}
		if _, err := UndoSafeMode(root, run("r0")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("undone at once: %v", err)
		}
		c, err := SetSafeMode(root, Network, run("r1"))
		must(t, err)
		if !c.Changed || c.Store != place || c.Entry.Description != "Windows 11" {
			t.Errorf("%+v", c)
		}
		if kept, err := os.ReadFile(filepath.Join(root, c.Kept)); err != nil || !bytes.Equal(kept, data) || !strings.HasSuffix(c.Kept, ".bootmend-r1") {
			t.Errorf("kept %s: %v", c.Kept, err)
		}
		if _, set, err := Look(os.DirFS(root)); !set || err != nil {
			t.Errorf("set: %t, %v", set, err)
		}
		m, err := ReadMarker(os.DirFS(root))
		must(t, err)
		if m.Mode != Network || m.Run != "r1" || m.Kept != "BCD.bootmend-r1" && m.Kept != "bcd.bootmend-r1" {
			t.Errorf("%+v", m)
		}
		if c, err = SetSafeMode(root, Minimal, run("r2")); err != nil || c.Changed || c.Mode != Network {
			t.Errorf("set again: %+v, %v", c, err)
		}
		if c, err = UndoSafeMode(root, run("r1")); err != nil || !c.Changed {
			t.Errorf("undone: %+v, %v", c, err)
		}
		if _, set, err := Look(os.DirFS(root)); set || err != nil {
			t.Errorf("undone: %t, %v", set, err)
		}
		if _, err := ReadMarker(os.DirFS(root)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the marker stays: %v", err)
		}
	}
}

// TestOthers leaves alone what somebody else has set, or taken away.
func TestOthers(t *testing.T) {
	s, err := Parse(synthetic(t))
	must(t, err)
	e, err := s.Default()
	must(t, err)
	must(t, s.SetSafeBoot(e, Minimal, when))
	data, err := s.Bytes()
	must(t, err)
	root := tree(t, "Boot/BCD", data)
	if _, err := SetSafeMode(root, Network, run("r1")); !errors.Is(err, ErrOthers) {
		t.Errorf("got %v", err)
	}
	if now, err := os.ReadFile(filepath.Join(root, "Boot/BCD")); err != nil || !bytes.Equal(now, data) {
		t.Error("the store changed", err)
	}

	root = tree(t, "Boot/BCD", synthetic(t))
	_, err = SetSafeMode(root, Network, run("r1"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "Boot/BCD"), synthetic(t), 0o600)) // bcdedit /deletevalue in Safe Mode
	c, err := UndoSafeMode(root, run("r2"))
	must(t, err)
	if c.Changed {
		t.Error("something was undone")
	}
	if _, err := ReadMarker(os.DirFS(root)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the marker stays: %v", err)
	}
}

// TestCutShort finds a store that a power cut left aside.
func TestCutShort(t *testing.T) {
	root := tree(t, "Boot/BCD", synthetic(t))
	for _, name := range []string{"BCD.bootmend-r0", "BCD.bootmend-r0.new"} {
		must(t, os.WriteFile(filepath.Join(root, "Boot", name), synthetic(t), 0o600))
	}
	must(t, os.Remove(filepath.Join(root, "Boot/BCD")))
	c, err := SetSafeMode(root, Minimal, run("r1"))
	must(t, err)
	if !c.Changed {
		t.Errorf("%+v", c)
	}
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"schema":"bootmend.safemode/v1","mode":"minimal","entry":"` + bcdtest.Loader + `","time":"2024-07-20T08:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		root := tree(t, "Boot/BCD", nil)
		must(t, os.WriteFile(filepath.Join(root, "Boot", markerName), data, 0o600))
		if m, err := ReadMarker(os.DirFS(root)); err == nil && !guid.MatchString(m.Entry) {
			t.Errorf("%+v", m)
		}
	})
}

func FuzzStore(f *testing.F) {
	f.Add(synthetic(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		e, err := s.Default()
		if err != nil {
			return
		}
		if err := s.SetSafeBoot(e, Network, when); err != nil {
			return
		}
		out, err := s.Bytes()
		must(t, err)
		if s, err = Parse(out); err != nil {
			t.Fatal(err)
		}
		if set, err := s.SafeBoot(e); !set || err != nil {
			t.Errorf("%t, %v", set, err)
		}
	})
}
