package boottest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// rounds is how often each thing is measured; the table shows medians.
const rounds = 3

// TestPeer makes sure that what bootmend is measured against does its work.
func TestPeer(t *testing.T) {
	parallel(t)
	disk := newDisk(t, DiskOptions{})
	peer, err := MakePeer(context.Background(), t.TempDir(), disk.Password)
	check(t, err)
	m := boot(t, Options{Media: peer.Path, Disks: []Disk{{Path: disk.Path}}})
	m.expect(PeerDone, patience)
	t.Logf("restarted after %s", elapsed(m.reset(patience)))
}

// TestFigures prints how long the whole way takes and how large things are, beside the peer's.
func TestFigures(t *testing.T) {
	if os.Getenv("BOOTMEND_BENCH") == "" {
		t.Skip("measures for minutes; set BOOTMEND_BENCH=1, or run make bench")
	}
	ctx := context.Background()
	disk := newDisk(t, DiskOptions{})
	dir := t.TempDir()
	peer, err := MakePeer(ctx, dir, disk.Password)
	check(t, err)
	iso := media(t, keyList(disk), "--countdown", "0s")

	type figure struct{ ours, theirs []float64 }
	var boots, builds figure
	for range rounds {
		boots.ours = append(boots.ours, bootFigure(t, iso, `quarantined: `))
		boots.theirs = append(boots.theirs, bootFigure(t, peer.Path, PeerDone))
	}
	tree := unpackISO(t, iso)
	memory := 0.0
	for range rounds {
		seconds, peak := buildFigure(t, dir, disk)
		builds.ours = append(builds.ours, seconds)
		memory = max(memory, peak)
		same := filepath.Join(dir, "same.iso")
		_ = os.Remove(same)
		start := time.Now()
		_, err := run(ctx, "xorriso", "-as", "mkisofs", "-quiet", "-r", "-o", same, tree)
		check(t, err)
		builds.theirs = append(builds.theirs, time.Since(start).Seconds())
	}
	bundle := float64(fileSize(t, filepath.Join(repository(), "assets/embedded/bundle.zip")))
	ours, theirs := float64(fileSize(t, iso)), float64(fileSize(t, peer.Path))

	const mb = 1 << 20
	var table bytes.Buffer
	row := func(what, unit string, ours, theirs, ratio, goal float64, of string) {
		verdict := "met"
		if ratio > goal {
			verdict = "MISSED"
		}
		fmt.Fprintf(&table, "%-44s %8.2f %-4s %8.2f %-4s %6.2f  at most %5.2f %s: %s\n", what, ours, unit, theirs, unit, ratio, goal, of, verdict)
	}
	fmt.Fprintf(&table, "%-44s %13s %13s\n", "medians of "+fmt.Sprint(rounds), "bootmend", "peer")
	row("power-on to restart, UEFI, disc, NVMe", "s", median(boots.ours), median(boots.theirs), median(boots.ours)/median(boots.theirs), 0.7, "of the hand-made ISO")
	row("size of the ISO", "MiB", ours/mb, theirs/mb, ours/mb, 36, "MiB")
	row("writing the ISO (peer: xorriso, same tree)", "s", median(builds.ours), median(builds.theirs), median(builds.ours)/median(builds.theirs), 1.5, "of xorriso")
	row("peak memory of a build (beside: the bundle)", "MiB", memory/mb, bundle/mb, memory/bundle, 3, "of the bundle")
	fmt.Fprintf(&table, "single boots: bootmend %.1f, peer %.1f; single builds: bootmend %.2f, xorriso %.2f\n",
		boots.ours, boots.theirs, builds.ours, builds.theirs)
	fmt.Print(table.String())
}

// bootFigure is the time from power-on to the restart, in seconds.
func bootFigure(t *testing.T, iso, done string) (seconds float64) {
	t.Helper()
	// The machine, not a subtest's cleanup, ends here: nothing else may run beside the next one.
	fresh := newDisk(t, DiskOptions{})
	m := boot(t, Options{Media: iso, Disks: []Disk{{Path: fresh.Path}}})
	m.expect(done, patience)
	ran := m.reset(patience)
	stages := filepath.Base(iso) + ":"
	for _, stage := range []struct{ name, pattern string }{
		{"GRUB", "Welcome to GRUB"}, {"kernel loads", "Booting `"}, {"agent", "heals Windows machines"},
		{"volume", "BitLocker volume"}, {"media", "Media "}, {"unlocked", "Unlocked "}, {"planned", "to quarantine"},
		{"quarantined", done}, {"verified", "Read back"},
	} {
		if at := m.SeenAt(stage.pattern); !at.IsZero() {
			stages += fmt.Sprintf(" %s %.1f,", stage.name, at.Sub(m.started).Seconds())
		}
	}
	fmt.Printf("%s restart %.1f\n", stages, ran.Seconds())
	m.Close()
	return ran.Seconds()
}

// buildFigure builds an ISO as a user does and tells how long it took and how much memory it needed. A small program
// stands between, because the kernel counts the memory of the starting program as the started one's.
func buildFigure(t *testing.T, dir string, disk *WindowsDisk) (seconds, peak float64) {
	t.Helper()
	bootmend, err := program()
	check(t, err)
	keys := filepath.Join(dir, "keys.csv")
	check(t, os.WriteFile(keys, []byte(keyList(disk)), 0o600))
	const mark = "kilobytes at most: "
	iso := filepath.Join(dir, "ours.iso")
	_ = os.Remove(iso)
	cmd := exec.Command("/usr/bin/time", "-f", mark+"%M", bootmend, "build", "iso", "-o", iso, "--keys", keys, "--unprotected-keys")
	start := time.Now()
	out, err := cmd.CombinedOutput()
	seconds = time.Since(start).Seconds()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	_, after, _ := strings.Cut(string(out), mark)
	if _, err := fmt.Sscan(after, &peak); err != nil {
		t.Fatalf("no memory figure in\n%s", out)
	}
	return seconds, peak * 1024
}

// unpackISO gives the tree of an ISO for xorriso to write again.
func unpackISO(t *testing.T, iso string) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "tree")
	_, err := run(context.Background(), "xorriso", "-osirrox", "on", "-indev", iso, "-extract", "/", tree)
	if err != nil && !strings.Contains(err.Error(), "Extracted") {
		check(t, err)
	}
	return tree
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	check(t, err)
	return info.Size()
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
