package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bootmend/bootmend/image/output"
	"github.com/bootmend/bootmend/remediate"
)

// Store is the folder in which a server keeps what must outlast it: the logs, in "reports", and who asked for which key,
// in "audit.jsonl". It holds no key.
type Store struct {
	dir   string
	mu    sync.Mutex
	audit *os.File
}

// Event is a line of the audit file, which is only ever appended to.
type Event struct {
	Time    time.Time          `json:"time"`
	Event   string             `json:"event"` // asked, limited, given, typed, approved, paused, resumed
	Run     string             `json:"run,omitempty"`
	Machine remediate.Identity `json:"machine,omitzero"`
	KeyID   string             `json:"key_id,omitempty"`
	Volume  string             `json:"volume,omitempty"`
	Address string             `json:"address"`
}

// OpenStore makes the folder where it is missing.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, "reports"), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "audit.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &Store{dir: dir, audit: f}, nil
}

// Close ends it.
func (s *Store) Close() error { return s.audit.Close() }

// Reports is the folder with the logs.
func (s *Store) Reports() string { return filepath.Join(s.dir, "reports") }

// Audit writes a line, and returns when it is on the disk.
func (s *Store) Audit(e Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.audit.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("audit file: %w", err)
	}
	return s.audit.Sync()
}

var runName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[a-z0-9]{1,32}$`)

func validRun(run string) bool { return runName.MatchString(run) }

// save keeps the log of a run. A shorter one than there is already does not replace it: a machine's log only grows.
func (s *Store) save(run string, log []byte) error {
	if !validRun(run) || !bytes.HasPrefix(log, []byte(`{"schema":"`+remediate.LogSchema+`"`)) {
		return errBadRequest
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := filepath.Join("reports", run+".jsonl")
	if info, err := os.Stat(filepath.Join(s.dir, name)); err == nil && info.Size() > int64(len(log)) {
		return nil
	}
	return s.write(name, log)
}

// write makes or replaces a file, and returns when it is on the disk.
func (s *Store) write(name string, data []byte) error {
	f, err := output.Create(filepath.Join(s.dir, name), true)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(data); err != nil {
		return f.Explain(err, int64(len(data)))
	}
	return f.Commit()
}

// maxLoaded bounds how many logs are read when a server starts; the newest count.
const maxLoaded = 20_000

// each calls fn for the logs that are there, oldest first.
func (s *Store) each(fn func(run string, log []byte)) error {
	entries, err := os.ReadDir(s.Reports())
	if err != nil {
		return err
	}
	var runs []string
	for _, e := range entries {
		if run, ok := strings.CutSuffix(e.Name(), ".jsonl"); ok && validRun(run) {
			runs = append(runs, run)
		}
	}
	slices.Sort(runs)
	for _, run := range runs[max(0, len(runs)-maxLoaded):] {
		log, err := readFile(filepath.Join(s.Reports(), run+".jsonl"))
		if err != nil {
			return err
		}
		fn(run, log)
	}
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	return io.ReadAll(bufio.NewReader(f))
}

// readLog takes from a log what is shown of a machine.
func readLog(log []byte) (m remediate.Identity, outcome remediate.Outcome, message string, at time.Time) {
	wanted := func(event string) bool { return event == "machine" || event == "result" || event == "windows" }
	_, _ = remediate.ScanLog(bytes.NewReader(log), wanted, func(l *remediate.Line) { // what is torn is left out
		at = l.Time
		switch {
		case l.Machine != nil:
			m = *l.Machine
		case l.Windows != nil && m.ComputerName == "":
			m.ComputerName = l.Windows.ComputerName
		case l.Result != nil:
			outcome, message = l.Result.Outcome, clip(l.Result.Message)
		}
	})
	return m, outcome, message, at
}
