package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limit is how much somebody may take within an hour, whichever server they take it from.
type Limit struct {
	Kind string
	Who  string
	Most int64
}

// The hour is counted in slots. Of the oldest one it is not known how much is within the hour, so all of it counts.
const (
	slot      = 5 * time.Minute
	slots     = int64(time.Hour/slot) + 1
	forgotten = 2 * time.Hour // when a row says nothing any more
)

// usage is how much was taken in which slot.
type usage map[int64]int64

// readUsage reads what String has written; what is older than the hour is left out.
func readUsage(text string, now int64) (usage, error) {
	u := usage{}
	for field := range strings.FieldsSeq(text) {
		at, n, _ := strings.Cut(field, ":")
		when, err1 := strconv.ParseInt(at, 10, 64)
		count, err2 := strconv.ParseInt(n, 10, 64)
		if err1 != nil || err2 != nil || count < 0 {
			return nil, fmt.Errorf("%w: limits: %q is no count", ErrDatabase, field)
		}
		if when > now-slots {
			u[when] += count
		}
	}
	return u, nil
}

func (u usage) String() string {
	var b strings.Builder
	for at, n := range u {
		fmt.Fprintf(&b, "%d:%d ", at, n)
	}
	return b.String()
}

// sum is how much was taken within the hour. A server's clock may be a little ahead of another's; what is further ahead
// was counted before a clock was set back, and does not hold anybody up.
func (u usage) sum(now int64) (n int64) {
	for when, count := range u {
		if when <= now+1 {
			n += count
		}
	}
	return n
}

func slotOf(now time.Time) int64 { return now.Unix() / int64(slot/time.Second) }

// Room reports whether n more are within a limit. It takes nothing, and nobody waits for it.
func (t *Tx) Room(l Limit, n int64, now time.Time) (bool, error) {
	var text string
	if _, err := t.one([]any{&text}, "SELECT counts FROM limits WHERE kind = ?1 AND who = ?2", l.Kind, l.Who); err != nil {
		return false, err
	}
	at := slotOf(now)
	u, err := readUsage(text, at)
	return err == nil && u.sum(at)+n <= l.Most, err
}

// Take takes n where they are within a limit. Until the end of the transaction nobody else takes of the same.
func (t *Tx) Take(l Limit, n int64, now time.Time) (bool, error) {
	var text string
	// The update changes nothing, but locks the row and returns it.
	if _, err := t.one([]any{&text}, `INSERT INTO limits (kind, who, counts, changed) VALUES (?1, ?2, '', ?3)
		ON CONFLICT (kind, who) DO UPDATE SET changed = ?3 RETURNING counts`, l.Kind, l.Who, toMicro(now)); err != nil {
		return false, err
	}
	at := slotOf(now)
	u, err := readUsage(text, at)
	if err != nil || u.sum(at)+n > l.Most {
		return false, err
	}
	u[at] += n
	_, err = t.exec("UPDATE limits SET counts = ?3 WHERE kind = ?1 AND who = ?2", l.Kind, l.Who, u.String())
	return true, err
}

// ForgetLimits removes what says nothing any more.
func (t *Tx) ForgetLimits(now time.Time) error {
	_, err := t.exec("DELETE FROM limits WHERE changed < ?1", toMicro(now.Add(-forgotten)))
	return err
}
