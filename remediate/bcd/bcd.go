// Package bcd edits one thing in a Windows boot configuration store: whether the default Windows starts in Safe Mode.
// [Parse] reads a store, [SetSafeMode] and [UndoSafeMode] change the one on a mounted system partition.
//
// A store is a registry hive (see package hive): below Objects lies a key for each object, named by its GUID, and below
// its key Elements one for each element, named by its type in hexadecimal, with the value "Element". The numbers are
// those of Microsoft's documentation of the BCD WMI provider (BcdLibraryElementTypes and so on).
//
// BitLocker checks some elements at each start and asks for the recovery key when one has changed. The element safeboot
// is not among them unless a policy adds it, and no other is ever touched.
package bcd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bootmend/bootmend/remediate/hive"
)

// Objects and elements.
const (
	bootManager = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"

	elementDefault     = "23000003" // BcdBootMgrObject_DefaultObject: a GUID as text
	elementPath        = "12000002" // BcdLibraryString_ApplicationPath
	elementDescription = "12000004" // BcdLibraryString_Description
	elementSafeBoot    = "25000080" // BcdLibraryInteger_SafeBoot: 8 bytes

	typeLoader = 0x10200003 // an application object that is a Windows loader
)

// Mode is a way to start in Safe Mode (SafeBoot).
type Mode string

// The modes that are set here. There is a third for domain controllers, and Safe Mode with a command prompt is another
// element, which BitLocker checks.
const (
	Minimal Mode = "minimal"
	Network Mode = "network"
)

func (m Mode) number() (uint64, error) {
	switch m {
	case Minimal:
		return 0, nil
	case Network:
		return 1, nil
	}
	return 0, fmt.Errorf("%q is not a Safe Mode: use %s or %s", m, Minimal, Network)
}

// ErrOthers says that the store has a safeboot element that was not set here.
var ErrOthers = errors.New("Windows is set to start in Safe Mode already, by somebody else") //nolint:staticcheck // a name begins it

// Store is a boot configuration store in memory.
type Store struct{ h *hive.Hive }

// Parse reads a store and its logs (see [hive.Load]).
func Parse(data []byte, logs ...[]byte) (*Store, error) {
	h, err := hive.Load(data, logs...)
	if err != nil {
		return nil, err
	}
	if _, err := h.Key("Objects", bootManager); err != nil {
		return nil, fmt.Errorf("not a boot configuration store: object {bootmgr}: %w", err)
	}
	return &Store{h}, nil
}

// Bytes is the store as a file, its changed keys dated now.
func (s *Store) Bytes() ([]byte, error) { return s.h.Bytes() }

// Entry is an entry of the boot menu that starts a Windows.
type Entry struct {
	ID          string // GUID with braces
	Description string // what the boot menu shows, such as "Windows 10"
}

// Default is the entry that starts when nobody chooses.
func (s *Store) Default() (Entry, error) {
	id, err := s.text(bootManager, elementDefault)
	if err != nil {
		return Entry{}, fmt.Errorf("boot configuration: default entry: %w", err)
	}
	return s.entry(id)
}

// entry makes sure that an object starts Windows.
func (s *Store) entry(id string) (Entry, error) {
	k, err := s.h.Key("Objects", id, "Description")
	if err != nil {
		return Entry{}, fmt.Errorf("boot configuration: entry %s: %w", id, err)
	}
	v, err := k.Value("Type")
	var kind uint32
	if err == nil {
		kind, err = v.Uint32()
	}
	if err != nil {
		return Entry{}, fmt.Errorf("boot configuration: entry %s: %w", id, err)
	}
	path, err := s.text(id, elementPath)
	if err != nil {
		return Entry{}, fmt.Errorf("boot configuration: entry %s: %w", id, err)
	}
	name := strings.ToLower(path[strings.LastIndexAny(path, `\/`)+1:])
	if kind != typeLoader || name != "winload.efi" && name != "winload.exe" {
		return Entry{}, fmt.Errorf("boot configuration: the default entry %s starts %s, not Windows", id, path)
	}
	e := Entry{ID: id}
	if e.Description, err = s.text(id, elementDescription); err != nil && !errors.Is(err, hive.ErrNotFound) {
		return Entry{}, fmt.Errorf("boot configuration: entry %s: %w", id, err)
	}
	return e, nil
}

func (s *Store) element(id, element string) (hive.Value, error) {
	k, err := s.h.Key("Objects", id, "Elements", element)
	if err != nil {
		return hive.Value{}, err
	}
	return k.Value("Element")
}

func (s *Store) text(id, element string) (string, error) {
	v, err := s.element(id, element)
	if err != nil {
		return "", err
	}
	return v.Text()
}

// safeBoot is the entry's element as a number. Stores hold integers of fewer than 8 bytes, too.
func (s *Store) safeBoot(id string) (n uint64, set bool, err error) {
	v, err := s.element(id, elementSafeBoot)
	if errors.Is(err, hive.ErrNotFound) {
		return 0, false, nil
	}
	var data []byte
	if err == nil {
		data, err = v.Data()
	}
	if err == nil && len(data) > 8 {
		err = fmt.Errorf("an integer of %d bytes", len(data))
	}
	if err != nil {
		return 0, false, fmt.Errorf("boot configuration: entry %s: safeboot: %w", id, err)
	}
	var b [8]byte
	copy(b[:], data)
	return binary.LittleEndian.Uint64(b[:]), true, nil
}

// SafeBoot reports whether the entry starts in Safe Mode.
func (s *Store) SafeBoot(e Entry) (bool, error) {
	_, set, err := s.safeBoot(e.ID)
	return set, err
}

// SetSafeBoot makes the entry start in Safe Mode. It returns ErrOthers where that, or another mode, is set already.
func (s *Store) SetSafeBoot(e Entry, mode Mode, now time.Time) error {
	n, err := mode.number()
	if err != nil {
		return err
	}
	if _, set, err := s.safeBoot(e.ID); err != nil || set {
		return errors.Join(err, ErrOthers)
	}
	k, err := s.h.Key("Objects", e.ID, "Elements")
	if err != nil {
		return fmt.Errorf("boot configuration: entry %s: %w", e.ID, err)
	}
	s.h.Now = now
	if k, err = k.CreateSubkey(elementSafeBoot); err != nil {
		return err
	}
	return k.SetValue("Element", hive.Binary, binary.LittleEndian.AppendUint64(nil, n))
}

// ClearSafeBoot takes the entry's Safe Mode away and reports whether it was there in this mode; another stays.
func (s *Store) ClearSafeBoot(id string, mode Mode, now time.Time) (bool, error) {
	want, err := mode.number()
	if err != nil {
		return false, err
	}
	n, set, err := s.safeBoot(id)
	if err != nil || !set || n != want {
		return false, err
	}
	k, err := s.h.Key("Objects", id, "Elements")
	if err != nil {
		return false, err
	}
	s.h.Now = now
	return true, k.DeleteSubkey(elementSafeBoot)
}
