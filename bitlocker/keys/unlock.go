package keys

import (
	"context"
	"errors"
	"fmt"

	"github.com/bootmend/bootmend/bitlocker"
)

// maxStray bounds how many keys that name neither an ID nor a computer are tried on
// a volume: each takes up to a second on a slow machine.
const maxStray = 120

// Unlock opens a volume with a key of the list: first those with the ID of one of its protectors, startup keys before
// passwords since they take no time, then those of the computer that its description names, then up to 120 that name
// neither ID nor computer. Where several are tried in vain, the error is the last one's. It wraps
// [bitlocker.ErrNoProtector] if the list has no key that could fit, and [bitlocker.ErrWrongKey] if one should.
func (l *List) Unlock(ctx context.Context, m *bitlocker.Metadata) (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
	key, match, err := l.Match(ctx, m)
	return key, match.Protector, err
}

// Match is what opened a volume.
type Match struct {
	Protector *bitlocker.Protector
	// File and Line are where the key stands, and Computer is whose it is.
	File     string
	Line     int
	Computer string
	// Password is the recovery password, for those who must hand it to another program; zero where a startup key opened
	// the volume.
	Password bitlocker.RecoveryPassword
}

// Match is Unlock and tells the key that it found.
func (l *List) Match(ctx context.Context, m *bitlocker.Metadata) (*bitlocker.VolumeKey, Match, error) {
	tried := map[bitlocker.RecoveryPassword]bool{}
	key, match, failure := l.matchNamed(ctx, m, tried)
	if failure == nil || ctx.Err() != nil {
		return key, match, failure
	}
	strays := l.untried(tried, func(e *Entry) bool { return !e.HasID && e.Computer == "" })
	more := len(strays) > maxStray
	strays = strays[:min(len(strays), maxStray)]
	if len(strays) == 0 {
		return nil, Match{}, failure
	}
	key, match, err := tryAll(ctx, m, strays)
	switch {
	case err == nil || ctx.Err() != nil || !errors.Is(err, bitlocker.ErrWrongKey) && !errors.Is(err, bitlocker.ErrNoProtector):
		return key, match, err
	case more:
		return nil, Match{}, fmt.Errorf("none of the first %d keys without ID opens the volume, the others were not tried: %w", maxStray, bitlocker.ErrNoProtector)
	}
	return nil, Match{}, failure
}

// MatchAll opens a volume with any key of the list, whatever ID or computer the list gives for it: those that
// [List.Match] takes first, then all others on all processors, keys without an ID before those with one that the
// volume does not have. That takes a tenth of a second a key or more; [bitlocker.WithProgress] tells how far it has come,
// and ctx ends it. Errors are those of Unlock.
func (l *List) MatchAll(ctx context.Context, m *bitlocker.Metadata) (*bitlocker.VolumeKey, Match, error) {
	tried := map[bitlocker.RecoveryPassword]bool{}
	key, match, err := l.matchNamed(bitlocker.WithProgress(ctx, nil), m, tried)
	if err == nil || ctx.Err() != nil {
		return key, match, err
	}
	others := l.untried(tried, func(e *Entry) bool { return !e.HasID })
	others = append(others, l.untried(tried, func(*Entry) bool { return true })...)
	if len(others) == 0 {
		return nil, Match{}, err
	}
	return tryAll(ctx, m, others)
}

// matchNamed tries the keys with the ID of a protector, then those of the volume's computer, and notes them in tried.
func (l *List) matchNamed(ctx context.Context, m *bitlocker.Metadata, tried map[bitlocker.RecoveryPassword]bool) (*bitlocker.VolumeKey, Match, error) {
	failure := fmt.Errorf("the key list has no key for this volume: %w", bitlocker.ErrNoProtector)
	for _, p := range m.Protectors {
		for _, k := range l.StartupKeys {
			if k.ID != p.ID {
				continue
			}
			key, protector, err := m.UnlockStartupKey(k.Data.Reveal())
			if err == nil {
				return key, Match{Protector: protector, File: k.File, Line: k.Line}, nil
			}
			failure = fmt.Errorf("startup key of %s: %w", k.File, err)
		}
	}
	for _, p := range m.Protectors {
		for _, e := range l.ForProtector(p.ID) {
			if tried[e.Password] {
				continue
			}
			tried[e.Password] = true
			key, protector, err := m.UnlockRecovery(ctx, e.Password, &p.ID)
			if err == nil || ctx.Err() != nil {
				return key, matched(&e, protector), err
			}
			failure = fmt.Errorf("line %d of the key list, key ID %s: %w", e.Line, p.ID, err)
		}
	}
	if m.ComputerName == "" {
		return nil, Match{}, failure
	}
	var its []*Entry
	for _, e := range l.ForComputer(m.ComputerName) {
		if !tried[e.Password] {
			tried[e.Password] = true
			its = append(its, &e)
		}
	}
	if len(its) == 0 {
		return nil, Match{}, failure
	}
	key, match, err := tryAll(ctx, m, its)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("line %d of the key list, computer %s: %w", its[len(its)-1].Line, m.ComputerName, err)
	}
	return key, match, err
}

// untried lists the entries that fit and have not been tried, each password once, and notes them in tried.
func (l *List) untried(tried map[bitlocker.RecoveryPassword]bool, fit func(*Entry) bool) []*Entry {
	var list []*Entry
	for i := range l.Entries {
		e := &l.Entries[i]
		if !tried[e.Password] && fit(e) {
			tried[e.Password] = true
			list = append(list, e)
		}
	}
	return list
}

func tryAll(ctx context.Context, m *bitlocker.Metadata, entries []*Entry) (*bitlocker.VolumeKey, Match, error) {
	passwords := make([]bitlocker.RecoveryPassword, len(entries))
	for i, e := range entries {
		passwords[i] = e.Password
	}
	found, err := m.TryAll(ctx, passwords)
	if err != nil {
		return nil, Match{}, err
	}
	return found.Key, matched(entries[found.Index], found.Protector), nil
}

func matched(e *Entry, p *bitlocker.Protector) Match {
	return Match{Protector: p, File: e.File, Line: e.Line, Computer: e.Computer, Password: e.Password}
}
