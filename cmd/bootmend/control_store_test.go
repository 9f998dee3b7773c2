package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate"
)

// TestControlExport takes a log out of a database that a server has open, and reports on it.
func TestControlExport(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	opts := controlExportOptions{store: controlStore{state: dir}, output: filepath.Join(dir, "out") + "/"}
	db, err := store.OpenFile(ctx, opts.store.file())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	run, err := remediate.NewRun(time.Now(), "test", strings.NewReader("abcd"))
	if err != nil {
		t.Fatal(err)
	}
	log := remediate.NewLog(run)
	log.Add(remediate.Identity{Serial: "PF2X"})
	log.Add(remediate.ResultEvent{Outcome: remediate.OutcomeHealed})
	put := func(name string) {
		t.Helper()
		if err := db.Do(ctx, func(tx *store.Tx) error {
			if err := tx.Audit(store.Event{Time: time.Now(), Event: "asked", KeyID: "11111111"}); err != nil {
				return err
			}
			return tx.PutReport(store.Report{Run: name, Log: log.Bytes()}, time.Now())
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(run.Name())
	var out bytes.Buffer
	if err := runControlExport(ctx, &out, io.Discard, &opts); err != nil || !strings.Contains(out.String(), "out: 1 log, 1 line of the audit") {
		t.Fatalf("%s, %v", out.String(), err)
	}
	if audit, err := os.ReadFile(filepath.Join(dir, "out", "audit.jsonl")); err != nil || !strings.Contains(string(audit), `"key_id":"11111111"`) {
		t.Errorf("%s, %v", audit, err)
	}
	out.Reset()
	if err := runReport(ctx, &out, io.Discard, []string{filepath.Join(dir, "out", "reports")}, reportOptions{}); err != nil || !strings.Contains(out.String(), "PF2X") {
		t.Errorf("%s, %v", out.String(), err)
	}
	if err := runControlExport(ctx, io.Discard, io.Discard, &opts); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("once more: %v", err)
	}

	// Who may write to the database does not choose which files are written.
	put("../../escaped")
	opts.output = filepath.Join(dir, "other")
	if err := runControlExport(ctx, io.Discard, io.Discard, &opts); err == nil || !strings.Contains(err.Error(), "no run") {
		t.Errorf("a name with a path: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*other*")); err != nil || len(left) != 0 {
		t.Errorf("what is not whole is left: %v, %v", left, err)
	}
}
