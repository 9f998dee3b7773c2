package flash

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/disk"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// gptImage makes an image of size bytes with one partition and other bytes wherever there is room.
func gptImage(t testing.TB, size int64) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gpt.img")
	d, err := diskfs.Create(path, size, diskfs.SectorSize512)
	if err != nil {
		t.Fatal(err)
	}
	table := &gpt.Table{ProtectiveMBR: true, LogicalSectorSize: 512, PhysicalSectorSize: 512, Partitions: []*gpt.Partition{
		{Index: 1, Start: 2048, End: uint64(size/512) - 2048, Type: gpt.MicrosoftBasicData, Name: "BOOTMEND"},
	}}
	if err := d.Partition(table); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := int64(1 << 20); i < size-1<<20; i++ {
		data[i] = byte(i / 997)
	}
	return data
}

func TestFit(t *testing.T) {
	data := gptImage(t, 8<<20)
	for _, size := range []int64{8<<20 + 20<<10, 9 << 20, 64<<20 + 512, 100 << 20} {
		s, err := Fit(Plain(bytes.NewReader(data), int64(len(data))), size)
		if err != nil {
			t.Fatal(err)
		}
		if s.Size() != size {
			t.Fatalf("size %d, want %d", s.Size(), size)
		}
		stick := newStick(size)
		if r := Write(context.Background(), s, targets(stick), nil); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		if !bytes.Equal(stick.data[1024:len(data)], data[1024:]) {
			t.Error("what is behind the header was changed")
		}
		path := filepath.Join(t.TempDir(), "stick")
		if err := os.WriteFile(path, stick.data, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := diskfs.Open(path, diskfs.WithOpenMode(diskfs.ReadOnly))
		if err != nil {
			t.Fatal(err)
		}
		checkTable(t, d, size)
		sgdisk, err := exec.LookPath("sgdisk")
		if err != nil {
			t.Log("sgdisk is not installed: not checked with it")
			continue
		}
		out, err := exec.Command(sgdisk, "--verify", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No problems found") {
			t.Errorf("sgdisk, size %d: %v\n%s", size, err, out)
		}
	}
}

func checkTable(t *testing.T, d *disk.Disk, size int64) {
	t.Helper()
	defer func() { _ = d.Close() }()
	table, err := d.GetPartitionTable()
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Verify(d.Backend, uint64(size)); err != nil {
		t.Errorf("size %d: %v", size, err)
	}
}

// TestFitNot has images that must stay as they are.
func TestFitNot(t *testing.T) {
	whole := gptImage(t, 8<<20)
	broken := bytes.Clone(whole)
	broken[600] ^= 1
	entries := bytes.Clone(whole)
	entries[1024+60] ^= 1
	far := bytes.Clone(whole)
	binary.LittleEndian.PutUint64(far[512+gptEntriesLBA:], 1<<39)
	signGPT(far[512:1024])
	many := bytes.Clone(whole)
	binary.LittleEndian.PutUint32(many[512+gptEntryCount:], 1<<32-1)
	signGPT(many[512:1024])
	for name, data := range map[string][]byte{
		"no GPT": make([]byte, 1<<20), "tiny": make([]byte, 512), "header": broken, "entries": entries, "far": far, "many": many,
	} {
		s := Plain(bytes.NewReader(data), int64(len(data)))
		if got, err := Fit(s, 64<<20); err != nil || got.Size() != s.Size() {
			t.Errorf("%s: size %d, %v", name, got.Size(), err)
		}
	}
	s := Plain(bytes.NewReader(whole), int64(len(whole)))
	for _, size := range []int64{8 << 20, 8<<20 + 512, 8<<20 + 4096} {
		if got, err := Fit(s, size); err != nil || got.Size() != s.Size() {
			t.Errorf("size %d: %v, %v", size, got.Size(), err)
		}
	}
}

func FuzzFit(f *testing.F) {
	f.Add(gptImage(f, 4<<20)[:64<<10], int64(64<<20))
	f.Add(make([]byte, 2048), int64(1<<20))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		s, err := Fit(Plain(bytes.NewReader(data), int64(len(data))), size)
		if err != nil {
			return
		}
		if err := checkExtents(s); err != nil && len(data) > 0 {
			t.Fatal(err)
		}
		buf := make([]byte, 64<<10)
		for _, e := range s.Extents() {
			for _, off := range []int64{e.Off, e.Off + e.Len - 1} {
				if n, err := s.ReadAt(buf, max(off, 0)); n == 0 && !errors.Is(err, io.EOF) {
					t.Fatalf("read at %d of %d: %v", off, s.Size(), err)
				}
			}
		}
	})
}
