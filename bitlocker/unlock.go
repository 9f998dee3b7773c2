package bitlocker

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unicode/utf16"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

type progressKey struct{}

// WithProgress makes the Unlock methods and TryAll report how far the key
// stretch of passwords has come, in rounds of hashing. fn is called from one goroutine at a time.
func WithProgress(ctx context.Context, fn func(done, total int64)) context.Context {
	return context.WithValue(ctx, progressKey{}, fn)
}

// UnlockRecovery opens the volume with a recovery password. id names the
// protector that the password belongs to; nil tries every recovery password
// of the volume, several at once. It takes 1,048,576 rounds of SHA-256 a
// protector, and stops with the context's error.
//
// The error wraps [ErrWrongKey] if the password fits none, and
// [ErrNoProtector] if there is none to try.
func (m *Metadata) UnlockRecovery(ctx context.Context, password RecoveryPassword, id *GUID) (*VolumeKey, *Protector, error) {
	if password.IsZero() {
		return nil, nil, fmt.Errorf("recovery password is empty: %w", ErrWrongKey)
	}
	key := password.key.Value()
	return m.unlockStretched(ctx, ProtectorRecoveryPassword, id, sha256.Sum256(key[:]))
}

// UnlockPassword opens the volume with a user's password, as it is common on
// data volumes and sticks (BDE, "User key"). Errors are those of
// [Metadata.UnlockRecovery].
func (m *Metadata) UnlockPassword(ctx context.Context, password string) (*VolumeKey, *Protector, error) {
	var b []byte
	for _, c := range utf16.Encode([]rune(password)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	once := sha256.Sum256(b)
	clear(b)
	return m.unlockStretched(ctx, ProtectorPassword, nil, sha256.Sum256(once[:]))
}

// UnlockClearKey opens a volume whose protection Windows has suspended, which
// leaves the key on the volume in the clear. A volume that is fully decrypted
// needs no key and opens as well. The error wraps [ErrNoProtector] if there
// is no clear key.
func (m *Metadata) UnlockClearKey() (*VolumeKey, *Protector, error) {
	if m.untrusted != nil {
		return nil, nil, m.untrusted
	}
	if m.State == StateDecrypted {
		return &VolumeKey{}, &Protector{Kind: ProtectorClearKey}, nil
	}
	var errs errorList
	for _, p := range m.protectorsOf(ProtectorClearKey, nil) {
		key, err := m.unlock(p, p.seal.clear)
		if err == nil {
			return key, p, nil
		}
		errs = append(errs, fmt.Errorf("clear key %s: %w", p.ID, err))
	}
	if len(errs) > 0 {
		return nil, nil, errs
	}
	return nil, nil, fmt.Errorf("clear key: %w", ErrNoProtector)
}

// UnlockStartupKey opens the volume with the content of a .BEK file, which
// holds the external key of one protector.
func (m *Metadata) UnlockStartupKey(bek []byte) (*VolumeKey, *Protector, error) {
	if m.untrusted != nil {
		return nil, nil, m.untrusted
	}
	id, secret, err := parseBEK(bek)
	if err != nil {
		return nil, nil, fmt.Errorf("startup key file: %w", err)
	}
	list := m.protectorsOf(ProtectorExternalKey, &id)
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("startup key %s: %w", id, ErrNoProtector)
	}
	key, err := m.unlock(list[0], secret)
	if err != nil {
		return nil, nil, fmt.Errorf("startup key %s: %w", id, err)
	}
	return key, list[0], nil
}

