package keys

import (
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	list, err := Read(strings.NewReader(`KeyID,RecoveryKey,DistinguishedName,OU
`+id1+`,`+key1+`,"CN=PC-1,OU=Berlin\, Mitte,OU=PCs,DC=example,DC=com",
`+id2+`,`+key2+`,"CN=LT-2,OU=Paris,OU=PCs,DC=example,DC=com",
,`+key1+`,KIOSK,"pcs/Paris"
`), "x.csv")
	if err != nil || len(list.Entries) != 3 || len(list.Problems) != 0 {
		t.Fatal(err, render(list))
	}
	for name, tc := range map[string]struct {
		f      Filter
		want   string // names of computers
		unused string
	}{
		"nothing":            {Filter{}, "PC-1 LT-2 KIOSK", ""},
		"name":               {Filter{Computers: []string{"pc-1"}}, "PC-1", ""},
		"wildcard":           {Filter{Computers: []string{"*-?"}}, "PC-1 LT-2", ""},
		"two names":          {Filter{Computers: []string{"KIOSK", "lt-*", "x*"}}, "LT-2 KIOSK", "x*"},
		"unit":               {Filter{OUs: []string{"PARIS"}}, "LT-2 KIOSK", ""},
		"unit above":         {Filter{OUs: []string{"PCs"}}, "PC-1 LT-2 KIOSK", ""},
		"unit with a comma":  {Filter{OUs: []string{"Berlin, Mitte"}}, "PC-1", ""},
		"DN":                 {Filter{OUs: []string{"ou=paris, ou=PCs,DC=example,DC=com"}}, "LT-2", ""},
		"part of a DN":       {Filter{OUs: []string{`OU=Berlin\2C Mitte,OU=PCs`}}, "PC-1", ""},
		"not a part":         {Filter{OUs: []string{"OU=Paris,DC=example"}}, "", "OU=Paris,DC=example"},
		"part of a name":     {Filter{OUs: []string{"Par"}}, "", "Par"},
		"ID":                 {Filter{IDs: []string{"{" + strings.ToLower(id2) + "}"}}, "LT-2", ""},
		"first digits of ID": {Filter{IDs: []string{strings.ToLower(id1[:8]), id2[:11]}}, "PC-1 LT-2", ""},
		"all kinds":          {Filter{IDs: []string{id1[:8], id2[:8]}, OUs: []string{"PCs"}, Computers: []string{"*2", "LT-?"}}, "LT-2", "A2111395"},
	} {
		chosen, unused, err := tc.f.Apply(list)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var names []string
		for _, e := range chosen.Entries {
			names = append(names, e.Computer)
		}
		if got := strings.Join(names, " "); got != tc.want || strings.Join(unused, " ") != tc.unused {
			t.Errorf("%s: got %q, unused %q", name, got, unused)
		}
	}
	for _, f := range []Filter{{Computers: []string{"[a"}}, {Computers: []string{""}}, {OUs: []string{" "}}, {IDs: []string{"A211139"}}, {IDs: []string{"not an ID at all"}}, {IDs: []string{"Ä2111395"}}} {
		if _, _, err := f.Apply(list); err == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
}
