package disk

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"
	"github.com/ulikunitz/xz"
)

func TestFindForeign(t *testing.T) {
	const size = 1 << 20
	sparse := func(parts map[int]string) []byte {
		data := boot("NTFS    ")
		data = append(data, make([]byte, size-len(data))...)
		for off, s := range parts {
			copy(data[off:], s)
		}
		return data
	}
	const md1, md0 = "\xfc\x4e\x2b\xa9\x01\x00\x00\x00", "\xfc\x4e\x2b\xa9\x00\x00\x00\x00"
	for name, tc := range map[string]struct {
		data     []byte
		want     string
		handsOff bool
	}{
		"a volume":     {sparse(nil), "", false},
		"md 1.2":       {sparse(map[int]string{4096: md1}), "md", true},
		"md 1.1":       {sparse(map[int]string{0: md1}), "md", true},
		"md 1.0":       {sparse(map[int]string{size - 8192: md1}), "md", true},
		"md 0.90":      {sparse(map[int]string{size - 65536: md0}), "md", true},
		"no md":        {sparse(map[int]string{4096: md0}), "", false},
		"Intel":        {sparse(map[int]string{size - 1024: "Intel Raid ISM Cfg Sig. 1.0.00"}), "Intel RAID", true},
		"DDF":          {sparse(map[int]string{size - 512: "\xde\x11\xde\x11"}), "DDF", true},
		"LUKS":         {sparse(map[int]string{0: "LUKS\xba\xbe\x00\x02"}), "LUKS", false},
		"LVM":          {sparse(map[int]string{512: "LABELONE"}), "LVM", true},
		"dynamic":      {sparse(map[int]string{3072: "PRIVHEAD"}), "dynamic", true},
		"pool":         {sparse(map[int]string{0: "SPACEDB "}), "Storage Spaces", false},
		"PGP":          {sparse(map[int]string{0: "\xeb\x48\x90PGPGUARD"}), "Symantec (PGP)", false},
		"SafeBoot":     {sparse(map[int]string{3: "SafeBoot"}), "McAfee", false},
		"GuardianEdge": {sparse(map[int]string{6: "PCGM"}), "GuardianEdge", false},
		"Check Point":  {sparse(map[int]string{90: "Protect"}), "Check Point", false},
		"Sophos":       {sparse(map[int]string{119: "SGM400:"}), "Sophos", false},
		"SecureDoc":    {sparse(map[int]string{246: "WMSD"}), "SecureDoc", false},
		"VeraCrypt":    {sparse(map[int]string{6: " VeraCrypt Boot Loader\r\n"}), "VeraCrypt", false},
		"TrueCrypt":    {sparse(map[int]string{5: " TrueCrypt Boot Loader\r\n"}), "TrueCrypt", false},
		"elsewhere":    {sparse(map[int]string{300: "WMSD", 400: "Protect"}), "", false},
		"short":        {[]byte("LUKS"), "", false},
		"nothing":      {nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			checkForeign(t, FindForeign(bytes.NewReader(tc.data), int64(len(tc.data))), tc.want, tc.handsOff)
		})
	}
}

func checkForeign(t *testing.T, got *Foreign, want string, handsOff bool) {
	t.Helper()
	switch {
	case want == "" && got != nil:
		t.Errorf("got %q, want nothing", got.What)
	case want != "" && (got == nil || !strings.Contains(got.What, want) || got.HandsOff != handsOff || got.Next == ""):
		t.Errorf("got %+v, want %q, hands off %t", got, want, handsOff)
	}
}

func TestFindForeignByTable(t *testing.T) {
	gptOf := func(kind gpt.Type) any {
		return &gpt.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, ProtectiveMBR: true, Partitions: []*gpt.Partition{
			{Index: 1, Start: 2048, End: 4095, Type: kind, Name: "x"},
		}}
	}
	for name, tc := range map[string]struct {
		table    any
		want     string
		handsOff bool
	}{
		"basic":        {gptOf(gpt.MicrosoftBasicData), "", false},
		"LDM metadata": {gptOf(typeLDMMetadata), "dynamic", true},
		"LDM data":     {gptOf(typeLDMData), "dynamic", true},
		"pool":         {gptOf(typeSpaces), "Storage Spaces", false},
		"MBR":          {&mbr.Table{LogicalSectorSize: 512, PhysicalSectorSize: 512, Partitions: []*mbr.Partition{{Index: 1, Type: typeDynamic, Start: 63, Size: 4096}}}, "dynamic", true},
	} {
		t.Run(name, func(t *testing.T) {
			r, size := image(t, tc.table, nil)
			checkForeign(t, FindForeign(r, size), tc.want, tc.handsOff)
		})
	}
}

// TestFindForeignSamples reads disks that others made.
func TestFindForeignSamples(t *testing.T) {
	dir := os.Getenv("BOOTMEND_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "testdata")
	}
	for name, want := range map[string]string{"isw-raid": "Intel RAID", "ddf-raid": "DDF", "gpt": ""} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(filepath.Join(dir, "disks", name+".img.xz"))
			if err != nil {
				t.Skipf("the samples of others are not here (BOOTMEND_TESTDATA): %v", err)
			}
			defer func() { _ = f.Close() }()
			r, err := xz.NewReader(f)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			checkForeign(t, FindForeign(bytes.NewReader(data), int64(len(data))), want, true)
		})
	}
}

func FuzzFindForeign(f *testing.F) {
	f.Add(boot("NTFS    "))
	f.Add(with(make([]byte, 64<<10), 512, []byte("EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")))
	f.Fuzz(func(t *testing.T, data []byte) { FindForeign(bytes.NewReader(data), int64(len(data))) })
}
