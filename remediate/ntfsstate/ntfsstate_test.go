package ntfsstate

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// memory is a volume in memory.
type memory struct {
	data   []byte
	writes int
	syncs  int
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}
func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.writes++
	return copy(m.data[off:], p), nil
}
func (m *memory) Sync() error { m.syncs++; return nil }

const (
	testCluster = 1024
	testMFT     = 4
	testMirror  = 40
	testLog     = 20
	testLogSize = 8
)

// build makes a volume of nothing but what this package looks at. log is the content of the journal's first pages.
func build(dirty bool, log []byte) *memory {
	m := &memory{data: make([]byte, 48*testCluster)}
	boot := m.data
	copy(boot[3:], "NTFS    ")
	binary.LittleEndian.PutUint16(boot[11:], 512)
	boot[13] = testCluster / 512
	binary.LittleEndian.PutUint64(boot[48:], testMFT)
	binary.LittleEndian.PutUint64(boot[56:], testMirror)
	boot[64] = 0xF6 // 2^10

	logFile := make([]byte, 72)
	logFile[8] = 1
	binary.LittleEndian.PutUint16(logFile[32:], 64)
	copy(logFile[64:], []byte{0x11, 2, testLog, 0x11, testLogSize - 2, 4, 0}) // in two pieces
	putRecord(m.data[testMFT*testCluster+2*1024:], attrData, logFile)
	first := testLog * testCluster
	copy(m.data[first:first+2*testCluster], log)
	if len(log) > 2*testCluster {
		copy(m.data[(testLog+4)*testCluster:], log[2*testCluster:])
	}

	info := make([]byte, 40)
	binary.LittleEndian.PutUint16(info[20:], 24)
	info[24+8], info[24+9] = 3, 1
	if dirty {
		info[24+10] = 1
	}
	for _, table := range []int{testMFT, testMirror} {
		putRecord(m.data[table*testCluster+3*1024:], attrVolumeInformation, info)
	}
	return m
}

func putRecord(b []byte, kind uint32, attr []byte) {
	copy(b, "FILE")
	binary.LittleEndian.PutUint16(b[4:], 48)
	binary.LittleEndian.PutUint16(b[6:], 3)
	binary.LittleEndian.PutUint16(b[20:], 56)
	binary.LittleEndian.PutUint32(attr, kind)
	binary.LittleEndian.PutUint32(attr[4:], uint32(len(attr)))
	copy(b[56:], attr)
	binary.LittleEndian.PutUint32(b[56+len(attr):], attrEnd)
	protect(b[:1024])
}

// protect applies fixups.
func protect(b []byte) {
	at := int(binary.LittleEndian.Uint16(b[4:]))
	b[at], b[at+1] = 7, 0
	for i := 1; i*512 <= len(b); i++ {
		copy(b[at+2*i:at+2*i+2], b[i*512-2:])
		copy(b[i*512-2:i*512], b[at:at+2])
	}
}

func restartPage(lsn uint64, inUse, flags uint16) []byte {
	p := make([]byte, 4096)
	copy(p, "RSTR")
	binary.LittleEndian.PutUint16(p[4:], 30)
	binary.LittleEndian.PutUint16(p[6:], 9)
	binary.LittleEndian.PutUint32(p[16:], 4096)
	binary.LittleEndian.PutUint32(p[20:], 4096)
	binary.LittleEndian.PutUint16(p[24:], 48)
	binary.LittleEndian.PutUint16(p[26:], 1)
	binary.LittleEndian.PutUint16(p[28:], 1)
	binary.LittleEndian.PutUint64(p[48:], lsn)
	binary.LittleEndian.PutUint16(p[48+12:], inUse)
	binary.LittleEndian.PutUint16(p[48+14:], flags)
	protect(p)
	return p
}

func ones(n int) []byte { return bytes.Repeat([]byte{0xFF}, n) }

func TestRead(t *testing.T) {
	torn := restartPage(9, 0, 0)
	torn[1022] = 99
	for name, test := range map[string]struct {
		log  []byte
		want Log
	}{
		"never used":             {ones(8192), LogEmpty},
		"closed":                 {append(restartPage(5, 0, volumeIsClean), restartPage(4, 0, volumeIsClean)...), LogClean},
		"closed by an old one":   {append(restartPage(5, noClient, 0), restartPage(4, 0, 0)...), LogClean},
		"the newer counts":       {append(restartPage(5, 0, volumeIsClean), restartPage(6, 0, 0)...), LogInUse},
		"in use":                 {append(restartPage(5, 0, 0), restartPage(4, 0, volumeIsClean)...), LogInUse},
		"one torn":               {append(torn, restartPage(4, 0, volumeIsClean)...), LogClean},
		"both torn":              {append(torn, torn...), LogDamaged},
		"overwritten":            {make([]byte, 8192), LogDamaged},
		"first page overwritten": {append(make([]byte, 4096), ones(4096)...), LogDamaged},
	} {
		got, err := Read(build(true, test.log))
		if err != nil || got.Log != test.want || !got.Dirty {
			t.Errorf("%s: %+v, %v, want %v", name, got, err, test.want)
		}
		if (got.LogVersion == "1.1") != (got.Log == LogClean || got.Log == LogInUse) {
			t.Errorf("%s: version %q", name, got.LogVersion)
		}
	}
}

