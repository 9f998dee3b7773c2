package remediate

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/bootmend/bootmend/remediate/hive"
)

func windowsFS(root string, more fstest.MapFS) fstest.MapFS {
	m := fstest.MapFS{
		root + "/System32/config/SYSTEM": {Data: []byte("no hive")},
		root + "/System32/ntoskrnl.exe":  {Data: []byte("MZ")},
	}
	for k, v := range more {
		m[k] = v
	}
	return m
}

func TestFindWindows(t *testing.T) {
	for name, tc := range map[string]struct {
		fsys fstest.MapFS
		want string // "" = ErrNoWindows
	}{
		"usual":        {windowsFS("Windows", nil), "Windows"},
		"upper case":   {fstest.MapFS{"WINDOWS/SYSTEM32/Config/system": {}, "WINDOWS/SYSTEM32/WINLOAD.EFI": {}}, "WINDOWS"},
		"WINNT":        {windowsFS("WINNT", nil), "WINNT"},
		"old one":      {windowsFS("Windows.old", nil), ""},
		"older one":    {windowsFS("windows.OLD.000", nil), ""},
		"no hive":      {fstest.MapFS{"Windows/System32/ntoskrnl.exe": {}}, ""},
		"no kernel":    {fstest.MapFS{"Windows/System32/config/SYSTEM": {}}, ""},
		"hive folder":  {fstest.MapFS{"Windows/System32/config/SYSTEM/x": {}, "Windows/System32/ntoskrnl.exe": {}}, ""},
		"deeper":       {windowsFS("Backup/Windows", nil), ""},
		"empty volume": {fstest.MapFS{}, ""},
		"file":         {fstest.MapFS{"Windows": {}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := FindWindows(tc.fsys)
			if tc.want == "" {
				if !errors.Is(err, ErrNoWindows) {
					t.Errorf("got %+v, %v", w, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if w.Root != tc.want || w.Hibernated || len(w.Problems) != 2 {
				t.Errorf("got %+v", w)
			}
		})
	}
}

func TestFindWindowsPrefersWindows(t *testing.T) {
	w, err := FindWindows(windowsFS("A", windowsFS("windows", windowsFS("Z", nil))))
	if err != nil || w.Root != "windows" || strings.Join(w.Others, " ") != "A Z" {
		t.Errorf("got %+v, %v", w, err)
	}
}

func TestFindWindowsThroughALink(t *testing.T) {
	real := makeTree(t, incident())
	root := tempDir(t)
	if err := os.Symlink(filepath.Join(real, "Windows"), filepath.Join(root, "Windows")); err != nil {
		t.Skip(err)
	}
	if w, err := FindWindows(os.DirFS(root)); !errors.Is(err, ErrNoWindows) {
		t.Errorf("got %+v, %v", w, err)
	}
}

func TestHibernation(t *testing.T) {
	for head, want := range map[string]bool{
		"hibr": true, "HIBR": true, "RSTR": true, "rstr": true,
		"wake": false, "WAKE": false, "\x00\x00\x00\x00": false, "": false, "hi": false, "link": false,
	} {
		for _, name := range []string{"hiberfil.sys", "HIBERFIL.SYS"} {
			fsys := windowsFS("Windows", fstest.MapFS{name: {Data: []byte(head)}})
			if len(head) == 4 {
				fsys[name].Data = append(fsys[name].Data, make([]byte, 4096)...)
			}
			w, err := FindWindows(fsys)
			if err != nil {
				t.Fatal(err)
			}
			if w.Hibernated != want || (w.Hibernation != "") != want {
				t.Errorf("%s with %q: hibernated %v %q", name, head, w.Hibernated, w.Hibernation)
			}
		}
	}
	// A session that cannot be ruled out counts as one.
	w, err := FindWindows(brokenFS{windowsFS("Windows", fstest.MapFS{"hiberfil.sys": {Data: []byte("wake")}}), "hiberfil.sys"})
	if err != nil || !w.Hibernated || !strings.Contains(w.Hibernation, "cannot be ruled out") {
		t.Errorf("unreadable hiberfil.sys: %+v, %v", w, err)
	}
}

func TestHives(t *testing.T) {
	if testing.Short() {
		t.Skip("unpacks large hives")
	}
	system, software := shared(t, "hives/SYSTEM.xz"), shared(t, "hives/SOFTWARE.xz")
	w, err := FindWindows(fstest.MapFS{
		"Windows/System32/config/SYSTEM":   {Data: system},
		"Windows/System32/config/software": {Data: software},
		"Windows/System32/ntoskrnl.exe":    {Data: []byte("MZ")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", w)
	if w.ComputerName != "WKS-WIN732BITA" || len(w.Problems) != 0 {
		t.Errorf("computer name %q, problems %q", w.ComputerName, w.Problems)
	}
	if want := "Windows 7"; !strings.HasPrefix(w.Version.Product, want) || !strings.HasPrefix(w.Version.Build, "760") {
		t.Errorf("version %+v", w.Version)
	}
}

func TestDirtyHive(t *testing.T) {
	name, err := readComputerName(shared(t, "hives/SYSTEM_B.xz"))
	t.Logf("%q, %v", name, err)
	if err != nil || name == "" {
		t.Errorf("a hive with unfinished writes: %q, %v", name, err)
	}
}

func TestHivesWithoutTheKeys(t *testing.T) {
	for _, f := range []string{"minimal", "special", "rlenvalue_test_hive"} {
		data := shared(t, "hives/"+f)
		if name, err := readComputerName(data); err == nil || name != "" {
			t.Errorf("%s: got %q, %v", f, name, err)
		}
		if v, err := readVersion(data); err == nil || v != (Version{}) {
			t.Errorf("%s: got %v, %v", f, v, err)
		}
	}
}

// TestDamagedHive overwrites stretches of a real hive; every reading must end.
func TestDamagedHive(t *testing.T) {
	hive := shared(t, "hives/SYSTEM_B.xz")
	step := len(hive) / 40
	if testing.Short() {
		step = len(hive) / 8
	}
	data := bytes.Clone(hive)
	for off := 0; off < len(hive); off += step {
		page := data[off:min(off+4096, len(data))]
		for _, fill := range []byte{0x00, 0xff} {
			for i := range page {
				page[i] = fill
			}
			if name, err := readComputerName(data); err == nil && name == "" {
				t.Errorf("at %#x: neither a name nor an error", off)
			}
		}
		copy(page, hive[off:])
		if _, err := readComputerName(hive[:off]); off < 4096 && err == nil {
			t.Errorf("cut at %#x: no error", off)
		}
	}
}

// readComputerName and readVersion are what FindWindows does with a hive's bytes.
func readComputerName(data []byte) (name string, err error) {
	err = withHive(fstest.MapFS{"SYSTEM": {Data: data}}, "SYSTEM", func(h *hive.Hive) error {
		name, err = computerName(h)
		return err
	})
	return name, err
}

func readVersion(data []byte) (v Version, err error) {
	err = withHive(fstest.MapFS{"SOFTWARE": {Data: data}}, "SOFTWARE", func(h *hive.Hive) error {
		v, err = windowsVersion(h)
		return err
	})
	return v, err
}

func FuzzHive(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("regf"))
	f.Add(systemHive("PC"))
	f.Add(softwareHive(map[string]any{"ProductName": "Windows 10", "UBR": uint32(1)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if name, err := readComputerName(data); err == nil && name == "" {
			t.Error("neither a name nor an error")
		}
		if v, err := readVersion(data); err == nil && v == (Version{}) {
			t.Error("neither a version nor an error")
		}
	})
}
