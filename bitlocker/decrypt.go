package bitlocker

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// decryptStep is how much one goroutine decrypts at a time.
const decryptStep = 1 << 20

// Decrypt writes the clear volume to dst on all processors. progress, which
// may be nil, is called from one goroutine at a time with growing values.
func (v *Volume) Decrypt(ctx context.Context, dst io.WriterAt, progress func(done, total int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu         sync.Mutex
		wg         sync.WaitGroup
		next, done int64
	)
	claim := func() (off, n int64) {
		mu.Lock()
		defer mu.Unlock()
		off, n = next, min(decryptStep, v.size-next)
		next += n
		return off, n
	}
	report := func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		done += n
		if progress != nil {
			progress(done, v.size)
		}
	}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			buf := make([]byte, min(decryptStep, v.size))
			for ctx.Err() == nil {
				off, n := claim()
				if n == 0 {
					return
				}
				if _, err := v.ReadAt(buf[:n], off); err != nil {
					cancel(err)
					return
				}
				if _, err := dst.WriteAt(buf[:n], off); err != nil {
					cancel(fmt.Errorf("write the decrypted volume at offset %d: %w", off, err))
					return
				}
				report(n)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
