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
	failure := fmt.Errorf("the key list has no key for this volume: %w", bitlocker.ErrNoProtector)
	for _, p := range m.Protectors {
		for _, k := range l.StartupKeys {
			if k.ID != p.ID {
				continue
			}
			key, protector, err := m.UnlockStartupKey(k.Data.Reveal())
			if err == nil {
				return key, protector, nil
			}
			failure = fmt.Errorf("startup key of %s: %w", k.File, err)
		}
	}
	tried := map[bitlocker.RecoveryPassword]bool{}
	for _, p := range m.Protectors {
		for _, entry := range l.ForProtector(p.ID) {
			if tried[entry.Password] {
				continue
			}
			tried[entry.Password] = true
			key, protector, err := m.UnlockRecovery(ctx, entry.Password, &p.ID)
			if err == nil || ctx.Err() != nil {
				return key, protector, err
			}
			failure = fmt.Errorf("line %d of the key list, key ID %s: %w", entry.Line, p.ID, err)
		}
	}
	if m.ComputerName != "" {
		for _, entry := range l.ForComputer(m.ComputerName) {
			if tried[entry.Password] {
				continue
			}
			tried[entry.Password] = true
			key, protector, err := m.UnlockRecovery(ctx, entry.Password, nil)
			if err == nil || ctx.Err() != nil {
				return key, protector, err
			}
			failure = fmt.Errorf("line %d of the key list, computer %s: %w", entry.Line, m.ComputerName, err)
		}
	}
	strays := 0
	for _, entry := range l.Entries {
		if entry.HasID || entry.Computer != "" || tried[entry.Password] {
			continue
		}
		if strays++; strays > maxStray {
			return nil, nil, fmt.Errorf("none of the first %d keys without ID opens the volume, the others were not tried: %w", maxStray, bitlocker.ErrNoProtector)
		}
		tried[entry.Password] = true
		key, protector, err := m.UnlockRecovery(ctx, entry.Password, nil)
		if err == nil || ctx.Err() != nil {
			return key, protector, err
		}
		if !errors.Is(err, bitlocker.ErrWrongKey) {
			failure = fmt.Errorf("line %d of the key list: %w", entry.Line, err)
		}
	}
	return nil, nil, failure
}
