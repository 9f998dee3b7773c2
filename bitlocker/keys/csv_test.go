package keys

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/bootmend/bootmend/bitlocker"
)

const (
	id1  = "A2111395-BBDE-424D-B903-7096A88F5C51"
	id2  = "B0744280-2C1E-4DD4-9BDC-A7736DD58DAD"
	key1 = "562650-693363-169235-383735-293645-373912-378675-483692"
	key2 = "313687-442706-100892-467808-117744-648175-092741-358270"
)

// render is a list as a test expects it: "ID key computer" for each entry.
func render(l *List) string {
	var b strings.Builder
	for _, e := range l.Entries {
		id := "-"
		if e.HasID {
			id = e.ID.String()
		}
		fmt.Fprintf(&b, "%d %s %s %s\n", e.Line, id, e.Password.Reveal(), e.Computer)
	}
	for _, p := range l.Problems {
		fmt.Fprintf(&b, "! %v\n", p)
	}
	return b.String()
}

func TestReadCSV(t *testing.T) {
	good := fmt.Sprintf("2 %s %s PC-1\n3 %s %s PC-2\n", id1, key1, id2, key2)
	rows := func(header string, sep string) string {
		return header + "\n" + strings.Join([]string{id1, key1, "PC-1"}, sep) + "\n" + strings.Join([]string{id2, key2, "PC-2"}, sep) + "\n"
	}
	for name, tc := range map[string]struct{ in, want string }{
		"canonical":     {rows("KeyID,RecoveryKey,ComputerName", ","), good},
		"lower case":    {rows("keyid,recoverykey,hostname", ","), good},
		"blanks":        {rows(" Key ID , Recovery Key , Computer Name ", " , "), good},
		"semicolon":     {rows("KeyID;RecoveryKey;ComputerName", ";"), good},
		"tab":           {rows("KeyID\tRecoveryKey\tComputerName", "\t"), good},
		"bar":           {rows("KeyID|RecoveryKey|ComputerName", "|"), good},
		"BOM":           {"\ufeff" + rows("KeyID,RecoveryKey,ComputerName", ","), good},
		"CRLF":          {strings.ReplaceAll(rows("KeyID,RecoveryKey,ComputerName", ","), "\n", "\r\n"), good},
		"CR":            {strings.ReplaceAll(rows("KeyID,RecoveryKey,ComputerName", ","), "\n", "\r"), good},
		"no last end":   {strings.TrimSuffix(rows("KeyID,RecoveryKey,ComputerName", ","), "\n"), good},
		"braces":        {strings.ReplaceAll(rows("KeyID,RecoveryKey,ComputerName", ","), id1, "{"+strings.ToLower(id1)+"}"), good},
		"long dashes":   {strings.ReplaceAll(rows("KeyID,RecoveryKey,ComputerName", ","), key1, strings.ReplaceAll(key1, "-", "–")), good},
		"no dashes":     {strings.ReplaceAll(rows("KeyID,RecoveryKey,ComputerName", ","), key1, strings.ReplaceAll(key1, "-", "")), good},
		"quoted":        {quoted(rows("KeyID,RecoveryKey,ComputerName", ",")), good},
		"sep line":      {"sep=;\n" + rows("KeyID;RecoveryKey;ComputerName", ";"), fmt.Sprintf("3 %s %s PC-1\n4 %s %s PC-2\n", id1, key1, id2, key2)},
		"domain names":  {strings.NewReplacer("PC-1", "PC-1.corp.example.com", "PC-2", `CORP\PC-2$`).Replace(rows("KeyID,RecoveryKey,ComputerName", ",")), good},
		"extra columns": {fmt.Sprintf("Date,KeyID,Note,RecoveryKey,ComputerName,More\n2024,%s,\"a \"\"b\"\", c\",%s,PC-1,\n", id1, key1), fmt.Sprintf("2 %s %s PC-1\n", id1, key1)},
		"multi-line note": {fmt.Sprintf("KeyID,Note,RecoveryKey\n%s,\"two\nlines\",%s\n%s,,%s\n", id1, key1, id2, key2),
			fmt.Sprintf("2 %s %s \n4 %s %s \n", id1, key1, id2, key2)},
		"excel text": {fmt.Sprintf("KeyID,RecoveryKey\n%s,\"=\"\"%s\"\"\"\n", id1, key1), fmt.Sprintf("2 %s %s \n", id1, key1)},
		"no id column": {fmt.Sprintf("HostName, RecoveryPassword\r\nPC-1, %s\r\nPC-2,NOData\r\n", key1),
			fmt.Sprintf("2 - %s PC-1\n! x.csv:3: the row has no recovery key\n", key1)},
		"bad id": {fmt.Sprintf("KeyID,RecoveryKey,Computer\nA2111395,%s,PC-1\n", key1),
			fmt.Sprintf("2 - %s PC-1\n! x.csv:2: the key ID is not a GUID: the key is kept without it\n", key1)},
		"title above": {fmt.Sprintf("Key report of the day\n\nKeyID,RecoveryKey\n%s,%s\n", id1, key1), fmt.Sprintf("4 %s %s \n", id1, key1)},
		"several in one cell": {fmt.Sprintf("KeyID;RecoveryKey;Computer\n%s,%s;%s,%s;PC-1\n", id1, id2, key1, key2),
			fmt.Sprintf("2 %s %s PC-1\n2 %s %s PC-1\n", id1, key1, id2, key2)},
		"name is the object": {fmt.Sprintf("Name,msFVE-RecoveryPassword\n2024-03-11T08:12:00+01:00{%s},%s\n", id1, key1), fmt.Sprintf("2 %s %s \n", id1, key1)},
		"duplicates":         {fmt.Sprintf("KeyID,RecoveryKey,Computer\n%s,%s,\n%s,%s,PC-1\n", id1, key1, id1, key1), fmt.Sprintf("2 %s %s PC-1\n", id1, key1)},
		"code page":          {fmt.Sprintf("KeyID,RecoveryKey,Computer\n%s,%s,LT-\xc4RGER\n", id1, key1), fmt.Sprintf("2 %s %s LT-ÄRGER\n", id1, key1)},

		"no header":           {fmt.Sprintf("%s,%s,PC-1\n%s,%s,PC-2\n", id1, key1, id2, key2), fmt.Sprintf("1 %s %s PC-1\n2 %s %s PC-2\n", id1, key1, id2, key2)},
		"no header, mbam":     {fmt.Sprintf("1\tws-1.example.com\t900\t%s\t2024-03-11 08:12:00.000\t%s\n", strings.ToLower(id1), key1), fmt.Sprintf("1 %s %s ws-1\n", id1, key1)},
		"no header, NULL":     {fmt.Sprintf("%s,%s\n%s,NULL\n", id1, key1, id2), fmt.Sprintf("1 %s %s \n! x.csv:2: the row has no recovery key\n", id1, key1)},
		"header not known":    {fmt.Sprintf("Schlüssel-ID;Wiederherstellungsschlüssel\n%s;%s\n", id1, key1), fmt.Sprintf("2 %s %s \n", id1, key1)},
		"only keys":           {key1 + "\n" + key2 + "\n", fmt.Sprintf("1 - %s \n2 - %s \n", key1, key2)},
		"first row bad":       {fmt.Sprintf("%s,%s\n%s,%s\n", id1, strings.Replace(key1, "562650", "562651", 1), id2, key2), fmt.Sprintf("2 %s %s \n! x.csv:1: group 1 of the recovery password: ", id2, key2)},
		"empty":               {"", "! x.csv:1: no recovery key found"},
		"only a header":       {"KeyID,RecoveryKey\n", "! x.csv:1: no recovery key found"},
		"something else":      {"hello\nworld\n", "! x.csv:1: no recovery key found"},
		"row too short":       {fmt.Sprintf("KeyID,RecoveryKey\n%s\n%s,%s\n", id1, id2, key2), fmt.Sprintf("3 %s %s \n! x.csv:2: the row has 1 of 2 columns", id2, key2)},
		"quote not closed":    {fmt.Sprintf("KeyID,RecoveryKey\n\"%s,%s\n%s,%s\n", id1, key1, id2, key2), fmt.Sprintf("3 %s %s \n! x.csv:2: a quote is not closed\n", id2, key2)},
		"two quotes open":     {fmt.Sprintf("KeyID,RecoveryKey\n%s,\"%s\n%s,%s\n%s,%s\"\n", id1, key1, id2, key2, id2, key1), fmt.Sprintf("3 %s %s \n4 %s %s \n! x.csv:2: a quote is not closed\n", id2, key2, id2, key1)},
		"a wrong digit":       {fmt.Sprintf("KeyID,RecoveryKey\n%s,%s\n%s,%s\n", id1, strings.Replace(key1, "383735", "383736", 1), id2, key2), fmt.Sprintf("3 %s %s \n! x.csv:2: group 4 of the recovery password: mistyped", id2, key2)},
		"key in the computer": {fmt.Sprintf("KeyID,RecoveryKey,Computer\n%s,%s,%s\n", id1, key1, key1), fmt.Sprintf("2 %s %s \n", id1, key1)},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := ReadCSV(strings.NewReader(tc.in), "x.csv")
			if err != nil {
				t.Fatal(err)
			}
			if got := render(l); !strings.HasPrefix(got, tc.want) {
				t.Errorf("got:\n%swant:\n%s", got, tc.want)
			}
			for _, p := range l.Problems {
				if regexp.MustCompile(`\d{6}`).MatchString(p.Error()) {
					t.Errorf("digits of a key in %q", p)
				}
			}
			// In UTF-16 the same.
			for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
				for _, bom := range []string{"\ufeff", ""} {
					if len(tc.in) == 0 || strings.Contains(tc.in, "\xc4") || strings.HasPrefix(tc.in, "\ufeff") {
						continue
					}
					wide, err := ReadCSV(bytes.NewReader(utf16Bytes(bom+tc.in, order)), "x.csv")
					if err != nil || render(wide) != render(l) {
						t.Errorf("UTF-16 %v (BOM %v): %v\n%s", order, bom != "", err, render(wide))
					}
				}
			}
		})
	}
}

