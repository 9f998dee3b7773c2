package bitlocker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// resum corrects the checksum of a metadata copy.
func resum(b []byte) {
	size := int(binary.LittleEndian.Uint16(b[8:])) * 16
	binary.LittleEndian.PutUint32(b[size+4:], crc32.ChecksumIEEE(b[:size]))
}

// damages are ways to break a metadata copy.
var damages = []struct {
	name, says string
	do         func(b []byte)
}{
	{"signature", "signature", func(b []byte) { b[0] ^= 1 }},
	{"zeros", "signature", func(b []byte) { clear(b) }},
	{"version", "version 3", func(b []byte) { b[10] = 3; resum(b) }},
	{"size too small", "size 16", func(b []byte) { binary.LittleEndian.PutUint16(b[8:], 1) }},
	{"size too large", "size 1048560", func(b []byte) { binary.LittleEndian.PutUint16(b[8:], 0xffff) }},
	{"one bit of a protector", "checksum", func(b []byte) { b[0x123] ^= 0x80 }},
	{"checksum", "checksum", func(b []byte) { b[int(binary.LittleEndian.Uint16(b[8:]))*16+4] ^= 1 }},
	{"place", "lies at offset", func(b []byte) {
		for i := 32; i < 56; i += 8 {
			binary.LittleEndian.PutUint64(b[i:], 512)
		}
		resum(b)
	}},
	{"header's place", "volume header", func(b []byte) { binary.LittleEndian.PutUint64(b[56:], 100); resum(b) }},
	{"huge offset", "volume header", func(b []byte) { binary.LittleEndian.PutUint64(b[56:], 1<<63); resum(b) }},
	{"data size", "metadata header", func(b []byte) { binary.LittleEndian.PutUint32(b[64:], 1<<31); resum(b) }},
	{"data header size", "metadata header", func(b []byte) { binary.LittleEndian.PutUint32(b[72:], 1<<31); resum(b) }},
	{"validation", "validation", func(b []byte) { clear(b[int(binary.LittleEndian.Uint16(b[8:]))*16:]) }},
}

// TestDamagedCopies breaks one, two and all three copies in each way.
func TestDamagedCopies(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			for broken := 1; broken <= 3; broken++ {
				v := makeVolume(t, fvetest.MinSize, fvetest.Options{})
				for i := range broken {
					d.do(v.disk[v.res.Regions[i].Off:][:64<<10])
				}
				m, err := bitlocker.ReadMetadata(v.disk, fvetest.MinSize)
				if broken == 3 {
					if m != nil || !errors.Is(err, bitlocker.ErrNoValidMetadata) || !strings.Contains(err.Error(), d.says) ||
						!strings.Contains(err.Error(), fmt.Sprint("copy 3 at offset ", v.res.Regions[2].Off)) {
						t.Errorf("all copies broken: %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if m.Block != broken+1 || len(m.Problems) != broken || !strings.Contains(m.Problems[0], d.says) {
					t.Errorf("%d broken: uses copy %d, problems %q", broken, m.Block, m.Problems)
				}
				vol, _, _ := v.open(t)
				got := make([]byte, fvetest.MinSize)
				if _, err := vol.ReadAt(got, 0); err != nil || !bytes.Equal(got, v.content) {
					t.Errorf("%d broken: content differs, %v", broken, err)
				}
			}
		})
	}
}

// TestForgedMetadata changes all copies and corrects their checksums, which
// the SHA-256 under the volume master key gives away.
func TestForgedMetadata(t *testing.T) {
	v := makeVolume(t, fvetest.MinSize, fvetest.Options{})
	for _, r := range v.res.Regions[:3] {
		b := v.disk[r.Off:][:64<<10]
		b[64+48+8+2] ^= 1 // a letter of the description
		resum(b)
	}
	m, err := bitlocker.ReadMetadata(v.disk, fvetest.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.UnlockClearKey(); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("forged metadata is accepted: %v", err)
	}
}

// TestDifferingCopies has a third copy that is valid but of another volume.
func TestDifferingCopies(t *testing.T) {
	v := makeVolume(t, fvetest.MinSize, fvetest.Options{})
	other := makeVolume(t, fvetest.MinSize, fvetest.Options{Rand: fvetest.Seed("other")})
	r := v.res.Regions[2]
	copy(v.disk[r.Off:r.Off+r.Len], other.disk[r.Off:])
	_, m, _ := v.open(t)
	if m.Block != 1 || len(m.Problems) != 1 || !strings.Contains(m.Problems[0], "differs") {
		t.Errorf("uses copy %d, problems %q", m.Block, m.Problems)
	}
}

