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
	tried := map[bitlocker.RecoveryPassword]bool{}
	key, p, _, failure := l.unlockNamed(ctx, m, tried)
	if failure == nil || ctx.Err() != nil {
		return key, p, failure
	}
	strays := l.untried(tried, func(e *Entry) bool { return !e.HasID && e.Computer == "" })
	more := len(strays) > maxStray
	strays = strays[:min(len(strays), maxStray)]
	found, err := tryAll(ctx, m, strays)
	switch {
	case err == nil:
		return found.Key, found.Protector, nil
	case ctx.Err() != nil || !errors.Is(err, bitlocker.ErrWrongKey) && !errors.Is(err, bitlocker.ErrNoProtector):
		return nil, nil, err
	case more:
		return nil, nil, fmt.Errorf("none of the first %d keys without ID opens the volume, the others were not tried: %w", maxStray, bitlocker.ErrNoProtector)
	}
	return nil, nil, failure
}

// UnlockAll opens a volume with any key of the list, whatever ID or computer the list gives for it: those that
// [List.Unlock] would take first, then all others on all processors, keys without an ID before those with one that the
// volume does not have. That takes a tenth of a second a key or more; [bitlocker.WithProgress] tells how far it has come,
// and ctx ends it. entry is the key that fitted; it is nil where that was a startup key. Errors are those of Unlock.
func (l *List) UnlockAll(ctx context.Context, m *bitlocker.Metadata) (key *bitlocker.VolumeKey, p *bitlocker.Protector, entry *Entry, err error) {
	tried := map[bitlocker.RecoveryPassword]bool{}
	key, p, entry, err = l.unlockNamed(bitlocker.WithProgress(ctx, nil), m, tried)
	if err == nil || ctx.Err() != nil {
		return key, p, entry, err
	}
	others := l.untried(tried, func(e *Entry) bool { return !e.HasID })
	others = append(others, l.untried(tried, func(*Entry) bool { return true })...)
	if len(others) == 0 {
		return nil, nil, nil, err
	}
	found, err := tryAll(ctx, m, others)
	if err != nil {
		return nil, nil, nil, err
	}
	return found.Key, found.Protector, others[found.Index], nil
}

// unlockNamed tries the keys with the ID of a protector, then those of the volume's computer, and notes them in tried.
func (l *List) unlockNamed(ctx context.Context, m *bitlocker.Metadata, tried map[bitlocker.RecoveryPassword]bool) (*bitlocker.VolumeKey, *bitlocker.Protector, *Entry, error) {
	failure := fmt.Errorf("the key list has no key for this volume: %w", bitlocker.ErrNoProtector)
	for _, p := range m.Protectors {
		for _, k := range l.StartupKeys {
			if k.ID != p.ID {
				continue
			}
			key, protector, err := m.UnlockStartupKey(k.Data.Reveal())
			if err == nil {
				return key, protector, nil, nil
			}
			failure = fmt.Errorf("startup key of %s: %w", k.File, err)
		}
	}
	for _, p := range m.Protectors {
		for _, entry := range l.ForProtector(p.ID) {
			if tried[entry.Password] {
				continue
			}
			tried[entry.Password] = true
			key, protector, err := m.UnlockRecovery(ctx, entry.Password, &p.ID)
			if err == nil || ctx.Err() != nil {
				return key, protector, &entry, err
			}
			failure = fmt.Errorf("line %d of the key list, key ID %s: %w", entry.Line, p.ID, err)
		}
	}
	if m.ComputerName == "" {
		return nil, nil, nil, failure
	}
	var of []*Entry
	for _, entry := range l.ForComputer(m.ComputerName) {
		if !tried[entry.Password] {
			tried[entry.Password] = true
			of = append(of, &entry)
		}
	}
	if len(of) == 0 {
		return nil, nil, nil, failure
	}
	found, err := tryAll(ctx, m, of)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("line %d of the key list, computer %s: %w", of[len(of)-1].Line, m.ComputerName, err)
	}
	return found.Key, found.Protector, of[found.Index], nil
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

func tryAll(ctx context.Context, m *bitlocker.Metadata, entries []*Entry) (*bitlocker.Attempt, error) {
	passwords := make([]bitlocker.RecoveryPassword, len(entries))
	for i, e := range entries {
		passwords[i] = e.Password
	}
	return m.TryAll(ctx, passwords)
}
