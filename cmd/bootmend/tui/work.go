// Package tui is the wizard: it asks a helpdesk person step by step what media to make, makes them, and says what to
// do next. The questions are described once (wizard.go) and asked by two front ends: a full screen (screen.go) and,
// for screen readers and dumb terminals, line by line (lines.go). Everything that is done is done by [Work], which
// the commands of bootmend implement with the functions that they run themselves.
//
// [Live] is another screen: the machines of a control server, for the person who has started it.
package tui

import (
	"context"
	"time"
)

// Work is what the wizard has done for it.
type Work interface {
	// Keys looks at a file or folder with recovery keys.
	Keys(ctx context.Context, path string) (KeySummary, error)
	// Directory fetches the keys of Active Directory, for Do: as user, or with a Kerberos ticket where that is empty.
	Directory(ctx context.Context, server, user string, password Passphrase) (KeySummary, error)
	// Tenant fetches the keys of Entra ID, for Do, from one of Microsoft's clouds by its name. prompt says where a
	// person logs in, and with which code.
	Tenant(ctx context.Context, cloud, tenant string, prompt func(address, code string)) (KeySummary, error)
	// WinPE looks for Windows PE in an ISO image, a folder or a WIM, and says what it is.
	WinPE(path string) (description string, err error)
	// Wimboot says what keeps a file from being the loader of Windows PE over the network.
	Wimboot(path string) error
	// Control reads the file of a control server and gives its address.
	Control(path string) (address string, err error)
	// Pack reads a rule pack, whoever wrote it, and gives its title and what is wrong with its signature; unsigned is
	// empty where there is one that a public key can prove.
	Pack(path string) (title, unsigned string, err error)
	// Rules checks a rule pack, and its signature where key names a public key, and gives its title.
	Rules(ctx context.Context, path, key string) (title string, err error)
	// Packaged are the titles of the incidents that media heal by themselves.
	Packaged() []string
	// Passphrase says what makes a passphrase unfit.
	Passphrase(text string) error
	// Recipient checks the public half of an identity on a second stick: text, or a file that holds it.
	Recipient(text string) error
	// Devices lists the disks of this computer, also those that must not be written to.
	Devices(ctx context.Context) ([]Device, error)
	// Folder says what keeps a folder from being written for a network boot.
	Folder(path string) error
	// Hint is what to do about an error that one of the others gave; empty where the error says it.
	Hint(err error) string
	// Do carries the answers out. update may be called by several goroutines.
	Do(ctx context.Context, a *Answers, update func(Progress)) (*Outcome, error)
}

// KeySummary is what a key source holds.
type KeySummary struct {
	Keys      int
	Computers int
	// Problems are rows that gave no key, in words that hold no digit of one.
	Problems []string
}

// Device is a disk of this computer.
type Device struct {
	Path    string
	Model   string
	Size    int64
	Mounted string // where its files can be seen now; it is unmounted before it is written
	Refused string // why it must not be written to
}

// Progress is how far one piece of the work has come.
type Progress struct {
	Name        string // a device, or what is being done
	State       string // "writing", "checking", "done", "failed"
	Done, Total int64  // bytes; 0 where not known
	Err         error
}

// Outcome is what was done.
type Outcome struct {
	Lines []Line
}

// meter smooths the speed of a piece of work.
type meter struct {
	Progress
	at    time.Time
	done  int64
	speed float64 // bytes a second
}

// add takes a new state; now is passed in for the tests.
func (m *meter) add(p Progress, now time.Time) {
	if m.at.IsZero() || p.Done < m.done || p.State != m.State {
		m.at, m.done, m.speed = now, p.Done, 0
	} else if passed := now.Sub(m.at); passed >= 500*time.Millisecond {
		current := float64(p.Done-m.done) / passed.Seconds()
		if m.speed == 0 {
			m.speed = current
		}
		m.speed += 0.3 * (current - m.speed)
		m.at, m.done = now, p.Done
	}
	m.Progress = p
}

// left is the time that the rest takes, zero where it cannot be told.
func (m *meter) left() time.Duration {
	if m.speed <= 0 || m.Total <= m.Done {
		return 0
	}
	return time.Duration(float64(m.Total-m.Done) / m.speed * float64(time.Second)).Round(time.Second)
}