// TestNoChecksum has an image that ends within the first copy.
func TestNoChecksum(t *testing.T) {
	v := makeVolume(t, fvetest.MinSize, fvetest.Options{})
	at := v.res.Regions[0].Off
	size := int64(binary.LittleEndian.Uint16(v.disk[at+8:])) * 16
	m, err := bitlocker.ReadMetadata(v.disk[:at+size], at+size)
	if !errors.Is(err, bitlocker.ErrNoValidMetadata) || m == nil || m.VolumeID != v.res.VolumeID || len(m.Protectors) != 1 {
		t.Fatalf("metadata %v, error %v", m, err)
	}
	if _, _, err := m.UnlockClearKey(); !errors.Is(err, bitlocker.ErrNoValidMetadata) {
		t.Errorf("metadata without a checksum unlocks: %v", err)
	}
	if _, err := bitlocker.OpenVolume(v.disk, m, nil); !errors.Is(err, bitlocker.ErrNoValidMetadata) {
		t.Errorf("metadata without a checksum opens: %v", err)
	}
	if m, err := bitlocker.ReadMetadata(v.disk[:at+size-1], at+size-1); m != nil || !errors.Is(err, bitlocker.ErrNoValidMetadata) {
		t.Errorf("cut within the block: %v", err)
	}
}

