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

// WithProgress makes the Unlock methods report how far the key stretch of a
// password has come. fn is called from one goroutine at a time.
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

func (m *Metadata) unlockOne(ctx context.Context, p *Protector, initial [32]byte, progress func(done, total int64)) (*VolumeKey, error) {
	if !p.seal.hasKD || p.seal.vmk == nil {
		return nil, fmt.Errorf("protector is incomplete: %w", ErrUnsupported)
	}
	stretched, err := fve.Stretch(ctx, initial, p.seal.salt, progress)
	if err != nil {
		return nil, err
	}
	defer clear(stretched[:])
	return m.unlock(p, stretched[:])
}

// newStretchProgress joins the progress of n stretches that run at once.
func newStretchProgress(ctx context.Context, n int) func(done, total int64) {
	fn, _ := ctx.Value(progressKey{}).(func(done, total int64))
	if fn == nil {
		return nil
	}
	var mu sync.Mutex
	var sum int64
	return func(done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		sum = min(sum+fve.StretchStep, int64(n)*total)
		fn(sum, int64(n)*total)
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
