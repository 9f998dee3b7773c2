package keys

import (
	"context"
	"fmt"

	"github.com/bootmend/bootmend/bitlocker"
)

// Unlock opens a volume with a key of the list: first those with the ID of one of its protectors, then those of the
// computer that its description names. Where several are tried in vain, the error is the last one's. It wraps
// [bitlocker.ErrNoProtector] if the list has no key that could fit, and [bitlocker.ErrWrongKey] if one should.
func (l *List) Unlock(ctx context.Context, m *bitlocker.Metadata) (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
	failure := fmt.Errorf("the key list has no key for this volume: %w", bitlocker.ErrNoProtector)
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
	if m.ComputerName == "" {
		return nil, nil, failure
	}
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
	return nil, nil, failure
}
