package remediate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func testLog(t *testing.T, sinks ...io.Writer) *Log {
	l := NewLog(testRun(t, "r1"), sinks...)
	l.now = func() time.Time { return time.Date(2024, 7, 20, 8, 0, 1, 5, time.FixedZone("CEST", 7200)) }
	return l
}

func TestLogLine(t *testing.T) {
	var out bytes.Buffer
	l := testLog(t, &out)
	l.Add(UnlockEvent{Device: "/dev/nvme0n1p3", Protector: "Numerical Password", KeyID: "A2111395-BBDE-424D-B903-7096A88F5C51", Source: "file keys.csv", OK: true})
	want := `{"schema":"bootmend.log/v1","time":"2024-07-20T06:00:01.000000005Z","run":"20240720T080000Z-r1","seq":1,"event":"unlock",` +
		`"unlock":{"device":"/dev/nvme0n1p3","protector":"Numerical Password","key_id":"A2111395-BBDE-424D-B903-7096A88F5C51","source":"file keys.csv","ok":true}}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}

func TestLogEveryEvent(t *testing.T) {
	yes := true
	l := testLog(t)
	events := []Event{
		BootEvent{ToolVersion: "1", Firmware: "uefi", SecureBoot: &yes}, Identity{Serial: "S"}, DiskEvent{Device: "a", Size: 1},
		VolumeEvent{Device: "a1", Kind: "ntfs"}, UnlockEvent{Device: "a1"}, &Windows{Root: "Windows"},
		PlanEvent{Plan: &Plan{Actions: []Action{}}}, QuarantineEvent{Result: &Result{Moved: []Moved{}}}, VerifyEvent{OK: true},
		ResultEvent{Outcome: OutcomeHealed}, ErrorEvent{Step: "s", Message: "m"},
	}
	for _, e := range events {
		l.Add(e)
	}
	l.Errorf("mount", "disk %d", 1)
	lines, skipped, err := readLog(bytes.NewReader(l.Bytes()))
	if err != nil || skipped != 0 || len(lines) != len(events)+1 {
		t.Fatalf("%d lines, %d skipped, %v", len(lines), skipped, err)
	}
	seen := make(map[string]bool)
	for i, line := range lines {
		if line.Seq != i+1 || line.Schema != LogSchema || (seen[line.Event] && line.Event != "error") {
			t.Errorf("line %+v", line)
		}
		seen[line.Event] = true
		// The member that the event names is set, and it alone.
		b, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		var members map[string]any
		if err := json.Unmarshal(b, &members); err != nil {
			t.Fatal(err)
		}
		if members[line.Event] == nil || len(members) != 6 {
			t.Errorf("event %s has members %v", line.Event, members)
		}
	}
	if e := lines[len(lines)-1].Error; e == nil || e.Message != "disk 1" {
		t.Errorf("error event %+v", e)
	}
}

type failing struct{ n int }

func (f *failing) Write(b []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errSector
	}
	return len(b), nil
}

func TestLogSinks(t *testing.T) {
	var good, late bytes.Buffer
	l := testLog(t, &failing{1}, &good)
	for range 3 {
		l.Add(VerifyEvent{OK: true})
	}
	l.AddSink(&late)
	l.Add(VerifyEvent{OK: true})
	if n := strings.Count(good.String(), "\n"); n != 4 || late.String() != good.String() || string(l.Bytes()) != good.String() {
		t.Errorf("%d lines; late sink:\n%s", n, late.String())
	}
	if err := l.SinkErrors(); !errors.Is(err, errSector) {
		t.Errorf("got %v", err)
	}
}

func TestLogConcurrently(t *testing.T) {
	l := testLog(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l.Add(VerifyEvent{})
			}
		})
	}
	wg.Wait()
	lines, skipped, err := readLog(bytes.NewReader(l.Bytes()))
	if err != nil || skipped != 0 || len(lines) != 400 || lines[399].Seq != 400 {
		t.Errorf("%d lines, %d skipped, %v", len(lines), skipped, err)
	}
}

func TestLogHoldsNoKey(t *testing.T) {
	const key = "562650-693363-169235-383735-293645-373912-378675-483692"
	sha := strings.Repeat("0123456789abcdef", 4)
	for _, form := range []string{key, strings.ReplaceAll(key, "-", ""), strings.ReplaceAll(key, "-", " "), strings.ReplaceAll(key, "-", "–")} {
		l := testLog(t)
		l.Errorf("unlock", "typed %s, SHA-256 %s", form, sha)
		b := l.Bytes()
		if bytes.Contains(b, []byte("562650")) || bytes.Contains(b, []byte("483692")) || !bytes.Contains(b, []byte(sha)) {
			t.Errorf("got %s", b)
		}
		if lines, _, err := readLog(bytes.NewReader(b)); err != nil || len(lines) != 1 {
			t.Errorf("does not read back: %v", err)
		}
	}
}

func TestReadLogSkipsTornLines(t *testing.T) {
	l := testLog(t)
	l.Add(VerifyEvent{OK: true})
	whole := string(l.Bytes())
	lines, skipped, err := readLog(strings.NewReader(whole + "\n{\"schema\":\"other\"}\n" + whole + whole[:40]))
	if err != nil || len(lines) != 2 || skipped != 2 || !reflect.DeepEqual(lines[0], lines[1]) {
		t.Errorf("%d lines, %d skipped, %v", len(lines), skipped, err)
	}
}

func TestWriteLogFile(t *testing.T) {
	root := tempDir(t)
	if err := os.Mkdir(filepath.Join(root, "PROGRAMDATA"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one\n", "one\ntwo\n"} {
		p, err := WriteLogFile(root, WindowsLogDir, testRun(t, "r1"), []byte(text))
		if err != nil || p != "PROGRAMDATA/bootmend/logs/20240720T080000Z-r1.jsonl" {
			t.Fatalf("%q, %v", p, err)
		}
		if data, err := os.ReadFile(filepath.Join(root, p)); err != nil || string(data) != text {
			t.Errorf("got %q, %v", data, err)
		}
	}
	if p, err := WriteLogFile(root, MediaLogDir, testRun(t, "r1"), nil); err != nil || p != "bootmend/logs/20240720T080000Z-r1.jsonl" {
		t.Errorf("%q, %v", p, err)
	}
	for _, dir := range []string{"", "..", "../x", "/x", `a\..\..`} {
		if _, err := WriteLogFile(root, dir, testRun(t, "r1"), nil); err == nil {
			t.Errorf("directory %q accepted", dir)
		}
	}
	if _, err := WriteLogFile(filepath.Join(root, "absent"), "logs", testRun(t, "r1"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if len(snapshot(t, root)) != 2 {
		t.Errorf("left behind: %v", snapshot(t, root))
	}
}

func TestNewRun(t *testing.T) {
	run, err := NewRun(faultyTime.In(time.FixedZone("", 3600)), "v1", bytes.NewReader([]byte{0x1a, 0x2b, 0x3c, 0x4d}))
	if err != nil || run.Name() != "20240719T040900Z-1a2b3c4d" || run.check() != nil {
		t.Errorf("%+v, %v", run, err)
	}
	if _, err := NewRun(faultyTime, "v1", strings.NewReader("abc")); err == nil {
		t.Error("short randomness accepted")
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add([]byte(`{"schema":"bootmend.log/v1","time":"2024-07-20T08:00:00Z","run":"r","seq":1,"event":"verify","verify":{"device":"","ok":true}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, _, _ := readLog(bytes.NewReader(data))
		for _, l := range lines {
			if l.Schema != LogSchema {
				t.Errorf("line %+v", l)
			}
		}
	})
}

