package bitlocker

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/bootmend/bootmend/bitlocker/internal/fve"
)

// testdata gives the folder of volumes that Windows made; it is not part of
// the repository.
func testdata(t testing.TB) string {
	t.Helper()
	root := os.Getenv("BOOTMEND_TESTDATA")
	if root == "" {
		root = filepath.Join("..", "..", "shared", "testdata")
	}
	dir := filepath.Join(root, "bitlocker")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no test data of BitLocker volumes (set BOOTMEND_TESTDATA): %v", err)
	}
	return dir
}

// sparseImage holds an unpacked image without its empty parts.
type sparseImage struct {
	chunks map[int64][]byte
	size   int64
}

const sparseChunk = 64 << 10

func readSparse(t testing.TB, r io.Reader) *sparseImage {
	t.Helper()
	s := &sparseImage{chunks: map[int64][]byte{}}
	for {
		b := make([]byte, sparseChunk)
		n, err := io.ReadFull(r, b)
		if len(bytes.Trim(b[:n], "\x00")) > 0 {
			s.chunks[s.size] = b
		}
		s.size += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return s
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (s *sparseImage) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) && off < s.size {
		at := off - off%sparseChunk
		n := min(len(p)-done, int(at+sparseChunk-off), int(s.size-off))
		if b := s.chunks[at]; b != nil {
			copy(p[done:done+n], b[off-at:])
		} else {
			clear(p[done : done+n])
		}
		done += n
		off += int64(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

func (s *sparseImage) WriteAt(p []byte, off int64) (int, error) {
	for done := 0; done < len(p); {
		at := off + int64(done)
		base := at - at%sparseChunk
		if s.chunks[base] == nil {
			s.chunks[base] = make([]byte, sparseChunk)
		}
		done += copy(s.chunks[base][at-base:], p[done:])
	}
	return len(p), nil
}

func openXZ(t testing.TB, path string) *sparseImage {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := xz.NewReader(bufio.NewReader(f))
	if err != nil {
		t.Fatal(err)
	}
	return readSparse(t, r)
}

// openGzip unpacks at most limit bytes, which saves time.
func openGzip(t testing.TB, path string, limit int64) *sparseImage {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return readSparse(t, io.LimitReader(r, limit))
}

// readConf reads images.conf: a section an image, of KEY=VALUE lines.
func readConf(t testing.TB, path string) map[string]map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	conf := map[string]map[string]string{}
	var section map[string]string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = map[string]string{}
			conf[strings.TrimSuffix(name, "]")] = section
		} else if k, v, ok := strings.Cut(line, "="); ok {
			section[k] = v
		}
	}
	return conf
}

// secret is one way to open a sample.
type secret struct {
	name      string
	protector string // its GUID in images.conf
	unlock    func(*Metadata) (*VolumeKey, *Protector, error)
}

func secretsOf(t testing.TB, dir string, conf map[string]string) []secret {
	t.Helper()
	var list []secret
	for _, k := range []string{"RP", "RP2"} {
		if conf[k] == "" {
			continue
		}
		p, err := ParseRecoveryPassword(conf[k])
		if err != nil {
			t.Fatal(err)
		}
		id, err := ParseGUID(conf[k+"_VMK_GUID"])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list,
			secret{k, conf[k+"_VMK_GUID"], func(m *Metadata) (*VolumeKey, *Protector, error) {
				if k == "RP2" { // let it be found
					return m.UnlockRecovery(context.Background(), p, nil)
				}
				return m.UnlockRecovery(context.Background(), p, &id)
			}})
	}
	if conf["PW"] != "" {
		list = append(list, secret{"password", conf["PW_VMK_GUID"], func(m *Metadata) (*VolumeKey, *Protector, error) {
			return m.UnlockPassword(context.Background(), conf["PW"])
		}})
	}
	if id := conf["CLEARKEY_VMK_GUID"]; id != "" {
		list = append(list, secret{"clear key", id, (*Metadata).UnlockClearKey})
	}
	if id := conf["SK_VMK_GUID"]; id != "" {
		bek, err := os.ReadFile(filepath.Join(dir, strings.ToUpper(id)+".BEK"))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, secret{"startup key", id, func(m *Metadata) (*VolumeKey, *Protector, error) {
			return m.UnlockStartupKey(bek)
		}})
	}
	return list
}

