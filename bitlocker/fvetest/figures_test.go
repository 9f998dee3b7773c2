package fvetest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
)

// TestFigures compares whole commands, on the same volume in the page cache, with goals that fail the test. It prints a
// table and runs where BOOTMEND_BENCH is set.
func TestFigures(t *testing.T) {
	if os.Getenv("BOOTMEND_BENCH") == "" {
		t.Skip("measures; set BOOTMEND_BENCH")
	}
	bootmend := buildProgram(t)
	t.Run("decrypt", func(t *testing.T) { decryptFigures(t, bootmend) })
	t.Run("stretch", func(t *testing.T) { stretchFigures(t, bootmend) })
}

func buildProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bootmend")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./cmd/bootmend")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return path
}

// best runs a command several times and gives the shortest time: what else the machine does only ever adds.
func best(t *testing.T, n int, prepare func(), build func() *exec.Cmd) time.Duration {
	t.Helper()
	var least time.Duration
	for range n {
		prepare()
		cmd := build()
		start := time.Now()
		out, err := cmd.CombinedOutput()
		took := time.Since(start)
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		if least == 0 || took < least {
			least = took
		}
	}
	return least
}

// decryptFigures has volumes with a clear key, so that neither side stretches a password.
func decryptFigures(t *testing.T, bootmend string) {
	dislocker := program(t, "dislocker-file")
	const size = 512 << 20
	goals := map[bitlocker.Method]float64{bitlocker.MethodElephant128: 2, bitlocker.MethodElephant256: 2}
	dir := t.TempDir()
	volume, out := filepath.Join(dir, "volume.img"), filepath.Join(dir, "clear.img")
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "cipher\tbootmend MB/s\tdislocker MB/s\ttimes\tgoal\t")
	for _, method := range bitlocker.Methods() {
		f, err := os.Create(volume)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		// dislocker takes the volume's size from here where it has to.
		boot := append([]byte("\xeb\x52\x90NTFS    "), make([]byte, 501)...)
		if _, err := Format(f, bytes.NewReader(boot), size, Options{Method: method, ClearKey: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, size)); err != nil { // warm
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		fresh := func() { _ = os.Remove(out) }
		ours := best(t, 3, fresh, func() *exec.Cmd { return exec.Command(bootmend, "volume", "decrypt", volume, "-o", out) })
		want, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		theirs := best(t, 2, fresh, func() *exec.Cmd { return exec.Command(dislocker, "-q", "-V", volume, "-c", "--", out) })
		got, err := os.ReadFile(out)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: dislocker decrypts to something else (%v)", method, err)
		}
		goal := goals[method]
		if goal == 0 {
			goal = 3
		}
		times := theirs.Seconds() / ours.Seconds()
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.1f\t%.1f\t\n", method, size/1e6/ours.Seconds(), size/1e6/theirs.Seconds(), times, goal)
		if times < goal {
			t.Errorf("%s: %.1f times as fast as dislocker, want %.1f", method, times, goal)
		}
	}
	_ = w.Flush()
	t.Logf("volume of %d MiB to a file:\n%s", size>>20, &table)
}

// stretchFigures opens the smallest volume with its recovery password, which is all stretch.
func stretchFigures(t *testing.T, bootmend string) {
	cryptsetup := program(t, "cryptsetup")
	const goal = 0.75
	f, res := format(t, clearVolume(t, MinSize, Options{}), Options{})
	key, out := f.Name()+".key", f.Name()+".clear"
	if err := os.WriteFile(key, []byte(res.Recovery[0].Password), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := func() { _ = os.Remove(out) }
	ours := best(t, 5, fresh, func() *exec.Cmd {
		return exec.Command(bootmend, "volume", "decrypt", f.Name(), "-o", out, "--key-file", key)
	})
	theirs := best(t, 5, fresh, func() *exec.Cmd {
		cmd := exec.Command(cryptsetup, "open", "--type", "bitlk", "--test-passphrase", "--key-file", "-", f.Name())
		cmd.Stdin = strings.NewReader(res.Recovery[0].Password)
		return cmd
	})
	share := ours.Seconds() / theirs.Seconds()
	t.Logf("key stretch: bootmend %v with decrypting %d MiB, cryptsetup %v: %.2f of its time, goal %.2f",
		ours.Round(time.Millisecond), MinSize>>20, theirs.Round(time.Millisecond), share, goal)
	if share > goal {
		t.Errorf("key stretch takes %.2f of cryptsetup's time, want %.2f", share, goal)
	}
}
