package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bootmend/bootmend/remediate"
)

var ctx = context.Background()

func openFile(t *testing.T, path string) *DB {
	t.Helper()
	db, err := OpenFile(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestMigrate brings a database of an earlier version up to date, with what is in it.
func TestMigrate(t *testing.T) {
	all := migrations
	defer func() { migrations = all }()
	path := filepath.Join(t.TempDir(), "x.db")
	migrations = all[:1]
	old := openFile(t, path)
	if err := old.Do(ctx, func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO machines (id, run, serial, uuid, model, computer_name, address, server, version, decision, ring, step, outcome, message,
			seen, failed_in, waiting, space) VALUES ('SN1', 'r1', '', '', '', '', '', '', '', '', '', 'heal', '', '', 5000000, 0, FALSE, 0)`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	migrations = all
	db := openFile(t, path)
	if err := db.View(ctx, func(tx *Tx) error {
		list, err := tx.Machines(Healing, 0, 10)
		if want := time.Unix(5, 0).UTC(); err != nil || len(list) != 1 || list[0].Since != want || list[0].Seen != want {
			t.Errorf("%+v, %v", list, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	migrations = all[:1]
	if _, err := OpenFile(ctx, path); err == nil || !strings.Contains(err.Error(), "newer bootmend") {
		t.Errorf("an older program: %v", err)
	}
}

// TestFile is what both databases do, with SQLite. Names that mean something in the address of a file must not.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b%41 #c", "x")
	if _, err := OpenFile(ctx, path); err == nil {
		t.Error("it is made where there is no folder")
	}
	path = filepath.Join(t.TempDir(), "a?b%41 #c.db")
	contract(t, func(t *testing.T) *DB { return openFile(t, path) })
}

// contract is what a database does. open opens the same one each time.
func contract(t *testing.T, open func(*testing.T) *DB) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	db, other := open(t), open(t)
	do := func(db *DB, fn func(*Tx) error) {
		t.Helper()
		if err := db.Do(ctx, fn); err != nil {
			t.Fatal(err)
		}
	}
	machine := Machine{
		ID: "SN1", Run: "r1", Identity: remediate.Identity{Serial: "SN1", UUID: "u", Model: "ä 'x' ?1 $1", ComputerName: "PC"}, Address: "::1", Server: "s",
		Version: "v", Decision: "heal", Ring: "one", Step: "look", Outcome: remediate.OutcomeFailed, Message: "m", Seen: now, FailedIn: 1, Waiting: true, Space: 7,
	}
	wants := []Want{{Protector: "A", Volume: "C:", Given: true}, {Protector: "B", Approved: true, Limited: true}}
	event := Event{Time: now, Event: "asked", Server: "s", Run: "r1", Machine: machine.Identity, KeyID: "A", Volume: "C:", Address: "::1"}
	log := []byte("{\x00\xff}")
	do(db, func(tx *Tx) error {
		return errors.Join(tx.PutMachine(&machine), tx.PutWant("r1", wants[1]), tx.PutWant("r1", wants[0]), tx.Audit(event), tx.PutReport(Report{"r1", log}, now))
	})

	// What is taken back is not there; what was done beside it is.
	mine := errors.New("mine")
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			err := []*DB{db, other}[i/2%2].Do(ctx, func(tx *Tx) error {
				if err := tx.PutReport(Report{fmt.Sprintf("t%02d", i), log}, now); err != nil || i%2 == 0 {
					return err
				}
				return mine
			})
			if (i%2 == 0) != (err == nil) || i%2 == 1 && !errors.Is(err, mine) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	all.Wait()

	// The shorter log changes nothing, the longer one does.
	for _, length := range []int{2, 9, 4} {
		do(other, func(tx *Tx) error { return tx.PutReport(Report{"r1", []byte("123456789")[:length]}, now) })
	}
	if err := other.View(ctx, func(tx *Tx) error {
		machine.Since = machine.Seen // in which it was first seen in its step
		list, err := tx.MachinesAfter("", 10)
		if err != nil || len(list) != 1 || list[0] != machine {
			t.Errorf("%+v, %v, want %+v", list, err, machine)
		}
		if list, err = tx.Machines(All, 0, 10); err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
		for f, want := range map[Filter]int{Waiting: 1, Healing: 0, NotHealed: 1, Healed: 0, Left: 0} {
			if list, err = tx.Machines(f, 0, 10); err != nil || len(list) != want {
				t.Errorf("filter %d: %+v, %v", f, list, err)
			}
		}
		for most, want := range map[int]string{4: "6789", 9: "123456789", 100: "123456789"} {
			if end, err := tx.ReportEnd("r1", most); err != nil || string(end) != want {
				t.Errorf("the last %d bytes: %q, %v", most, end, err)
			}
		}
		if end, err := tx.ReportEnd("r9", 4); err != nil || end != nil {
			t.Errorf("the log of nobody: %q, %v", end, err)
		}
		of, err := tx.WantsOf([]string{"r0", "r1"})
		if err != nil || len(of) != 1 || len(of["r1"]) != 2 || of["r1"][0] != wants[0] || of["r1"][1] != wants[1] {
			t.Errorf("%+v, %v", of, err)
		}
		events, last, err := tx.EventsAfter(0, 10)
		if err != nil || len(events) != 1 || events[0] != event || last < 1 {
			t.Errorf("%+v, %d, %v", events, last, err)
		}
		var runs []string
		for name := ""; ; {
			part, err := tx.ReportsAfter(name, 8, 12)
			if err != nil || len(part) == 0 {
				break
			}
			for _, r := range part {
				if want := string(log); r.Run != "r1" && string(r.Log) != want || r.Run == "r1" && string(r.Log) != "123456789" {
					t.Errorf("%s: %q", r.Run, r.Log)
				}
				runs, name = append(runs, r.Run), r.Run
			}
		}
		if len(runs) != 21 || runs[0] != "r1" || runs[20] != "t38" {
			t.Errorf("logs of %v", runs)
		}
		totals, err := tx.Totals()
		if want := (Totals{Machines: 1, Bad: 1, Waiting: 1, Space: 7}); err != nil || totals != want {
			t.Errorf("%+v, %v", totals, err)
		}
		done, well, err := tx.Tally("one")
		if err != nil || done != 1 || well != 0 {
			t.Errorf("%d of %d, %v", well, done, err)
		}
		if _, err := tx.exec("DELETE FROM audit"); !errors.Is(err, ErrDatabase) {
			t.Errorf("somebody who looks can remove: %v", err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	do(db, func(tx *Tx) error {
		known, err := tx.Step("r1", "heal", "::2", "s2", now.Add(time.Second))
		unknown, err2 := tx.Step("r9", "heal", "", "", now)
		if err == nil {
			_, err = tx.Step("r1", "heal", "::2", "s2", now.Add(time.Minute)) // still
		}
		if !known || unknown {
			t.Errorf("steps: %v, %v", known, unknown)
		}
		return errors.Join(err, err2, tx.DropWants("r1"), tx.SetFleet(Fleet{"halted", "two", "rings", 3, 4}))
	})
	do(other, func(tx *Tx) error {
		m, err := tx.MachineOfRun("r1")
		nobody, err2 := tx.Machine("SN2")
		f, err3 := tx.LockFleet()
		left, err4 := tx.Wants("r1")
		if m == nil || m.Step != "heal" || !m.Since.Equal(now.Add(time.Second)) || !m.Seen.Equal(now.Add(time.Minute)) || m.Address != "::2" || nobody != nil || (f != Fleet{"halted", "two", "rings", 3, 4}) || len(left) != 0 {
			t.Errorf("%+v, %+v, %+v, %v", m, nobody, f, left)
		}
		return errors.Join(err, err2, err3, err4)
	})

	// Both count together, and nobody gets more than the hour has.
	limit := Limit{Kind: "keys", Who: "x", Most: 25}
	taken, mu := 0, sync.Mutex{}
	for i := range 60 {
		all.Go(func() {
			got := false
			if err := []*DB{db, other}[i%2].Do(ctx, func(tx *Tx) (err error) {
				got, err = tx.Take(limit, 1, now.Add(time.Duration(i)*5*time.Second))
				return err
			}); err != nil {
				t.Error(err)
			}
			if mu.Lock(); got {
				taken++
			}
			mu.Unlock()
		})
	}
	all.Wait()
	if taken != 25 {
		t.Errorf("%d were taken, want 25", taken)
	}
	// A clock that was ahead and is set back holds nobody up, and does not forget.
	do(db, func(tx *Tx) error {
		ahead := Limit{Kind: "keys", Who: "ahead", Most: 10}
		first, err := tx.Take(ahead, 10, now.Add(5*time.Hour))
		back, err2 := tx.Take(ahead, 7, now)
		more, err3 := tx.Room(ahead, 4, now)
		again, err4 := tx.Room(ahead, 1, now.Add(5*time.Hour+30*time.Minute))
		skew, err5 := tx.Room(ahead, 4, now.Add(-5*time.Minute)) // another server's
		if !first || !back || more || again || skew {
			t.Errorf("taken ahead %v, set back %v, then more %v; ahead again %v, other clock %v", first, back, more, again, skew)
		}
		return errors.Join(err, err2, err3, err4, err5)
	})
	do(db, func(tx *Tx) error {
		room, err := tx.Room(limit, 1, now.Add(59*time.Minute))
		later, err2 := tx.Room(limit, 25, now.Add(3*time.Hour))
		if room || !later {
			t.Errorf("room %v, later %v", room, later)
		}
		err3 := tx.ForgetLimits(now.Add(24 * time.Hour))
		var n int
		_, err4 := tx.one([]any{&n}, "SELECT COUNT(*) FROM limits")
		if n != 0 {
			t.Errorf("%d limits are left", n)
		}
		return errors.Join(err, err2, err3, err4)
	})

	// It is the same when it is opened again; an older program leaves a newer one's alone.
	again := open(t)
	if err := again.View(ctx, func(tx *Tx) error {
		totals, err := tx.Totals()
		if totals.Machines != 1 {
			t.Errorf("%+v", totals)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	do(db, func(tx *Tx) error {
		_, err := tx.exec("INSERT INTO schema_versions (version, made) VALUES (99, 0)")
		return err
	})
	if err := again.migrate(ctx); err == nil || !strings.Contains(err.Error(), "newer bootmend") {
		t.Errorf("a newer one's: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if err := again.Do(ctx, func(*Tx) error { return nil }); !errors.Is(err, ErrDatabase) {
		t.Errorf("closed: %v", err)
	}
}

// TestClosed leaves one file, which may be copied.
func TestClosed(t *testing.T) {
	dir := t.TempDir()
	db := openFile(t, filepath.Join(dir, "x.db"))
	if err := db.View(ctx, func(tx *Tx) error { _, err := tx.Totals(); return err }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestFull fails in the middle of a batch in a way that takes all of it back.
func TestFull(t *testing.T) {
	db := openFile(t, filepath.Join(t.TempDir(), "x.db"))
	var pages int
	if err := db.Do(ctx, func(tx *Tx) error {
		if _, err := tx.one([]any{&pages}, "PRAGMA page_count"); err != nil {
			return err
		}
		_, err := tx.one([]any{&pages}, fmt.Sprintf("PRAGMA max_page_count = %d", pages+4))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	put := func(name string, size int) error {
		return db.Do(ctx, func(tx *Tx) error { return tx.PutReport(Report{name, make([]byte, size)}, time.Now()) })
	}
	if err := put("large", 1<<20); !errors.Is(err, ErrDatabase) || !strings.Contains(err.Error(), "full") {
		t.Errorf("no space: %v", err)
	}
	if err := put("small", 100); err != nil {
		t.Errorf("after that: %v", err)
	}
}

func TestUsage(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "100:3 101:4 ": 7, "80:100 100:1": 1, "88:5": 5, "87:5": 0, "101:2 102:7 ": 2} {
		u, err := readUsage(text, 100)
		if err != nil || u.sum(100) != want {
			t.Errorf("%q: %d, %v, want %d", text, u.sum(100), err, want)
		}
		if again, err := readUsage(u.String(), 100); err != nil || again.sum(100) != want {
			t.Errorf("%q written again: %v, %v", text, again, err)
		}
	}
	for _, text := range []string{"x", "1", "1:x", "1:-1"} {
		if _, err := readUsage(text, 100); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}
