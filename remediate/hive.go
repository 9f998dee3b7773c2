package remediate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/bootmend/bootmend/remediate/hive"
)

const (
	// maxHiveInMemory bounds a hive that is read whole, and each of its logs.
	maxHiveInMemory = 512 << 20
	maxHiveLog      = 128 << 20
	maxHiveString   = 256
)

// hiveLogs are the endings of a hive's transaction logs. The two of today's
// Windows come before the one of Windows XP, of which an empty one may be left.
var hiveLogs = []string{".LOG1", ".LOG2", ".LOG"}

// readHiveLogs reads the logs beside a hive file; those that are missing or empty
// are left out.
func readHiveLogs(fsys fs.FS, name string) ([][]byte, error) {
	var logs [][]byte
	for _, ending := range hiveLogs {
		p, info, err := lookup(fsys, path.Dir(name), path.Base(name)+ending)
		if isNotExist(err) || err == nil && info.Size() == 0 {
			continue
		}
		var data []byte
		if err == nil {
			data, err = readWhole(fsys, p, maxHiveLog)
		}
		if err != nil {
			return nil, fmt.Errorf("registry log %s: %w", path.Base(name)+ending, err)
		}
		logs = append(logs, data)
	}
	return logs, nil
}

// ReadHive reads a hive file and its logs, for [hive.Load].
func ReadHive(fsys fs.FS, name string) (data []byte, logs [][]byte, err error) {
	if data, err = readWhole(fsys, name, maxHiveInMemory); err != nil {
		return nil, nil, err
	}
	logs, err = readHiveLogs(fsys, name)
	return data, logs, err
}

// readWhole reads a regular file of at most limit bytes.
func readWhole(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, info, err := openRegular(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return data, err
}

// withHive opens a hive file to be read, with its logs where it was not closed
// cleanly. What they do not complete is read as it is.
func withHive(fsys fs.FS, name string, use func(*hive.Hive) error) error {
	f, info, err := openRegular(fsys, name)
	if err != nil {
		return err
	}
	defer f.Close()
	r, ok := f.(io.ReaderAt)
	size := info.Size()
	if !ok {
		data, err := readWhole(fsys, name, maxHiveInMemory)
		if err != nil {
			return err
		}
		r, size = strings.NewReader(string(data)), int64(len(data))
	}
	h, err := hive.Open(r, size)
	if err != nil {
		return err
	}
	if h.Dirty() {
		logs, err := readHiveLogs(fsys, name)
		if err != nil {
			return err
		}
		if h, err = hive.Open(r, size, logs...); err != nil {
			return err
		}
	}
	return use(h)
}

// hiveString reads a string or number as text; empty where it is absent or
// damaged.
func hiveString(k hive.Key, name string) string {
	v, err := k.Value(name)
	// The length is the file's word; do not read megabytes for a name.
	if err != nil || v.Size > 4*maxHiveString {
		return ""
	}
	if v.Type == hive.DWORD {
		n, err := v.Uint32()
		if err != nil {
			return ""
		}
		return strconv.FormatUint(uint64(n), 10)
	}
	text, err := v.Text()
	if err != nil {
		return ""
	}
	return cleanHiveString(text)
}

// cleanHiveString drops what could disturb a terminal or a log.
func cleanHiveString(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > maxHiveString {
		s = string(r[:maxHiveString])
	}
	return strings.TrimSpace(s)
}

// controlSetName is the key of a control set, as Windows numbers them.
func controlSetName(n uint32) string { return fmt.Sprintf("ControlSet%03d", n) }

// computerName reads the computer name from a SYSTEM hive. Select\Current names
// the control set in use.
func computerName(h *hive.Hive) (string, error) {
	set := controlSetName(1)
	if k, err := h.Key("Select"); err == nil {
		if n, err := strconv.Atoi(hiveString(k, "Current")); err == nil && n > 0 && n < 1000 {
			set = controlSetName(uint32(n))
		}
	}
	name := ""
	k, err := h.Key(set, "Control", "ComputerName", "ComputerName")
	if err == nil {
		name = hiveString(k, "ComputerName")
	}
	if name == "" {
		if k, err = h.Key(set, "Services", "Tcpip", "Parameters"); err == nil {
			name = hiveString(k, "Hostname")
		}
	}
	switch {
	case name != "":
		return name, nil
	case err != nil && !errors.Is(err, hive.ErrNotFound):
		return "", err
	}
	return "", fmt.Errorf("no computer name under %s", set)
}

// windowsVersion reads the version from a SOFTWARE hive.
func windowsVersion(h *hive.Hive) (Version, error) {
	var v Version
	k, err := h.Key("Microsoft", "Windows NT", "CurrentVersion")
	if err != nil {
		return v, err
	}
	get := func(name string) string { return hiveString(k, name) }
	v.Product = get("ProductName")
	v.Edition = get("EditionID")
	if v.Display = get("DisplayVersion"); v.Display == "" {
		v.Display = get("ReleaseId")
	}
	if v.Build = get("CurrentBuildNumber"); v.Build == "" {
		v.Build = get("CurrentBuild")
	}
	// Windows 11 clients still call themselves Windows 10 here.
	if n, err := strconv.Atoi(v.Build); err == nil && n >= 22000 && strings.HasPrefix(v.Product, "Windows 10") {
		v.Product = "Windows 11" + strings.TrimPrefix(v.Product, "Windows 10")
	}
	if ubr := get("UBR"); ubr != "" && v.Build != "" {
		v.Build += "." + ubr
	}
	if v == (Version{}) {
		return v, errors.New(`no values under Microsoft\Windows NT\CurrentVersion`)
	}
	return v, nil
}

// readRegistry fills in what the hives tell; what goes wrong is noted only.
func (w *Windows) readRegistry(fsys fs.FS) {
	read := func(name string, use func(*hive.Hive) error) {
		p, _, err := lookupPath(fsys, w.Root, "System32", "config", name)
		if err == nil {
			err = withHive(fsys, p, use)
		}
		if err != nil {
			w.Problems = append(w.Problems, fmt.Sprintf("registry hive %s: %v", name, err))
		}
	}
	read("SYSTEM", func(h *hive.Hive) (err error) {
		w.ComputerName, err = computerName(h)
		return err
	})
	read("SOFTWARE", func(h *hive.Hive) (err error) {
		w.Version, err = windowsVersion(h)
		return err
	})
}
