package remediate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"unicode"

	"www.velocidex.com/golang/regparser"
)

const (
	// maxHiveReads bounds the work on one hive: a damaged one can hold indexes
	// that contain themselves. A healthy look-up takes some five thousand.
	defaultHiveReads = 100_000
	// maxHiveInMemory bounds a hive from a source that cannot seek.
	maxHiveInMemory = 128 << 20
	maxHiveString   = 256
)

// maxHiveReads is lowered by the fuzz test, which is after depth and not patience.
var maxHiveReads = defaultHiveReads

var errHiveWork = errors.New("too much work, the hive refers to itself")

// boundedReader makes a reading of a hive end: past its budget it panics with
// errHiveWork, which [readHive] turns into an error. An error value would not
// do, as the parser goes on after one.
type boundedReader struct {
	r    io.ReaderAt
	left int
}

func (b *boundedReader) ReadAt(p []byte, off int64) (int, error) {
	if b.left--; b.left < 0 {
		panic(errHiveWork)
	}
	return b.r.ReadAt(p, off)
}

// readHive opens a registry hive and hands it to use. Whatever the bytes are, it
// returns: a panic of the parser becomes an error.
func readHive(r io.ReaderAt, use func(*regparser.Registry) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if e, ok := p.(error); ok {
				err = fmt.Errorf("damaged registry hive: %w", e)
				return
			}
			err = fmt.Errorf("damaged registry hive: %v", p)
		}
	}()
	reg, err := regparser.NewRegistry(&boundedReader{r: r, left: maxHiveReads})
	if err != nil {
		return errors.New("not a registry hive: no regf signature at offset 0")
	}
	return use(reg)
}

// hiveString reads a REG_SZ or REG_DWORD value as text; empty where it is absent.
func hiveString(reg *regparser.Registry, key, value string) string {
	nk := reg.OpenKey(key)
	if nk == nil {
		return ""
	}
	for _, v := range nk.Values() {
		if !strings.EqualFold(v.ValueName(), value) {
			continue
		}
		// The length is the file's word; do not read megabytes for a name.
		if v.DataSize() > 4*maxHiveString {
			return ""
		}
		data := v.ValueData()
		switch data.Type {
		case regparser.REG_SZ, regparser.REG_EXPAND_SZ:
			return cleanHiveString(data.String)
		case regparser.REG_DWORD:
			if data.Error != nil {
				return ""
			}
			return strconv.FormatUint(data.Uint64, 10)
		}
		return ""
	}
	return ""
}

// cleanHiveString ends a string at its NUL and drops what could disturb a
// terminal or a log.
func cleanHiveString(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
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

// computerName reads the computer name from a SYSTEM hive. Select\Current names
// the control set in use.
func computerName(r io.ReaderAt) (string, error) {
	var name string
	err := readHive(r, func(reg *regparser.Registry) error {
		set := "ControlSet001"
		if n, err := strconv.Atoi(hiveString(reg, `Select`, "Current")); err == nil && n > 0 && n < 1000 {
			set = fmt.Sprintf("ControlSet%03d", n)
		}
		name = hiveString(reg, set+`\Control\ComputerName\ComputerName`, "ComputerName")
		if name == "" {
			name = hiveString(reg, set+`\Services\Tcpip\Parameters`, "Hostname")
		}
		if name == "" {
			return fmt.Errorf("no computer name under %s", set)
		}
		return nil
	})
	return name, err
}

// windowsVersion reads the version from a SOFTWARE hive.
func windowsVersion(r io.ReaderAt) (Version, error) {
	var v Version
	err := readHive(r, func(reg *regparser.Registry) error {
		const key = `Microsoft\Windows NT\CurrentVersion`
		get := func(name string) string { return hiveString(reg, key, name) }
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
			return fmt.Errorf("no values under %s", key)
		}
		return nil
	})
	return v, err
}

// readRegistry fills in what the hives tell; what goes wrong is noted only.
func (w *Windows) readRegistry(fsys fs.FS) {
	hive := func(name string, use func(io.ReaderAt) error) {
		p, _, err := lookupPath(fsys, w.Root, "System32", "config", name)
		if err == nil {
			err = withReaderAt(fsys, p, use)
		}
		if err != nil {
			w.Problems = append(w.Problems, fmt.Sprintf("registry hive %s: %v", name, err))
		}
	}
	hive("SYSTEM", func(r io.ReaderAt) (err error) {
		w.ComputerName, err = computerName(r)
		return err
	})
	hive("SOFTWARE", func(r io.ReaderAt) (err error) {
		w.Version, err = windowsVersion(r)
		return err
	})
}

// withReaderAt opens a file for random access, through memory if need be.
func withReaderAt(fsys fs.FS, name string, use func(io.ReaderAt) error) error {
	f, _, err := openRegular(fsys, name)
	if err != nil {
		return err
	}
	defer f.Close()
	if r, ok := f.(io.ReaderAt); ok {
		return use(r)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxHiveInMemory+1))
	if err != nil {
		return err
	}
	if len(data) > maxHiveInMemory {
		return fmt.Errorf("larger than %d bytes", maxHiveInMemory)
	}
	return use(strings.NewReader(string(data)))
}
