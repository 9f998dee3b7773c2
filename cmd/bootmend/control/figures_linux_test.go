package control

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store/storetest"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

const simulated = 2000

// TestFigures has 2,000 machines go the whole way over loopback: hello, key, steps, log. Each has a connection of its own
// with a TLS handshake, and keeps it.
func TestFigures(t *testing.T) {
	if os.Getenv("BOOTMEND_BENCH") == "" {
		t.Skip("measures; set BOOTMEND_BENCH=1, or run make bench")
	}
	t.Run("SQLite", func(t *testing.T) { figures(t) })
	t.Run("PostgreSQL", func(t *testing.T) { figures(t, childDatabase+"="+string(storetest.Start(t).Address())) })
}

func figures(t *testing.T, environment ...string) {
	child := startChild(t, t.TempDir(), environment...)
	url, pin, cmd := child.url, child.pin, child.cmd
	memory := func() int {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		kib, err := strconv.Atoi(string(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(text)[1]))
		if err != nil {
			t.Fatal(err)
		}
		return kib
	}
	before := memory()
	id := guid(t, knownID)
	clients := make([]*fleet.Client, simulated)
	runs := make([]remediate.Run, simulated)
	each := func(do func(i int) error) time.Duration {
		start := time.Now()
		work := make(chan int)
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for i := range work {
					if err := do(i); err != nil {
						t.Errorf("machine %d: %v", i, err)
					}
				}
			})
		}
		for i := range simulated {
			work <- i
		}
		close(work)
		all.Wait()
		return time.Since(start)
	}
	ctx := context.Background()
	hello := each(func(i int) error {
		run, err := remediate.NewRun(time.Now(), "test", strings.NewReader(fmt.Sprintf("%04d", i)))
		if err != nil {
			return err
		}
		run.Machine = remediate.Identity{Serial: fmt.Sprintf("SN%06d", i)}
		runs[i], clients[i] = run, fleet.NewClient(url, pin, boot, run)
		_, err = clients[i].Hello(ctx)
		return err
	})
	connected := memory()
	given := 0
	var mu sync.Mutex
	key := func(i int) error {
		_, ok, err := clients[i].Key(ctx, id, "PC C: 1/1/2024")
		if ok {
			mu.Lock()
			given++
			mu.Unlock()
		}
		return err
	}
	keys := each(key)
	steps := each(func(i int) error {
		for _, step := range []string{"look", "heal"} {
			if err := clients[i].Step(ctx, step); err != nil {
				return err
			}
		}
		return nil
	})
	logs := each(func(i int) error { return clients[i].Report(ctx, logOf(runs[i], remediate.OutcomeHealed)) })
	fmt.Printf("%s: %d machines over loopback, each with its own connection:\n", t.Name(), simulated)
	row := func(what string, took time.Duration, n int) {
		fmt.Printf("  %-36s %6.2f s  %6.0f a second\n", what, took.Seconds(), float64(n)/took.Seconds())
	}
	row("hello, with the TLS handshake", hello, simulated)
	row("key, written down before it is given", keys, simulated)
	row("step", steps, 2*simulated)
	row("log, on the disk before it is accepted", logs, simulated)
	row("the whole way", hello+keys+steps+logs, simulated)
	fmt.Printf("  memory of the server: %.1f MiB, and %.1f KiB for each connected machine\n", float64(before)/1024, float64(connected-before)/simulated)
	// All of them share one address here, which gets no more than its limit in an hour.
	if given != maxKeysOfAddress {
		t.Errorf("%d keys were given, want %d", given, maxKeysOfAddress)
	}
}
