package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// windowsFile is a file of the broken Windows of the scripts.
type windowsFile struct {
	path     string
	content  string
	modified time.Time
}

func windowsFiles() []windowsFile {
	const dir = "Windows/System32/drivers/"
	channel := "\xaa\xaa\xaa\xaa\x01\x00\x23\x01"
	faulty := time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	return []windowsFile{
		{"Windows/System32/ntoskrnl.exe", "MZ", faulty},
		{"Windows/System32/config/SYSTEM", "no hive", faulty},
		{dir + "ntfs.sys", "MZ ntfs", faulty},
		{dir + "CrowdStrike/CSAgent.sys", "MZ agent", faulty},
		{dir + "CrowdStrike/C-00000291-00000000-00000031.sys", strings.Repeat("\x00", 5000), faulty},
		{dir + "CrowdStrike/C-00000291-00000000-00000032.sys", channel + strings.Repeat("x", 40000), faulty.Add(123456700)},
		{dir + "CrowdStrike/C-00000291-00000000-00000033.sys", channel + "corrected", time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)},
	}
}

// mkwindows DIR makes a folder with a broken Windows.
func mkwindows(ts *testscript.TestScript, _ bool, args []string) {
	for _, f := range windowsFiles() {
		name := filepath.Join(ts.MkAbs(args[0]), filepath.FromSlash(f.path))
		write(ts, name, []byte(f.content))
		ts.Check(os.Chtimes(name, f.modified, f.modified))
	}
}

// aswindows DIR compares with what mkwindows made, times included.
func aswindows(ts *testscript.TestScript, _ bool, args []string) {
	for _, f := range windowsFiles() {
		name := filepath.Join(ts.MkAbs(args[0]), filepath.FromSlash(f.path))
		data, err := os.ReadFile(name)
		ts.Check(err)
		info, err := os.Stat(name)
		ts.Check(err)
		if !bytes.Equal(data, []byte(f.content)) || !info.ModTime().Equal(f.modified) {
			ts.Fatalf("%s is not what it was: %d bytes, modified %s", f.path, len(data), info.ModTime())
		}
	}
}
