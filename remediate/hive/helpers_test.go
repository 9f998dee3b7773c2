package hive

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

var unpacked = map[string][]byte{}

// shared reads a file of the shared test data, unpacked, or skips.
func shared(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("BOOTMEND_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	if data, ok := unpacked[name]; ok {
		return data
	}
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Skipf("shared test data is absent: %v", err)
	}
	if filepath.Ext(name) == ".xz" {
		r, err := xz.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if data, err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	unpacked[name] = data
	return data
}

func load(t testing.TB, data []byte, logs ...[]byte) *Hive {
	t.Helper()
	h, err := Load(data, logs...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func key(t testing.TB, h *Hive, path string) Key {
	t.Helper()
	k, err := h.Root()
	if path != "" {
		k, err = h.Key(strings.Split(path, `\`)...)
	}
	must(t, err)
	return k
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// saved writes the hive out, makes sure that it loads again, and returns the file's path.
func saved(t testing.TB, h *Hive) string {
	t.Helper()
	data, err := h.Bytes()
	must(t, err)
	load(t, data)
	path := filepath.Join(t.TempDir(), "hive")
	must(t, os.WriteFile(path, data, 0o600))
	return path
}

// foreign runs one of hivex's programs, or skips.
func foreign(t testing.TB, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is absent: apt-get install libhivex-bin libwin-hivex-perl", program)
	}
	var stderr bytes.Buffer // with warnings, in the middle of what it prints
	cmd := exec.Command(program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", program, args, err, stderr.Bytes())
	}
	return string(out)
}

// export is all that hivex reads of a hive: a line for every key and value.
func export(t testing.TB, path string) []string {
	t.Helper()
	return strings.Split(foreign(t, "hivexregedit", "--export", "--unsafe-printable-strings", path, `\`), "\n")
}

// stamps are the times of keys in hivexml's output.
var stamps = regexp.MustCompile(`<mtime>[^<]*</mtime>`)

// xml is the same from another program, with names and times that the former leaves out; times removed.
func xml(t testing.TB, path string) string {
	t.Helper()
	return stamps.ReplaceAllString(foreign(t, "hivexml", path), "")
}

// difference lists the lines that only one of two texts has, both in order: "-old", "+new".
func difference(a, b []string) []string {
	count := map[string]int{}
	for _, line := range b {
		count[line]++
	}
	var diff []string
	for _, line := range a {
		if count[line]--; count[line] < 0 {
			diff = append(diff, "-"+line)
		}
	}
	clear(count)
	for _, line := range a {
		count[line]++
	}
	for _, line := range b {
		if count[line]--; count[line] < 0 {
			diff = append(diff, "+"+line)
		}
	}
	return diff
}
