package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/bootmend/bootmend/assets"
)

// TestReportWinPEFigures builds a disc of a boot.wim as large as Microsoft's, and has mkwinpeimg of wimlib do the same
// with the same files. Each runs as a process, so that its memory can be told.
func TestReportWinPEFigures(t *testing.T) {
	if os.Getenv("BOOTMEND_BENCH") == "" {
		t.Skip("set BOOTMEND_BENCH=1: it prints figures and checks nothing else")
	}
	if _, _, err := assets.MendExe(); err != nil {
		t.Skip(err)
	}
	medium, dir := windowsMedium(t, "LZX"), t.TempDir()
	lay(t, medium, map[string]string{"efi/microsoft/boot/efisys.bin": "u", "boot/etfsboot.com": "b"})
	wim := filepath.Join(medium, "sources", "boot.wim")
	tree := filepath.Join(dir, "tree")
	random := rand.NewChaCha8([32]byte{1})
	for i := range 3000 { // content that compresses by half, as programs do
		data := make([]byte, 200<<10)
		_, _ = random.Read(data[:100<<10]) // never fails
		lay(t, tree, map[string]string{fmt.Sprintf("Windows/System32/%02d/%04d.dll", i%40, i): string(data)})
	}
	lay(t, tree, map[string]string{"Windows/System32/wpeinit.exe": "init", "Windows/System32/manage-bde.exe": "bde"})
	if err := os.Remove(wim); err != nil {
		t.Fatal(err)
	}
	tool(t, "wimlib-imagex", "capture", tree, wim, "Windows PE", "--boot", "--compress=LZX")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(wim)
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay")
	lay(t, overlay, map[string]string{"mend.exe": string(make([]byte, 7<<20))})
	t.Logf("boot.wim of %d MB", info.Size()/1e6)
	for _, run := range []struct {
		name string
		cmd  func(out string) *exec.Cmd
	}{
		{"bootmend build iso --env winpe", func(out string) *exec.Cmd {
			cmd := exec.Command(exe, "-test.run", "^TestWinPEChild$")
			cmd.Env = append(os.Environ(), "BOOTMEND_CHILD_OUT="+out, "BOOTMEND_CHILD_SOURCE="+medium)
			return cmd
		}},
		{"mkwinpeimg --iso", func(out string) *exec.Cmd {
			return exec.Command("mkwinpeimg", "--iso", "--windows-dir="+medium, "--wim="+wim, "--overlay="+overlay, out)
		}},
	} {
		if _, err := exec.LookPath(run.cmd("").Path); err != nil {
			t.Logf("%s is not installed", run.name)
			continue
		}
		for range 3 {
			out := filepath.Join(dir, "out.iso")
			_ = os.Remove(out)
			cmd := run.cmd(out)
			start := time.Now()
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", run.name, err, text)
			}
			took := time.Since(start)
			if _, err := os.Stat(out); err != nil {
				t.Fatal(err)
			}
			usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
			t.Logf("%-32s %6.2f s  %4d MB of memory", run.name, took.Seconds(), usage.Maxrss/1024)
		}
	}
}

// TestWinPEChild is the process that TestReportWinPEFigures measures.
func TestWinPEChild(t *testing.T) {
	out := os.Getenv("BOOTMEND_CHILD_OUT")
	if out == "" {
		t.Skip("started by TestReportWinPEFigures")
	}
	if _, errs, err := bootmend("build", "iso", "-o", out, "--env", "winpe", "--winpe", os.Getenv("BOOTMEND_CHILD_SOURCE")); err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
}
