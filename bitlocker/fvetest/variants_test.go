package fvetest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bootmend/bootmend/bitlocker"
	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// variants are volumes that differ in more than the cipher.
func variants() map[string]Options {
	return map[string]Options{
		"large header":       {HeaderSize: 64 << 10},
		"large header of 4K": {HeaderSize: 20 << 10, SectorSize: 4096},
		"checksum only":      {ChecksumOnly: true},
		"unknown entries":    {UnknownEntries: true},
		"partly encrypted":   {EncryptedSize: 3<<20 + 512},
		"partly decrypted":   {EncryptedSize: 5<<20 + 4096, Decrypting: true, Method: bitlocker.MethodElephant128},
		"paused":             {EncryptedSize: 3 << 20, Paused: true, Method: bitlocker.MethodCBC256},
		"vista":              {Vista: true, Method: bitlocker.MethodElephant128},
		"vista 256":          {Vista: true, Method: bitlocker.MethodElephant256},
		"vista, paused":      {Vista: true, Method: bitlocker.MethodElephant128, EncryptedSize: 2 << 20, Paused: true},
		"startup key":        {StartupKey: true, Method: bitlocker.MethodXTS256},
		"to go":              {ToGo: true, Method: bitlocker.MethodCBC128},
	}
}

const variantSize = 8 << 20

// variantVolume is clear content that begins and ends as NTFS does.
func variantVolume(t testing.TB, opts Options) []byte {
	t.Helper()
	b := clearVolume(t, variantSize, opts)
	copy(b, "\xeb\x52\x90NTFS    ")
	le.PutUint16(b[11:], 512)
	b[13] = 8
	le.PutUint64(b[fve.VistaTotalSectors:], variantSize/512-1)
	le.PutUint64(b[0x30:], 300) // the master file table
	le.PutUint64(b[fve.VistaLCN:], 17)
	b[510], b[511] = 0x55, 0xaa
	copy(b[300*4096:], "FILE")
	copy(b[variantSize-512:], b[:512])
	return b
}

// TestVariants reads and writes them, and lets dislocker and cryptsetup judge.
func TestVariants(t *testing.T) {
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts.ClearKey = true
			content := variantVolume(t, opts)
			f, res := format(t, content, opts)
			m, key := unlock(t, f, variantSize)
			if m.Vista != opts.Vista || m.ToGo != opts.ToGo || opts.EncryptedSize != 0 && m.EncryptedSize != opts.EncryptedSize {
				t.Errorf("metadata %+v", m)
			}
			if (len(m.Skipped) > 0) != opts.UnknownEntries || (len(m.Problems) > 0) != opts.ChecksumOnly {
				t.Errorf("skipped %q, problems %q", m.Skipped, m.Problems)
			}
			checkPart(t, f, m, key, content)
			v, err := bitlocker.OpenVolume(f, m, key)
			if err != nil {
				t.Fatal(err)
			}
			dislocked(t, f.Name(), content, opts)
			// Around every bound, and what the formatter's regions leave alone.
			for _, at := range []int64{700, clearSize - 700, opts.HeaderSize, opts.EncryptedSize, 123457, 4 << 20, variantSize - 1500} {
				at = max(at-300, 512)
				n := int64(1000)
				for _, r := range res.Regions {
					if at < r.end() && r.Off < at+n {
						n = 0
					}
				}
				if n == 0 {
					continue
				}
				for i := at; i < at+n; i++ {
					content[i] ^= 0x5a
				}
				if _, err := v.WriteAt(content[at:at+n], at); err != nil {
					t.Fatal(err)
				}
			}
			m, key = unlock(t, f, variantSize)
			checkPart(t, f, m, key, content)
			dislocked(t, f.Name(), content, opts)
			cryptsetupDump(t, f.Name(), opts)
		})
	}
}

