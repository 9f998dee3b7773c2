package fve

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
)

// StretchRounds is the work that makes guessing a password slow (BDE,
// "Recovery key"; BITLK_KDF_ITERATION_COUNT).
const StretchRounds = 0x100000

// StretchStep is how many rounds pass between two looks at the context:
// a few milliseconds on a present machine.
const StretchStep = 1 << 14

// Stretch derives the key of a recovery or user password from its hash and
// the protector's salt. It stops with the context's error when that ends.
// The caller wipes the result.
func Stretch(ctx context.Context, initial [32]byte, salt [16]byte, progress func(done, total int64)) ([32]byte, error) {
	return stretch(ctx, initial, salt, StretchRounds, progress)
}

func stretch(ctx context.Context, initial [32]byte, salt [16]byte, rounds int, progress func(done, total int64)) (key [32]byte, err error) {
	// BDE, "Recovery key": bitlk_kdf_data.
	buf := make([]byte, 88)
	defer clear(buf)
	last, count := buf[:32], buf[80:88] // 0 last_sha256, 80 count
	copy(buf[32:64], initial[:])        // 32 initial_sha256
	copy(buf[64:80], salt[:])           // 64 salt
	h := sha256.New()
	for i := 0; i < rounds; {
		if err := ctx.Err(); err != nil {
			return key, err
		}
		for end := min(i+StretchStep, rounds); i < end; i++ {
			binary.LittleEndian.PutUint64(count, uint64(i))
			h.Reset()
			h.Write(buf)
			h.Sum(last[:0])
		}
		if progress != nil {
			progress(int64(i), int64(rounds))
		}
	}
	copy(key[:], last)
	return key, nil
}
