package bitlocker_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/fvetest"
)

// TestRandomDamage makes volumes of random kinds and damages their metadata and first sector at random, with and
// without a right checksum: what opens must then read as what was encrypted. Damage to content is not noticed by any
// BitLocker, so it is left out.
func TestRandomDamage(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	r := rand.New(rand.NewPCG(291, 2024))
	opened, refused := 0, 0
	for kind := range 12 {
		opts := fvetest.Options{
			Method:     bitlocker.Methods()[r.IntN(len(bitlocker.Methods()))],
			SectorSize: []int{512, 4096}[r.IntN(2)],
			Rand:       fvetest.Seed(fmt.Sprint("damage ", kind)),
			StartupKey: r.IntN(2) == 0, TPM: r.IntN(2) == 0, UnknownEntries: r.IntN(2) == 0,
		}
		if r.IntN(3) == 0 {
			opts.EncryptedSize = int64(1+r.IntN(3)) << 20
			opts.Paused, opts.Decrypting = r.IntN(2) == 0, r.IntN(2) == 0
		}
		v := makeVolume(t, testSize, opts)
		places := []int64{0}
		for _, reg := range v.res.Regions[:3] {
			places = append(places, reg.Off)
		}
		// What is overwritten is put back after each round.
		kept := make([][]byte, len(places))
		for i, at := range places {
			kept[i] = bytes.Clone(v.disk[at : at+4096])
		}
		for range rounds / 12 {
			for i, at := range places {
				if r.IntN(4) != 0 && !damageOne(r, v.disk[at:at+4096], i > 0) {
					t.Fatal("no damage done")
				}
			}
			if readBack(t, v) {
				opened++
			} else {
				refused++
			}
			for i, at := range places {
				copy(v.disk[at:], kept[i])
			}
		}
	}
	if opened == 0 || refused == 0 {
		t.Errorf("%d volumes opened, %d refused: this tests nothing", opened, refused)
	}
	t.Logf("%d volumes opened, %d refused", opened, refused)
}

// damageOne changes a few bytes, and mostly those that mean something.
func damageOne(r *rand.Rand, b []byte, block bool) bool {
	before := bytes.Clone(b)
	limit := len(b)
	if r.IntN(2) == 0 {
		limit = 256
	}
	for range 1 + r.IntN(4) {
		i := r.IntN(limit)
		switch r.IntN(3) {
		case 0:
			b[i] ^= 1 << r.IntN(8)
		case 1:
			b[i] = byte(r.IntN(256))
		default:
			clear(b[i:min(limit, i+1+r.IntN(8))])
		}
	}
	if size := int(b[8]) | int(b[9])<<8; block && r.IntN(2) == 0 && size*16+8 <= len(b) {
		resum(b)
	}
	return len(before) == len(b)
}

// readBack opens the volume, if it opens, and compares what it reads.
func readBack(t *testing.T, v *made) bool {
	t.Helper()
	m, err := bitlocker.ReadMetadata(v.disk, testSize)
	if err != nil {
		return false
	}
	key, _, err := m.UnlockClearKey()
	if err != nil {
		return false
	}
	vol, err := bitlocker.OpenVolume(v.disk, m, key)
	if err != nil {
		return false
	}
	got := make([]byte, len(v.content))
	if _, err := vol.ReadAt(got, 0); err != nil {
		return false
	}
	if !bytes.Equal(got, v.content) {
		t.Fatalf("wrong content without an error: state %s, %d bytes encrypted, sectors of %d, problems %q", m.State, m.EncryptedSize, m.SectorSize, m.Problems)
	}
	return true
}

// TestWrongSectorSize has a first sector, which no hash protects, that gives another sector size.
func TestWrongSectorSize(t *testing.T) {
	for _, sizes := range [][2]int{{512, 4096}, {4096, 512}} {
		v := makeVolume(t, testSize, fvetest.Options{SectorSize: sizes[0]})
		v.disk[11], v.disk[12] = byte(sizes[1]), byte(sizes[1]>>8)
		if !readBack(t, v) {
			t.Errorf("volume with sectors of %d bytes does not open where its first sector says %d", sizes[0], sizes[1])
		}
	}
}

