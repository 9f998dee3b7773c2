package remediate

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestDefaultPack(t *testing.T) {
	packs := defaultPacks(t)
	p := packs[0]
	if p.ID != "crowdstrike-2024-07-19" || len(p.Rules) != 1 || len(p.SHA256) != 64 {
		t.Fatalf("got %+v", p)
	}
	r := p.Rules[0]
	if r.Path != "Windows/System32/drivers/CrowdStrike/C-00000291-*.sys" || r.Action != ActionQuarantine {
		t.Errorf("got path %q, action %q", r.Path, r.Action)
	}
	if l := r.Identify.LeadingBytes; len(l) != 2 || l[0].String() != "AA AA AA AA 01 00 23 01" || !l[1].AllZeros {
		t.Errorf("leading bytes: %v", l)
	}
	if !r.Faulty.ModifiedBefore.Equal(correctedTime) || !r.Faulty.ModifiedFrom.IsZero() {
		t.Errorf("modified: %v to %v", r.Faulty.ModifiedFrom, r.Faulty.ModifiedBefore)
	}
}

const minimalPack = `apiVersion: bootmend/v1
id: p
title: t
rules:
  - id: r
    path: Windows/a.sys
    action: quarantine
`

func TestParsePackAllFields(t *testing.T) {
	p, err := ParsePack([]byte(`
apiVersion: bootmend/v1
id: all
title: "All of it"
description: |
  two
  lines
rules:
  - id: one
    path: windows\system32\drivers\?.sys
    identify:
      leadingBytes: ["4D5A"]
      size: {min: 10, max: 20}
    faulty:
      modified: {from: 2024-01-01T00:00:00Z, before: 2024-02-01T00:00:00Z}
      sha256: [E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855]
    action: quarantine
`), "all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := p.Rules[0]
	if got := strings.Join(r.segments, "|"); got != `windows|system32|drivers|?.sys` {
		t.Errorf("segments %q", got)
	}
	if *r.Identify.MinSize != 10 || *r.Identify.MaxSize != 20 {
		t.Error("size")
	}
	if r.Faulty.SHA256[0] != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Error("sha256 is not lower case")
	}
	if !r.Faulty.ModifiedFrom.Equal(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Error("from")
	}
	if p.Description != "two\nlines\n" || p.Name != "all.yaml" {
		t.Errorf("got %q, %q", p.Description, p.Name)
	}
}

func TestParsePackErrors(t *testing.T) {
	rule := func(lines string) string {
		return "apiVersion: bootmend/v1\nid: p\ntitle: t\nrules:\n  - id: r\n" + lines
	}
	path := func(p string) string { return rule("    path: " + p + "\n    action: quarantine\n") }
	cond := func(c string) string {
		return rule("    path: Windows/a\n    action: quarantine\n    identify:\n      " + c + "\n")
	}
	for name, tc := range map[string]struct{ yaml, want string }{
		"empty":              {"", "x.yaml:1:1: "},
		"list":               {"- a\n", "x.yaml:1:1: the rule pack is a list, expected a mapping"},
		"syntax":             {"id: [\n", "x.yaml:2:1: not valid YAML"},
		"unknown top field":  {minimalPack + "extra: 1\n", `x.yaml:8:1: unknown field "extra"`},
		"unknown rule field": {rule("    path: Windows/a\n    action: quarantine\n    when: now\n"), `x.yaml:8:5: unknown field "when"`},
		"twice":              {minimalPack + "id: q\n", `x.yaml:8:1: field "id" appears twice`},
		"missing title":      {"apiVersion: bootmend/v1\nid: p\nrules: []\n", "x.yaml:3:8: rules is an empty list"},
		"no rules":           {"apiVersion: bootmend/v1\nid: p\ntitle: t\n", `x.yaml:1:1: the rule pack has no field "rules"`},
		"version":            {strings.Replace(minimalPack, "/v1", "/v2", 1), `x.yaml:1:13: apiVersion "bootmend/v2" is not supported`},
		"title a number":     {strings.Replace(minimalPack, "title: t", "title: 5", 1), "x.yaml:3:8: title is a number, expected text"},
		"title empty":        {strings.Replace(minimalPack, "title: t", "title:", 1), "x.yaml:3:7: title is empty, expected text"},
		"id with blank":      {strings.Replace(minimalPack, "id: p", "id: a b", 1), `x.yaml:2:5: id "a b"`},
		"action":             {strings.Replace(minimalPack, "quarantine", "delete", 1), `x.yaml:7:13: action "delete" is not supported`},
		"rule twice":         {minimalPack + "  - id: r\n    path: Windows/b\n    action: quarantine\n", `x.yaml:8:5: rule id "r" appears twice`},
		"alias":              {strings.Replace(strings.Replace(minimalPack, "id: p", "id: &x p", 1), "title: t", "title: *x", 1), "x.yaml:3:8: title is an alias"},
		"two documents":      {minimalPack + "---\n" + minimalPack, "x.yaml:1:1: not valid YAML: expected single document"},

		"dot dot":        {path("Windows/../a"), `the segment ".." is not allowed`},
		"absolute":       {path("/Windows/a"), "without a leading separator"},
		"absolute win":   {path(`\Windows\a`), "without a leading separator"},
		"drive":          {path(`'C:\Windows\a'`), "drive letters do not belong here"},
		"double star":    {path("Windows/**/a"), "** is not supported"},
		"only wildcards": {path("'*/a'"), "only wildcards"},
		"empty segment":  {path("Windows//a"), "empty segment"},
		"trailing":       {path("Windows/"), "empty segment"},
		"trailing dot":   {path("Windows/a."), "begins or ends with a blank or a dot"},
		"path a number":  {path("5"), "x.yaml:6:11: path is a number"},

		"radius empty":     {minimalPack + "blastRadius: {}\n", "x.yaml:8:14: blastRadius holds no condition"},
		"radius zero":      {minimalPack + "blastRadius: {maxFiles: 0}\n", "x.yaml:8:25: maxFiles is 0"},
		"radius text":      {minimalPack + "blastRadius: {maxFiles: few}\n", "x.yaml:8:25: maxFiles is text, expected a number of files"},
		"radius wildcard":  {minimalPack + "blastRadius: {paths: ['Windows/*']}\n", "x.yaml:8:23: paths: folder \"Windows/*\": wildcards"},
		"radius escape":    {minimalPack + "blastRadius: {paths: ['../x']}\n", "x.yaml:8:23: paths: folder"},
		"outside radius":   {minimalPack + "blastRadius: {paths: ['Windows/System32']}\n", `x.yaml:6:11: path "Windows/a.sys" lies outside of what blastRadius.paths allows (Windows/System32)`},
		"outside defaults": {path("Users/a/b.sys"), "lies outside of what blastRadius.paths allows (Windows, Program Files"},

		"bytes odd":       {cond(`leadingBytes: ["AAA"]`), `x.yaml:9:22: leadingBytes "AAA"`},
		"bytes a number":  {cond("leadingBytes: [11]"), "x.yaml:9:22: leadingBytes is a number, expected text"},
		"bytes no list":   {cond(`leadingBytes: "AA"`), "x.yaml:9:21: leadingBytes is text, expected a list"},
		"time local":      {cond("modified: {before: 2024-07-19T05:27:00+02:00}"), "x.yaml:9:26: before"},
		"time date":       {cond("modified: {before: 2024-07-19}"), "expected a time in UTC"},
		"time order":      {cond("modified: {from: 2024-07-19T05:27:00Z, before: 2024-07-19T05:27:00Z}"), "no file could match"},
		"time empty":      {cond("modified: {}"), "modified holds no condition"},
		"size text":       {cond("size: {min: big}"), "x.yaml:9:19: min is text, expected a number of bytes"},
		"size float":      {cond("size: {min: 1.5}"), "min"},
		"size negative":   {cond("size: {min: -1}"), `min "-1"`},
		"size order":      {cond("size: {min: 2, max: 1}"), "no file could match"},
		"hash short":      {cond("sha256: [abcd]"), "expected 64 hexadecimal digits"},
		"null conditions": {rule("    path: Windows/a\n    action: quarantine\n    faulty:\n"), "faulty is empty, expected a mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParsePack([]byte(tc.yaml), "x.yaml")
			if err == nil {
				t.Fatal("no error")
			}
			var pe *PackError
			if !errors.As(err, &pe) {
				t.Errorf("%T is no *PackError", err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %q\nwant %q in it", err, tc.want)
			}
		})
	}
}