// dislocked compares dislocker's view.
func dislocked(t *testing.T, volume string, content []byte, opts Options) {
	t.Helper()
	dislocker, err := exec.LookPath("dislocker-file")
	if err != nil {
		t.Log("dislocker-file is not installed")
		return
	}
	switch {
	case opts.Vista, opts.UnknownEntries:
		return // dislocker 0.7.2 does not open the one and crashes on the other
	}
	out := filepath.Join(t.TempDir(), "clear.img")
	cmd := exec.Command(dislocker, "-q", "-V", volume, "-c", "--", out)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", cmd, err, msg)
		return
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	want := content
	if opts.EncryptedSize != 0 { // it stops a few sectors behind the boundary
		want = content[:max(opts.EncryptedSize, min(int64(len(got)), variantSize))]
	}
	if !bytes.Equal(got, want) {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		t.Errorf("dislocker decrypts %d bytes, want %d, that differ at %d", len(got), len(want), i)
	}
}

// cryptsetupDump lets cryptsetup read the metadata of what it knows.
func cryptsetupDump(t *testing.T, volume string, opts Options) {
	t.Helper()
	cryptsetup, err := exec.LookPath("cryptsetup")
	if err != nil {
		t.Log("cryptsetup is not installed")
		return
	}
	out, err := exec.Command(cryptsetup, "bitlkDump", volume).CombinedOutput()
	known := !opts.Vista && !opts.UnknownEntries
	if known != (err == nil) {
		t.Errorf("cryptsetup bitlkDump: %v\n%s", err, out)
	}
	if known && !strings.Contains(string(out), "clear key") {
		t.Errorf("cryptsetup does not see the clear key:\n%s", out)
	}
}

// TestRawKeys opens a volume with the keys that lie behind its protectors.
func TestRawKeys(t *testing.T) {
	for name, opts := range map[string]Options{
		"XTS 128": {}, "XTS 256": {Method: bitlocker.MethodXTS256}, "CBC 128": {Method: bitlocker.MethodCBC128},
		"Elephant 128": {Method: bitlocker.MethodElephant128}, "Elephant 256": {Method: bitlocker.MethodElephant256},
		"Vista": {Vista: true, Method: bitlocker.MethodElephant128},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts.ClearKey = true
			content := variantVolume(t, opts)
			f, res := format(t, content, opts)
			m, _ := unlock(t, f, variantSize)
			method := byte(m.Method)
			prefixed := append([]byte{method, 0x80}, res.FVEK...)
			files := map[string][]byte{
				"bare": res.FVEK, "with method": prefixed,
				"digits": hexText(res.FVEK, ""), "digits and colons": hexText(prefixed, ":"),
				"padded as dislocker has it": append(bytes.Clone(prefixed), make([]byte, 64-len(res.FVEK))...),
			}
			if len(res.FVEK) == 64 {
				files["packed"] = fve.PackKey(uint16(m.Method), res.FVEK)
			}
			for form, data := range files {
				key, err := m.UnlockFVEK(f, data)
				if err != nil {
					t.Errorf("FVEK %s: %v", form, err)
					continue
				}
				checkPart(t, f, m, key, content)
			}
			for form, data := range map[string][]byte{"bare": res.VMK, "digits": hexText(res.VMK, " ")} {
				key, err := m.UnlockVMK(data)
				if err != nil {
					t.Errorf("VMK %s: %v", form, err)
					continue
				}
				checkPart(t, f, m, key, content)
			}
			// Wrong ones open nothing.
			wrong := bytes.Clone(res.FVEK)
			wrong[3] ^= 1
			other := append([]byte{method ^ 1, 0x80}, res.FVEK...)
			for form, data := range map[string][]byte{"one bit": wrong, "another method": other, "short": res.FVEK[:7], "none": nil, "long": make([]byte, 5000)} {
				if _, err := m.UnlockFVEK(f, data); err == nil || bytes.Contains([]byte(err.Error()), hexText(res.FVEK[:4], "")) {
					t.Errorf("FVEK with %s: %v", form, err)
				}
			}
			wrong = bytes.Clone(res.VMK)
			wrong[3] ^= 1
			for form, data := range map[string][]byte{"one bit": wrong, "short": res.VMK[:31], "none": nil} {
				if _, err := m.UnlockVMK(data); err == nil {
					t.Errorf("VMK with %s is accepted", form)
				}
			}
		})
	}
}

func hexText(b []byte, between string) []byte {
	const digits = "0123456789abcdef"
	var text []byte
	for i, c := range b {
		if i > 0 {
			text = append(text, between...)
		}
		text = append(text, digits[c>>4], digits[c&15])
	}
	return append(text, '\r', '\n')
}
