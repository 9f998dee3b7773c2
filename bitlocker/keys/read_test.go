package keys

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

type truth struct{ Host, ID, Key string }

func readTruth(t testing.TB) []truth {
	t.Helper()
	var list []truth
	if err := json.Unmarshal(testdata(t, "truth.json"), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestReadSamples reads a sample of every format and compares it with the truth.
func TestReadSamples(t *testing.T) {
	all := readTruth(t)
	const (
		ids   = 1 << iota // keys have their IDs
		hosts             // and computers
	)
	for name, tc := range map[string]struct {
		keys     []int // of truth
		has      int
		problems []string
	}{
		"crowdstrike-BitLockerKeys.csv":                                   {[]int{0, 1, 2, 3, 4, 5}, ids | hosts, nil},
		"crowdstrike-BitLockerKeys-minimal.csv":                           {[]int{0, 1, 2, 3, 4, 5}, ids, nil},
		"crowdstrike-BitLockerKeys-multikey-bug.csv":                      {[]int{0}, ids | hosts, []string{"2: no key: the export wrote a type name"}},
		"itchronicles-bitlocker_keys.csv":                                 {[]int{0, 1, 2, 3, 4, 5}, ids, nil},
		"ad-get-adobject.csv":                                             {[]int{0, 1, 2, 3, 4, 5}, ids | hosts, nil},
		"mbam-configmgr.csv":                                              {[]int{0, 1, 2, 3, 4, 5}, ids | hosts, []string{"8: no key: the row has no recovery key"}},
		"mbam-keys-only.csv":                                              {[]int{0, 1, 2, 3, 4, 5}, ids, nil},
		"ad-ldapsearch.ldif":                                              {[]int{0, 1, 2, 3, 4, 5}, ids | hosts, nil},
		"ad-extractbitlockerkeys-p0dalirius.json":                         {[]int{0, 1, 2, 3, 4, 5}, ids | hosts, nil},
		"graph-merged.ndjson":                                             {[]int{0, 1, 2, 3, 4, 5}, ids, nil},
		"graph-recoveryKey-get.json":                                      {[]int{0}, ids, nil},
		"graph-recoveryKeys-list.json":                                    {nil, 0, []string{"5: no key: ", "11: no key: ", "17: no key: ", "23: no key: ", "29: no key: ", "35: no key: "}},
		"get-bitlockervolume.UNVERIFIED.json":                             {[]int{0}, ids | hosts, nil},
		"fleet-encryption_key.UNVERIFIED.json":                            {[]int{0}, 0, nil},
		"plain-keys.txt":                                                  {[]int{0, 1, 2, 3, 4, 5}, 0, nil},
		"plain-keys-noseparators.txt":                                     {[]int{0, 1, 2, 3, 4, 5}, 0, nil},
		"manage-bde-protectors-get.de-DE.oem.UNVERIFIED.txt":              {[]int{1, 2}, ids, nil},
		"manage-bde-protectors-get.en-US.oem.txt":                         {[]int{1, 2}, ids, nil},
		"manage-bde-protectors-get.en-US.utf16.txt":                       {[]int{1, 2}, ids, nil},
		"win7-BitLocker Recovery Key.UNVERIFIED.txt":                      {[]int{3}, ids, nil},
		"BitLocker Recovery Key A2111395-BBDE-424D-B903-7096A88F5C51.TXT": {[]int{0}, ids, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := Read(bytes.NewReader(testdata(t, name)), name)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Entries) != len(tc.keys) {
				t.Fatalf("%d keys of %d:\n%s", len(l.Entries), len(tc.keys), render(l))
			}
			for i, k := range tc.keys {
				e, want := l.Entries[i], all[k]
				if e.Password.Reveal() != want.Key || e.HasID != (tc.has&ids != 0) || e.HasID && e.ID.String() != want.ID {
					t.Errorf("entry %d is key %s", i, e.ID)
				}
				if e.File != name || e.Line < 1 {
					t.Errorf("entry %d stands at %s:%d", i, e.File, e.Line)
				}
				if (tc.has&hosts != 0) != (e.Computer != "") || e.Computer != "" && !strings.EqualFold(e.Computer, want.Host) {
					t.Errorf("computer %q, want %q", e.Computer, want.Host)
				}
			}
			if len(l.Problems) != len(tc.problems) {
				t.Fatalf("problems:\n%s", render(l))
			}
			for i, p := range l.Problems {
				if got := fmt.Sprintf("%d: %s: %s", p.Line, p.Kind, p.Reason); !strings.HasPrefix(got, tc.problems[i]) {
					t.Errorf("problem %q, want %q", got, tc.problems[i])
				}
			}
		})
	}
}