// quoted puts every cell of a comma-separated text into quotes.
func quoted(s string) string {
	return `"` + strings.NewReplacer(",", `","`, "\n", "\"\n\"").Replace(strings.TrimSuffix(s, "\n")) + "\"\n"
}

func utf16Bytes(s string, order binary.AppendByteOrder) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return b
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	dir := os.Getenv("BOOTMEND_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	data, err := os.ReadFile(filepath.Join(dir, "key-formats", name))
	if err != nil {
		t.Skipf("shared test data is absent: %v", err)
	}
	return data
}

// TestExports reads what the known exporters write and compares it with the truth.
func TestExports(t *testing.T) {
	var truth []struct{ Host, ID, Key string }
	if err := json.Unmarshal(testdata(t, "truth.json"), &truth); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		hosts    bool
		problems []string
	}{
		"crowdstrike-BitLockerKeys.csv":         {hosts: true},
		"crowdstrike-BitLockerKeys-minimal.csv": {},
		"itchronicles-bitlocker_keys.csv":       {},
		"ad-get-adobject.csv":                   {hosts: true},
		"mbam-configmgr.csv":                    {hosts: true, problems: []string{"mbam-configmgr.csv:8: the row has no recovery key"}},
		"mbam-keys-only.csv":                    {},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := ReadCSV(bytes.NewReader(testdata(t, name)), name)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Entries) != len(truth) || len(l.Problems) != len(tc.problems) {
				t.Fatalf("%d keys of %d, problems %v", len(l.Entries), len(truth), l.Problems)
			}
			for i, p := range tc.problems {
				if l.Problems[i].Error() != p {
					t.Errorf("problem %q, want %q", l.Problems[i], p)
				}
			}
			for i, want := range truth {
				e := l.Entries[i]
				if !e.HasID || e.ID.String() != want.ID || e.Password.Reveal() != want.Key {
					t.Errorf("entry %d: %s", i, e.ID)
				}
				if got := l.ForProtector(e.ID); len(got) != 1 || got[0] != e {
					t.Errorf("%s is not found by its ID", e.ID)
				}
				if tc.hosts != (e.Computer != "") || tc.hosts && !strings.EqualFold(e.Computer, want.Host) {
					t.Errorf("computer %q, want %q", e.Computer, want.Host)
				}
			}
			if tc.hosts {
				for _, host := range []string{"WS-0002", "ws-0002.example.com", `EXAMPLE\ws-0002$`} {
					if n := len(l.ForComputer(host)); n != 2 {
						t.Errorf("%d keys for %s", n, host)
					}
				}
				if n := len(l.ForComputer("lt-ärger-3")); n != 1 {
					t.Errorf("%d keys for lt-ärger-3", n)
				}
			}
		})
	}
}

