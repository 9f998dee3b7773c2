package bcd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/remediate/hive"
)

var when = time.Date(2024, 7, 20, 8, 0, 0, 0, time.UTC)

func store(t testing.TB, loader string) []byte {
	t.Helper()
	data, err := RAMDisk(loader, when)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// export is what hivex reads of a store: type and value of each element or field of a description, by "object\element".
func export(t testing.TB, data []byte) map[string]string {
	t.Helper()
	if _, err := exec.LookPath("hivexregedit"); err != nil {
		t.Skip("hivexregedit is absent: apt-get install libwin-hivex-perl")
	}
	path := filepath.Join(t.TempDir(), "BCD")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("hivexregedit", "--export", path, `\`).Output()
	if err != nil {
		t.Fatal(err)
	}
	values, key := map[string]string{}, ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			key = strings.ReplaceAll(strings.Trim(line, `[\]`), `Objects\`, "")
			key = strings.ReplaceAll(key, `Elements\`, "")
		} else if name, value, ok := strings.Cut(line, "="); ok {
			values[key+" "+strings.Trim(name, `"`)] = value
		}
	}
	return values
}

// TestLikeMicrosofts compares a store, element by element, with the one of Microsoft's installation media for UEFI, which
// starts the same WIM: hivex reads both.
func TestLikeMicrosofts(t *testing.T) {
	dir := os.Getenv("BOOTMEND_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	data, err := os.ReadFile(filepath.Join(dir, "bcd", "BCD-install-media"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("shared test data is absent: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := export(t, data), export(t, store(t, `\windows\system32\boot\winload.efi`))
	differ := map[string]bool{ // and are meant to
		loader + `\12000004 Element`:      true, // the description
		bootManager + `\25000004 Element`: true, // the time-out
	}
	for name, value := range ours {
		if want := theirs[name]; value != want && !differ[name] {
			t.Errorf("%s: %s, Microsoft has %q", name, value, want)
		}
	}
	for name := range theirs {
		object, _, _ := strings.Cut(name, `\`)
		known := object == ramDisk || object == loader || object == bootManager
		// Settings come from other objects, none of which is needed; so does the test of the memory.
		inherited := strings.Contains(name, "14000006") || strings.Contains(name, "24000010")
		if _, ok := ours[name]; !ok && known && !inherited {
			t.Errorf("Microsoft has %s", name)
		}
	}
	if len(ours) < 20 {
		t.Errorf("hivex found %d values", len(ours))
	}
}

// TestReferences makes sure that what an element of the store names is there, that the hive is sound, and that the same
// arguments give the same bytes.
func TestReferences(t *testing.T) {
	data := store(t, `\windows\system32\boot\winload.exe`)
	if !bytes.Equal(data, store(t, `\windows\system32\boot\winload.exe`)) {
		t.Error("another store the second time")
	}
	h, err := hive.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	text := func(id, element string) string {
		t.Helper()
		k, err := h.Key("Objects", id, "Elements", element)
		if err != nil {
			t.Fatal(err)
		}
		v, err := k.Value("Element")
		if err != nil {
			t.Fatal(err)
		}
		s, err := v.Text()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got := text(text(bootManager, "23000003"), "12000002"); got != `\windows\system32\boot\winload.exe` {
		t.Errorf("the default entry starts %q", got)
	}
	k, err := h.Key("Objects", loader, "Elements", "21000001")
	if err != nil {
		t.Fatal(err)
	}
	v, err := k.Value("Element")
	if err != nil {
		t.Fatal(err)
	}
	device, err := v.Data()
	if err != nil {
		t.Fatal(err)
	}
	if id := text(ramDisk, "32000004"); id != `\boot\boot.sdi` || !bytes.Equal(device[:16], guidBytes(ramDisk)) {
		t.Errorf("options %x, SDI %s", device[:16], id)
	}
	if n := binary.LittleEndian.Uint32(device[24:]); int(n) != len(device)-16 {
		t.Errorf("a device of %d bytes says %d", len(device)-16, n)
	}
	if !bytes.HasSuffix(device, hive.EncodeUTF16("\\sources\\boot.wim\x00")) {
		t.Errorf("%x", device)
	}
}
