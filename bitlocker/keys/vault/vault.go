package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/keys"
)

const (
	maxRows     = 1_000_000
	maxProblems = 1_000
)

// ClockTolerance is how far the clock of a machine under repair may be ahead of the true time: Windows lets it run
// in local time, which nothing outside Windows knows to be local, and the earliest zone is 14 hours ahead of UTC.
const ClockTolerance = 14 * time.Hour

// ErrExpired says that a vault's time is over.
var ErrExpired = errors.New("the vault has expired")

// Vault is an opened vault. Its keys lie in one piece of memory that [Vault.Wipe] overwrites, and are looked up there
// without being taken out. Several goroutines may look for keys at once.
type Vault struct {
	// Created and Expires are zero where the vault does not say.
	Created, Expires time.Time
	// Problems are rows that cannot be used.
	Problems []keys.RowError

	name    string
	mu      sync.RWMutex // keeps Wipe from a look-up under way
	text    []byte
	rows    []uint32 // where rows begin, in the order of their IDs
	startup []keys.StartupKey
	list    *keys.List // instead of text and rows, where the vault holds a key list of another kind
}

// Column positions of a row with an ID; one without begins with the comma.
const (
	idSize  = 36
	keySize = 55
)

// parse reads what was sealed, and takes text over.
func parse(text []byte, name string) (*Vault, error) {
	v := &Vault{name: name, text: text}
	if !bytes.HasPrefix(text, []byte(magic)) {
		defer v.Wipe()
		list, err := keys.Read(bytes.NewReader(text), name)
		if err != nil {
			return nil, err
		}
		return &Vault{name: name, list: list, Problems: list.Problems}, nil
	}
	off, number := 0, 0
	next := func() (line []byte, start int, ok bool) {
		if off >= len(text) {
			return nil, off, false
		}
		start = off
		line, _, _ = bytes.Cut(text[off:], []byte("\n"))
		off += len(line) + 1
		number++
		return bytes.TrimSuffix(line, []byte("\r")), start, true
	}
	for {
		line, _, ok := next()
		if !ok {
			return nil, fmt.Errorf("vault %s, line %d: the heading %s is missing", name, number+1, columns)
		}
		if string(line) == columns {
			break
		}
		if err := v.field(line); err != nil {
			return nil, fmt.Errorf("vault %s, line %d: %w", name, number, err)
		}
	}
	for {
		line, start, ok := next()
		if !ok {
			break
		}
		if len(v.rows) == maxRows {
			return nil, fmt.Errorf("vault %s: more than %d keys", name, maxRows)
		}
		if startupKey, ok := startupRow(line); ok {
			if err := v.addStartupKey(startupKey, number); err != nil {
				v.problem(number, keys.InvalidKey, err.Error())
			}
			continue
		}
		if !wellFormed(line) {
			v.problem(number, keys.Unreadable, "not a row of key ID, recovery key, startup key and computer name")
			continue
		}
		v.rows = append(v.rows, uint32(start))
	}
	slices.SortStableFunc(v.rows, func(a, b uint32) int { return bytes.Compare(v.id(a), v.id(b)) })
	return v, nil
}

// field reads a line before the rows.
func (v *Vault) field(line []byte) (err error) {
	s := string(line)
	switch {
	case strings.HasPrefix(s, magic):
		if s[len(magic):] != version {
			return fmt.Errorf("the vault is of version %.8q, and only version %s is known: use a newer bootmend", s[len(magic):], version)
		}
	case strings.HasPrefix(s, fieldCreated):
		v.Created, err = time.Parse(time.RFC3339, s[len(fieldCreated):])
	case strings.HasPrefix(s, fieldExpires):
		v.Expires, err = time.Parse(time.RFC3339, s[len(fieldExpires):])
	default:
		return errors.New("neither a field of a vault nor its heading")
	}
	if err != nil {
		return errors.New("the date is not of the form 2026-12-01T00:00:00Z")
	}
	return nil
}

func (v *Vault) problem(line int, kind keys.Kind, reason string) {
	if len(v.Problems) < maxProblems {
		v.Problems = append(v.Problems, keys.RowError{File: v.name, Line: line, Kind: kind, Reason: reason})
	}
}

// startupRow gives the startup key of a row that has one: <key ID>,,<base64>,
func startupRow(row []byte) ([]byte, bool) {
	if len(row) < idSize+3 || row[idSize] != ',' || row[idSize+1] != ',' {
		return nil, false
	}
	return bytes.CutSuffix(row[idSize+2:], []byte(","))
}

func (v *Vault) addStartupKey(encoded []byte, line int) error {
	if len(v.startup) == keys.MaxStartupKeys {
		return fmt.Errorf("more than %d startup keys", keys.MaxStartupKeys)
	}
	data := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	defer clear(data)
	n, err := base64.StdEncoding.Decode(data, encoded)
	if err != nil {
		return errors.New("the startup key is not base64")
	}
	k, err := keys.ParseStartupKey(data[:n])
	if err != nil {
		return fmt.Errorf("startup key: %w", err)
	}
	k.File, k.Line = v.name, line
	v.startup = append(v.startup, k)
	return nil
}

