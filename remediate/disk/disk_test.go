package disk

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	diskfs "github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

// boot is a first sector with an OEM name, enough for Identify.
func boot(oem string) []byte {
	s := make([]byte, 64<<10)
	s[0], s[1], s[2] = 0xeb, 0x58, 0x90
	copy(s[3:], oem)
	s[11], s[12], s[13], s[16] = 0x00, 0x02, 8, 2
	s[510], s[511] = 0x55, 0xaa
	return s
}

func with(s []byte, off int, b []byte) []byte {
	copy(s[off:], b)
	return s
}

func TestIdentify(t *testing.T) {
	for name, tc := range map[string]struct {
		data []byte
		want Kind
	}{
		"BitLocker":       {boot("-FVE-FS-"), BitLocker},
		"BitLocker To Go": {with(boot("MSWIN4.1"), 0x1a8, guidFVE), BitLocker},
		"NTFS":            {boot("NTFS    "), NTFS},
		"exFAT":           {boot("EXFAT   "), ExFAT},
		"FAT":             {boot("MSWIN4.1"), FAT},
		"ISO 9660":        {with(make([]byte, 64<<10), 32769, []byte("CD001")), ISO9660},
		"zeros":           {make([]byte, 4096), Unknown},
		"protective MBR":  {with(make([]byte, 512), 510, []byte{0x55, 0xaa}), Unknown},
		"one byte":        {[]byte{0xeb}, Unknown},
		"empty":           {nil, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Identify(bytes.NewReader(tc.data))
			if err != nil || got != tc.want {
				t.Fatalf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
}

func TestIdentifyReportsReadErrors(t *testing.T) {
	if _, err := Identify(failing{}); err == nil {
		t.Fatal("a disk that cannot be read was called unknown")
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, os.ErrPermission }

// image makes a 16 MiB disk with the table and a boot sector at each offset.
func image(t *testing.T, table any, sectors map[int64][]byte) (io.ReaderAt, int64) {
	t.Helper()
	const size = 16 << 20
	path := filepath.Join(t.TempDir(), "disk.img")
	d, err := diskfs.Create(path, size, diskfs.SectorSizeDefault)
	if err != nil {
		t.Fatal(err)
	}
	switch tab := table.(type) {
	case *gpt.Table:
		err = d.Partition(tab)
	case *mbr.Table:
		err = d.Partition(tab)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for off, s := range sectors {
		copy(data[off:], s)
	}
	return bytes.NewReader(data), int64(len(data))
}

func TestVolumesGPT(t *testing.T) {
	guid := "5CA3360B-DC02-45D2-9A4D-3F2D1E0C9B8A"
	r, size := image(t, &gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true, Partitions: []*gpt.Partition{
		{Index: 1, Start: 2048, End: 4095, Type: gpt.EFISystemPartition, Name: "EFI", GUID: guid},
		{Index: 3, Start: 4096, End: 8191, Type: gpt.MicrosoftBasicData, Name: "Windows"},
	}}, map[int64][]byte{2048 * 512: boot("MSWIN4.1"), 4096 * 512: boot("-FVE-FS-")})
	got, err := Volumes(r, size)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
	if v := got[0]; v.Number != 1 || !v.ESP || v.GUID != guid || v.Kind != FAT || v.Offset != 1<<20 || v.Size != 1<<20 {
		t.Errorf("ESP: %+v", v)
	}
	if v := got[1]; v.Number != 3 || v.ESP || v.Kind != BitLocker || v.Offset != 2<<20 || v.Size != 2<<20 {
		t.Errorf("Windows: %+v", v)
	}
}

func TestVolumesMBR(t *testing.T) {
	r, size := image(t, &mbr.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, Partitions: []*mbr.Partition{
		{Index: 1, Type: mbr.NTFS, Start: 2048, Size: 4096, Bootable: true},
		{Index: 2, Type: mbr.NTFS, Start: 8192, Size: 1 << 30}, // beyond the medium
	}}, map[int64][]byte{2048 * 512: boot("NTFS    ")})
	got, err := Volumes(r, size)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Kind != NTFS || got[0].Number != 1 || got[0].Size != 2<<20 {
		t.Fatalf("got %+v", got)
	}
}

func TestVolumesBare(t *testing.T) {
	for _, oem := range []string{"-FVE-FS-", "NTFS    ", "MSWIN4.1"} {
		data := boot(oem)
		got, err := Volumes(bytes.NewReader(data), int64(len(data)))
		if err != nil || len(got) != 1 || got[0].Offset != 0 || got[0].Size != int64(len(data)) || got[0].Number != 0 {
			t.Errorf("%s: got %+v, %v", oem, got, err)
		}
	}
	if _, err := Volumes(bytes.NewReader(make([]byte, 1<<20)), 1<<20); err == nil {
		t.Error("a blank disk has volumes")
	}
}

func FuzzVolumes(f *testing.F) {
	f.Add(boot("-FVE-FS-"))
	f.Add(boot("MSWIN4.1"))
	gptHeader := with(make([]byte, 64<<10), 512, []byte("EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00"))
	f.Add(with(gptHeader, 510, []byte{0x55, 0xaa}))
	f.Fuzz(func(t *testing.T, data []byte) {
		vols, err := Volumes(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		for _, v := range vols {
			if v.Offset < 0 || v.Size < 0 || v.Offset+v.Size > int64(len(data)) {
				t.Fatalf("volume outside the medium: %+v", v)
			}
		}
	})
}