func TestExporterBug(t *testing.T) {
	l, err := ReadCSV(bytes.NewReader(testdata(t, "crowdstrike-BitLockerKeys-multikey-bug.csv")), "b.csv")
	if err != nil || len(l.Entries) != 1 || len(l.Problems) != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	if p := l.Problems[0]; p.Line != 2 || !strings.Contains(p.Reason, "type name instead of the keys") {
		t.Errorf("problem %q", p)
	}
}

func TestRealKeys(t *testing.T) {
	data := testdata(t, "matching-real-images.csv")
	l, err := ReadCSV(bytes.NewReader(data), "m.csv")
	if rows := bytes.Count(bytes.TrimSpace(data), []byte("\n")); err != nil || len(l.Problems) != 0 || len(l.Entries)+l.Duplicates != rows {
		t.Errorf("%d keys of %d rows, %v, %v", len(l.Entries), rows, l.Problems, err)
	}
}

func TestInvalidKeys(t *testing.T) {
	data := testdata(t, "invalid-keys.tsv")
	l, err := ReadCSV(bytes.NewReader(data), "i.tsv")
	if err != nil {
		t.Fatal(err)
	}
	rows := bytes.Count(bytes.TrimSpace(data), []byte("\n"))
	if len(l.Entries) != 0 || len(l.Problems) != rows {
		t.Errorf("%d accepted, %d of %d named", len(l.Entries), len(l.Problems), rows)
	}
	for _, p := range l.Problems {
		t.Log(p)
		for _, group := range regexp.MustCompile(`\d{3,}`).FindAllString(p.Error(), -1) {
			if bytes.Contains(data, []byte(group)) {
				t.Errorf("digits of a key in %q", p)
			}
		}
	}
}