// FuzzEntries puts metadata entries, those of every protector among the seeds, into a block that is right otherwise.
func FuzzEntries(f *testing.F) {
	v := makeVolume(f, testSize, fvetest.Options{
		RecoveryPasswords: []string{""}, Passwords: []string{"x"}, StartupKey: true, TPM: true, UnknownEntries: true,
	})
	const head = 64 + 48
	block := v.disk[v.res.Regions[0].Off:]
	size := int(binary.LittleEndian.Uint32(block[64:])) - 48
	whole := bytes.Clone(block[head : head+size])
	f.Add(whole)
	for b := whole; len(b) >= 8; { // each kind by itself
		n := int(binary.LittleEndian.Uint16(b))
		f.Add(bytes.Clone(b[:n]))
		b = b[n:]
	}
	first := bytes.Clone(v.disk[:512])
	prefix := bytes.Clone(block[:head])
	f.Fuzz(func(t *testing.T, entries []byte) {
		if len(entries) > 32<<10 {
			return
		}
		b := append(bytes.Clone(prefix), entries...)
		b = append(b, make([]byte, (16-len(b)%16)%16)...)
		binary.LittleEndian.PutUint16(b[8:], uint16(len(b)/16))
		binary.LittleEndian.PutUint32(b[64:], uint32(48+len(entries)))
		b = append(b, 16, 0, 2, 0, 0, 0, 0, 0)
		resum(b)
		disk := overlay{first, b, v.res.Regions[0].Off}
		m, err := bitlocker.ReadMetadata(disk, testSize)
		if err != nil {
			return
		}
		_ = m.Wanted()
		if key, _, err := m.UnlockClearKey(); err == nil {
			vol, err := bitlocker.OpenVolume(disk, m, key)
			if err != nil {
				return
			}
			_, _ = vol.ReadAt(make([]byte, 10000), 3)
			_, _ = m.Table(key, "/dev/x")
		}
		_, _, _ = m.UnlockStartupKey(v.res.BEK)
		_, _ = m.UnlockVMK(v.res.VMK)
	})
}

// overlay is a disk of zeros with a first sector and one metadata block.
type overlay struct {
	first, block []byte
	at           int64
}

func (o overlay) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for _, part := range []struct {
		b  []byte
		at int64
	}{{o.first, 0}, {o.block, o.at}} {
		if from := part.at - off; from >= 0 && from < int64(len(p)) {
			copy(p[from:], part.b)
		}
	}
	return len(p), nil
}

// TestOpeningAllocates bounds the memory for a volume, whatever its size.
func TestOpeningAllocates(t *testing.T) {
	for _, size := range []int64{testSize, 256 << 20} {
		v := makeVolume(t, size, fvetest.Options{})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		vol, _, _ := v.open(t)
		b := make([]byte, 4096)
		if _, err := vol.ReadAt(b, size/2); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("opening a volume of %d MiB allocates %d bytes", size>>20, n)
		}
	}
}

// TestTryAll finds one password of many, on the right one of two protectors, and says which.
func TestTryAll(t *testing.T) {
	v := makeVolume(t, testSize, fvetest.Options{RecoveryPasswords: []string{"", ""}})
	_, m, _ := v.open(t)
	var passwords []bitlocker.RecoveryPassword
	for i := range 5 {
		s := fmt.Sprintf("%06d-278498-422125-177177-561902-537405-468006-693451", 11*(i+100))
		p, err := bitlocker.ParseRecoveryPassword(s)
		if err != nil {
			t.Fatal(err)
		}
		passwords = append(passwords, p)
	}
	if _, err := m.TryAll(t.Context(), passwords[:2]); !errors.Is(err, bitlocker.ErrWrongKey) {
		t.Errorf("none fits: %v", err)
	}
	if _, err := m.TryAll(t.Context(), nil); !errors.Is(err, bitlocker.ErrNoProtector) {
		t.Errorf("no passwords: %v", err)
	}
	right, err := bitlocker.ParseRecoveryPassword(v.res.Recovery[1].Password)
	if err != nil {
		t.Fatal(err)
	}
	passwords = slices.Insert(passwords, 3, right)
	var last, total int64
	ctx := bitlocker.WithProgress(t.Context(), func(done, of int64) {
		if done < last || done > of {
			t.Errorf("progress %d of %d after %d", done, of, last)
		}
		last, total = done, of
	})
	a, err := m.TryAll(ctx, passwords)
	if err != nil || a.Index != 3 || a.Protector.ID != v.res.Recovery[1].ID || total != 12<<20 {
		t.Fatalf("%+v of %d rounds, %v", a, total, err)
	}
	vol, err := bitlocker.OpenVolume(v.disk, m, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, testSize)
	if _, err := vol.ReadAt(got, 0); err != nil || !bytes.Equal(got, v.content) {
		t.Errorf("content differs: %v", err)
	}
}
