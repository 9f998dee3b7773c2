package boottest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ulikunitz/xz"
)

// Fate is what a repair must do with a file.
type Fate string

// The fates.
const (
	Stays       Fate = "stays"
	Quarantined Fate = "quarantined"
)

// File is a file of the Windows volume.
type File struct {
	Path string // with slashes, relative to the volume
	Time time.Time
	Fate Fate
	Data []byte
}

// CrowdStrike is the folder of the channel files.
const CrowdStrike = "Windows/System32/drivers/CrowdStrike/"

var (
	incident  = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	corrected = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
	installed = time.Date(2023, 11, 2, 9, 30, 0, 0, time.UTC)
)

// contents are bytes that depend on the name alone.
func contents(name string, size int) []byte {
	data := make([]byte, size)
	source := rand.NewChaCha8(sha256.Sum256([]byte(name)))
	_, _ = source.Read(data) // never fails
	return data
}

func channelFile(name string, channel uint16, size int) []byte {
	data := contents(name, size)
	copy(data, []byte{0xAA, 0xAA, 0xAA, 0xAA, 1, 0, byte(channel), byte(channel >> 8)})
	return data
}

// windowsTree is a Windows installation of 19 July 2024, or one that the incident passed by.
func windowsTree(healthy bool) ([]File, error) {
	file := func(path string, t time.Time, data []byte) File {
		return File{Path: path, Time: t, Fate: Stays, Data: data}
	}
	faulty := func(path string, t time.Time, data []byte) File {
		return File{Path: path, Time: t, Fate: Quarantined, Data: data}
	}
	cs := func(name string) string { return CrowdStrike + name }
	files := []File{
		file("Windows/System32/ntoskrnl.exe", installed, append([]byte("MZ"), contents("ntoskrnl", 1<<20)...)),
		file("Windows/System32/winload.efi", installed, append([]byte("MZ"), contents("winload", 1<<19)...)),
		file("Windows/System32/drivers/ntfs.sys", installed, append([]byte("MZ"), contents("ntfs", 1<<19)...)),
		file(cs("CSAgent.sys"), installed, append([]byte("MZ"), contents("CSAgent", 1<<20)...)),
		// Its neighbour, in name and number.
		file(cs("C-00000290-00000000-00000117.sys"), incident.Add(-24*time.Hour), channelFile("290", 290, 13421)),
		file(cs("C-00000029-00000000-00000005.sys"), incident, channelFile("29", 29, 4242)),
		// The vendor's correction.
		file(cs("C-00000291-00000000-00000033.sys"), corrected, channelFile("33", 291, 41004)),
		// A decoy: named like the faulty file, as old as it, and something else.
		file(cs("C-00000291-00000000-00000099.sys"), incident, append([]byte("MZ\x90\x00\x03\x00\x00\x00"), contents("decoy", 9000)...)),
		file("Users/Grace/Documents/C-00000291-00000000-00000032.sys", incident, channelFile("copy", 291, 40960)),
		file("Users/Grace/Documents/Überblick – 日本.txt", installed, []byte("not a byte of this may change\r\n")),
	}
	if !healthy {
		files = append(files,
			faulty(cs("C-00000291-00000000-00000032.sys"), incident, channelFile("32", 291, 40960)),
			faulty(cs("C-00000291-00000000-00000030.sys"), incident.Add(11*time.Minute), make([]byte, 40960)),
		)
	}
	registry, err := hives()
	for name, data := range registry {
		files = append(files, file("Windows/System32/config/"+name, installed, data))
	}
	return files, err
}

// hives are the registry of the machine.
var hives = sync.OnceValues(func() (map[string][]byte, error) {
	found := map[string][]byte{}
	for _, name := range []string{"SYSTEM", "SOFTWARE"} {
		data, err := hiveBytes(name)
		if err != nil {
			return nil, err
		}
		found[name] = data
	}
	return found, nil
})

// hiveBytes is a registry hive of a real Windows where there is one, else just its first sector's signature: the
// agent must do without the computer's name then.
func hiveBytes(name string) ([]byte, error) {
	path := testdata("hives/" + name + ".xz")
	if path == "" {
		return append([]byte("regf"), make([]byte, 4092)...), nil
	}
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := xz.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("hive %s: %w", path, err)
	}
	return io.ReadAll(r)
}

// write puts the file below root, which is a mounted volume.
func (f File) write(root string) error {
	path := filepath.Join(root, filepath.FromSlash(f.Path))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, f.Data, 0o644); err != nil {
		return err
	}
	return os.Chtimes(path, f.Time, f.Time)
}
