package fvetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
)

// clearVolume makes content that differs in every sector, with nothing where
// BitLocker's own data goes.
func clearVolume(t testing.TB, size int64, opts Options) []byte {
	t.Helper()
	b := make([]byte, size)
	if _, err := io.ReadFull(Seed("content"), b); err != nil {
		t.Fatal(err)
	}
	// dislocker takes the volume's size from here where it has to.
	copy(b[3:], "NTFS    ")
	regions, err := Layout(size, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range regions {
		clear(b[r.Off:r.end()])
	}
	return b
}

// format makes a volume in a file and gives it opened.
func format(t testing.TB, content []byte, opts Options) (*os.File, *Result) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "volume.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(int64(len(content))); err != nil {
		t.Fatal(err)
	}
	res, err := Format(f, bytes.NewReader(content), int64(len(content)), opts)
	if err != nil {
		t.Fatal(err)
	}
	return f, res
}

// unlock opens the volume with its clear key.
func unlock(t testing.TB, f *os.File, size int64) (*bitlocker.Metadata, *bitlocker.VolumeKey) {
	t.Helper()
	m, err := bitlocker.ReadMetadata(f, size)
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := m.UnlockClearKey()
	if err != nil {
		t.Fatal(err)
	}
	return m, key
}

func program(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// kinds are all that a volume can be encrypted with.
func kinds() []Options {
	var list []Options
	for _, method := range bitlocker.Methods() {
		for _, sector := range []int{512, 4096} {
			list = append(list, Options{Method: method, SectorSize: sector})
		}
	}
	return list
}

func kindName(o Options) string {
	return strings.ReplaceAll(fmt.Sprintf("%s %d", o.Method, o.SectorSize), " ", "-")
}

// TestFormatOpens opens volumes with every secret. The ciphers are tested
// with a clear key elsewhere, for that needs no stretch.
func TestFormatOpens(t *testing.T) {
	const size = 4 << 20
	for _, opts := range []Options{{}, {Method: bitlocker.MethodElephant128, SectorSize: 4096}} {
		t.Run(kindName(opts), func(t *testing.T) {
			t.Parallel()
			opts := opts.withDefaults()
			opts.RecoveryPasswords = []string{"", "471207-278498-422125-177177-561902-537405-468006-693451"}
			opts.Passwords = []string{"Grüße \U0001f511"}
			opts.ClearKey, opts.StartupKey, opts.TPM = true, true, true
			content := clearVolume(t, size, opts)
			f, res := format(t, content, opts)
			m, err := bitlocker.ReadMetadata(f, size)
			if err != nil {
				t.Fatal(err)
			}
			if m.Method != opts.Method || m.SectorSize != opts.SectorSize || m.State != bitlocker.StateEncrypted ||
				m.ComputerName != "BOOTMEND-PC" || m.Description != DefaultDescription || m.VolumeID != res.VolumeID ||
				m.VolumeSize != size || m.Block != 1 || len(m.Problems)+len(m.Skipped) != 0 {
				t.Errorf("metadata: %+v", m)
			}
			ctx := context.Background()
			recovery := func(i int, byID bool) func() (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
				return func() (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
					p, err := bitlocker.ParseRecoveryPassword(res.Recovery[i].Password)
					if err != nil {
						return nil, nil, err
					}
					if !byID {
						return m.UnlockRecovery(ctx, p, nil)
					}
					return m.UnlockRecovery(ctx, p, &res.Recovery[i].ID)
				}
			}
			for _, s := range []struct {
				name   string
				id     bitlocker.GUID
				kind   bitlocker.ProtectorKind
				unlock func() (*bitlocker.VolumeKey, *bitlocker.Protector, error)
			}{
				{"first recovery password", res.Recovery[0].ID, bitlocker.ProtectorRecoveryPassword, recovery(0, true)},
				{"second recovery password", res.Recovery[1].ID, bitlocker.ProtectorRecoveryPassword, recovery(1, false)},
				{"password", res.Passwords[0].ID, bitlocker.ProtectorPassword, func() (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
					return m.UnlockPassword(ctx, opts.Passwords[0])
				}},
				{"clear key", res.ClearKey, bitlocker.ProtectorClearKey, m.UnlockClearKey},
				{"startup key", res.StartupKey, bitlocker.ProtectorExternalKey, func() (*bitlocker.VolumeKey, *bitlocker.Protector, error) {
					return m.UnlockStartupKey(res.BEK)
				}},
			} {
				key, p, err := s.unlock()
				if err != nil {
					t.Errorf("%s: %v", s.name, err)
					continue
				}
				if p.ID != s.id || p.Kind != s.kind {
					t.Errorf("%s: opened by %s %s, want %s %s", s.name, p.Kind, p.ID, s.kind, s.id)
				}
				v, err := bitlocker.OpenVolume(f, m, key)
				if err != nil {
					t.Fatal(err)
				}
				got := make([]byte, size)
				if _, err := v.ReadAt(got, 0); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, content) {
					t.Errorf("%s: content differs", s.name)
				}
			}
		})
	}
}

