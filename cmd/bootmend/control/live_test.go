package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate"
)

// TestLook shows machines to who watches: those that a filter lets through, and all of one.
func TestLook(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, "", Options{})
	waiting, _ := s.machine("SN-WAITS")
	healing, _ := s.machine("SN-HEALS")
	healed, healedRun := s.machine("SN-HEALED")
	failed, failedRun := s.machine("SN-FAILED")
	left, leftRun := s.machine("SN-LEFT")
	if got := s.wants(waiting, unknownID); got != "wait" {
		t.Fatal(got)
	}
	if err := errors.Join(healing.Step(ctx, "unknown"), healed.Report(ctx, logOf(healedRun, remediate.OutcomeNothingToHeal)),
		failed.Report(ctx, logOf(failedRun, remediate.OutcomeFailed)), left.Report(ctx, logOf(leftRun, remediate.OutcomeLeft))); err == nil {
		t.Error("a step of a machine that nobody knows")
	}
	if _, err := healing.Hello(ctx); err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[store.Filter]string{store.Waiting: "SN-WAITS", store.Healing: "SN-HEALS", store.Healed: "SN-HEALED",
		store.NotHealed: "SN-FAILED", store.Left: "SN-LEFT"} {
		v, err := s.Look(ctx, filter, 7, 2) // behind the end
		if err != nil || len(v.Machines) != 1 || v.Offset != 0 || v.Machines[0].Serial != want || filter.Of(v.Totals) != 1 || v.Totals.Machines != 5 {
			t.Errorf("filter %d: %+v, %v", filter, v, err)
		}
	}
	v, err := s.Look(ctx, store.All, 100, 2)
	if err != nil || v.Offset != 4 || len(v.Machines) != 1 {
		t.Errorf("the last page: %+v, %v", v, err)
	}
	v, err = s.Look(ctx, store.All, 0, 10)
	if err != nil || v.Machines[0].Serial != "SN-WAITS" || v.Machines[0].Since.IsZero() {
		t.Errorf("who waits is not the first: %+v, %v", v.Machines, err)
	}
	d, err := s.Detail(ctx, failedRun.Name())
	if err != nil || d.Serial != "SN-FAILED" || len(d.Log) != 3 || d.Log[2].Text != "result: outcome failed, message the reason" {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err = s.Detail(ctx, "20260101T000000Z-none"); !errors.Is(err, errUnknownMachine) {
		t.Errorf("nobody: %+v, %v", d, err)
	}
}

// TestSince tells since when a machine is in its step, however often it asks.
func TestSince(t *testing.T) {
	s := newSite(t, "", Options{})
	now := time.Now()
	s.now = func() time.Time { return now }
	c, _ := s.machine("SN1")
	begun := now.Truncate(time.Second).UTC()
	for range 3 {
		if got := s.wants(c, unknownID); got != "wait" {
			t.Fatal(got)
		}
		if m := s.shows().Machines[0]; !m.Since.Equal(begun) || !m.Seen.Equal(now.Truncate(time.Second)) {
			t.Errorf("since %s, seen %s, now %s", m.Since, m.Seen, now)
		}
		now = now.Add(30 * time.Second)
	}
	if err := c.Step(context.Background(), "looks"); err != nil {
		t.Fatal(err)
	}
	if m := s.shows().Machines[0]; !m.Since.Equal(now.Truncate(time.Second)) {
		t.Errorf("since %s, now %s", m.Since, now)
	}
}

// TestWatch tells of what happens, and ends when it is to end.
func TestWatch(t *testing.T) {
	s := newSite(t, "", Options{})
	ctx, stop := context.WithCancel(context.Background())
	told, ended := make(chan bool, 100), make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func() error { told <- true; return nil }) }()
	<-told
	if err := s.Pause(ctx, "test"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-time.After(5 * time.Second):
		t.Error("nobody tells of the pause")
	}
	if v := s.shows(); v.Halted != "paused by a person" {
		t.Errorf("halted: %q", v.Halted)
	}
	if err := s.Resume(ctx, "test"); err != nil || s.shows().Halted != "" {
		t.Errorf("resume: %v", err)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if i := slices.IndexFunc(s.audit(), func(e store.Event) bool { return e.Event == "paused" && e.Address == "test" }); i < 0 {
		t.Errorf("who has paused is not written down: %+v", s.audit())
	}
}

// TestLogLines reads the end of a log, which anybody may have sent.
func TestLogLines(t *testing.T) {
	const head = `{"schema":"` + remediate.LogSchema + `","time":"2026-11-27T12:00:00Z","run":"r","seq":1,`
	for log, want := range map[string]string{
		head + `"event":"boot"}`: "boot",
		head + `"event":"unlock","unlock":{"key_id":"A","ok":true,"tries":2}}`:           "unlock: key id A, ok true, tries 2",
		head + `"event":"x","x":["a",1]}`:                                                `x: ["a",1]`,
		head + `"event":"x","x":{"a":{"b":"c"}}}`:                                        `x: a {"b":"c"}`,
		head + `"event":"x","x":{"a":"` + secretKey + `"}}`:                              "x: a (withheld)",
		head + `"event":"x","x":{"a":"` + strings.ReplaceAll(secretKey, "-", "") + `"}}`: "x: a (withheld)",
		head + `"event":"\u001b[2Jx","x":{"a":1}}`:                                       `"\x1b[2Jx: a 1"`,
		`torn"}` + "\n" + head + `"event":"boot"}` + "\n" + head + `"event":`:            "boot",
		`{"schema":"other","event":"x"}`:                                                 "",
		"":                                                                               "",
	} {
		var got []string
		for _, l := range logLines([]byte(log)) {
			got = append(got, l.Text)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%s\nis %q, want %q", log, got, want)
		}
	}
}