var cipherNames = map[Method]string{
	MethodCBC128:      "aes-cbc-eboiv",
	MethodElephant128: "aes-cbc-elephant",
	MethodXTS128:      "aes-xts-plain64",
}

// TestWindowsVolumes opens the volumes of cryptsetup's test suite with every
// secret, and compares the whole clear volume.
func TestWindowsVolumes(t *testing.T) {
	dir := filepath.Join(testdata(t), "cryptsetup")
	for name, conf := range readConf(t, filepath.Join(dir, "images.conf")) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name != "bitlk-aes-xts-128" {
				t.Skip("only one image in short mode")
			}
			img := openXZ(t, filepath.Join(dir, name+".img.xz"))
			m, err := ReadMetadata(img, img.size)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.ToLower(m.VolumeID.String()); got != conf["GUID"] {
				t.Errorf("volume ID %s, want %s", got, conf["GUID"])
			}
			if got := cipherNames[m.Method]; got != conf["CIPHER"] {
				t.Errorf("method %s, want %s", m.Method, conf["CIPHER"])
			}
			// What cryptsetup cannot open is cut down to metadata and header.
			cut := conf["SHA256SUM"] == ""
			if m.Block != 1 || (len(m.Problems) > 0) != cut {
				t.Errorf("block %d, problems %q", m.Block, m.Problems)
			}
			var first []byte
			for _, s := range secretsOf(t, dir, conf) {
				key, p, err := s.unlock(m)
				if err != nil {
					t.Errorf("%s: %v", s.name, err)
					continue
				}
				if got := strings.ToLower(p.ID.String()); got != s.protector {
					t.Errorf("%s: opened by protector %s, want %s", s.name, got, s.protector)
				}
				if first != nil {
					if !bytes.Equal(first, key.key) {
						t.Errorf("%s gives another key than the first secret", s.name)
					}
					continue
				}
				first = bytes.Clone(key.key)
				v, err := OpenVolume(img, m, key)
				if err != nil {
					t.Fatal(err)
				}
				key.Wipe()
				h := sha256.New()
				if _, err := io.Copy(h, io.NewSectionReader(v, 0, v.Size())); err != nil {
					t.Fatal(err)
				}
				got := hex.EncodeToString(h.Sum(nil))
				if want := conf["SHA256SUM"]; want != "" && got != want {
					t.Errorf("clear volume has SHA-256 %s, want %s", got, want)
				}
				checkFileSystem(t, v, conf["UUID"], cut)
			}
			if first == nil {
				t.Error("nothing opened the volume")
			}
		})
	}
}

// checkFileSystem looks for the file system's serial number where cryptsetup's
// suite gives it, and else for its signature: some volumes have no sum.
func checkFileSystem(t *testing.T, v *Volume, uuid string, cut bool) {
	t.Helper()
	b := make([]byte, 512)
	if _, err := v.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	switch string(b[3:11]) {
	case "NTFS    ":
		serial := bytes.Clone(b[72:80])
		slices.Reverse(serial)
		if got := strings.ToUpper(hex.EncodeToString(serial)); uuid != "" && got != uuid {
			t.Errorf("NTFS serial number %s, want %s", got, uuid)
		}
		if sectors := v.Size() / 512; cut && int64(binary.LittleEndian.Uint64(b[0x28:])) != sectors-1 && v.Size() == 100<<20 {
			t.Errorf("NTFS of %d sectors on a volume of %d", binary.LittleEndian.Uint64(b[0x28:]), sectors)
		}
		if cut {
			// NTFS' second sector goes on with the name of what it starts.
			if _, err := v.ReadAt(b, 512); err != nil {
				t.Fatal(err)
			}
			if string(b[:16]) != "\x07\x00B\x00O\x00O\x00T\x00M\x00G\x00R\x00" {
				t.Errorf("second sector starts with % x", b[:16])
			}
			return
		}
		// The first record of the master file table.
		cluster := int64(b[13]) * (int64(b[11]) + int64(b[12])<<8)
		var mft int64
		for i := range 8 {
			mft |= int64(b[48+i]) << (8 * i)
		}
		if _, err := v.ReadAt(b, mft*cluster); err != nil {
			t.Fatal(err)
		}
		if string(b[:4]) != "FILE" {
			t.Errorf("master file table starts with %q", b[:4])
		}
	case "MSDOS5.0":
	default:
		t.Errorf("no file system at the start: % x", b[:16])
	}
}

