package hive

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var when = time.Date(2024, 7, 20, 8, 0, 0, 0, time.UTC)

// TestNothingChanges loads real hives and writes them out again: hivex finds the same in them.
func TestNothingChanges(t *testing.T) {
	for _, name := range []string{"bcd/BCD.xz", "bcd/BCD-install-media", "hives/minimal", "hives/special", "hives/rlenvalue_test_hive"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data := shared(t, name)
			before := filepath.Join(t.TempDir(), "before")
			must(t, os.WriteFile(before, data, 0o600))
			after := saved(t, load(t, data))
			if a, b := xml(t, before), xml(t, after); a != b {
				t.Error("hivexml reads something else")
			}
			if d := difference(export(t, before), export(t, after)); d != nil {
				t.Errorf("hivexregedit reads something else: %q", d)
			}
		})
	}
}

// TestStart changes the one value that disable-service does, in a real SYSTEM hive.
func TestStart(t *testing.T) {
	if testing.Short() {
		t.Skip("exports a large hive")
	}
	data := shared(t, "hives/SYSTEM.xz")
	before := filepath.Join(t.TempDir(), "before")
	must(t, os.WriteFile(before, data, 0o600))
	h := load(t, data)
	h.Now = when
	k := key(t, h, `ControlSet001\Services\disk`)
	must(t, k.SetDWORD("Start", 4))
	after := saved(t, h)

	want := []string{`-"Start"=dword:00000000`, `+"Start"=dword:00000004`}
	if d := difference(export(t, before), export(t, after)); !slices.Equal(d, want) {
		t.Errorf("changed: %q", d)
	}
	if got := foreign(t, "hivexregedit", "--export", after, `\ControlSet001\Services\Disk`); !strings.Contains(got, `"Start"=dword:00000004`) {
		t.Errorf("hivex reads %s", got)
	}
	// The file differs where it must and nowhere else: base block, the key's time, the value.
	written, err := os.ReadFile(after)
	must(t, err)
	changed := 0
	for i := baseSize; i < len(written); i++ {
		if written[i] != data[i] {
			changed++
		}
	}
	if changed == 0 || changed > 8+4 {
		t.Errorf("%d bytes of the hive bins changed", changed)
	}
}

// TestEdits does every kind of edit to real hives, with enough of each that cells are reused and bins are added, and
// compares with what hivex reads.
func TestEdits(t *testing.T) {
	for _, name := range []string{"bcd/BCD.xz", "hives/minimal", "hives/special"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			data := shared(t, name)
			h := load(t, data)
			h.Now = when
			root := key(t, h, "")
			added, err := root.CreateSubkey("Bootmend Test")
			must(t, err)
			size := h.size

			want := map[string]string{}
			for i := range 300 {
				sub, err := added.CreateSubkey(fmt.Sprintf("key %d", (i*7919)%300))
				must(t, err)
				value := strings.Repeat("x", i*3)
				must(t, sub.SetText("text", value))
				must(t, sub.SetValue("bin", Binary, bytes.Repeat([]byte{byte(i)}, i%9)))
				must(t, sub.SetDWORD("number", uint32(i)))
				want[fmt.Sprintf("key %d", (i*7919)%300)] = value
			}
			if h.size <= size {
				t.Error("the hive did not grow")
			}
			// Longer, shorter, gone.
			for i := range 300 {
				name := fmt.Sprintf("key %d", i)
				sub, err := added.Subkey(strings.ToUpper(name))
				must(t, err)
				switch i % 5 {
				case 0:
					want[name] = strings.Repeat("longer ", i)
					must(t, sub.SetText("TEXT", want[name]))
				case 1:
					want[name] = "s"
					must(t, sub.SetText("text", "s"))
				case 2:
					delete(want, name)
					must(t, added.DeleteSubkey(name))
				case 3:
					must(t, sub.DeleteValue("bin"))
				}
			}
			size = h.size
			for i := range 50 {
				sub, err := added.CreateSubkey(fmt.Sprintf("again %d", i))
				must(t, err)
				must(t, sub.SetText("text", "reuses a free cell"))
				want[fmt.Sprintf("again %d", i)] = "reuses a free cell"
			}
			if h.size != size {
				t.Error("free cells were not used again")
			}
			after := saved(t, h)
			check := func(names []string, text func(name string) string) {
				if len(names) != len(want) {
					t.Errorf("%d keys, want %d", len(names), len(want))
				}
				for _, name := range names {
					if got := text(name); got != want[name] {
						t.Errorf("%s: %q, want %q", name, got, want[name])
					}
				}
			}
			again, err := os.ReadFile(after)
			must(t, err)
			h = load(t, again)
			added = key(t, h, "bootmend test")
			subkeys, err := added.Subkeys()
			must(t, err)
			var names []string
			for _, k := range subkeys {
				name, err := k.Name()
				must(t, err)
				names = append(names, name)
			}
			check(names, func(name string) string {
				v, err := key(t, h, `Bootmend Test\`+name).Value("text")
				must(t, err)
				text, err := v.Text()
				must(t, err)
				return text
			})
			// hivex reads the same and has no quarrel with what else is there.
			found := map[string]string{}
			current := ""
			for _, line := range export(t, after) {
				if name, ok := strings.CutPrefix(line, `[\Bootmend Test\`); ok {
					current = strings.TrimSuffix(name, "]")
				} else if text, ok := strings.CutPrefix(line, `"text"=`); ok {
					found[current] = strings.Trim(strings.TrimPrefix(text, "str(1):"), `"`)
				}
			}
			names = names[:0]
			for name := range found {
				names = append(names, name)
			}
			check(names, func(name string) string { return found[name] })

			// With all of it gone, the hive holds what it held.
			must(t, key(t, h, "").DeleteSubkey("Bootmend Test"))
			before := filepath.Join(t.TempDir(), "before")
			must(t, os.WriteFile(before, data, 0o600))
			after = saved(t, h)
			if d := difference(export(t, before), export(t, after)); d != nil {
				t.Errorf("hivexregedit reads something else: %q", d)
			}
		})
	}
}

