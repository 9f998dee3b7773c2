package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/remediate"
)

var epoch = time.Date(2024, 7, 19, 6, 30, 0, 0, time.UTC)

// aRun is a run as a test tells it.
type aRun struct {
	id      string
	after   time.Duration
	machine remediate.Identity
	events  []remediate.Event
}

// log is the log that the run would leave; the time of each line is that of the test, not of its making.
func (r aRun) log(t testing.TB) []byte {
	t.Helper()
	run := remediate.Run{ID: r.id, Time: epoch.Add(r.after), Machine: r.machine}
	l := remediate.NewLog(run)
	l.Add(remediate.BootEvent{ToolVersion: "1.0", Firmware: "uefi"})
	l.Add(r.machine)
	for _, e := range r.events {
		l.Add(e)
	}
	var out bytes.Buffer
	for i, line := range bytes.SplitAfter(l.Bytes(), []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var fields remediate.Line
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatal(err)
		}
		old, err := json.Marshal(fields.Time)
		if err != nil {
			t.Fatal(err)
		}
		stamp, _ := json.Marshal(run.Time.Add(time.Duration(i) * time.Second))
		out.Write(bytes.Replace(line, old, stamp, 1))
	}
	return out.Bytes()
}

const keyID = "E951B39A-A12B-4385-9C2C-59DA054A8E5E"

func volume() remediate.Event {
	return remediate.VolumeEvent{Device: "/dev/sda3", Kind: "bitlocker", Description: "FRONTDESK-7 C: 7/19/2024"}
}

func unlocked(source string) remediate.Event {
	return remediate.UnlockEvent{Device: "/dev/sda3", KeyID: strings.ToLower(keyID), Source: source, OK: true}
}

func quarantined(n int) remediate.Event {
	return remediate.QuarantineEvent{Device: "/dev/sda3", Result: &remediate.Result{Moved: make([]remediate.Moved, n)}}
}

func result(o remediate.Outcome, message string) remediate.Event {
	return remediate.ResultEvent{Outcome: o, Message: message}
}

func collect(t testing.TB, logs ...[]byte) *Report {
	t.Helper()
	var c Collector
	for _, l := range logs {
		if _, err := c.Add(bytes.NewReader(l)); err != nil {
			t.Fatal(err)
		}
	}
	return c.Report()
}

func TestMachine(t *testing.T) {
	dell := remediate.Identity{Serial: "ABC123", UUID: "4c4c4544", Model: "Latitude"}
	windows := &remediate.Windows{Root: "Windows", ComputerName: "FRONTDESK-7"}
	for name, test := range map[string]struct {
		runs []aRun
		want Machine
	}{
		"healed with a key": {
			[]aRun{{"a", 0, dell, []remediate.Event{volume(), unlocked("key list on the media"), windows, quarantined(2), result("healed", "")}}},
			Machine{Result: remediate.OutcomeHealed, Computer: "FRONTDESK-7", Runs: 1, Quarantined: 2, KeyIDs: []string{keyID}},
		},
		"named by its volume where Windows was not reached": {
			[]aRun{{"a", 0, dell, []remediate.Event{volume(), unlocked("typed key"), result("failed", "the disk failed")}}},
			Machine{Result: remediate.OutcomeFailed, NeedsPerson: true, Why: "the disk failed", Computer: "FRONTDESK-7", Runs: 1, KeyIDs: []string{keyID}},
		},
		"first locked, then healed": {
			[]aRun{
				{"b", time.Hour, dell, []remediate.Event{windows, quarantined(1), result("healed", "")}},
				{"a", 0, dell, []remediate.Event{result("needs-person", "no key")}},
			},
			Machine{Result: remediate.OutcomeHealed, Computer: "FRONTDESK-7", Runs: 2, Quarantined: 1},
		},
		"healed, then booted again": {
			[]aRun{
				{"a", 0, dell, []remediate.Event{quarantined(1), result("healed", "")}},
				{"b", time.Hour, dell, []remediate.Event{result("healed-before", "")}},
			},
			Machine{Result: remediate.OutcomeHealed, Runs: 2, Quarantined: 1},
		},
		"a dry run afterwards changes nothing": {
			[]aRun{
				{"a", 0, dell, []remediate.Event{result("needs-person", "no key")}},
				{"b", time.Hour, dell, []remediate.Event{result("dry-run", "")}},
			},
			Machine{Result: remediate.OutcomeNeedsPerson, NeedsPerson: true, Why: "no key", Runs: 2},
		},
		"only a dry run": {
			[]aRun{{"a", 0, dell, []remediate.Event{result("dry-run", "")}}},
			Machine{Result: remediate.OutcomeDryRun, Runs: 1},
		},
		"tried again within the run": {
			[]aRun{{"a", 0, dell, []remediate.Event{result("needs-person", "no key"), quarantined(1), result("healed", "")}}},
			Machine{Result: remediate.OutcomeHealed, Runs: 1, Quarantined: 1},
		},
		"the power failed": {
			[]aRun{{"a", 0, dell, []remediate.Event{volume(), unlocked("typed key")}}},
			Machine{Result: Unfinished, NeedsPerson: true, Why: "the log has no end: the power failed or the stick was pulled",
				Computer: "FRONTDESK-7", Runs: 1, KeyIDs: []string{keyID}},
		},
		"left by a server": {
			[]aRun{{"a", 0, dell, []remediate.Event{result("left", "left as it is: paused")}}},
			Machine{Result: remediate.OutcomeNeedsPerson, NeedsPerson: true, Why: "left as it is: paused", Runs: 1},
		},
		"a result of the future": {
			[]aRun{{"a", 0, dell, []remediate.Event{result("beamed-up", "")}}},
			Machine{Result: remediate.OutcomeNeedsPerson, NeedsPerson: true, Why: "result beamed-up is not known to this version", Runs: 1},
		},
		"suspended: nothing to rotate": {
			[]aRun{{"a", 0, dell, []remediate.Event{volume(), unlocked("clear key (protection is suspended)"), windows, result("healed", "")}}},
			Machine{Result: remediate.OutcomeHealed, Computer: "FRONTDESK-7", Runs: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var logs [][]byte
			for _, r := range test.runs {
				logs = append(logs, r.log(t))
			}
			r := collect(t, logs...)
			if len(r.Machines) != 1 {
				t.Fatalf("%d machines: %+v", len(r.Machines), r.Machines)
			}
			got, want := r.Machines[0], test.want
			got.First, got.Last, got.Windows = time.Time{}, time.Time{}, ""
			want.Serial, want.UUID, want.Model, want.ToolVersion, want.Firmware = dell.Serial, dell.UUID, dell.Model, "1.0", "uefi"
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if rotate := len(r.Rotate) > 0; rotate != (len(want.KeyIDs) > 0) {
				t.Errorf("keys to rotate: %+v", r.Rotate)
			}
		})
	}
}

