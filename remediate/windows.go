package remediate

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// ErrNoWindows says that a volume holds no Windows installation.
var ErrNoWindows = errors.New("no Windows installation on this volume")

// Windows is an installation found on a volume.
type Windows struct {
	// Root is the Windows directory at the top of the volume, spelled as on
	// disk; usually "Windows".
	Root string `json:"root"`
	// Others are further installations on the same volume.
	Others []string `json:"others,omitempty"`
	// ComputerName and Version come from the registry; empty where unknown.
	ComputerName string  `json:"computer_name,omitempty"`
	Version      Version `json:"version"`
	// Hibernated says that the volume must not be written to: its
	// hiberfil.sys holds a session, or it cannot be told whether it does.
	Hibernated  bool   `json:"hibernated"`
	Hibernation string `json:"hibernation,omitempty"` // why, for people
	// Problems are what could not be read; none of them hinders a repair.
	Problems []string `json:"problems,omitempty"`
}

// Version is what an installation says of itself in
// SOFTWARE\Microsoft\Windows NT\CurrentVersion. Fields are empty where unknown.
type Version struct {
	Product string `json:"product,omitempty"` // "Windows 11 Pro"
	Display string `json:"display,omitempty"` // "23H2"
	Build   string `json:"build,omitempty"`   // "22631.3880"
	Edition string `json:"edition,omitempty"` // "Professional"
}

// String is the version in one line, "Windows" where nothing is known.
func (v Version) String() string {
	s := v.Product
	if s == "" {
		s = "Windows"
	}
	if v.Display != "" {
		s += " " + v.Display
	}
	if v.Build != "" {
		s += " (build " + v.Build + ")"
	}
	return s
}

// windowsName is what the Windows directory is called, nearly always; rule packs call it so in any case.
const windowsName = "Windows"

// kernelFiles are files of System32 of which every installation has one. A
// SYSTEM hive alone also lies in backups.
var kernelFiles = []string{"ntoskrnl.exe", "winload.efi", "winload.exe", "smss.exe"}

// FindWindows recognises the Windows installation of a volume, whatever the
// spelling of its directories and whatever its Windows directory is called. It
// returns [ErrNoWindows] where there is none. A damaged registry hive leaves
// fields empty and is told in Problems.
func FindWindows(fsys fs.FS) (*Windows, error) {
	roots, err := windowsRoots(fsys)
	if err != nil {
		return nil, err
	}
	if len(roots) == 0 {
		return nil, ErrNoWindows
	}
	w := &Windows{Root: roots[0], Others: roots[1:]}
	w.readRegistry(fsys)
	w.Hibernation = Hibernation(fsys)
	w.Hibernated = w.Hibernation != ""
	return w, nil
}

// windowsRoots lists the Windows directories at the top of a volume, the one
// called Windows first.
func windowsRoots(fsys fs.FS) ([]string, error) {
	names, err := readNames(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("read the top folder of the volume: %w", err)
	}
	var roots []string
	for _, name := range names {
		// Windows.old and Windows.old.000 are what an upgrade leaves behind.
		if strings.HasPrefix(foldName(name), "WINDOWS.OLD") {
			continue
		}
		if isRealDir(fsys, name) && isWindows(fsys, name) {
			roots = append(roots, name)
		}
	}
	slices.SortFunc(roots, func(a, b string) int {
		aw, bw := sameName(a, "Windows"), sameName(b, "Windows")
		if aw != bw {
			if aw {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return roots, nil
}

func isWindows(fsys fs.FS, dir string) bool {
	if !hasSystem(fsys, dir) {
		return false
	}
	for _, name := range kernelFiles {
		// A file compressed by CompactOS is a reparse point, so anything but
		// a directory will do.
		if _, info, err := lookupPath(fsys, dir, "System32", name); err == nil && !info.IsDir() {
			return true
		}
	}
	return false
}

// hasSystem reports whether a directory has the SYSTEM hive of an installation, or
// lost it in a run that was cut short and is to be finished.
func hasSystem(fsys fs.FS, dir string) bool {
	config, info, err := lookupPath(fsys, dir, "System32", "config")
	if err != nil || !info.IsDir() {
		return false
	}
	_, info, err = lookup(fsys, config, systemName)
	if isNotExist(err) {
		_, ok := cutShort(fsys, config, systemName)
		return ok
	}
	return err == nil && info.Mode().IsRegular()
}