func TestFirstSector(t *testing.T) {
	v := makeVolume(t, fvetest.MinSize, fvetest.Options{})
	for _, tt := range []struct {
		name string
		do   func(b []byte)
		want error
	}{
		{"NTFS", func(b []byte) { copy(b[3:], "NTFS    ") }, bitlocker.ErrNotBitLocker},
		{"FAT of Windows 95", func(b []byte) { copy(b[3:], "MSWIN4.1") }, bitlocker.ErrNotBitLocker},
		{"zeros", func(b []byte) { clear(b) }, bitlocker.ErrNotBitLocker},
		{"Windows Vista", func(b []byte) { b[1] = 0x52; clear(b[0xa0:0xb0]) }, bitlocker.ErrNoValidMetadata},
		{"unknown identifier", func(b []byte) { b[0xa0] ^= 1 }, bitlocker.ErrUnsupported},
		{"sectors of 520 bytes", func(b []byte) { b[11] = 8 }, bitlocker.ErrUnsupported},
		{"metadata outside", func(b []byte) {
			for i := 0xb0; i < 0xc8; i++ {
				b[i] = 0xff
			}
		}, bitlocker.ErrNoValidMetadata},
	} {
		disk := bytes.Clone(v.disk)
		tt.do(disk[:512])
		if m, err := bitlocker.ReadMetadata(memory(disk), int64(len(disk))); m != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, n := range []int{0, 1, 511} {
		if _, err := bitlocker.ReadMetadata(v.disk[:n], int64(n)); !errors.Is(err, bitlocker.ErrNotBitLocker) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	broken := errors.New("disk is broken")
	if _, err := bitlocker.ReadMetadata(failing{broken}, 1<<30); !errors.Is(err, broken) {
		t.Errorf("error of the disk is lost: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// TestToGo reads the first sector of BitLocker To Go, and takes a sector size
// of zero for 512, as on exFAT volumes.
func TestToGo(t *testing.T) {
	v := makeVolume(t, fvetest.MinSize, fvetest.Options{ToGo: true})
	v.disk[12] = 0
	vol, m, _ := v.open(t)
	got := make([]byte, fvetest.MinSize)
	if _, err := vol.ReadAt(got, 0); err != nil || !bytes.Equal(got, v.content) || !m.ToGo {
		t.Errorf("to go %t, error %v", m.ToGo, err)
	}
}

// TestUnknownSize reads a volume whose size the caller does not know.
func TestUnknownSize(t *testing.T) {
	v := makeVolume(t, fvetest.MinSize, fvetest.Options{})
	m, err := bitlocker.ReadMetadata(v.disk, -1)
	if err != nil || m.VolumeSize != fvetest.MinSize || len(m.Problems) > 0 {
		t.Errorf("size %d, problems %q, error %v", m.VolumeSize, m.Problems, err)
	}
}

func TestWrongSecrets(t *testing.T) {
	opts := fvetest.Options{RecoveryPasswords: []string{"", ""}, Passwords: []string{"right"}, StartupKey: true}
	v := makeVolume(t, fvetest.MinSize, opts)
	m, err := bitlocker.ReadMetadata(v.disk, fvetest.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	wrong, err := bitlocker.ParseRecoveryPassword("471207-278498-422125-177177-561902-537405-468006-693451")
	if err != nil {
		t.Fatal(err)
	}
	right, err := bitlocker.ParseRecoveryPassword(v.res.Recovery[1].Password)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, want, err error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error of several lines: %v", name, err)
		}
		for _, digits := range []string{"471207", v.res.Recovery[1].Password[:6], "right"} {
			if err != nil && strings.Contains(err.Error(), digits) {
				t.Errorf("%s: error shows the secret: %v", name, err)
			}
		}
	}
	_, _, err = m.UnlockRecovery(ctx, wrong, nil)
	check("wrong recovery password", bitlocker.ErrWrongKey, err)
	_, _, err = m.UnlockRecovery(ctx, right, &v.res.Recovery[0].ID)
	check("recovery password of another protector", bitlocker.ErrWrongKey, err)
	_, _, err = m.UnlockRecovery(ctx, right, &v.res.ClearKey)
	check("identifier of a protector of another kind", bitlocker.ErrNoProtector, err)
	_, _, err = m.UnlockRecovery(ctx, bitlocker.RecoveryPassword{}, nil)
	check("empty recovery password", bitlocker.ErrWrongKey, err)
	_, _, err = m.UnlockPassword(ctx, "wrong")
	check("wrong password", bitlocker.ErrWrongKey, err)
	bek := bytes.Clone(v.res.BEK)
	bek[len(bek)-1] ^= 1
	_, _, err = m.UnlockStartupKey(bek)
	check("wrong startup key", bitlocker.ErrWrongKey, err)
	bek[48+8] ^= 1
	_, _, err = m.UnlockStartupKey(bek)
	check("startup key of another protector", bitlocker.ErrNoProtector, err)
	if _, _, err = m.UnlockStartupKey(bek[:100]); err == nil {
		t.Error("a startup key file that is cut off is accepted")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, _, err = m.UnlockRecovery(cancelled, right, nil)
	check("cancelled", context.Canceled, err)

	bare := makeVolume(t, fvetest.MinSize, fvetest.Options{})
	_, m, _ = bare.open(t)
	_, _, err = m.UnlockRecovery(ctx, right, nil)
	check("volume without recovery password", bitlocker.ErrNoProtector, err)
	_, _, err = m.UnlockPassword(ctx, "right")
	check("volume without password", bitlocker.ErrNoProtector, err)
}

func TestUnlockProgress(t *testing.T) {
	v := makeVolume(t, fvetest.MinSize, fvetest.Options{RecoveryPasswords: []string{"", ""}})
	_, m, _ := v.open(t)
	p, err := bitlocker.ParseRecoveryPassword("471207-278498-422125-177177-561902-537405-468006-693451")
	if err != nil {
		t.Fatal(err)
	}
	var last, total int64
	ctx := bitlocker.WithProgress(context.Background(), func(done, of int64) {
		if done <= last || done > of {
			t.Errorf("progress %d of %d after %d", done, of, last)
		}
		last, total = done, of
	})
	if _, _, err := m.UnlockRecovery(ctx, p, nil); !errors.Is(err, bitlocker.ErrWrongKey) {
		t.Error(err)
	}
	if total != 2<<20 || last != total {
		t.Errorf("progress ends at %d of %d", last, total)
	}
}

// TestNothingShown prints all that holds a secret in every way there is.
func TestNothingShown(t *testing.T) {
	v := makeVolume(t, fvetest.MinSize, fvetest.Options{RecoveryPasswords: []string{""}})
	_, m, key := v.open(t)
	table, err := m.Table(key, "/dev/x")
	if err != nil {
		t.Fatal(err)
	}
	keyHex := strings.Fields(table[0].Params)[1]
	password, err := bitlocker.ParseRecoveryPassword(v.res.Recovery[0].Password)
	if err != nil {
		t.Fatal(err)
	}
	if password.Reveal() != v.res.Recovery[0].Password {
		t.Error("Reveal gives another password")
	}
	type holder struct {
		Password bitlocker.RecoveryPassword
		hidden   bitlocker.RecoveryPassword
		Key      *bitlocker.VolumeKey
		Table    []bitlocker.Target
		Metadata *bitlocker.Metadata
	}
	h := holder{password, password, key, table, m}
	keyBytes := make([]byte, len(keyHex)/2)
	if _, err := fmt.Sscanf(keyHex, "%x", &keyBytes); err != nil {
		t.Fatal(err)
	}
	secrets := []string{keyHex, strings.ToUpper(keyHex), string(keyBytes), strings.Trim(fmt.Sprintf("%d", keyBytes), "[]")}
	secrets = append(secrets, v.res.Recovery[0].Password, v.res.Recovery[0].Password[7:13])
	var shown []string
	for _, x := range []any{h, &h, password, &password, *key, key, table, table[0], &table[0], m, *m, m.Protectors} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			shown = append(shown, fmt.Sprintf(verb, x))
		}
		j, err := json.Marshal(x)
		if err != nil {
			t.Error(err)
		}
		shown = append(shown, string(j))
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "x", x)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "x", x)
		shown = append(shown, log.String())
	}
	for _, text := range shown {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("a secret is shown in %.200s", text)
			}
		}
	}
}

func ExampleReadMetadata() {
	disk := make(memory, fvetest.MinSize)
	_, err := fvetest.Format(disk, bytes.NewReader(nil), fvetest.MinSize, fvetest.Options{ClearKey: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := bitlocker.ReadMetadata(disk, fvetest.MinSize)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.ComputerName, m.Method, m.State)
	key, protector, err := m.UnlockClearKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer key.Wipe()
	v, err := bitlocker.OpenVolume(disk, m, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := io.Copy(io.Discard, io.NewSectionReader(v, 0, v.Size()))
	fmt.Println(protector.Kind, n, err)
	// Output:
	// BOOTMEND-PC AES-XTS 128 Fully Encrypted
	// Clear Key 4194304 <nil>
}