// TestDissectVolumes opens volumes in states that cryptsetup refuses.
func TestDissectVolumes(t *testing.T) {
	dir := filepath.Join(testdata(t), "dissect")
	var expected struct {
		Images map[string]struct {
			Method      string
			VolumeID    string            `json:"volume_id"`
			Description string            `json:"description"`
			UpTo        int64             `json:"encrypted_up_to"`
			Sums        map[string]string `json:"plaintext_sha256"`
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "EXPECTED.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &expected); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		state  State
		unlock []func(m *Metadata) (*VolumeKey, *Protector, error)
	}{
		{"suspended.bin", StateEncrypted, []func(m *Metadata) (*VolumeKey, *Protector, error){(*Metadata).UnlockClearKey}},
		{"win7_partial.bin", StateDecryptionPaused, []func(m *Metadata) (*VolumeKey, *Protector, error){
			(*Metadata).UnlockClearKey,
			func(m *Metadata) (*VolumeKey, *Protector, error) {
				p, err := ParseRecoveryPassword("131450-120197-153989-250338-511368-495572-680944-381546")
				if err != nil {
					return nil, nil, err
				}
				return m.UnlockRecovery(context.Background(), p, nil)
			},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && tt.name != "suspended.bin" {
				t.Skip("unpacks more than 1 GB")
			}
			img := openGzip(t, filepath.Join(dir, tt.name+".gz"), 1250<<20)
			m, err := ReadMetadata(img, img.size)
			if err != nil {
				t.Fatal(err)
			}
			want := expected.Images[tt.name]
			if m.State != tt.state || m.Description != want.Description || !strings.EqualFold(m.VolumeID.String(), want.VolumeID) {
				t.Errorf("state %s, description %q, volume %s", m.State, m.Description, m.VolumeID)
			}
			if want.UpTo != 0 && m.EncryptedSize != want.UpTo {
				t.Errorf("encrypted up to %d, want %d", m.EncryptedSize, want.UpTo)
			}
			for i, unlock := range tt.unlock {
				key, _, err := unlock(m)
				if err != nil {
					t.Fatal(err)
				}
				v, err := OpenVolume(img, m, key)
				if err != nil {
					t.Fatal(err)
				}
				for place, sum := range want.Sums {
					o, l, _ := strings.Cut(place, "+")
					off, _ := strconv.ParseInt(o, 10, 64)
					n, _ := strconv.Atoi(l)
					b := make([]byte, n)
					if _, err := v.ReadAt(b, off); err != nil {
						t.Error(err)
						continue
					}
					if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != sum {
						t.Errorf("secret %d: wrong bytes at %s", i, place)
					}
				}
				if want.UpTo != 0 {
					got, raw := make([]byte, 4096), make([]byte, 4096)
					for _, off := range []int64{want.UpTo, want.UpTo + 1<<20, 1240<<20 + 512} {
						if _, err := v.ReadAt(got, off); err != nil {
							t.Error(err)
						}
						if _, err := img.ReadAt(raw, off); err != nil {
							t.Error(err)
						}
						if !bytes.Equal(got, raw) {
							t.Errorf("clear part was changed at offset %d", off)
						}
					}
				}
			}
		})
	}
}

// TestOddSamples are volumes that give information, or a good reason.
func TestOddSamples(t *testing.T) {
	dir := testdata(t)
	t.Run("decrypted", func(t *testing.T) {
		img := openGzip(t, filepath.Join(dir, "dissect", "decrypted.bin.gz"), 1<<30)
		m, err := ReadMetadata(img, img.size)
		if err != nil {
			t.Fatal(err)
		}
		if m.State != StateDecrypted || len(m.Problems) > 0 || !m.EncryptOnWrite {
			t.Errorf("state %s, problems %q", m.State, m.Problems)
		}
		key, _, err := m.UnlockClearKey()
		if err != nil {
			t.Fatal(err)
		}
		v, err := OpenVolume(img, m, key)
		if err != nil {
			t.Fatal(err)
		}
		checkFileSystem(t, v, "", true)
		if table, err := m.Table(key, "/dev/x"); err != nil || table[0].String() != "0 16 linear /dev/x 69632" {
			t.Errorf("table %v, %v", table, err)
		}
	})
	t.Run("vista", func(t *testing.T) {
		img := openGzip(t, filepath.Join(dir, "dissect", "vista.bin.gz"), 1<<30)
		m, err := ReadMetadata(img, img.size)
		if err != nil {
			t.Fatal(err)
		}
		if !m.Vista || m.Method != MethodElephant128 || m.State != StateEncrypted || m.ComputerName != "USER-PC" || len(m.Protectors) != 2 {
			t.Errorf("metadata %+v", m)
		}
		p, err := ParseRecoveryPassword("517506-503998-044583-576191-587004-635965-501270-087802")
		if err != nil {
			t.Fatal(err)
		}
		key, _, err := m.UnlockRecovery(context.Background(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := OpenVolume(img, m, key)
		if err != nil {
			t.Fatal(err)
		}
		// The first sectors are clear, the first one but for two fields.
		raw, got := make([]byte, fve.VistaClear), make([]byte, fve.VistaClear)
		if _, err := img.ReadAt(raw, 0); err != nil {
			t.Fatal(err)
		}
		copy(raw[3:], "NTFS    ")
		binary.LittleEndian.PutUint64(raw[0x38:], m.block.head.HeaderOffset)
		if _, err := v.ReadAt(got, 0); err != nil || !bytes.Equal(got, raw) {
			t.Errorf("first sectors differ: %v", err)
		}
		// Behind them the volume is encrypted. There lies the first entry of NTFS' $Secure: a hash, the identifier 256,
		// its own place and size, and a security descriptor of revision 1 that is self-relative.
		if _, err := v.ReadAt(got, fve.VistaClear); err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString("00010000" + "0000000000000000" + "78000000" + "01000480")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[4:24], want) {
			t.Errorf("offset %d holds % x, want % x", fve.VistaClear, got[4:24], want)
		}
	})
	t.Run("probe sample", func(t *testing.T) {
		img := openXZ(t, filepath.Join(dir, "bitlocker-win7.img.xz"))
		m, err := ReadMetadata(img, img.size)
		if !errors.Is(err, ErrNoValidMetadata) || m == nil {
			t.Fatal(err)
		}
		if m.Method != MethodXTS128 || len(m.Protectors) != 2 || m.Protectors[0].Kind != ProtectorPassword ||
			m.Protectors[1].Kind != ProtectorRecoveryPassword || m.ComputerName != "DESKTOP-7BHQ0UE" {
			t.Errorf("metadata %+v", m)
		}
	})
	t.Run("TPM", func(t *testing.T) {
		// A piece of a disk: its metadata lies at the signature, and says that
		// it lies elsewhere.
		b, err := os.ReadFile(filepath.Join(dir, "tpm_recovery.bin"))
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(b, []byte("-FVE-FS-"))
		off := int64(binary.LittleEndian.Uint64(b[at+32:]))
		k, err := checkBlock(b[at:], 0, off, &bootSector{sectorSize: 512})
		if err != nil {
			t.Fatal(err)
		}
		m := &Metadata{block: k, copySize: fve.MetadataSize}
		m.parseEntries()
		var found []ProtectorKind
		for _, p := range m.Protectors {
			found = append(found, p.Kind)
		}
		if !slices.Equal(found, []ProtectorKind{ProtectorRecoveryPassword, ProtectorTPM}) {
			t.Errorf("protectors %s", found)
		}
	})
}