// unlockStretched tries a password on the protectors of a kind, each with its
// own salt and so its own stretch, on as many processors as there are.
func (m *Metadata) unlockStretched(ctx context.Context, kind ProtectorKind, id *GUID, initial [32]byte) (*VolumeKey, *Protector, error) {
	defer clear(initial[:])
	if m.untrusted != nil {
		return nil, nil, m.untrusted
	}
	list := m.protectorsOf(kind, id)
	if len(list) == 0 {
		if id != nil {
			return nil, nil, fmt.Errorf("%s %s: %w", kind, id, ErrNoProtector)
		}
		return nil, nil, fmt.Errorf("%s: %w", kind, ErrNoProtector)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		mu      sync.Mutex
		wg      sync.WaitGroup
		key     *VolumeKey
		found   *Protector
		errs    errorList
		work    = make(chan *Protector, len(list))
		overall = newStretchProgress(ctx, len(list))
	)
	for _, p := range list {
		work <- p
	}
	close(work)
	for range min(len(list), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for p := range work {
				k, err := m.unlockOne(ctx, p, initial, overall)
				mu.Lock()
				switch {
				case err != nil:
					errs = append(errs, fmt.Errorf("%s %s: %w", p.Kind, p.ID, err))
				case key == nil:
					key, found = k, p
					cancel() // the others need not go on
				default:
					k.Wipe()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if key == nil {
		return nil, nil, errs
	}
	return key, found, nil
}

func (m *Metadata) unlockOne(ctx context.Context, p *Protector, initial [32]byte, progress func(rounds int64)) (*VolumeKey, error) {
	if !p.seal.hasKD || p.seal.vmk == nil {
		return nil, fmt.Errorf("protector is incomplete: %w", ErrUnsupported)
	}
	stretched, err := fve.Stretch(ctx, initial, p.seal.salt, func(int64, int64) { progress(fve.StretchStep) })
	if err != nil {
		return nil, err
	}
	defer clear(stretched[:])
	return m.unlock(p, stretched[:])
}

// newStretchProgress joins the progress of n stretches, several of them at
// once; the result takes further rounds.
func newStretchProgress(ctx context.Context, n int) func(rounds int64) {
	fn, _ := ctx.Value(progressKey{}).(func(done, total int64))
	if fn == nil {
		return func(int64) {}
	}
	total := int64(n) * fve.StretchRounds
	var mu sync.Mutex
	var sum int64
	return func(rounds int64) {
		mu.Lock()
		defer mu.Unlock()
		sum = min(sum+rounds, total)
		fn(sum, total)
	}
}

// unlock goes from a protector's key by way of the volume master key to the
// volume key, and checks the metadata on the way.
func (m *Metadata) unlock(p *Protector, key []byte) (*VolumeKey, error) {
	if p.seal == nil || p.seal.vmk == nil || len(key) != 32 {
		return nil, fmt.Errorf("protector is incomplete: %w", ErrUnsupported)
	}
	kind, vmk, err := p.seal.vmk.open(key)
	if errors.Is(err, fve.ErrTag) {
		return nil, ErrWrongKey
	}
	if err != nil {
		return nil, err
	}
	defer clear(vmk)
	if kind != fve.KeyVMK || len(vmk) != 32 {
		return nil, fmt.Errorf("volume master key of kind 0x%04x with %d bytes: %w", kind, len(vmk), ErrUnsupported)
	}
	return m.unlockVMK(vmk)
}

// unlockVMK goes on from the volume master key. fve.ErrTag: it does not fit.
func (m *Metadata) unlockVMK(vmk []byte) (*VolumeKey, error) {
	if err := m.block.verify(vmk); err != nil {
		return nil, err
	}
	if m.fvek == nil {
		return nil, m.fvekErr
	}
	kind, stored, err := m.fvek.open(vmk)
	if err != nil {
		return nil, fmt.Errorf("open the volume key: %w", err)
	}
	defer clear(stored)
	if kind != uint16(m.Method) || fve.KeySize(kind) == 0 || len(stored) != fve.StoredKeySize(kind) {
		return nil, fmt.Errorf("volume key of kind 0x%04x with %d bytes for a volume of method 0x%04x: %w", kind, len(stored), uint16(m.Method), ErrUnsupported)
	}
	return &VolumeKey{method: m.Method, key: fve.PackKey(kind, stored)}, nil
}

// Attempt is one password of many, see [Metadata.TryAll].
type Attempt struct {
	// Index is the password's place among those that were tried.
	Index     int
	Protector *Protector
	Key       *VolumeKey
}

// TryAll tries passwords whose key IDs are not known on every recovery
// password protector of the volume, on all processors and with as many at once
// on each as it does best. It ends with the first that fits, or with the
// context's error. [WithProgress] tells how many rounds of hashing are done
// and how many there are at most, which is what an estimate can be made of.
//
// The error wraps [ErrWrongKey] if none fits, and [ErrNoProtector] if there
// is no protector or no password to try.
func (m *Metadata) TryAll(ctx context.Context, passwords []RecoveryPassword) (*Attempt, error) {
	if m.untrusted != nil {
		return nil, m.untrusted
	}
	var protectors []*Protector
	for _, p := range m.protectorsOf(ProtectorRecoveryPassword, nil) {
		if p.seal.hasKD && p.seal.vmk != nil {
			protectors = append(protectors, p)
		}
	}
	total := len(protectors) * len(passwords)
	if total == 0 {
		return nil, fmt.Errorf("%d passwords on %d recovery password protectors: %w", len(passwords), len(protectors), ErrNoProtector)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		next  int
		found *Attempt
	)
	claim := func() (from, to int) {
		mu.Lock()
		defer mu.Unlock()
		from = next
		next = min(next+fve.StretchLanes(), total)
		return from, next
	}
	progress := newStretchProgress(ctx, total)
	for range min(runtime.GOMAXPROCS(0), total) {
		wg.Go(func() {
			for ctx.Err() == nil {
				from, to := claim()
				if from == to {
					return
				}
				a, err := m.tryBatch(ctx, passwords, protectors, from, to, progress)
				if err != nil {
					cancel(err)
					return
				}
				if a == nil {
					continue
				}
				mu.Lock()
				if found == nil {
					found = a
				} else {
					a.Key.Wipe()
				}
				mu.Unlock()
				cancel(nil) // the others need not go on
			}
		})
	}
	wg.Wait()
	if found != nil {
		return found, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, fmt.Errorf("none of %d recovery passwords opens the volume: %w", len(passwords), ErrWrongKey)
}

// tryBatch tries the pairs from..to of password and protector; nil: none fits.
func (m *Metadata) tryBatch(ctx context.Context, passwords []RecoveryPassword, protectors []*Protector, from, to int, progress func(int64)) (*Attempt, error) {
	jobs := make([]*fve.Job, 0, to-from)
	defer func() {
		for _, j := range jobs {
			*j = fve.Job{}
		}
	}()
	for i := from; i < to; i++ {
		j := &fve.Job{Salt: protectors[i%len(protectors)].seal.salt}
		if p := passwords[i/len(protectors)]; !p.IsZero() {
			key := p.key.Value()
			j.Initial = sha256.Sum256(key[:])
			clear(key[:])
		}
		jobs = append(jobs, j)
	}
	last := int64(0)
	if err := fve.StretchJobs(ctx, jobs, func(done, _ int64) {
		progress(done - last)
		last = done
	}); err != nil {
		return nil, err
	}
	for i, j := range jobs {
		p := protectors[(from+i)%len(protectors)]
		key, err := m.unlock(p, j.Key[:])
		if err == nil {
			return &Attempt{Index: (from + i) / len(protectors), Protector: p, Key: key}, nil
		}
		if !errors.Is(err, ErrWrongKey) {
			return nil, fmt.Errorf("%s %s: %w", p.Kind, p.ID, err)
		}
	}
	return nil, nil
}