// TestDislocker lets dislocker decrypt volumes of every cipher, before and
// after writing to them.
func TestDislocker(t *testing.T) {
	dislocker := program(t, "dislocker-file")
	const size = 8 << 20
	for _, opts := range kinds() {
		t.Run(kindName(opts), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && opts.Method != bitlocker.MethodXTS128 {
				t.Skip("one cipher only in short mode")
			}
			opts := opts
			opts.TPM, opts.ClearKey, opts.RecoveryPasswords = true, true, []string{""}
			content := clearVolume(t, size, opts)
			f, res := format(t, content, opts)
			m, key := unlock(t, f, size)
			v, err := bitlocker.OpenVolume(f, m, key)
			if err != nil {
				t.Fatal(err)
			}
			check := func(args ...string) {
				t.Helper()
				out := filepath.Join(t.TempDir(), "clear.img")
				cmd := exec.Command(dislocker, append([]string{"-q", "-V", f.Name()}, append(args, "--", out)...)...)
				if msg, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", cmd, err, msg)
				}
				got, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, content) {
					t.Errorf("dislocker decrypts %d bytes to something else", len(got))
				}
			}
			// dislocker 0.7.2 tries a password on the first such protector only.
			check("-p" + res.Recovery[0].Password)
			// In the relocated header, across its end, inside a sector, and in bulk.
			for _, w := range []struct{ off, n int }{{0, 512}, {clearSize - 700, 1400}, {123457, 3}, {1<<20 + 5, 1 << 20}, {size - 1, 1}} {
				b := content[w.off : w.off+w.n]
				for i := range b {
					b[i] ^= 0x5a
				}
				if _, err := v.WriteAt(b, int64(w.off)); err != nil {
					t.Fatal(err)
				}
			}
			copy(content[3:], "NTFS    ")
			if _, err := v.WriteAt(content[3:11], 3); err != nil {
				t.Fatal(err)
			}
			check("-c")
		})
	}
}