// TestParsePackTellsAllErrors has three mistakes, of which a person wants to hear at once.
func TestParsePackTellsAllErrors(t *testing.T) {
	bad := strings.NewReplacer("title: t", "title: 5", "action: quarantine", "action: burn").Replace(minimalPack) + "extra: 1\n"
	_, err := ParsePack([]byte(bad), "x.yaml")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"x.yaml:3:8: ", "x.yaml:7:13: ", "x.yaml:8:1: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %q", want, err)
		}
	}
}

func TestParsePacksNamesTheFile(t *testing.T) {
	_, err := ParsePacks(fstest.MapFS{"b.yaml": {Data: []byte("x: 1\n")}, "a.yaml": {Data: []byte(minimalPack)}})
	if err == nil || !strings.HasPrefix(err.Error(), "b.yaml:1:1: ") {
		t.Errorf("got %v", err)
	}
}

func TestMatchName(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"C-00000291-*.sys", "c-00000291-00000000-00000032.SYS", true},
		{"C-00000291-*.sys", "C-00000291-.sys", true},
		{"C-00000291-*.sys", "C-00000291.sys", false},
		{"C-00000291-*.sys", "C-00000291-1.sys.bak", false},
		{"a?c", "abc", true},
		{"a?c", "aüc", true},
		{"a?c", "ac", false},
		{"*", "", true},
		{"", "", true},
		{"", "a", false},
		{"ärger*", "ÄRGER1", true},
		{"*a*b", "xaxxab", true},
		{"*a*b", "xaxxa", false},
		{strings.Repeat("*a", 50), strings.Repeat("a", 2000) + "b", false},
	} {
		if got := matchName(tc.pattern, tc.name); got != tc.want {
			t.Errorf("matchName(%.20q, %.20q) = %v", tc.pattern, tc.name, got)
		}
	}
}

func FuzzParsePack(f *testing.F) {
	f.Add([]byte(minimalPack + "blastRadius: {maxFiles: 5, paths: [Windows]}\n"))
	f.Add([]byte(minimalPack))
	f.Add([]byte("apiVersion: bootmend/v1\nrules: [{identify: {size: {min: 1}}}]\n"))
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePack(data, "f.yaml")
		if err != nil {
			return
		}
		if p.ID == "" || len(p.Rules) == 0 {
			t.Errorf("accepted without id or rules: %+v", p)
		}
		for _, r := range p.Rules {
			for _, s := range r.segments {
				if s == "" || s == ".." || strings.ContainsAny(s, `/\:`) {
					t.Errorf("accepted path %q", r.Path)
				}
			}
		}
	})
}
