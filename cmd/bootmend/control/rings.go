package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/bootmend/bootmend/cmd/bootmend/control/store"
	"github.com/bootmend/bootmend/remediate"
	"github.com/bootmend/bootmend/remediate/fleet"
)

// Rollout heals machines in stages: a ring of machines is healed, and only when enough of them went well is the next one.
type Rollout struct {
	Rings []Ring `yaml:"rings"`
	// OpenAt is the share of machines, in percent, that must have gone well in a ring, out of at least Least that are done.
	OpenAt int `yaml:"open_at"`
	Least  int `yaml:"least"`

	text string // what it was parsed from
}

// NoRollout heals all machines.
func NoRollout() *Rollout { return &Rollout{} }

// Ring is a group of machines. A machine belongs to the first ring that it fits.
type Ring struct {
	Name string `yaml:"name"`
	// Machines are serial numbers or UUIDs; * and ? are wildcards.
	Machines []string `yaml:"machines"`
	// Percent of all machines, chosen by what they are known by, so that it is always the same ones.
	Percent int  `yaml:"percent"`
	DryRun  bool `yaml:"dry_run"`
}

// ParseRollout reads the file of --rings.
func ParseRollout(data []byte) (*Rollout, error) {
	r := &Rollout{OpenAt: 95, Least: 1, text: string(data)}
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
		case ring.Name != remediate.Printable(ring.Name):
			return nil, fmt.Errorf("ring %d: its name cannot be shown: %s", i+1, remediate.Printable(ring.Name))
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
	sum := sha256.Sum256([]byte("bootmend ring\n" + known))
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

// index is the place of a ring in the order, or none.
func (r *Rollout) index(name string) int {
	return slices.IndexFunc(r.Rings, func(ring Ring) bool { return ring.Name == name })
}

// ring is the name of the one at a place; that of none is empty.
func (r *Rollout) ring(i int) string {
	if i == none {
		return ""
	}
	return r.Rings[i].Name
}

// rolloutOf is the rollout that the database has. Another server may have put it there.
func (s *Server) rolloutOf(f store.Fleet) (*Rollout, error) {
	if f.Rings == "" {
		return NoRollout(), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rollout == nil || s.rollout.text != f.Rings {
		r, err := ParseRollout([]byte(f.Rings))
		if err != nil {
			return nil, fmt.Errorf("the rings in the database: %w", err)
		}
		s.rollout = r
	}
	return s.rollout, nil
}

// open makes the next ring the last open one, and says so.
func (v *visit) open(i int, who string) (line string, err error) {
	v.fleet.Open = v.rollout.Rings[i].Name
	return fmt.Sprintf("ring %q is open", v.fleet.Open), v.s.keep(v.tx, v.fleet, "ring "+v.fleet.Open+" opened", who)
}

// advance opens the next ring where the open one has gone well. The fleet is locked, where there are rings.
func (v *visit) advance() (lines []string, err error) {
	for at := max(0, v.rollout.index(v.fleet.Open)); at < len(v.rollout.Rings)-1 && v.fleet.Halted == ""; at++ {
		done, well, err := v.tx.Tally(v.rollout.Rings[at].Name)
		if err != nil {
			return nil, err
		}
		if done < v.rollout.Least || well*100 < v.rollout.OpenAt*done {
			return lines, nil
		}
		line, err := v.open(at+1, "")
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("ring %q: %d of %d went well; %s", v.rollout.Rings[at].Name, well, done, line))
	}
	return lines, nil
}

// openNext is a person who does not wait for that.
func (s *Server) openNext(ctx context.Context, who string) error {
	var line string
	err := s.do(ctx, func(tx *store.Tx) error {
		f, err := tx.LockFleet()
		if err != nil {
			return err
		}
		r, err := s.rolloutOf(f)
		if err != nil {
			return err
		}
		next := max(0, r.index(f.Open)) + 1
		if next >= len(r.Rings) {
			return errors.New("all rings are open")
		}
		line, err = (&visit{s: s, tx: tx, fleet: f, rollout: r}).open(next, who)
		return err
	})
	if err == nil {
		s.options.Printf("%s", line)
	}
	return err
}