// wellFormed checks where the cells of a row begin and end. What is in them is checked when they are needed.
func wellFormed(row []byte) bool {
	if len(row) > idSize && row[idSize] == ',' {
		for i, c := range row[:idSize] {
			dash := i == 8 || i == 13 || i == 18 || i == 23
			if (c == '-') != dash || !dash && (c < '0' || c > '9') && (c < 'A' || c > 'F') {
				return false
			}
		}
		row = row[idSize:]
	}
	if len(row) < keySize+3 || row[0] != ',' || row[keySize+1] != ',' || row[keySize+2] != ',' {
		return false
	}
	for i, c := range row[1 : keySize+1] {
		if (c == '-') != (i%7 == 6) || c != '-' && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// id is the ID of the row at start; empty if it has none.
func (v *Vault) id(start uint32) []byte {
	if v.text[start] == ',' {
		return nil
	}
	return v.text[start : start+idSize]
}

// computer is the name in the row's last cell.
func (v *Vault) computer(start uint32) []byte {
	start += uint32(len(v.id(start))) + keySize + 3
	cell, _, _ := bytes.Cut(v.text[start:], []byte("\n"))
	cell = bytes.TrimSuffix(cell, []byte("\r"))
	if len(cell) >= 2 && cell[0] == '"' {
		cell = bytes.ReplaceAll(cell[1:len(cell)-1], []byte(`""`), []byte(`"`))
	}
	return cell
}

// entry takes a row out.
func (v *Vault) entry(start uint32) (keys.Entry, error) {
	e := keys.Entry{Computer: string(v.computer(start)), File: v.name, Line: 1 + bytes.Count(v.text[:start], []byte("\n"))}
	id := v.id(start)
	var err error
	if len(id) > 0 {
		if e.ID, err = bitlocker.ParseGUID(string(id)); err != nil {
			return e, err
		}
		e.HasID = true
	}
	key := v.text[int(start)+len(id)+1:][:keySize]
	e.Password, err = bitlocker.ParseRecoveryPassword(string(key))
	return e, err
}

// Len is how many keys the vault holds.
func (v *Vault) Len() int {
	if v.list != nil {
		return v.list.Len()
	}
	return len(v.rows) + len(v.startup)
}

// CheckExpiry returns an error that wraps [ErrExpired] if the vault's time is over. now is the clock of a machine
// under repair, which is trusted no further than [ClockTolerance] tells.
func (v *Vault) CheckExpiry(now time.Time) error {
	if v.Expires.IsZero() || !now.After(v.Expires.Add(ClockTolerance)) {
		return nil
	}
	return fmt.Errorf("%w: its keys were good until %s, and by the clock of this machine it is %s",
		ErrExpired, v.Expires.UTC().Format("2006-01-02 15:04 UTC"), now.UTC().Format("2006-01-02 15:04"))
}

// ClockTooEarly reports whether now lies before the vault was made, as on a machine whose clock has lost its battery:
// whether the vault has expired cannot be told there.
func (v *Vault) ClockTooEarly(now time.Time) bool {
	return !v.Expires.IsZero() && now.Before(v.Created.Add(-ClockTolerance))
}

// Unlock opens a volume with a key of the vault, as [keys.List.Unlock] does with one of a list.
func (v *Vault) Unlock(ctx context.Context, m *bitlocker.Metadata) (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
	v.mu.RLock()
	list := v.list
	v.mu.RUnlock()
	if list != nil {
		return list.Unlock(ctx, m)
	}
	found, damaged := v.find(m)
	key, protector, err := found.Unlock(ctx, m)
	if errors.Is(err, bitlocker.ErrNoProtector) && damaged != nil {
		err = damaged // the row is there, but cannot be used
	}
	return key, protector, err
}

// find takes out the keys that may fit a volume: those of its protectors, those of its computer, and those that name
// neither ID nor computer. damaged names a row that should have given one.
func (v *Vault) find(m *bitlocker.Metadata) (found *keys.List, damaged error) {
	found = &keys.List{StartupKeys: v.startup}
	take := func(start uint32) {
		e, err := v.entry(start)
		if err != nil {
			damaged = fmt.Errorf("vault %s, line %d: %w", v.name, e.Line, err)
			return
		}
		found.Entries = append(found.Entries, e)
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, p := range m.Protectors {
		id := []byte(p.ID.String())
		i, ok := slices.BinarySearchFunc(v.rows, id, func(row uint32, id []byte) int { return bytes.Compare(v.id(row), id) })
		for ; ok && i < len(v.rows) && bytes.Equal(v.id(v.rows[i]), id); i++ {
			take(v.rows[i])
		}
	}
	name := []byte(m.ComputerName)
	for _, row := range v.rows {
		switch computer := v.computer(row); {
		case len(computer) > 0 && bytes.EqualFold(computer, name), len(computer) == 0 && len(v.id(row)) == 0:
			take(row)
		}
	}
	return found, damaged
}

// List takes all keys out. They lie in memory that cannot be wiped then.
func (v *Vault) List() *keys.List {
	if v.list != nil {
		return v.list
	}
	list := &keys.List{Problems: slices.Clone(v.Problems), StartupKeys: v.startup}
	for _, start := range v.rows {
		e, err := v.entry(start)
		if err != nil {
			list.Problems = append(list.Problems, keys.RowError{File: v.name, Line: e.Line, Kind: keys.InvalidKey, ID: e.ID, Reason: err.Error()})
			continue
		}
		list.Entries = append(list.Entries, e)
	}
	return list
}

// Wipe overwrites the keys. The vault is of no use afterwards. See the package's comment for what remains.
func (v *Vault) Wipe() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.text)
	for _, k := range v.startup {
		k.Data.Wipe()
	}
	v.text, v.rows, v.startup, v.list = nil, nil, nil, nil
}

// Format keeps the keys out of every verb.
func (v *Vault) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "vault with %d keys (withheld)", v.Len()) }