// TestCopies has one run in a cut and a whole log, and whole again, in either order.
func TestCopies(t *testing.T) {
	whole := aRun{"a", 0, remediate.Identity{Serial: "S"}, []remediate.Event{quarantined(1), result("healed", "")}}.log(t)
	cut := whole[:len(whole)-40]
	for name, logs := range map[string][][]byte{"cut first": {cut, whole, whole}, "whole first": {whole, cut, whole}} {
		t.Run(name, func(t *testing.T) {
			r := collect(t, logs...)
			if len(r.Machines) != 1 || r.Machines[0].Result != remediate.OutcomeHealed || r.Machines[0].Quarantined != 1 {
				t.Errorf("machines: %+v", r.Machines)
			}
			if r.Runs != 1 || r.Copies != 2 || r.Skipped != 1 {
				t.Errorf("%d runs, %d copies, %d skipped lines", r.Runs, r.Copies, r.Skipped)
			}
		})
	}
	// Several logs in one file are several runs.
	other := aRun{"b", time.Minute, remediate.Identity{Serial: "T"}, []remediate.Event{result("nothing-to-heal", "")}}.log(t)
	if r := collect(t, append(bytes.Clone(whole), other...)); r.Runs != 2 || len(r.Machines) != 2 {
		t.Errorf("%d runs of %d machines", r.Runs, len(r.Machines))
	}
}

// TestPlaceholders has boards whose maker left the serial number out.
func TestPlaceholders(t *testing.T) {
	var logs [][]byte
	for i, serial := range []string{"To be filled by O.E.M.", "Default string", "", "00000000", "None"} {
		for j, uuid := range []string{"A0000000-1", "B0000000-2"} {
			logs = append(logs, aRun{fmt.Sprintf("r%d%d", i, j), time.Duration(i) * time.Minute, remediate.Identity{Serial: serial, UUID: uuid},
				[]remediate.Event{result("healed", "")}}.log(t))
		}
	}
	if r := collect(t, logs...); len(r.Machines) != 2 || r.Machines[0].Runs != 5 {
		t.Errorf("machines: %+v", r.Machines)
	}
}

// TestHostile has names that want to be formulas, markup or terminal commands.
func TestHostile(t *testing.T) {
	evil := `=cmd|'/c calc'!A1 <script>alert(1)</script> ` + "\x1b[2J" + strings.Repeat("x", 5000)
	r := collect(t, aRun{"a", 0, remediate.Identity{Serial: evil, Model: evil}, []remediate.Event{
		&remediate.Windows{Root: "Windows", ComputerName: evil}, result("failed", evil)}}.log(t))
	var table, sheet, html bytes.Buffer
	for _, err := range []error{r.WriteTable(&table), r.WriteCSV(&sheet), r.WriteHTML(&html)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"table": table.String(), "CSV": sheet.String(), "page": html.String()} {
		if strings.Contains(text, "\x1b") {
			t.Errorf("the %s holds an escape sequence", name)
		}
		if len(text) > 40_000 {
			t.Errorf("the %s is %d bytes long", name, len(text))
		}
	}
	if strings.Contains(html.String(), "<script") {
		t.Error("the page holds the markup")
	}
	rows, err := csv.NewReader(&sheet).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(rows[1][0], "=") {
		t.Errorf("a cell is a formula: %s", rows[1][0])
	}
}