// TestHivexEdits lets hivex change what was written here, which shows that its idea of free and used cells is ours.
func TestHivexEdits(t *testing.T) {
	h := load(t, shared(t, "bcd/BCD.xz"))
	for i := range 40 {
		sub, err := key(t, h, "Objects").CreateSubkey(fmt.Sprintf("{new %d}", i))
		must(t, err)
		must(t, sub.SetText("Element", strings.Repeat("y", 40*i)))
	}
	path := saved(t, h)
	script := "cd Objects\nadd theirs\ncd theirs\nsetval 1\nvalue\nstring:set by hivex\ncommit\nquit\n"
	file := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(file, []byte(script), 0o600))
	foreign(t, "hivexsh", "-w", "-f", file, path)
	data, err := os.ReadFile(path)
	must(t, err)
	v, err := key(t, load(t, data), `Objects\theirs`).Value("value")
	must(t, err)
	if text, err := v.Text(); err != nil || text != "set by hivex" {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestManySubkeys(t *testing.T) {
	h, err := New("Root")
	must(t, err)
	root := key(t, h, "")
	const n = 1200 // three leaves under an index root
	for i := range n {
		_, err := root.CreateSubkey(fmt.Sprintf("k%04d", (i*577)%n))
		must(t, err)
	}
	path := saved(t, h)
	lines := strings.Fields(foreign(t, "hivexsh", "-f", writeScript(t, "ls\nquit\n"), path))
	if len(lines) != n || !slices.IsSorted(lines) {
		t.Errorf("hivex lists %d keys, sorted %t", len(lines), slices.IsSorted(lines))
	}
	for i := range n {
		if i%3 != 0 {
			must(t, root.DeleteSubkey(fmt.Sprintf("K%04d", i)))
		}
	}
	if got := strings.Fields(foreign(t, "hivexsh", "-f", writeScript(t, "ls\nquit\n"), saved(t, h))); len(got) != n/3 {
		t.Errorf("%d keys are left, want %d", len(got), n/3)
	}
}

func writeScript(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestNames(t *testing.T) {
	h, err := New("Root")
	must(t, err)
	root := key(t, h, "")
	for _, name := range []string{"Überblick", "日本語", "Ελλάδα", strings.Repeat("n", 255)} {
		k, err := root.CreateSubkey(name)
		must(t, err)
		must(t, k.SetText(name, name))
		must(t, k.SetText("", "default"))
	}
	data, err := h.Bytes()
	must(t, err)
	h = load(t, data)
	for _, name := range []string{"überblick", "日本語", "ελλάδα", strings.Repeat("N", 255)} {
		k, err := h.Key(name)
		must(t, err)
		v, err := k.Value(name)
		must(t, err)
		if text, err := v.Text(); err != nil || !strings.EqualFold(text, name) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if got := foreign(t, "hivexml", saved(t, h)); !strings.Contains(got, "日本語") || !strings.Contains(got, "Überblick") {
		t.Error("hivex does not read the names")
	}
	for _, name := range []string{"", `a\b`, "a\x00", strings.Repeat("n", 256)} {
		if _, err := root.CreateSubkey(name); err == nil {
			t.Errorf("a key named %q was made", name)
		}
	}
}

func TestRefused(t *testing.T) {
	data := shared(t, "bcd/BCD.xz")
	h := load(t, data)
	objects := key(t, h, "Objects")
	if err := objects.SetValue("v", Binary, make([]byte, segment+1)); err == nil {
		t.Error("big data was written")
	}
	must(t, objects.SetValue("v", Binary, make([]byte, segment)))
	saved(t, h)
	if err := objects.DeleteValue("none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleting a value that is not there: %v", err)
	}
	if err := objects.DeleteSubkey("none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleting a key that is not there: %v", err)
	}
	opened, err := Open(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	if err := key(t, opened, "Objects").SetDWORD("v", 1); err == nil {
		t.Error("a hive opened to be read was changed")
	}
	for name, change := range map[string]func([]byte){
		"version":   func(b []byte) { b[baseMinor] = 6 },
		"cell size": func(b []byte) { b[baseSize+binHeader] = 4 },
		"bin":       func(b []byte) { b[baseSize+4] = 1 },
		"dirty":     func(b []byte) { b[basePrimary]++ },
		"log file":  func(b []byte) { b[baseType] = logTypeNew },
	} {
		broken := bytes.Clone(data)
		change(broken)
		if name != "dirty" {
			le.PutUint32(broken[baseChecksum:], checksum(broken))
		}
		if _, err := Load(broken); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	if _, err := Load(data[:len(data)-1]); err == nil {
		t.Error("a hive that was cut short: loaded")
	}
}

// TestBigData reads a value that does not fit one cell, and replaces it.
func TestBigData(t *testing.T) {
	h, err := New("Root")
	must(t, err)
	root := key(t, h, "")
	content := bytes.Repeat([]byte("0123456789abcdef"), 2500) // 40,000 bytes: three segments
	must(t, root.SetValue("big", Binary, []byte("placeholder")))
	v, err := root.Value("big")
	must(t, err)
	var segments []uint32
	for part := range slices.Chunk(content, segment) {
		cell, err := h.alloc(segment + 4) // Windows makes them this long
		must(t, err)
		copy(h.at(cell), part)
		segments = append(segments, cell)
	}
	list, err := h.alloc(4 * len(segments))
	must(t, err)
	for i, cell := range segments {
		le.PutUint32(h.at(list)[4*i:], cell)
	}
	db, err := h.alloc(8)
	must(t, err)
	copy(h.at(db), "db")
	le.PutUint16(h.at(db)[2:], uint16(len(segments)))
	le.PutUint32(h.at(db)[4:], list)
	must(t, h.release(le.Uint32(h.at(v.offset)[valueData:])))
	le.PutUint32(h.at(v.offset)[valueData:], db)
	le.PutUint32(h.at(v.offset)[valueSize:], uint32(len(content)))

	path := saved(t, h)
	if v, err = root.Value("big"); err != nil || v.Size != len(content) {
		t.Fatal(v, err)
	}
	if got, err := v.Data(); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// hivex agrees that this is such a value.
	if got := foreign(t, "hivexregedit", "--export", path, `\`); !strings.Contains(got, "30,31,32,33") {
		t.Error("hivex does not read the value")
	}
	free := len(h.edit.free)
	must(t, root.SetDWORD("big", 1))
	if len(h.edit.free) <= free {
		t.Error("the segments were not freed")
	}
	saved(t, h)
}

func TestSecurity(t *testing.T) {
	h := load(t, shared(t, "bcd/BCD.xz"))
	count := func() uint32 {
		n, err := h.node(key(t, h, "Objects").offset)
		must(t, err)
		s, err := h.record(le.Uint32(n[nodeSecurity:]), "sk", securityData)
		must(t, err)
		return le.Uint32(s[securityCount:])
	}
	before := count()
	_, err := key(t, h, "Objects").CreateSubkey("new")
	must(t, err)
	if got := count(); got != before+1 {
		t.Errorf("%d references to the security item, want %d", got, before+1)
	}
	must(t, key(t, h, "Objects").DeleteSubkey("new"))
	if got := count(); got != before {
		t.Errorf("%d references to the security item, want %d", got, before)
	}
}

func TestSequence(t *testing.T) {
	data := shared(t, "bcd/BCD.xz")
	h := load(t, data)
	h.Now = when
	must(t, key(t, h, "Objects").SetDWORD("v", 1))
	out, err := h.Bytes()
	must(t, err)
	first, second := le.Uint32(out[basePrimary:]), le.Uint32(out[baseSecondary:])
	if old := le.Uint32(data[basePrimary:]); first != old+1 || second != first {
		t.Errorf("sequence numbers %d and %d after %d", first, second, old)
	}
	if got := checksum(out); got != le.Uint32(out[baseChecksum:]) {
		t.Error("wrong checksum")
	}
	if got := le.Uint64(out[baseTime:]); got != filetime(when) || got != 133659360000000000 {
		t.Errorf("dated %d", got)
	}
}
