package control

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate"
)

var runName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z0-9]{1,32}$`)

func validRun(run string) bool { return runName.MatchString(run) }

// validLog reports whether that may be the log of a run.
func validLog(run string, log []byte) bool {
	return validRun(run) && bytes.HasPrefix(log, []byte(`{"schema":"`+remediate.LogSchema+`"`))
}

// said is what is shown of a log.
type said struct {
	identity remediate.Identity
	outcome  remediate.Outcome // empty: the run has not come to an end
	message  string
	at       time.Time // of its last line
}

// readLog takes from a log what is shown of a machine.
func readLog(log []byte) (s said) {
	wanted := func(event string) bool { return event == "machine" || event == "result" || event == "windows" }
	_, _ = remediate.ScanLog(bytes.NewReader(log), wanted, func(l *remediate.Line) { // what is torn is left out
		s.at = l.Time
		switch {
		case l.Machine != nil:
			s.identity = *l.Machine
		case l.Windows != nil && s.identity.ComputerName == "":
			s.identity.ComputerName = l.Windows.ComputerName
		case l.Result != nil:
			s.outcome, s.message = l.Result.Outcome, clip(l.Result.Message)
			if !s.outcome.Known() {
				s.outcome, s.message = remediate.OutcomeNeedsPerson, clip("its result is not known to this version: "+string(l.Result.Outcome))
			}
		}
	})
	return s
}

// EachEvent calls fn for each line of the audit, oldest first.
func EachEvent(ctx context.Context, db *store.DB, fn func(store.Event) error) error {
	for last := int64(0); ; {
		var list []store.Event
		if err := db.View(ctx, func(tx *store.Tx) (err error) {
			list, last, err = tx.EventsAfter(last, part)
			return err
		}); err != nil {
			return err
		}
		for _, e := range list {
			if err := fn(e); err != nil {
				return err
			}
		}
		if len(list) < part {
			return nil
		}
	}
}

// partSize is how many bytes of logs are read at once.
const partSize = 16 << 20

// EachLog calls fn for the log of each run, by their names, which begin with the time.
func EachLog(ctx context.Context, db *store.DB, fn func(store.Report) error) error {
	for last := ""; ; {
		var list []store.Report
		if err := db.View(ctx, func(tx *store.Tx) (err error) {
			list, err = tx.ReportsAfter(last, part, partSize)
			return err
		}); err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		for _, r := range list {
			if !validRun(r.Run) {
				return fmt.Errorf("the database has a log of %q, which is no run", r.Run)
			}
			if err := fn(r); err != nil {
				return err
			}
			last = r.Run
		}
	}
}
