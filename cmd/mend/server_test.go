//go:build linux || windows

package main

import (
	"context"
	"testing"
	"time"
)

// TestAwaitAll has a server that has stopped answering: the time is over once for all of a volume's keys.
func TestAwaitAll(t *testing.T) {
	never, closed := make(chan struct{}), make(chan struct{})
	close(closed)
	for name, words := range map[string][]chan struct{}{
		"none": nil, "all": {closed, closed}, "never": {never}, "never, twice": {never, never}, "one": {closed, never, never},
	} {
		done := make(chan struct{})
		go func() {
			awaitAll(context.Background(), words, 10*time.Millisecond)
			close(done)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: waits for ever", name)
		}
	}
}