// TestCryptsetup lets cryptsetup read the metadata.
func TestCryptsetup(t *testing.T) {
	cryptsetup := program(t, "cryptsetup")
	modes := map[bitlocker.Method][2]string{
		bitlocker.MethodElephant128: {"cbc-elephant", "256"},
		bitlocker.MethodElephant256: {"cbc-elephant", "512"},
		bitlocker.MethodCBC128:      {"cbc-eboiv", "128"},
		bitlocker.MethodCBC256:      {"cbc-eboiv", "256"},
		bitlocker.MethodXTS128:      {"xts-plain64", "256"},
		bitlocker.MethodXTS256:      {"xts-plain64", "512"},
	}
	for _, opts := range kinds() {
		t.Run(kindName(opts), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && opts.Method != bitlocker.MethodXTS256 {
				t.Skip("one cipher only in short mode")
			}
			opts := opts
			opts.TPM, opts.ClearKey, opts.StartupKey = true, true, true
			opts.RecoveryPasswords = []string{""}
			if opts.Method == bitlocker.MethodXTS128 { // stretches take time
				opts.RecoveryPasswords, opts.Passwords = []string{"", ""}, []string{"secret"}
			}
			f, res := format(t, clearVolume(t, MinSize, opts), opts)
			out, err := exec.Command(cryptsetup, "bitlkDump", f.Name()).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			text := strings.Join(strings.Fields(string(out)), " ")
			want := []string{
				"GUID: " + strings.ToLower(res.VolumeID.String()),
				fmt.Sprintf("Sector size: %d [bytes]", opts.SectorSize),
				fmt.Sprintf("Volume size: %d [bytes]", MinSize),
				"Description: " + DefaultDescription,
				"Cipher mode: " + modes[opts.Method][0], "Cipher key: " + modes[opts.Method][1] + " bits",
				fmt.Sprintf("Volume header Offset: %d [bytes] Size: %d [bytes]", res.Regions[3].Off, res.Regions[3].Len),
			}
			for _, r := range res.Regions[:3] {
				want = append(want, fmt.Sprintf("FVE metadata area Offset: %d [bytes]", r.Off))
			}
			protectors := map[bitlocker.GUID]string{res.ClearKey: "clear key", res.StartupKey: "startup key", res.TPM: "TPM"}
			for _, r := range res.Recovery {
				protectors[r.ID] = "recovery passphrase"
			}
			for _, p := range res.Passwords {
				protectors[p.ID] = "passphrase"
			}
			for id, words := range protectors {
				want = append(want, fmt.Sprintf("GUID: %s Protection: VMK protected with %s", strings.ToLower(id.String()), words))
			}
			for _, w := range want {
				if !strings.Contains(text, w) {
					t.Errorf("cryptsetup does not say %q:\n%s", w, out)
				}
			}
			// It opens the keys as well, and so checks the metadata's SHA-256;
			// the key is that of our device-mapper table.
			keyFile := filepath.Join(t.TempDir(), "key")
			cmd := exec.Command(cryptsetup, "bitlkDump", "--dump-volume-key", "--volume-key-file", keyFile, "--batch-mode", "--key-file", "-", f.Name())
			cmd.Stdin = strings.NewReader(res.Recovery[len(res.Recovery)-1].Password)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("cryptsetup cannot open the volume: %v\n%s", err, out)
			}
			m, key := unlock(t, f, MinSize)
			table, err := m.Table(key, "/dev/x")
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(keyFile); err != nil || strings.Fields(table[0].Params)[1] != hex.EncodeToString(b) {
				t.Errorf("cryptsetup has another key of %d bytes: %v", len(b), err)
			}
		})
	}
}

// TestDeterministic formats twice.
func TestDeterministic(t *testing.T) {
	opts := Options{TPM: true, StartupKey: true, ClearKey: true}
	content := clearVolume(t, MinSize, opts)
	sum := func(o Options) [32]byte {
		f, _ := format(t, content, o)
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(b)
	}
	first := sum(opts)
	if second := sum(opts); first != second {
		t.Error("the same options give different volumes")
	}
	opts.Rand = Seed("another")
	if first == sum(opts) {
		t.Error("another source of random bytes gives the same volume")
	}
}

// checkPart compares the start of the volume's clear content.
func checkPart(t *testing.T, f *os.File, m *bitlocker.Metadata, key *bitlocker.VolumeKey, want []byte) {
	t.Helper()
	v, err := bitlocker.OpenVolume(f, m, key)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := v.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("content differs: %v", err)
	}
}

// BenchmarkFormat makes a volume of 1 GiB as a sparse file would have it.
func BenchmarkFormat(b *testing.B) {
	const size = 1 << 30
	f, err := os.Create(filepath.Join(b.TempDir(), "volume.img"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(size)
	for b.Loop() {
		if _, err := Format(f, bytes.NewReader(nil), size, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
