package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const benchKeys = 100_000

// pythonCheck is what an administrator would write to check a list: csv, a pattern, the check digits, duplicates.
const pythonCheck = `
import csv, re, sys
pattern = re.compile(r'^(\d{6}-){7}\d{6}$')
seen, computers, bad, duplicates = set(), set(), 0, 0
with open(sys.argv[1], newline='', encoding='utf-8-sig') as f:
    for row in csv.DictReader(f):
        key = row['RecoveryKey']
        if not pattern.match(key) or any(int(g) % 11 or int(g) >= 720896 for g in key.split('-')):
            bad += 1
            continue
        if (row['KeyID'], key) in seen:
            duplicates += 1
        seen.add((row['KeyID'], key))
        computers.add(row['Hostname'])
print(len(seen), len(computers), bad, duplicates)
`

func writeBenchKeys(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "keys.csv")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprint(w, "\"Hostname\",\"KeyID\",\"RecoveryKey\",\"Directory\"\r\n")
	for i := range benchKeys {
		fmt.Fprintf(w, "\"CN=WS-%05d,OU=PCs,DC=example,DC=com\",\"%08X-BBDE-424D-B903-7096A88F5C51\",\"%06d-%06d-169235-383735-293645-373912-378675-483692\",\"ActiveDirectory\"\r\n",
			i, i, 11*(i%65536), 11*(i/65536))
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkKeysCheck checks a list of 100,000 keys as a user does, start of the program included, beside a script
// that does the same.
func BenchmarkKeysCheck(b *testing.B) {
	path := writeBenchKeys(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for name, command := range map[string]func() *exec.Cmd{
		"bootmend": func() *exec.Cmd {
			// The test's binary is bootmend under that name; see TestMain.
			return &exec.Cmd{Path: self, Args: []string{"bootmend", "keys", "check", path}}
		},
		"python": func() *exec.Cmd { return exec.Command("python3", "-c", pythonCheck, path) },
	} {
		b.Run(name, func(b *testing.B) {
			if name == "python" {
				if _, err := exec.LookPath("python3"); err != nil {
					b.Skip("python3 is missing")
				}
			}
			var most int64
			var cpu time.Duration
			for b.Loop() {
				cmd := command()
				out, err := cmd.CombinedOutput()
				if err != nil || !bytes.Contains(out, []byte(fmt.Sprint(benchKeys))) {
					b.Fatalf("%v\n%s", err, out)
				}
				cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
				most = max(most, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
			}
			b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s/op") // also tells on a busy machine
			b.ReportMetric(float64(most)/1024, "MiB-peak")
		})
	}
}
