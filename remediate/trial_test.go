package remediate

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestTry has one file for each way of nearly being a hit.
func TestTry(t *testing.T) {
	const dir = "windows/System32/drivers/CROWDSTRIKE"
	files := []file{
		channelFile(dir+"/C-00000291-00000000-00000032.sys", faultyTime),
		channelFile(dir+"/C-00000291-00000000-00000033.sys", correctedTime),
		{dir + "/C-00000291-decoy.sys", []byte("MZ"), faultyTime},
		channelFile(dir+"/C-00000290-00000000-00000001.sys", faultyTime),
		{"windows/System32/config/SYSTEM", []byte("no hive"), faultyTime},
		{"windows/System32/ntoskrnl.exe", []byte("MZ"), faultyTime},
	}
	for i := range 30 {
		files = append(files, file{fmt.Sprintf("%s/other%02d.dat", dir, i), []byte("x"), faultyTime})
	}
	try := func(files []file) (*Trial, string) {
		t.Helper()
		trial, err := Try(context.Background(), os.DirFS(makeTree(t, files)), defaultPacks(t), FaultyOnly)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, list := range [][]Finding{trial.Plan.Kept, trial.NearMisses, trial.Notes} {
			for _, f := range list {
				fmt.Fprintf(&text, "%s: %s\n", f.Path, f.Why)
			}
		}
		return trial, text.String()
	}
	trial, text := try(files)
	if len(trial.Plan.Actions) != 1 || trial.Windows == nil || trial.Windows.Root != "windows" {
		t.Fatalf("%+v", trial)
	}
	for _, want := range []string{
		dir + "/C-00000291-00000000-00000033.sys: not faulty: it was modified 2024-07-19 05:27 UTC",
		dir + "/C-00000291-decoy.sys: not the kind of file that the rule is about: it begins with 4D 5A",
		dir + "/C-00000290-00000000-00000001.sys: its name is not C-00000291-*.sys",
		dir + ": 21 names more that are not C-00000291-*.sys",
		dir + "/C-00000291-00000000-00000032.sys: taken although the rule spells it Windows",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	// The likest name comes first.
	if !strings.Contains(trial.NearMisses[0].Path, "C-00000290") {
		t.Errorf("first is %s", trial.NearMisses[0].Path)
	}
	if _, text = try(files[4:6]); !strings.Contains(text, "windows/System32: windows/System32 has no folder drivers") {
		t.Errorf("got\n%s", text)
	}
	files[0].path = "windows/System32/drivers/CrowdStrike"
	if _, text = try(files[:1]); !strings.Contains(text, "is a file, the rule goes on with a folder") {
		t.Errorf("got\n%s", text)
	}
}

func TestExplain(t *testing.T) {
	got := strings.Join(defaultPacks(t)[0].Explain(), "\n")
	for _, want := range []string{"moves Windows/System32/drivers/CrowdStrike/C-00000291-*.sys into the quarantine", "or it is all zeros",
		"modified before 2024-07-19 05:27 UTC", "at most 20 files"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}
