package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

// Rollout heals machines in stages: a ring of machines is healed, and only when enough of them went well is the next one.
type Rollout struct {
	Rings []Ring `yaml:"rings"`
	// OpenAt is the share of machines, in percent, that must have gone well in a ring, out of at least Least that are done.
	OpenAt int `yaml:"open_at"`
	Least  int `yaml:"least"`
}

// Ring is a group of machines. A machine belongs to the first ring that it fits.
type Ring struct {
	Name string `yaml:"name"`
	// Machines are serial numbers or UUIDs; * and ? are wildcards.
	Machines []string `yaml:"machines"`
	// Percent of all machines, chosen by their serial number, so that it is always the same ones.
	Percent int  `yaml:"percent"`
	DryRun  bool `yaml:"dry_run"`
}

// ParseRollout reads the file of --rings.
func ParseRollout(data []byte) (*Rollout, error) {
	r := &Rollout{OpenAt: 95, Least: 1}
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte("{}")
	}
	if err := yaml.Load(data, r, yaml.WithKnownFields()); err != nil {
		return nil, errors.New(strings.Join(strings.Fields(err.Error()), " "))
	}
	switch {
	case len(r.Rings) == 0:
		return nil, errors.New("no rings: list at least one, with a name and machines or percent")
	case r.OpenAt < 1 || r.OpenAt > 100:
		return nil, fmt.Errorf("open_at %d: use 1 to 100 percent", r.OpenAt)
	case r.Least < 1:
		return nil, fmt.Errorf("least %d: use 1 machine or more", r.Least)
	}
	names := map[string]bool{}
	for i, ring := range r.Rings {
		switch {
		case ring.Name == "" || names[ring.Name]:
			return nil, fmt.Errorf("ring %d: give it a name of its own", i+1)
		case ring.Percent < 0 || ring.Percent > 100:
			return nil, fmt.Errorf("ring %s: percent %d: use 0 to 100", ring.Name, ring.Percent)
		case ring.Percent == 0 && len(ring.Machines) == 0:
			return nil, fmt.Errorf("ring %s: holds no machine: give machines or percent", ring.Name)
		}
		names[ring.Name] = true
		for _, pattern := range ring.Machines {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, fmt.Errorf("ring %s: machines: %q: %w", ring.Name, pattern, err)
			}
		}
	}
	return r, nil
}

// none is the ring of machines that are in none.
const none = -1

// of is the ring of a machine.
func (r *Rollout) of(m remediate.Identity, known string) int {
	sum := sha256.Sum256([]byte("bootmend ring\n" + strings.ToUpper(known)))
	place := int(binary.BigEndian.Uint32(sum[:]) % 100)
	for i, ring := range r.Rings {
		if place < ring.Percent {
			return i
		}
		for _, pattern := range ring.Machines {
			for _, name := range []string{m.Serial, m.UUID} {
				if ok, err := path.Match(strings.ToUpper(pattern), strings.ToUpper(name)); err == nil && ok && name != "" {
					return i
				}
			}
		}
	}
	return none
}

// decide is what a machine of the rollout is to do while the rings up to open are open.
func (r *Rollout) decide(ring, open int) fleet.Welcome {
	switch {
	case ring == none:
		return fleet.Welcome{Decision: fleet.Leave, Reason: "it is in no ring of the rollout"}
	case ring > open:
		return fleet.Welcome{Decision: fleet.Leave, Reason: fmt.Sprintf("its ring %q is not open yet: start it again later", r.Rings[ring].Name)}
	case r.Rings[ring].DryRun:
		return fleet.Welcome{Decision: fleet.DryRun, Reason: fmt.Sprintf("ring %q is a dry run", r.Rings[ring].Name)}
	}
	return fleet.Welcome{Decision: fleet.Heal}
}

// tally counts the machines of a ring that are done, and those of them that went well.
func (s *Server) tally(ring int) (done, well int) {
	for _, m := range s.machines {
		if m.ring != ring || m.outcome == "" || m.outcome == remediate.OutcomeLeft {
			continue
		}
		done++
		if m.outcome != remediate.OutcomeFailed && m.outcome != remediate.OutcomeNeedsPerson {
			well++
		}
	}
	return done, well
}

// advance opens the next ring where the open one has gone well. mu is held.
func (s *Server) advance() error {
	r := s.options.Rollout
	for r != nil && s.state.Open < len(r.Rings)-1 && s.state.Halted == "" {
		done, well := s.tally(s.state.Open)
		if done < r.Least || well*100 < r.OpenAt*done {
			return nil
		}
		s.state.Open++
		s.options.Printf("ring %q: %d of %d went well; ring %q is open", r.Rings[s.state.Open-1].Name, well, done, r.Rings[s.state.Open].Name)
		if err := s.keep(s.event("ring "+r.Rings[s.state.Open].Name+" opened", nil, nil, "")); err != nil {
			return err
		}
	}
	return nil
}

// openNext is a person who does not wait for that.
func (s *Server) openNext(who string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.options.Rollout
	if r == nil || s.state.Open >= len(r.Rings)-1 {
		return errors.New("all rings are open")
	}
	s.state.Open++
	s.options.Printf("ring %q is open", r.Rings[s.state.Open].Name)
	s.change()
	return s.keep(s.event("ring "+r.Rings[s.state.Open].Name+" opened", nil, nil, who))
}

// state is what a server must know again after a restart, beside the logs.
type state struct {
	Halted string `json:"halted"` // why no machine is healed; empty: they are
	Open   int    `json:"open"`   // the last open ring
	// Since is when a person last resumed: failures before it do not count any more.
	Since time.Time `json:"since"`
}

// keep writes the state and who changed it. mu is held.
func (s *Server) keep(e Event) error {
	if err := s.options.Store.Audit(e); err != nil {
		return err
	}
	data, err := json.Marshal(s.state)
	if err != nil {
		return err
	}
	return s.options.Store.write("state.json", data)
}

// load reads the state; there is none at the first start.
func (s *Server) load() error {
	data, err := os.ReadFile(filepath.Join(s.options.Store.dir, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s.state)
	}
	if err != nil {
		return fmt.Errorf("state.json: %w", err)
	}
	if r := s.options.Rollout; r != nil {
		s.state.Open = max(0, min(s.state.Open, len(r.Rings)-1))
	}
	return nil
}
