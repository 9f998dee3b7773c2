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
}

// Match is Unlock and tells the key that it found.
func (l *List) Match(ctx context.Context, m *bitlocker.Metadata) (*bitlocker.VolumeKey, Match, error) {
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
	var (
		tried = map[bitlocker.RecoveryPassword]bool{}
		key   *bitlocker.VolumeKey
		match Match
		err   error
	)
	// try reports whether that is the end of it.
	try := func(e Entry, id *bitlocker.GUID, what string) bool {
		if tried[e.Password] {
			return false
		}
		tried[e.Password] = true
		match = Match{File: e.File, Line: e.Line, Computer: e.Computer}
		if key, match.Protector, err = m.UnlockRecovery(ctx, e.Password, id); err == nil || ctx.Err() != nil {
			return true
		}
		if what != "" || !errors.Is(err, bitlocker.ErrWrongKey) {
			failure = fmt.Errorf("line %d of the key list%s: %w", e.Line, what, err)
		}
		return false
	}
	for _, p := range m.Protectors {
		for _, e := range l.ForProtector(p.ID) {
			if try(e, &p.ID, ", key ID "+p.ID.String()) {
				return key, match, err
			}
		}
	}
	if m.ComputerName != "" {
		for _, e := range l.ForComputer(m.ComputerName) {
			if try(e, nil, ", computer "+m.ComputerName) {
				return key, match, err
			}
		}
	}
	strays := 0
	for _, e := range l.Entries {
		if e.HasID || e.Computer != "" {
			continue
		}
		if strays++; strays > maxStray {
			return nil, Match{}, fmt.Errorf("none of the first %d keys without ID opens the volume, the others were not tried: %w", maxStray, bitlocker.ErrNoProtector)
		}
		if try(e, nil, "") {
			return key, match, err
		}
	}
	return nil, Match{}, failure
}
