package remediate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func radiusPack(t *testing.T, radius string) []*Pack {
	t.Helper()
	p, err := ParsePack([]byte("apiVersion: bootmend/v1\nid: p\ntitle: t\n"+radius+`
rules:
  - id: r
    path: Windows/System32/drivers/*/bad*.sys
    action: quarantine
`), "p.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return []*Pack{p}
}

// radiusTree holds n files that the rule takes, in a Windows directory of the given name.
func radiusTree(t *testing.T, windows string, n int) string {
	t.Helper()
	files := []file{
		{windows + "/System32/config/SYSTEM", []byte("no hive"), faultyTime},
		{windows + "/System32/ntoskrnl.exe", []byte("MZ"), faultyTime},
	}
	for i := range n {
		files = append(files, file{fmt.Sprintf("%s/System32/drivers/vendor%d/bad%d.sys", windows, i%2, i), []byte("bad"), faultyTime})
	}
	return makeTree(t, files)
}

func TestBlastRadius(t *testing.T) {
	for name, tc := range map[string]struct {
		radius  string
		windows string
		files   int
		earlier int
		want    string // in the sentence; "" is within the radius
	}{
		"defaults":          {"", "Windows", DefaultMaxFiles, 0, ""},
		"defaults exceeded": {"", "Windows", DefaultMaxFiles + 1, 0, "wants 33 files of this machine where at most 32 are allowed"},
		"count":             {"blastRadius: {maxFiles: 2}", "Windows", 3, 0, "wants 3 files of this machine where at most 2"},
		"other volumes":     {"blastRadius: {maxFiles: 5}", "Windows", 3, 3, "wants 6 files of this machine where at most 5"},
		"inside":            {"blastRadius: {paths: ['windows\\system32\\Drivers']}", "Windows", 3, 0, ""},
		"other root":        {"blastRadius: {paths: [Windows/System32/drivers]}", "WINNT", 3, 0, ""},
		"outside":           {"blastRadius: {paths: [Windows/System32/drivers/vendor1]}", "Windows", 3, 0, "wants 2 files outside of Windows/System32/drivers/vendor1, such as Windows/System32/drivers/vendor0/bad0.sys"},
		"nothing, but full": {"blastRadius: {maxFiles: 5}", "Windows", 0, 9, ""},
	} {
		t.Run(name, func(t *testing.T) {
			packs := radiusPack(t, tc.radius)
			root := radiusTree(t, tc.windows, tc.files)
			plan, err := Evaluate(context.Background(), os.DirFS(root), packs, FaultyOnly)
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Actions) != tc.files || plan.Taken()["p"] != tc.files {
				t.Fatalf("%d actions, taken %v", len(plan.Actions), plan.Taken())
			}
			plan.Measure(packs, map[string]int{"p": tc.earlier})
			if tc.want == "" {
				if len(plan.Beyond) != 0 {
					t.Errorf("beyond: %v", plan.Beyond)
				}
				return
			}
			if len(plan.Beyond) != 1 || !strings.Contains(plan.Beyond[0].String(), tc.want) {
				t.Fatalf("got %v, want %q", plan.Beyond, tc.want)
			}
			before := snapshot(t, root)
			res, err := Quarantine(context.Background(), root, plan, testRun(t, "r1"))
			if !errors.Is(err, ErrBeyondRadius) || res != nil {
				t.Errorf("got %v, %v", res, err)
			}
			if after := snapshot(t, root); len(after) != len(before) {
				t.Error("something was written")
			}
			plan.Approved = "a test"
			if res, err = Quarantine(context.Background(), root, plan, testRun(t, "r1")); err != nil || len(res.Moved) != tc.files {
				t.Errorf("approved: %v, %v", res, err)
			}
		})
	}
}