func TestCanonicalRoundTrip(t *testing.T) {
	in := "KeyID,RecoveryKey,ComputerName\n" + id1 + "," + key1 + ",\"PC, one\"\n," + key2 + ",PC-2\n"
	l, err := ReadCSV(strings.NewReader(in), "x.csv")
	if err != nil || len(l.Problems) != 0 {
		t.Fatal(l.Problems, err)
	}
	var b strings.Builder
	if err := l.WriteCSV(&b); err != nil || b.String() != in {
		t.Errorf("%v, got:\n%s", err, b.String())
	}
	l.Entries = l.Entries[:1]
	l.Entries[0].Computer = ""
	b.Reset()
	if err := l.WriteCSV(&b); err != nil || b.String() != "KeyID,RecoveryKey\n"+id1+","+key1+"\n" {
		t.Errorf("%v, got:\n%s", err, b.String())
	}
	if err := l.WriteCSV(brokenWriter{}); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
}

var errDisk = errors.New("disk full")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errDisk }

func TestNotATable(t *testing.T) {
	for name, in := range map[string]string{"spreadsheet": "PK\x03\x04rest", "binary": "\x00\x01\x00\x00\xffabc\x00\x00"} {
		if _, err := ReadCSV(strings.NewReader(in), "x.csv"); err == nil || !strings.HasPrefix(err.Error(), "read key list x.csv: this is") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := ReadCSV(io.MultiReader(strings.NewReader(strings.Repeat("a,b\n", 100000)), iotest.ErrReader(errDisk)), "x.csv"); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
}

func TestLongLine(t *testing.T) {
	in := "KeyID,RecoveryKey\n" + strings.Repeat("x", 3*maxLine) + "\n" + id1 + "," + key1 + "\n"
	l, err := ReadCSV(strings.NewReader(in), "x.csv")
	if err != nil || len(l.Entries) != 1 || len(l.Problems) != 1 || l.Problems[0].Line != 2 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestNoKeyInText(t *testing.T) {
	l, err := ReadCSV(strings.NewReader("KeyID,RecoveryKey,Computer\n"+id1+","+key1+",PC\n"), "x.csv")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{string(b), fmt.Sprintf("%v %+v %#v %v", l, l, *l, l.Entries[0])} {
		for _, group := range strings.Split(key1, "-") {
			if strings.Contains(s, group) {
				t.Errorf("the key shows in %s", s)
			}
		}
	}
}

func BenchmarkReadCSV(b *testing.B) {
	var in strings.Builder
	in.WriteString("Hostname,KeyID,RecoveryKey,Directory\n")
	const rows = 100_000
	for i := range rows {
		fmt.Fprintf(&in, "\"CN=WS-%d,OU=PCs,DC=example,DC=com\",%08X-BBDE-424D-B903-7096A88F5C51,%06d-%06d%s,Entra\n", i, i, 11*(i%65536), 11*(i/65536), key1[13:])
	}
	b.ReportAllocs()
	for b.Loop() {
		l, err := ReadCSV(strings.NewReader(in.String()), "x.csv")
		if err != nil || len(l.Entries) != rows {
			b.Fatal(len(l.Entries), l.Problems[:1], err)
		}
	}
}

// FuzzRead looks for what no format may do, whatever it is given.
func FuzzRead(f *testing.F) {
	files, _ := filepath.Glob("testdata/*")
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && !strings.HasSuffix(file, ".golden") {
			f.Add(data)
		}
	}
	f.Add([]byte(`{"a":[{"key":"` + key1 + `","id":[` + strings.Repeat("1,", 15) + `1]}],"computerName":"PC"}` + "\n{"))
	f.Add([]byte("dn: CN=x{" + id1 + "},CN=PC\\, 1,OU=\\C3\\84\nmsFVE-RecoveryPassword:: " + "AAAA\n a\n"))
	f.Add([]byte(key1 + "\n{" + id1 + "}\n" + key2 + "\r{" + id2 + "}"))
	f.Add([]byte(strings.Repeat("[", 100) + key1))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Read(bytes.NewReader(data), "f")
		if err != nil {
			return
		}
		if l.Len() == 0 && len(l.Problems) == 0 {
			t.Error("neither a key nor a problem")
		}
		for _, e := range l.Entries {
			if _, err := bitlocker.ParseRecoveryPassword(e.Password.Reveal()); err != nil || e.Line < 1 {
				t.Errorf("entry of line %d: %v", e.Line, err)
			}
			if mayHoldKey(e.Computer) || mayHoldKey(e.Container) {
				t.Error("a key in the place of a name")
			}
		}
		for _, p := range l.Problems {
			if mayHoldKey(p.Reason) || p.Line < 1 {
				t.Errorf("problem of line %d: %q", p.Line, p.Reason)
			}
		}
		if l.Len() == 0 {
			return
		}
		// What was read is written so that it reads the same.
		var b bytes.Buffer
		if err := l.WriteCSV(&b); err != nil {
			t.Fatal(err)
		}
		again, err := Read(&b, "again")
		if err != nil || len(again.Entries)+len(again.StartupKeys)+again.Duplicates != l.Len() || len(again.Problems) != 0 {
			t.Fatalf("%v: %d of %d keys, problems %v", err, again.Len(), l.Len(), again.Problems)
		}
	})
}

func FuzzReadCSV(f *testing.F) {
	f.Add([]byte("KeyID,RecoveryKey\n" + id1 + "," + key1 + "\n"))
	f.Add([]byte("sep=;\n\"a\";\"" + key1 + "\n" + id2 + ";" + key2))
	f.Add(utf16Bytes("\ufeffId\tKey\r\n"+id1+"\t"+key1, binary.LittleEndian))
	f.Add([]byte("Name,Password,CN\nCN=2024{" + id1 + "}\\,x,CN=PC," + key1 + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ReadCSV(bytes.NewReader(data), "f.csv")
		if err != nil {
			return
		}
		if len(l.Entries) == 0 && len(l.Problems) == 0 {
			t.Error("neither a key nor a problem")
		}
		for _, e := range l.Entries {
			if _, err := bitlocker.ParseRecoveryPassword(e.Password.Reveal()); err != nil || e.Line < 1 {
				t.Errorf("entry of line %d: %v", e.Line, err)
			}
		}
		for _, p := range l.Problems {
			if regexp.MustCompile(`\d{6}-\d{6}`).MatchString(p.Reason) {
				t.Errorf("digits in %q", p.Reason)
			}
		}
	})
}