// readLog reads a whole log.
func readLog(r io.Reader) (lines []Line, skipped int, err error) {
	skipped, err = ScanLog(r, nil, func(l *Line) { lines = append(lines, *l) })
	return lines, skipped, err
}

// TestScanLogAgreesWithJSON reads lines in the two ways there are.
func TestScanLogAgreesWithJSON(t *testing.T) {
	l := NewLog(testRun(t, "r1"))
	l.Add(BootEvent{ToolVersion: "1.0", Firmware: "uefi"})
	l.Add(Identity{Serial: `a "quoted" one, {odd`})
	l.Add(VolumeEvent{Device: "/dev/sda3", Description: "Größe \u2028"})
	l.Add(QuarantineEvent{Device: "/dev/sda3", Result: &Result{Run: "r", Moved: []Moved{{Path: `a\b`}}}})
	l.Add(ResultEvent{Outcome: OutcomeHealed})
	text := l.Bytes()
	for _, odd := range []string{
		`{"schema":"bootmend.log/v1","time":"2024-07-19T06:00:00Z","run":"r","seq":7,"event":"of a newer program"}`,
		`{"schema":"bootmend.log/v1","time":"2024-07-19T06:00:00+02:00","run":"r\"","seq":7,"event":"result","result":{"outcome":"healed"}}`,
		`{"event":"result","schema":"bootmend.log/v1","time":"2024-07-19T06:00:00Z","run":"r","seq":7,"result":{"outcome":"healed"}}`,
	} {
		text = append(append(text, odd...), '\n')
	}
	var want []Line
	for _, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		var one Line
		if err := json.Unmarshal(line, &one); err != nil {
			t.Fatal(err)
		}
		want = append(want, one)
	}
	var got []Line
	skipped, err := ScanLog(bytes.NewReader(text), nil, func(l *Line) { got = append(got, *l) })
	if err != nil || skipped != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d skipped, %v\ngot  %+v\nwant %+v", skipped, err, got, want)
	}
	for _, bad := range []string{
		`{"schema":"bootmend.log/v1","time":"yesterday","run":"r","seq":7,"event":"result","result":{"outcome":"healed"}}`,
		`{"schema":"bootmend.log/v1","time":"2024-07-19T06:00:00Z","run":"r","seq":7,"event":"result","result":{"outcome":"healed"}`,
		`{"schema":"bootmend.log/v1","time":"2024-07-19T06:00:00Z","run":"r","seq":7,"event":"result","result":{"outcome":}}`,
		`{"schema":"bootmend.log/v1","time":"2024-07-19T06:00:00Z","run":"r","seq":7,"event":"result",}`,
	} {
		if skipped, err := ScanLog(strings.NewReader(bad), nil, func(*Line) {}); err != nil || skipped != 1 {
			t.Errorf("%d skipped, %v: %s", skipped, err, bad)
		}
	}
}

// TestLogIsFull: what came of the run is kept all the same, and a server takes what is kept.
func TestLogIsFull(t *testing.T) {
	l := testLog(t)
	for range MaxLogSize/1000 + 10 {
		l.Errorf("test", "%s", strings.Repeat("x", 1000))
	}
	l.Add(ResultEvent{Outcome: OutcomeHealed})
	data := l.Bytes()
	if len(data) > MaxLogSize || len(data) < MaxLogSize-roomToEnd-2000 {
		t.Errorf("%d bytes are kept of %d", len(data), MaxLogSize)
	}
	if end := data[bytes.LastIndexByte(data[:len(data)-1], '\n')+1:]; !bytes.Contains(end, []byte(`"outcome":"healed"`)) {
		t.Errorf("the end is %s", end)
	}
	if err := l.SinkErrors(); err == nil || !strings.Contains(err.Error(), "not kept") {
		t.Errorf("said: %v", err)
	}
}
