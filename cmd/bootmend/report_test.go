package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bootmend/bootmend/remediate"
)

// TestReportFigures measures the report of a whole company: 100,000 machines, a log each, as large as the agent's.
func TestReportFigures(t *testing.T) {
	if os.Getenv("BOOTMEND_BENCH") == "" {
		t.Skip("writes 100,000 files; set BOOTMEND_BENCH=1, or run make bench")
	}
	const logs = 100_000
	dir := t.TempDir()
	var written int64
	for i := range logs {
		data := companyLog(i)
		written += int64(len(data))
		site := filepath.Join(dir, fmt.Sprintf("site%03d/bootmend/logs", i%400))
		if i < 400 {
			if err := os.MkdirAll(site, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(site, fmt.Sprintf("%d.jsonl", i)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary is bootmend when it is called by that name (TestMain).
	bootmend := filepath.Join(t.TempDir(), "bootmend")
	if err := os.Symlink(program, bootmend); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"table", "html", "json"} {
		// A small program stands between, because the kernel counts the memory of the starting program as the started one's.
		cmd := exec.Command("/usr/bin/time", "-f", "%M", bootmend, "report", "-o", filepath.Join(t.TempDir(), "out"), "--format", format, dir)
		var kilobytes int64
		start := time.Now()
		out, err := cmd.CombinedOutput()
		took := time.Since(start)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if _, err := fmt.Fscan(bytes.NewReader(out), &kilobytes); err != nil {
			t.Fatalf("no memory figure in %s", out)
		}
		fmt.Printf("report of %d logs (%d MB) as %-5s  %5.2f s of at most 5, %4d MiB of at most 300\n", logs, written/1e6, format, took.Seconds(), kilobytes/1024)
	}
}

// companyLog is the log of a machine as the agent writes it.
func companyLog(i int) []byte {
	began := time.Date(2024, 7, 19, 6, 0, 0, 0, time.UTC).Add(time.Duration(i) * 2 * time.Second)
	run := remediate.Run{ID: fmt.Sprintf("%08x", i), Time: began}
	l := remediate.NewLog(run)
	l.Add(remediate.BootEvent{ToolVersion: "1.0", Kernel: "6.12.0", Firmware: "uefi", Media: "0123456789abcdef0123456789abcdef"})
	l.Add(remediate.Identity{Serial: fmt.Sprintf("SER%06d", i), UUID: fmt.Sprintf("4c4c4544-0000-0000-0000-%012d", i), Model: "Dell Inc. Latitude 7440"})
	l.Add(remediate.DiskEvent{Device: "/dev/nvme0n1", Model: "PC801 NVMe SK hynix 512GB", Size: 512110190592})
	name := fmt.Sprintf("WKS-%06d", i)
	for _, part := range []string{"/dev/nvme0n1p3", "/dev/nvme0n1p4"} {
		l.Add(remediate.VolumeEvent{Device: part, Kind: "bitlocker", ID: "3C4B5D6E-0000-0000-0000-000000000000", Description: name + " C: 1/2/2024", Size: 510 << 30})
	}
	if i%50 == 0 {
		l.Add(remediate.ResultEvent{Outcome: remediate.OutcomeNeedsPerson, Message: name + " C: 1/2/2024 is locked and no key was given"})
		return l.Bytes()
	}
	l.Add(remediate.UnlockEvent{Device: "/dev/nvme0n1p3", KeyID: fmt.Sprintf("E951B39A-A12B-4385-9C2C-%012d", i), Source: "key list on the media", OK: true})
	l.Add(&remediate.Windows{Root: "Windows", ComputerName: name, Version: remediate.Version{Product: "Windows 11 Pro"}})
	file := remediate.Action{Kind: "quarantine", Path: "Windows/System32/drivers/CrowdStrike/C-00000291-00000000-00000032.sys", Size: 40768,
		SHA256: "5f1b6cf4c4a1b1d2e3f405162738495a6b7c8d9e0f112233445566778899aabb", Rules: []string{"crowdstrike-2024-07-19/channel-291"},
		Reason: "it begins with AA AA AA AA 01 00 23 01; it was modified 2024-07-19 04:09 UTC, before 2024-07-19 05:27 UTC"}
	kept := remediate.Finding{Path: "Windows/System32/drivers/CrowdStrike/C-00000291-00000000-00000033.sys", Rule: "crowdstrike-2024-07-19/channel-291",
		Why: "not faulty: it was modified 2024-07-19 05:27 UTC, not before 2024-07-19 05:27 UTC"}
	l.Add(remediate.PlanEvent{Device: "/dev/nvme0n1p3", Plan: &remediate.Plan{Schema: remediate.PlanSchema, Actions: []remediate.Action{file}, Kept: []remediate.Finding{kept}}})
	l.Add(remediate.QuarantineEvent{Device: "/dev/nvme0n1p3", Result: &remediate.Result{Run: run.Name(), Dir: "ProgramData/bootmend/quarantine/" + run.Name(),
		Moved: []remediate.Moved{{Path: file.Path, Quarantined: file.Path + ".quarantined", Size: file.Size, SHA256: file.SHA256}}}})
	l.Add(remediate.VerifyEvent{Device: "/dev/nvme0n1p3", OK: true})
	l.Add(remediate.ResultEvent{Outcome: remediate.OutcomeHealed})
	return l.Bytes()
}