func TestSetDirty(t *testing.T) {
	m := build(false, ones(8192))
	before := bytes.Clone(m.data)
	for _, dirty := range []bool{true, true, false} {
		if err := SetDirty(m, dirty); err != nil {
			t.Fatal(err)
		}
		if s, err := Read(m); err != nil || s.Dirty != dirty {
			t.Fatalf("%+v, %v", s, err)
		}
		if a, b := m.data[testMFT*testCluster:][3072:4096], m.data[testMirror*testCluster:][3072:4096]; !bytes.Equal(a, b) {
			t.Error("the copy is another")
		}
	}
	if m.writes != 4 || m.syncs != 2 {
		t.Errorf("%d writes and %d syncs", m.writes, m.syncs)
	}
	if !bytes.Equal(before, m.data) {
		t.Error("there and back changed something")
	}
}

func TestNotNTFS(t *testing.T) {
	for name, spoil := range map[string]func(*memory){
		"other file system": func(m *memory) { copy(m.data[3:], "MSDOS5.0") },
		"clusters of 0":     func(m *memory) { m.data[13] = 0 },
		"records of 0":      func(m *memory) { m.data[64] = 0 },
		"far away":          func(m *memory) { m.data[55] = 0x7F },
		"outside":           func(m *memory) { m.data[52] = 1 },
		"torn $Volume":      func(m *memory) { m.data[testMFT*testCluster+3*1024+1022]++ },
		"no $Volume":        func(m *memory) { clear(m.data[testMFT*testCluster+3*1024:][:1024]) },
		"no attributes":     func(m *memory) { m.data[testMFT*testCluster+3*1024+20] = 0xFF },
	} {
		m := build(false, ones(8192))
		spoil(m)
		if s, err := Read(m); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
		if SetDirty(m, true) == nil || m.writes > 0 {
			t.Errorf("%s: written to", name)
		}
	}
}

// TestSamples reads volumes that others made, and journals of Windows.
func TestSamples(t *testing.T) {
	for name, want := range map[string]State{
		"ntfs.img.xz": {}, "ntfs.raw.xz": {},
		"LogFile_7.bin.xz":  {Log: LogClean, LogVersion: "1.1"},
		"LogFile_10.bin.xz": {Log: LogInUse, LogVersion: "2.0"},
	} {
		data := sample(t, "ntfs/"+name)
		r := &memory{data: data}
		if strings.HasPrefix(name, "LogFile") {
			r = build(false, data[:8192])
		}
		got, err := Read(r)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	data := sample(t, "ntfs/ntfs-lastaccess.raw.gz")
	if got, err := Read(&memory{data: data[0x10000:]}); err != nil || got.Log != LogClean || got.LogVersion != "1.1" || got.Dirty {
		t.Errorf("a volume of Windows: %+v, %v", got, err)
	}
}

func sample(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("BOOTMEND_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	var r io.Reader
	if strings.HasSuffix(name, ".gz") {
		r, err = gzip.NewReader(f)
	} else {
		r, err = xz.NewReader(f)
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func FuzzRead(f *testing.F) {
	f.Add(build(true, append(restartPage(5, 0, 0), restartPage(4, 0, volumeIsClean)...)).data)
	f.Add(build(false, ones(8192)).data)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &memory{data: bytes.Clone(data)}
		s, err := Read(m)
		if err != nil {
			return
		}
		if err := SetDirty(&padded{m}, !s.Dirty); err != nil {
			return
		}
		for i := range data {
			if data[i] != m.data[i] && data[i]^m.data[i] != dirtyFlag {
				t.Fatalf("byte %d changed from %d to %d", i, data[i], m.data[i])
			}
		}
	})
}

// padded is a volume whose copy of $Volume may lie behind its end.
type padded struct{ *memory }

func (p *padded) WriteAt(b []byte, off int64) (int, error) {
	if off >= int64(len(p.data)) {
		return 0, io.ErrShortWrite
	}
	return p.memory.WriteAt(b, off)
}
