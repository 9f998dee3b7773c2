package relay

import (
	"net"
	"sync"
	"time"
)

// Turns lets each machine start over the network once in a while. A machine with a BIOS cannot be told to start Windows
// next: healed, it comes back for as long as anybody answers it; left alone, it goes on to its disk.
type Turns struct {
	// Pause is how long a machine is left alone after its turn.
	Pause time.Duration

	mu   sync.Mutex
	last map[[6]byte]time.Time
}

// maxTurns bounds what is remembered. Machines beyond it are served each time.
const maxTurns = 1 << 16

// Had reports whether a machine had its turn a short while ago.
func (t *Turns) Had(mac net.HardwareAddr, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, known := t.last[[6]byte(mac)]
	return known && now.Sub(last) < t.Pause
}

// Begin notes that a machine has its turn now.
func (t *Turns) Begin(mac net.HardwareAddr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) >= maxTurns {
		for k, last := range t.last {
			if now.Sub(last) >= t.Pause {
				delete(t.last, k)
			}
		}
	}
	if t.last == nil {
		t.last = map[[6]byte]time.Time{}
	}
	if len(t.last) < maxTurns {
		t.last[[6]byte(mac)] = now
	}
}
