//go:build linux || windows

package main

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

// TestLateDecision has a server that answers after it was waited for in vain: what it wants is heeded before a volume is
// looked at, once for all volumes.
func TestLateDecision(t *testing.T) {
	for name, test := range map[string]struct {
		decision fleet.Welcome
		answered bool
		forceDry bool
		leave    string
		dry      bool
	}{
		"no answer":              {decision: fleet.Welcome{Decision: fleet.Leave, Reason: "paused"}},
		"heal":                   {decision: fleet.Welcome{Decision: fleet.Heal}, answered: true},
		"dry run":                {decision: fleet.Welcome{Decision: fleet.DryRun}, answered: true, dry: true},
		"leave":                  {decision: fleet.Welcome{Decision: fleet.Leave, Reason: "paused"}, answered: true, leave: "paused"},
		"leave, without a cause": {decision: fleet.Welcome{Decision: fleet.Leave}, answered: true, leave: serverWish},
		"a dry run here":         {decision: fleet.Welcome{Decision: fleet.Leave, Reason: "paused"}, answered: true, forceDry: true},
	} {
		t.Run(name, func(t *testing.T) {
			run, err := remediate.NewRun(time.Now(), "test", rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			a := &common{con: newConsole(nil), log: remediate.NewLog(run), forceDry: test.forceDry,
				server: &server{asking: true, decision: test.decision, welcome: make(chan struct{})}}
			if leave := a.askDecision(context.Background()); leave != "" {
				t.Fatalf("left before there is an answer: %q", leave)
			}
			if test.answered {
				close(a.server.welcome)
			}
			for range 2 {
				if leave := a.lateDecision(); leave != test.leave || a.serverDry != test.dry {
					t.Errorf("left %q, dry run %t; want %q, %t", leave, a.serverDry, test.leave, test.dry)
				}
			}
		})
	}
}

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