func TestTimeline(t *testing.T) {
	with := func(times ...time.Duration) *Report {
		var logs [][]byte
		for i, d := range times {
			logs = append(logs, aRun{fmt.Sprintf("r%d", i), d, remediate.Identity{Serial: fmt.Sprint("S", i)}, []remediate.Event{result("healed", "")}}.log(t))
		}
		return collect(t, logs...)
	}
	at := func(times ...time.Duration) []Slot { return with(times...).Timeline }
	if s := at(0, 10*time.Minute, 2*time.Hour); len(s) != 3 || s[0].Healed != 2 || s[1].Healed != 0 || s[2].Healed != 1 || s[0].Hours != 1 {
		t.Errorf("hours: %+v", s)
	}
	if s := at(0, 10*24*time.Hour); len(s) != 11 || s[0].Hours != 24 {
		t.Errorf("days: %+v", s)
	}
	// One machine's clock is at 1980.
	if s := at(-44*365*24*time.Hour, 0); len(s) > maxSlots+1 || s[len(s)-1].Healed != 1 {
		t.Errorf("%d slots, the last %+v", len(s), s[len(s)-1])
	}
	// One is ten years ahead, one far behind: the others are shown as if these were not there.
	const year = 365 * 24 * time.Hour
	if s := at(0, 10*time.Minute, 2*time.Hour, 10*year, -46*year); len(s) != 3 || s[0].Healed != 2 || s[2].Healed != 1 || s[0].Hours != 1 {
		t.Errorf("clocks ahead and behind: %d slots, %+v", len(s), s[0])
	}
	for text, r := range map[string]*Report{"not shown: 1 at": with(0, time.Hour, 10*year), "": with(0, time.Hour)} {
		var page bytes.Buffer
		if err := r.WriteHTML(&page); err != nil || !strings.Contains(page.String(), text) || strings.Contains(page.String(), "not shown") != (text != "") {
			t.Errorf("%q: %v, %s", text, err, page.String())
		}
	}
	if s := at(0, 20*24*time.Hour, 100*24*time.Hour, 10*year); len(s) != 101 || s[0].Hours != 24 || s[100].Healed != 1 {
		t.Errorf("days, and a clock ahead: %d slots, %+v", len(s), s[0])
	}
}

func TestRotation(t *testing.T) {
	dell := remediate.Identity{Serial: "ABC123"}
	r := collect(t,
		aRun{"a", 0, dell, []remediate.Event{volume(), unlocked("typed key"), result("failed", "x")}}.log(t),
		aRun{"b", time.Hour, dell, []remediate.Event{volume(), unlocked("key list on the media"), result("healed", "")}}.log(t))
	var out bytes.Buffer
	if err := r.WriteRotation(&out); err != nil {
		t.Fatal(err)
	}
	want := "ComputerName,SerialNumber,KeyID,Volume,LastUsed,Source\n" +
		"FRONTDESK-7,ABC123," + keyID + ",FRONTDESK-7 C: 7/19/2024,2024-07-19T07:30:03Z,key list on the media\n"
	if out.String() != want {
		t.Errorf("got  %s\nwant %s", out.String(), want)
	}
}

func FuzzCollector(f *testing.F) {
	f.Add(aRun{"a", 0, remediate.Identity{Serial: "S"}, []remediate.Event{volume(), unlocked("typed key"), quarantined(1), result("healed", "")}}.log(f))
	f.Add([]byte(`{"schema":"bootmend.log/v1","time":"9999-12-31T23:59:59Z","run":"x","event":"result","result":{"outcome":""}}`))
	f.Add([]byte(`{"schema":"bootmend.log/v1","run":"x","event":"plan","unlock":{"ok":true,"key_id":"="}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Collector
		if _, err := c.Add(bytes.NewReader(data)); err != nil {
			return
		}
		r := c.Report()
		if len(r.Timeline) > maxSlots+1 || len(r.Machines) > r.Runs {
			t.Fatalf("%d slots, %d machines of %d runs", len(r.Timeline), len(r.Machines), r.Runs)
		}
		for _, write := range []func(io.Writer) error{r.WriteTable, r.WriteCSV, r.WriteRotation, r.WriteHTML} {
			if err := write(io.Discard); err != nil {
				t.Fatal(err)
			}
		}
	})
}
