package control

import (
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
)

// How many different keys may be asked for within an hour, all servers together. A machine has as many as volumes times
// recovery passwords; a site's machines may all be behind one address. What is for all is an option.
const (
	maxWants          = 32 // in one run
	maxKeysOfMachine  = 64
	maxKeysOfAddress  = 500
	maxSpaceOfAddress = 64 << 20 // bytes: 16,000 logs as they usually are
)

// takeKey reports whether the limits let the machine have one key more, and takes it.
func (v *visit) takeKey() (bool, error) {
	limits := []store.Limit{
		{Kind: "keys of a machine", Who: v.m.ID, Most: maxKeysOfMachine},
		{Kind: "keys of an address", Who: siteOf(v.from), Most: maxKeysOfAddress},
	}
	if n := v.s.options.KeysPerHour; n > 0 {
		limits = append(limits, store.Limit{Kind: "keys", Most: int64(n)}) // the last, since all wait for each other at it
	}
	now := v.s.now()
	for _, l := range limits { // a question that is refused takes of none of them
		if room, err := v.tx.Room(l, 1, now); err != nil || !room {
			return false, err
		}
	}
	for _, l := range limits {
		if room, err := v.tx.Take(l, 1, now); err != nil || !room {
			return false, err
		}
	}
	return true, v.s.tidy(v.tx, now)
}

// tidy removes old limits from the database, once an hour.
func (s *Server) tidy(tx *store.Tx, now time.Time) error {
	s.mu.Lock()
	due := now.Sub(s.tidied) > time.Hour
	if due {
		s.tidied = now
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	return tx.ForgetLimits(now)
}

// What is kept beside logs, in bytes, roughly.
const (
	spaceOfMachine  = 1 << 10
	spaceOfQuestion = 1 << 10 // with its lines in the audit
	spaceOfLine     = 1 << 8  // of the audit, where a key is given once more
)

// space is how much is kept of all machines. It is looked at now and then, and counted on in between, so it may be a
// little more or less: it is there so that nobody fills a disk.
type space struct {
	used int64
	at   time.Time
}

const spaceAge = 10 * time.Second

// charge takes room for n bytes more of a machine.
func (v *visit) charge(n int64) error {
	s, now := v.s, v.s.now()
	if s.options.Space > 0 {
		s.mu.Lock()
		old := now.Sub(s.space.at) > spaceAge
		s.mu.Unlock()
		if old {
			totals, err := v.tx.Totals()
			if err != nil {
				return err
			}
			s.mu.Lock()
			s.space = space{totals.Space, now}
			s.mu.Unlock()
		}
		s.mu.Lock()
		full := s.space.used+n > s.options.Space
		if !full {
			s.space.used += n
		}
		s.mu.Unlock()
		if full {
			s.tellFull("%v", errFull)
			return errFull
		}
	}
	room, err := v.tx.Take(store.Limit{Kind: "space of an address", Who: siteOf(v.from), Most: maxSpaceOfAddress}, n, now)
	if err != nil {
		return err
	}
	if !room {
		s.tellFull("%s hands in more logs than all machines of a site have: no more of them are taken for an hour", v.from)
		return errFull
	}
	v.m.Space += n
	return nil
}

// tellFull tells the person, but not each time.
func (s *Server) tellFull(format string, args ...any) {
	s.mu.Lock()
	due := s.now().Sub(s.told) > time.Minute
	if due {
		s.told = s.now()
	}
	s.mu.Unlock()
	if due {
		s.options.Printf(format, args...)
	}
}
